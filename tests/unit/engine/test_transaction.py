"""What the transactional producer does about every kind of answer, with brokers that are told."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any, cast

import msgspec
import pytest
from confluent_kafka import KafkaError

from processor.engine import transaction
from processor.engine.brokers import Brokers, Unreachable
from processor.engine.faults import Fault
from processor.engine.membership import Membership
from processor.engine.ports import Outputs
from processor.engine.transaction import Aborted, SealedBatch, TransactionWriter

MEMBER = Membership("group", "member", 4, None)
WAITS = KafkaError.CONCURRENT_TRANSACTIONS
MOVED = KafkaError.NOT_LEADER_FOR_PARTITION
TRANSACTION_ABORTABLE = 120

Refusals = dict[str, list[int | Exception]]


class Told:
    """Stands in for `Brokers`: keeps what it was asked, and answers well unless told otherwise.

    `refusals`: name of a request to what its next answers are, an error code or an exception; 0
    answers well. Partition 0 is led by broker 0, partition 1 by broker 1.
    """

    def __init__(self, *, protected: bool) -> None:
        self.protected = protected
        self.refusals: Refusals = {}
        self.asked: list[tuple[str, Any]] = []
        self.looks = 0
        self.followed: list[str] = []
        self.ends: dict[tuple[str, int], int] = {}
        self.answered: list[tuple[str, int]] = []  # What was, and how much was asked by then.
        self.home = 0  # Who coordinates the group.
        self.slow = ""  # Name of a request whose answer takes longer than all others.

    async def connect(self, _topics: set[str]) -> None:
        """Nothing is connected."""

    async def close(self) -> None:
        """Nothing was."""

    async def protect_transactions(self) -> bool:
        """As told."""
        return self.protected

    async def follow(self, topic: str) -> None:
        """All leaders are known."""
        self.followed.append(topic)

    def leader(self, _topic: str, partition: int) -> int | None:
        """Each partition has a broker of its own."""
        return partition

    async def look_again(self) -> None:
        """Count it."""
        self.looks += 1

    async def ask(self, _node: int | None, request: Any) -> Any:
        """Answer as told, when whoever waits has waited."""
        name = type(request).__name__
        self.asked.append((name, request))
        for _ in range(50 if name == self.slow else 1):
            await asyncio.sleep(0)
        self.answered.append((name, len(self.asked)))
        refusal = next(iter(self.refusals.get(name, [])), 0)
        if self.refusals.get(name):
            self.refusals[name].pop(0)
        if isinstance(refusal, Exception):
            raise refusal
        answers = {
            "InitProducerId": self._epoch,
            "AddPartitionsToTxn": self._named,
            "AddOffsetsToTxn": self._added,
            "Produce": self._written,
            "TxnOffsetCommit": self._offsets,
            "EndTxn": self._ended,
        }
        return answers[name.removesuffix("Implied").removesuffix("Next")](request, refusal)

    async def ask_coordinator(self, _kind: Any, _name: str, request: Any) -> Any:
        """One broker coordinates every transaction."""
        return await self.ask(0, request)

    async def open(self, _node: int) -> None:
        """All are connected."""

    async def coordinator(self, _kind: Any, _name: str) -> int:
        """As told."""
        return self.home

    def names(self) -> list[str]:
        """What was asked, in order."""
        return [name for name, _ in self.asked]

    def requests(self, name: str) -> list[Any]:
        """The requests of one kind."""
        return [request for asked, request in self.asked if asked == name]

    def _epoch(self, request: Any, code: int) -> Any:
        epoch = request.producer_epoch + 1
        return request.RESPONSE_TYPE(0, code, 900 + len(self.asked), epoch, {})

    def _named(self, request: Any, code: int) -> Any:
        topics: list[Any] = [
            (t, [(n, code, {}) for n in numbers], {}) for t, numbers, _ in request.topics
        ]
        return request.RESPONSE_TYPE(0, topics, {})

    def _added(self, request: Any, code: int) -> Any:
        return request.RESPONSE_TYPE(0, code, {})

    def _written(self, request: Any, code: int) -> Any:
        """An error is the first partition's; the others are written."""
        topics: list[Any] = []
        for topic, partitions, _ in request.topics:
            answers: list[Any] = []
            for number, _records, _ in partitions:
                base = self.ends.setdefault((topic, number), 100)
                answers.append((number, code, base if not code else -1, -1, 0, [], None, {}))
                code = 0
            topics.append((topic, answers, {}))
        return request.RESPONSE_TYPE(topics, 0, {})

    def _offsets(self, request: Any, code: int) -> Any:
        topics: list[Any] = [
            (t, [(p[0], code, {}) for p in parts], {}) for t, parts, _ in request.topics
        ]
        return request.RESPONSE_TYPE(0, topics, {})

    def _ended(self, request: Any, code: int) -> Any:
        if self.protected:
            return request.RESPONSE_TYPE(
                0, code, request.producer_id, request.producer_epoch + 1, {}
            )
        return request.RESPONSE_TYPE(0, code, {})


