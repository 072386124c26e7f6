"""How source partitions are read, with brokers that are told what to answer."""

import asyncio
import struct
from collections.abc import Callable
from typing import Any, TypeVar, cast

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka import KafkaError
from faust.types import TP

from processor.engine import sources
from processor.engine.brokers import Brokers, Unreachable
from processor.engine.faults import Fault
from processor.engine.sources import SourceReader

A, B, C = TP("requests", 0), TP("requests", 1), TP("events", 0)
PRODUCER = 77


def batch(offset: int, *values: str, producer: int = -1) -> bytes:
    """Records with these values from `offset` on; of a transaction, if a producer is named."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=0,
        is_transactional=producer >= 0,
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=999_999,
    )
    for at, value in enumerate(values):
        builder.append(at, timestamp=7, key=b"k", value=value.encode(), headers=[])
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, offset)  # Not under the checksum.
    return bytes(made)


class Told:
    """Stands in for `Brokers`: partition 0 is led by broker 0, partition 1 by broker 1.

    `answers`: broker to what its next answers say, partition to (code, bytes) with what was
    aborted, or an exception. A broker without a next answer takes for ever. `leads`: who leads
    elsewhere. Broker 0 holds its answers back while `held` is cleared.
    """

    def __init__(self) -> None:
        self.answers: dict[int, list[Any]] = {}
        self.asked: list[dict[TP, int]] = []
        self.requests: list[Any] = []
        self.leads: dict[TP, int | None] = {}
        self.looks = 0
        self.looked = asyncio.Event()  # Set: looking for leaders ends.
        self.looked.set()
        self.held = asyncio.Event()
        self.held.set()

    async def connect(self, _topics: set[str]) -> None:
        """Nothing is connected."""

    def leader(self, topic: str, partition: int) -> int | None:
        """A broker for each number."""
        return self.leads.get(TP(topic, partition), partition)

    async def look_again(self) -> None:
        """Count it."""
        self.looks += 1
        await self.looked.wait()

    async def ask(self, node: int | None, request: Any) -> Any:
        """Answer as told."""
        assert node is not None
        self.requests.append(request)
        self.asked.append(
            {
                TP(topic, number): offset
                for topic, partitions in request.topics
                for number, _, offset, _, _ in partitions
            }
        )
        if not self.answers.get(node):
            await asyncio.Event().wait()
        answer = self.answers[node].pop(0)
        if node == 0:
            await self.held.wait()
        if isinstance(answer, Exception):
            raise answer
        topics = [
            (tp.topic, [(tp.partition, code, 0, 0, 0, aborted, -1, data)])
            for tp, (code, data, aborted) in answer.items()
        ]
        return request.RESPONSE_TYPE(0, 0, 0, topics)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Brokers, and no pause before they are asked again."""
    monkeypatch.setattr(sources, "RETRY_SECONDS", 0.0)
    return Told()


Found = dict[TP, list[str]]
Seen = TypeVar("Seen")


def polls(told: Told, times: int, *partitions: TP) -> list[Found]:
    """Values of so many polls, from offset 10 of each partition on."""
    return seen(told, times, lambda found, _: found, *partitions)


def seen(
    told: Told, times: int, look: Callable[[Found, SourceReader], Seen], *partitions: TP
) -> list[Seen]:
    """What is seen of values and reader after each of so many polls, from offset 10 on."""

    async def poll() -> list[Seen]:
        reader = SourceReader(cast("Brokers", told), dict.fromkeys(partitions, 10))
        try:
            return [look(await read(reader), reader) for _ in range(times)]
        finally:
            reader.close()

    return asyncio.run(poll())


async def read(reader: SourceReader) -> dict[TP, list[str]]:
    """Values of one poll."""
    async with asyncio.timeout(10):
        found = await reader.poll()
    return {tp: [(one.value or b"").decode() for one in there] for tp, there in found.items()}


def well(tp: TP, data: bytes, aborted: Any = ()) -> dict[TP, Any]:
    """An answer with records of one partition."""
    return {tp: (0, data, list(aborted))}


def refused(tp: TP, code: int) -> dict[TP, Any]:
    """An answer with an error code for one partition."""
    return {tp: (code, b"", None)}


def test_reads_on_behind_what_was_handed_out(told: Told) -> None:
    """The next request is for what follows, and names what was read last: all have their turns."""
    told.answers = {0: [well(A, batch(10, "a", "b")), well(C, batch(10, "c"))]}
    assert polls(told, 2, A, C) == [{A: ["a", "b"]}, {C: ["c"]}]
    assert told.asked[1] == {C: 10, A: 12}
    assert told.looks == 0
    assert list(told.asked[1]) == [C, A]