@pytest.fixture(params=[True, False], ids=["protected", "named"])
def told(request: pytest.FixtureRequest) -> Told:
    """Brokers with transactions that protect themselves, and without."""
    return Told(protected=request.param)


def writer_over(told: Told, *, reach: Callable[[str], None] = lambda _: None) -> TransactionWriter:
    """A writer that was not started."""
    return TransactionWriter(
        cast("Brokers", told),
        transactional_id="id",
        transaction_timeout_ms=10_000,
        changelog="log",
        output_topics=("out", "dead"),
        dead_letters="dead",
        local_kinds=frozenset(b"X"),
        reach=reach,
    )


@pytest.fixture
def start(told: Told) -> Iterator[Callable[..., TransactionWriter]]:
    """Makes a started writer over them; what its start asked is forgotten."""
    made: list[TransactionWriter] = []

    def begin(**others: Any) -> TransactionWriter:
        writer = writer_over(told, **others)
        made.append(writer)
        writer.start(1.0)
        told.asked.clear()
        return writer

    yield begin
    for writer in made:
        writer.close()


def batch(partitions: tuple[int, ...] = (0,), rows: int = 1) -> SealedBatch:
    """Rows, one result each, and offsets of some partitions."""
    outputs = {number: Outputs(("out", "dead")) for number in partitions}
    for out in outputs.values():
        out.messages["out"].append((b"id", b"result"))
    return SealedBatch(
        membership=MEMBER,
        offsets={("in", number): 7 for number in partitions},
        rows={
            number: {**{b"R%d" % row: b"v" for row in range(rows)}, b"W": b"watermark"}
            for number in partitions
        },
        outputs=outputs,
        records=len(partitions),
    )


def produce(told: Told) -> str:
    """Name of the request that carries records."""
    return "ProduceImplied" if told.protected else "Produce"


def end(told: Told) -> str:
    """Name of the request that ends a transaction."""
    return "EndTxnNext" if told.protected else "EndTxn"


def offsets(told: Told) -> str:
    """Name of the request that carries offsets."""
    return "TxnOffsetCommitImplied" if told.protected else "TxnOffsetCommit"


def test_a_transaction_is_records_offsets_end(told: Told, start: Callable[..., Any]) -> None:
    """Three requests where partitions are implied, five where they are named; ends are told."""
    writer = start()
    assert writer.commit(batch(rows=4)) == {0: 105}
    named = ["AddPartitionsToTxn", "AddOffsetsToTxn", "Produce", "TxnOffsetCommit", "EndTxn"]
    assert told.names() == (
        ["ProduceImplied", "TxnOffsetCommitImplied", "EndTxnNext"] if told.protected else named
    )
    (sent,) = told.requests(offsets(told))
    assert (sent.generation, sent.member_id, sent.group_instance_id) == (4, "member", None)
    assert told.requests(end(told))[0].committed


def test_crash_points_are_reached_where_they_are_named(
    told: Told, start: Callable[..., Any]
) -> None:
    """Each between the answers that it stands for."""
    reached: list[tuple[str, list[str]]] = []
    writer = start(reach=lambda point: reached.append((point, [one for one, _ in told.answered])))
    told.answered.clear()
    writer.commit(batch())
    assert [point for point, _ in reached] == [
        "before-produce",
        "after-produce",
        "before-commit",
        "after-commit",
    ]
    before_produce, after_produce, before_commit, after_commit = [names for _, names in reached]
    assert before_produce == []
    assert after_produce[-1] == produce(told)
    assert before_commit[-2:] == [produce(told), offsets(told)]
    assert after_commit == [*before_commit, end(told)]


def test_producers_take_turns_and_sequence_numbers_go_on(
    told: Told, start: Callable[..., Any]
) -> None:
    """Where the epoch goes up with each transaction they begin anew instead."""
    writer = start()
    for _ in range(4):
        writer.commit(batch())
    sent = told.requests(end(told))
    assert [request.transactional_id for request in sent] == ["id~2", "id", "id~2", "id"]
    epochs = [request.producer_epoch for request in sent]
    assert epochs == ([0, 0, 1, 1] if told.protected else [0, 0, 0, 0])
    bases = [base_sequence(request) for request in told.requests(produce(told))]
    assert bases == ([0, 0, 0, 0] if told.protected else [0, 0, 2, 2])


def base_sequence(request: Any) -> int:
    """Sequence number of the first record that a request carries."""
    _, ((_, records, _), *_), _ = request.topics[0]
    return int.from_bytes(records[53:57], "big")


def test_only_what_was_not_written_is_sent_again(told: Told, start: Callable[..., Any]) -> None:
    """The same bytes: the sequence number tells the broker if it had them after all."""
    writer = start()
    told.refusals[produce(told)] = [WAITS, WAITS]
    writer.commit(batch())
    first, second, third = told.requests(produce(told))
    assert [topic for topic, *_ in first.topics] == ["log", "out"]
    assert [topic for topic, *_ in second.topics] == ["log"]
    assert third.topics == second.topics
    assert second.topics[0] == first.topics[0]
    assert told.looks == 0  # Nobody moved.


MOVES = {produce: MOVED, offsets: KafkaError.NOT_COORDINATOR}


@pytest.mark.parametrize("moved", [[produce], [offsets], [produce, offsets]])
def test_who_moved_is_looked_for(
    told: Told, start: Callable[..., Any], moved: list[Callable[[Told], str]]
) -> None:
    """Leader, coordinator, or both: once before they are asked again."""
    writer = start()
    told.refusals = {name(told): [MOVES[name]] for name in moved}
    assert writer.commit(batch()) == {0: 102}
    assert told.looks == (1 if told.protected else len(moved))  # Side by side, or in turn.
    assert [len(told.requests(name(told))) for name in moved] == [2] * len(moved)


@pytest.mark.parametrize("lost", ["produce", "offsets", "end"])
def test_a_lost_answer_is_asked_for_again(told: Told, start: Callable[..., Any], lost: str) -> None:
    """Whether the request arrived is not known, and need not be."""
    writer = start()
    name = {"produce": produce, "offsets": offsets, "end": end}[lost](told)
    told.refusals[name] = [Unreachable("the connection broke")]
    assert writer.commit(batch()) == {0: 102}
    first, second = told.requests(name)
    assert first == second
    assert told.looks == 1


def test_each_leader_is_sent_its_own_one_after_the_other(
    told: Told, start: Callable[..., Any]
) -> None:
    """All partitions of a broker in one request; who is sent the offsets, too, comes last."""
    writer = start()
    for home in range(3):
        told.home = home
        told.asked.clear()
        assert writer.commit(batch((0, 1))) == {0: 102, 1: 102}
        sent = told.requests(produce(told))
        led = [[number for _, parts, _ in one.topics for number, *_ in parts] for one in sent]
        order = [1, 0] if home == 0 and told.protected else [0, 1]
        assert led == [[number, number] for number in order]
        assert told.names()[-3:] == [produce(told), offsets(told), end(told)]


def test_offsets_are_not_waited_for_apart(told: Told, start: Callable[..., Any]) -> None:
    """They are sent behind the records of their broker, before it has answered about these.

    Where transactions do not protect themselves, they are sent when it has: late ones would be
    taken, behind the end of their transaction.
    """
    writer = start()
    for home in range(3):
        told.home = home
        told.asked.clear()
        told.answered.clear()
        writer.commit(batch((0, 1)))
        *_, (_, asked_then) = [one for one in told.answered if one[0] == produce(told)]
        is_beside = told.protected and home < 2
        assert (offsets(told) in told.names()[:asked_then]) == is_beside


@pytest.mark.parametrize("then", [0, Unreachable("the connection broke"), WAITS])
def test_nothing_is_under_way_when_a_transaction_is_aborted(
    told: Told, start: Callable[..., Any], then: int | Exception
) -> None:
    """Offsets that came late would be those of no transaction."""
    writer = start()
    told.refusals[produce(told)] = [KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER]
    told.refusals[offsets(told)] = [then]
    told.slow = offsets(told)
    with pytest.raises(Aborted):
        writer.commit(batch())
    done = [told.names()[:asked] for name, asked in told.answered if name == offsets(told)]
    assert len(done) == (1 if told.protected else 0)
    assert all(end(told) not in asked for asked in done)
    writer.commit(batch())


class Rows(dict[int, Any]):
    """A dictionary that a weak reference may point to."""