def test_a_batch_that_began_before_the_position(told: Told) -> None:
    """A broker answers with whole batches: what is before the position was handed out already."""
    told.answers = {0: [well(A, batch(8, "old", "old too", "new"))]}
    assert polls(told, 1, A) == [{A: ["new"]}]


def test_what_was_aborted_is_passed_over(told: Told) -> None:
    """Its records are not handed out, and are not asked for again."""
    data = batch(10, "never was", producer=PRODUCER) + batch(11, "is")
    told.answers = {
        0: [
            well(A, data, [(PRODUCER, 10)]),
            well(A, batch(12, "nor this", producer=PRODUCER), [(PRODUCER, 12)]),
            well(A, batch(13, "last")),
        ]
    }
    assert polls(told, 3, A) == [{A: ["is"]}, {}, {A: ["last"]}]
    assert [asked[A] for asked in told.asked] == [10, 12, 13]


def test_says_how_far_it_has_read(told: Told) -> None:
    """Past what was aborted, too, whether or not a record was beside it; only of what was read."""
    aborted = batch(11, "never was", producer=PRODUCER)
    told.answers = {
        0: [
            well(A, batch(10, "is") + aborted, [(PRODUCER, 11)]),
            well(C, batch(10, "nor this", producer=PRODUCER), [(PRODUCER, 10)]),
            well(A, b""),
        ]
    }
    reached = seen(told, 3, lambda _, reader: reader.reached, A, C)
    assert reached == [{A: 12}, {C: 11}, {}]


def test_a_slow_broker_does_not_hold_up_the_others(told: Told) -> None:
    """What one broker answers is handed out; the other is asked once and waited for."""
    told.answers = {0: [well(A, batch(10, "a")), well(A, batch(11, "b"))]}
    assert polls(told, 2, A, B) == [{A: ["a"]}, {A: ["b"]}]
    assert sum(B in asked for asked in told.asked) == 1


def test_a_partition_without_a_leader_does_not_hold_up_the_others(told: Told) -> None:
    """Its leader is looked for, however long that takes, and the others are read meanwhile."""
    told.leads = {B: None}
    told.looked.clear()
    told.answers = {0: [well(A, batch(10, "a")), well(A, batch(11, "b"))]}
    assert polls(told, 2, A, B) == [{A: ["a"]}, {A: ["b"]}]
    assert told.looks == 1


def test_a_leader_that_moved_while_it_was_asked(told: Told) -> None:
    """The old and the new one answer together: each record is handed out, once and in order."""

    async def play() -> dict[TP, list[str]]:
        reader = SourceReader(cast("Brokers", told), {A: 10, B: 10})
        told.held.clear()
        told.answers = {
            0: [well(A, batch(10, "a") + batch(11, "b", "c", "d", "e"))],
            1: [well(B, batch(10, "x"))],
            2: [well(A, batch(10, "a", "b") + batch(12, "c", "d"))],
        }
        assert await read(reader) == {B: ["x"]}
        told.leads = {A: 2}
        told.held.set()
        await asyncio.sleep(0)
        found = await read(reader)
        reader.close()
        return found

    assert asyncio.run(play()) == {A: ["a", "b", "c", "d", "e"]}
    assert [asked.get(A) for asked in told.asked].count(10) == 2


def test_partitions_that_are_added_are_read_too(told: Told) -> None:
    """From where they begin; the others from where they are."""
    begins = {A: 10}

    async def play() -> list[Found]:
        reader = SourceReader(cast("Brokers", told), begins)
        told.answers = {
            0: [well(A, batch(10, "a")), well(A, batch(11, "b")) | well(B, batch(5, "x"))]
        }
        told.leads = {A: 0, B: 0}
        first = await read(reader)
        begins[B] = 5
        second = await read(reader)
        reader.close()
        return [first, second]

    assert asyncio.run(play()) == [{A: ["a"]}, {A: ["b"], B: ["x"]}]
    assert told.asked[-1] == {A: 11, B: 5}


def test_without_partitions_it_waits(told: Told) -> None:
    """A worker more than there are partitions: others run on its loop meanwhile."""

    async def play() -> None:
        poll = asyncio.ensure_future(SourceReader(cast("Brokers", told), {}).poll())
        await asyncio.sleep(0)
        assert not poll.done()
        async with asyncio.timeout(10):
            assert await poll == {}

    asyncio.run(play())
    assert told.asked == []


def test_what_was_read_last_fills_an_answer_last(told: Told) -> None:
    """Whatever its topic: the bound of an answer is used up from the front of the request."""
    other = TP("requests", 5)
    told.leads = {other: 0}
    told.answers = {0: [well(A, batch(10, "a")), well(C, b"")]}
    polls(told, 2, A, C, other)
    assert [list(asked) for asked in told.asked] == [[A, C, other], [C, other, A]]
    topics = [topic for topic, _ in told.requests[1].topics]
    assert topics == ["events", "requests"]


def test_what_a_request_asks_for(told: Told) -> None:
    """Committed records only, of no session, within bounds."""
    told.answers = {0: [well(A, batch(10, "a"))]}
    polls(told, 1, A)
    (request,) = told.requests
    assert request.API_VERSION == 11
    assert (request.isolation_level, request.session_id, request.session_epoch) == (1, 0, -1)
    assert (request.min_bytes, request.max_bytes) == (1, sources.FETCH_BYTES_MAX)


def test_says_when_more_waits(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is full left records behind: few they may be, but this is no trickle."""
    full = batch(10, "a", "b")
    monkeypatch.setattr(sources, "PARTITION_BYTES_MAX", len(full))

    told.answers = {0: [well(A, full), well(A, batch(12, "c"))]}
    assert seen(told, 2, lambda _, reader: reader.left_behind, A) == [True, False]


@pytest.mark.parametrize(
    "first",
    [
        refused(A, KafkaError.NOT_LEADER_FOR_PARTITION),
        refused(A, KafkaError.UNKNOWN_TOPIC_OR_PART),
        refused(A, KafkaError.OFFSET_NOT_AVAILABLE),
        refused(A, KafkaError.UNKNOWN),
        Unreachable("broker 0 is away"),
    ],
)
def test_is_asked_again(told: Told, first: Any) -> None:
    """Where a leader moved or is away: from the same offset, once it is known who leads."""
    told.answers = {0: [first, well(A, batch(10, "a"))]}
    assert polls(told, 2, A) == [{}, {A: ["a"]}]
    assert [asked[A] for asked in told.asked] == [10, 10]
    assert told.looks == 1


def test_nothing_to_read_is_no_reason_to_pause(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker has waited already: what comes next is asked for at once."""
    monkeypatch.setattr(sources, "RETRY_SECONDS", 60.0)
    told.answers = {0: [well(A, b""), well(A, batch(10, "a"))]}
    assert polls(told, 2, A) == [{}, {A: ["a"]}]


def test_who_refuses_does_not_hold_up_the_others(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that is away is asked again after a pause; the answer of another ends it."""
    monkeypatch.setattr(sources, "RETRY_SECONDS", 60.0)

    async def play() -> list[dict[TP, list[str]]]:
        reader = SourceReader(cast("Brokers", told), {A: 10, B: 10})
        told.held.clear()
        told.answers = {0: [well(A, batch(10, "a"))], 1: [Unreachable("broker 1 is away")]}
        asyncio.get_running_loop().call_later(0.01, told.held.set)
        found = [await read(reader), await read(reader)]
        reader.close()
        return found

    assert asyncio.run(play()) == [{}, {A: ["a"]}]


def test_nobody_leads(told: Told) -> None:
    """Nothing is read, and nothing breaks."""
    told.leads = {A: None}
    assert polls(told, 2, A) == [{}, {}]
    assert told.asked == []


def test_what_is_well_is_handed_out_beside_what_is_not(told: Told) -> None:
    """One answer with records of a partition and an error of the next."""
    told.answers = {
        0: [
            well(A, batch(10, "a")) | refused(C, KafkaError.NOT_LEADER_FOR_PARTITION),
            well(C, batch(10, "c")),
        ]
    }
    assert polls(told, 2, A, C) == [{A: ["a"]}, {C: ["c"]}]


def broken(data: bytes) -> bytes:
    """With one bit of the last record turned."""
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            refused(A, KafkaError.OFFSET_OUT_OF_RANGE),
            "offset 10 of requests-0.*deleted by retention",
        ),
        (refused(A, KafkaError.TOPIC_AUTHORIZATION_FAILED), "docs/security.md"),
        (refused(A, KafkaError.INVALID_MSG), "cannot be read"),
        (well(A, broken(batch(10, "a"))), "damaged"),
    ],
)
def test_asking_again_would_not_help(told: Told, answer: Any, says: str) -> None:
    """The worker ends, and says why: what it does not see may be a reservation."""
    told.answers = {0: [answer]}
    with pytest.raises(Fault, match=says):
        polls(told, 1, A)