def test_an_aborted_batch_is_freed(told: Told, start: Callable[..., Any]) -> None:
    """Without a collector: the worker's looks at the youngest objects only."""
    writer = start()
    told.refusals[produce(told)] = [KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER]
    aborted = msgspec.structs.replace(batch(), rows=Rows(batch().rows))
    rows = weakref.ref(aborted.rows)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Aborted):
            writer.commit(aborted)
        del aborted
        assert rows() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("first", ["produce", "offsets"])
def test_of_records_and_offsets_only_what_is_left_is_asked_again(
    told: Told, start: Callable[..., Any], first: str
) -> None:
    """They are asked for side by side, and each is answered for itself."""
    writer = start()
    name = {"produce": produce, "offsets": offsets}[first](told)
    told.refusals[name] = [WAITS]
    assert writer.commit(batch()) == {0: 102}
    counts = [len(told.requests(one(told))) for one in (produce, offsets)]
    assert counts == ([2, 1] if first == "produce" else [1, 2])


def test_a_partition_without_leader_is_waited_for(
    told: Told, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until an election is over."""
    writer = start()
    leaders = iter([None, None])
    monkeypatch.setattr(told, "leader", lambda _topic, _partition: next(leaders, 0))
    assert writer.commit(batch()) == {0: 102}
    assert told.looks == 2


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        TRANSACTION_ABORTABLE,
    ],
)
def test_who_lost_the_partitions_aborts_and_goes_on(
    told: Told, start: Callable[..., Any], code: int
) -> None:
    """Under an epoch with which nothing of the aborted transaction can come in any more."""
    writer = start()
    told.refusals[offsets(told)] = [code]
    with pytest.raises(Aborted, match="in-0"):
        writer.commit(batch())
    (ended,) = told.requests(end(told))
    assert not ended.committed
    renewed = told.requests("InitProducerId")
    assert [one.producer_epoch for one in renewed] == ([] if told.protected else [0])
    writer.commit(batch())
    writer.commit(batch())
    again = told.requests(end(told))[-1]
    assert (again.transactional_id, again.producer_epoch) == (ended.transactional_id, 1)
    assert base_sequence(told.requests(produce(told))[-1]) == 0


def test_where_nothing_was_begun_an_epoch_is_asked_for(
    told: Told, start: Callable[..., Any]
) -> None:
    """Its end is refused then; the next epoch is given to who had the last."""
    writer = start()
    told.refusals[produce(told)] = [KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER]
    told.refusals[end(told)] = [WAITS, KafkaError.INVALID_TXN_STATE]
    with pytest.raises(Aborted):
        writer.commit(batch())
    assert [request.committed for request in told.requests(end(told))] == [False, False]
    (renewed,) = told.requests("InitProducerId")
    assert renewed.producer_id >= 0
    assert renewed.producer_epoch == 0


def test_a_request_that_may_still_arrive_cannot_act_on_a_later_transaction(
    told: Told, start: Callable[..., Any]
) -> None:
    """Where the epoch does not go up by itself, the producer that lost an answer gets the next."""
    writer = start()
    told.refusals[end(told)] = [Unreachable("the connection broke")]
    for _ in range(4):
        writer.commit(batch())
    renewed = told.requests("InitProducerId")
    assert [one.transactional_id for one in renewed] == ([] if told.protected else ["id~2"])
    ends = told.requests(end(told))
    assert [(one.transactional_id, one.producer_epoch) for one in ends] == [
        ("id~2", 0),
        ("id~2", 0),
        ("id", 0),
        ("id~2", 1),
        ("id", 1 if told.protected else 0),
    ]


def test_a_written_batch_whose_place_is_not_told_is_a_fault(
    told: Told, start: Callable[..., Any]
) -> None:
    """The place is what the local rows are positioned by."""
    writer = start()
    told.ends["log", 0] = -1
    with pytest.raises(Fault, match="log-0"):
        writer.commit(batch())


def test_a_topic_that_nobody_followed_yet_is(told: Told, start: Callable[..., Any]) -> None:
    """Once."""
    writer = start()
    for _ in range(2):
        sealed = batch()
        sealed.outputs[0].addressed.append(("replies", 0, b"k", b"copy", []))
        writer.commit(sealed)
    assert told.followed == ["replies"]


def test_a_step_that_hangs_ends(
    told: Told, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the client itself never comes back."""
    monkeypatch.setattr(transaction.TransactionWriter._patiently, "__defaults__", (0.05,))
    monkeypatch.setattr(transaction, "WRITE_SECONDS_MAX", 0.05)
    writer = start()

    async def hang() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(told, "look_again", hang)
    told.refusals[produce(told)] = [MOVED]
    with pytest.raises(Fault, match=r"write: not done within .*log-0"):
        writer.commit(batch())


def test_who_is_fenced_ends(told: Told, start: Callable[..., Any]) -> None:
    """Another incarnation has a newer epoch: nothing is tried any more."""
    writer = start()
    told.refusals[produce(told)] = [KafkaError.INVALID_PRODUCER_EPOCH]
    told.refusals[end(told)] = [KafkaError.PRODUCER_FENCED]
    told.refusals["InitProducerId"] = [KafkaError.PRODUCER_FENCED]
    with pytest.raises(Fault, match=r"transactional id id~2: .*fences"):
        writer.commit(batch())


@pytest.mark.parametrize(
    "code",
    [
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
        KafkaError.INVALID_TXN_STATE,
        TRANSACTION_ABORTABLE,
    ],
)
def test_a_commit_that_is_refused_ends_the_process(
    told: Told, start: Callable[..., Any], code: int
) -> None:
    """It was decided elsewhere, and how is read from the brokers by the next start."""
    writer = start()
    told.refusals[end(told)] = [code]
    with pytest.raises(Fault):
        writer.commit(batch())
    assert len(told.requests(end(told))) == 1


def test_what_is_not_allowed_is_named(told: Told, start: Callable[..., Any]) -> None:
    """Topic and page."""
    writer = start()
    told.refusals[produce(told)] = [KafkaError.TOPIC_AUTHORIZATION_FAILED]
    with pytest.raises(Fault, match=r"log-0: .*docs/security.md"):
        writer.commit(batch())


@pytest.mark.parametrize(
    "code", [KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.DUPLICATE_SEQUENCE_NUMBER]
)
def test_any_other_refusal_is_a_fault(told: Told, start: Callable[..., Any], code: int) -> None:
    """Nothing is guessed."""
    writer = start()
    told.refusals[produce(told)] = [code]
    with pytest.raises(Fault, match="log-0"):
        writer.commit(batch())


@pytest.mark.parametrize("step", ["produce", "offsets", "end"])
def test_patience_ends(
    told: Told, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A step that is not done within its bound ends the process, and says which one it was."""
    monkeypatch.setattr(transaction.TransactionWriter._patiently, "__defaults__", (0.05,))
    monkeypatch.setattr(transaction, "WRITE_SECONDS_MAX", 0.05)
    writer = start()
    name = {"produce": produce, "offsets": offsets, "end": end}[step](told)
    told.refusals[name] = [Unreachable("nobody there")] * 1000
    said = {"produce": "write", "offsets": "write", "end": "commit"}[step]
    with pytest.raises(Fault, match=rf"{said}: not done within .* nobody there"):
        writer.commit(batch())
    assert len(told.requests(name)) > 1


def test_a_start_that_nobody_answers_is_a_fault(told: Told) -> None:
    """After the time it was given."""
    writer = writer_over(told)
    told.refusals["InitProducerId"] = [KafkaError.COORDINATOR_NOT_AVAILABLE] * 1000
    with pytest.raises(Fault, match="init-producer-id: not done within"):
        writer.start(0.05)
    writer.close()


def test_more_than_a_request_takes_goes_in_several(
    told: Told, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch a partition in each, within the bound, in order."""
    monkeypatch.setattr(transaction, "REQUEST_BYTES_MAX", 150)
    writer = start()
    writer.commit(batch((0,), rows=3))
    sent = told.requests(produce(told))
    assert [[topic for topic, *_ in one.topics] for one in sent] == [["log"], ["out"]]


def test_dead_letters_and_copies_go_where_they_belong(
    told: Told, start: Callable[..., Any]
) -> None:
    """Dead letters to the one partition they have; a copy to the topic and partition asked for."""
    writer = start()
    outputs = Outputs(("out", "dead"))
    outputs.messages["dead"].append((None, b"letter"))
    outputs.addressed.append(("replies", 0, b"k", b"copy", [("h", b"1")]))
    outputs.addressed.append(("replies", 0, b"k", b"copy 2", []))
    sealed = SealedBatch(
        membership=MEMBER,
        offsets={("in", 1): 3},
        rows={1: {b"Xlocal": b"", b"W": b"watermark"}},
        outputs={1: outputs},
        records=1,
    )
    assert writer.commit(sealed) == {1: 101}
    places = {
        (topic, number): int.from_bytes(records[57:61], "big")
        for one in told.requests(produce(told))
        for topic, parts, _ in one.topics
        for number, records, _ in parts
    }
    assert places == {("log", 1): 1, ("dead", 0): 1, ("replies", 0): 2}
