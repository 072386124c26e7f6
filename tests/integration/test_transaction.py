"""The transactional producer on a real broker, with transactions of both kinds that Kafka has."""

from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from processor.engine.brokers import Brokers
from processor.engine.faults import Fault
from processor.engine.membership import Membership
from processor.engine.ports import Outputs
from processor.engine.producing import BATCH_BYTES_MAX
from processor.engine.transaction import (
    ANSWER_SECONDS_MAX,
    Aborted,
    SealedBatch,
    TransactionWriter,
)
from tests.support.eventually import eventually
from tests.support.history import read_topic
from tests.support.wire import SourceRecord

pytestmark = pytest.mark.kafka

WITHIN_S = 30.0
PARTITIONS = 2
SHORT_TIMEOUT_MS = 1_000
WATERMARK = b"W"

Pairs = list[tuple[bytes | None, bytes | None]]


class NamedBrokers(Brokers):
    """Brokers of a cluster that has not agreed on transactions that protect themselves."""

    async def protect_transactions(self) -> bool:
        """As before Kafka 4."""
        return False


class Bench:
    """Topics of one's own, writers to them, and a reader of what is committed."""

    def __init__(self, bootstrap: str, name: str, kind: type[Brokers]) -> None:
        self.name = name
        self.log, self.out, self.dead = (f"{name}-{topic}" for topic in ("log", "out", "dead"))
        self.group = f"{name}-group"
        self._bootstrap = bootstrap
        self._kind = kind
        self._writers: list[TransactionWriter] = []
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        new = [NewTopic(topic, PARTITIONS, 1) for topic in (self.log, self.out, self.dead)]
        for future in self.admin.create_topics(new).values():
            future.result(WITHIN_S)

    def writer(
        self, *, timeout_ms: int = 30_000, reach: Callable[[str], None] = lambda _: None
    ) -> TransactionWriter:
        """A started one, under the one transactional id there is."""
        settings = {"bootstrap_servers": self._bootstrap}
        brokers = self._kind(settings, client_id=self.name, answer_within_s=ANSWER_SECONDS_MAX)
        writer = TransactionWriter(
            brokers,
            transactional_id=self.name,
            transaction_timeout_ms=timeout_ms,
            changelog=self.log,
            output_topics=(self.out, self.dead),
            dead_letters=self.dead,
            local_kinds=frozenset(b"XY"),
            reach=reach,
        )
        self._writers.append(writer)
        writer.start(WITHIN_S)
        return writer

    def batch(
        self, number: int, rows: dict[bytes, bytes | None], results: Pairs, generation: int = -1
    ) -> SealedBatch:
        """Rows and results of one partition; a generation of -1 is a group without members."""
        outputs = Outputs((self.out, self.dead))
        outputs.messages[self.out].extend(results)
        return SealedBatch(
            membership=Membership(self.group, "", generation, None),
            offsets={(self.out, number): len(results)},
            rows={number: {**rows, WATERMARK: b"watermark"}},
            outputs={number: outputs},
            records=len(results),
        )

    def records(self, topic: str, number: int) -> list[SourceRecord]:
        """What is committed in a partition."""
        found = read_topic(self._bootstrap, topic)
        return [record for record in found if record.partition == number]

    def content(self, topic: str, number: int) -> Pairs:
        """Keys and values of it."""
        return [(record.key, record.value) for record in self.records(topic, number)]

    def committed(self, number: int) -> int:
        """The group's offset of the results' topic."""
        asked = ConsumerGroupTopicPartitions(self.group, [TopicPartition(self.out, number)])
        (future,) = self.admin.list_consumer_group_offsets(
            [asked], require_stable=True, request_timeout=WITHIN_S
        ).values()
        return int(future.result(WITHIN_S).topic_partitions[0].offset)

    def close(self) -> None:
        """Close the writers."""
        for writer in self._writers:
            writer.close()


@pytest.fixture(params=[Brokers, NamedBrokers], ids=["protected", "named"])
def bench(
    request: pytest.FixtureRequest, kafka_bootstrap: str, fresh: Callable[[str], str]
) -> Iterator[Bench]:
    """One for each kind of transaction."""
    made = Bench(kafka_bootstrap, fresh("transaction"), request.param)
    yield made
    made.close()


def test_rows_results_and_offsets_are_committed_together(bench: Bench) -> None:
    """Transaction after transaction, each partition with its own end, local kinds left behind."""
    writer = bench.writer()
    ends: dict[int, int] = {}
    for turn in range(6):
        rows: dict[bytes, bytes | None] = {b"R%d" % turn: b"v", b"Hgone": None, b"Xlocal": b""}
        ends |= writer.commit(bench.batch(turn % PARTITIONS, rows, [(b"k", b"%d" % turn)] * 2))
    for number in range(PARTITIONS):
        turns = range(number, 6, PARTITIONS)
        assert bench.content(bench.log, number) == [
            row
            for turn in turns
            for row in ((b"R%d" % turn, b"v"), (b"Hgone", None), (WATERMARK, b"watermark"))
        ]
        results = bench.content(bench.out, number)
        assert results == [(b"k", b"%d" % turn) for turn in turns for _ in range(2)]
        assert bench.records(bench.log, number)[-1].offset + 1 == ends[number]
        assert bench.committed(number) == 2


def test_more_than_a_record_batch_takes_comes_whole_and_in_order(bench: Bench) -> None:
    """A partition's rows in several requests of one transaction, and the end of the last."""
    writer = bench.writer()
    rows = {b"R%05d" % number: b"v" * 1_000 for number in range(2_500)}
    assert len(rows) * 1_000 > 2 * BATCH_BYTES_MAX
    for turn in (1, 2):
        ends = writer.commit(bench.batch(0, {**rows}, [(b"k", b"v")]))
        assert bench.records(bench.log, 0)[-1].offset + 1 == ends[0]
        found = bench.content(bench.log, 0)
        assert found == turn * [*rows.items(), (WATERMARK, b"watermark")]


def test_a_generation_that_is_over_gets_nothing_in(bench: Bench) -> None:
    """The transaction is aborted; the next one, under no stale generation, goes through."""
    writer = bench.writer()
    writer.commit(bench.batch(0, {b"R1": b"before"}, [(b"k", b"before")]))
    with pytest.raises(Aborted):
        writer.commit(bench.batch(0, {b"R1": b"stale"}, [(b"k", b"stale")], generation=5))
    for turn in (b"2", b"3", b"4"):
        writer.commit(bench.batch(0, {b"R1": turn}, [(b"k", turn)]))
    found = bench.content(bench.log, 0)
    assert [value for key, value in found if key == b"R1"] == [b"before", b"2", b"3", b"4"]


def test_the_next_incarnation_fences_this_one(bench: Bench) -> None:
    """Whichever of the two producers had the turn: it ends, and does not read its records again."""
    older = bench.writer()
    older.commit(bench.batch(0, {b"R1": b"older"}, [(b"k", b"older")]))
    newer = bench.writer()
    for _ in range(2):
        with pytest.raises(Fault, match=r"a newer producer|another worker uses"):
            older.commit(bench.batch(0, {b"R1": b"zombie"}, [(b"k", b"zombie")]))
    newer.commit(bench.batch(0, {b"R1": b"newer"}, [(b"k", b"newer")]))
    found = bench.content(bench.log, 0)
    assert [value for key, value in found if key == b"R1"] == [b"older", b"newer"]


def test_a_transaction_that_takes_too_long_is_never_half_there(bench: Bench) -> None:
    """The coordinator gives it up; whoever asks for its commit is told, and ends."""

    def given_up() -> bool:
        # The first offset that is not decided yet: 0 while the transaction is open.
        place = TopicPartition(bench.log, 0)
        (future,) = bench.admin.list_offsets(
            {place: OffsetSpec.latest()}, isolation_level=IsolationLevel.READ_COMMITTED
        ).values()
        return bool(future.result(WITHIN_S).offset > 0)

    def reach(point: str) -> None:
        if point == "before-commit":
            eventually(given_up, within_s=WITHIN_S)

    writer = bench.writer(timeout_ms=SHORT_TIMEOUT_MS, reach=reach)
    with pytest.raises(Fault, match="transaction"):
        writer.commit(bench.batch(0, {b"R1": b"late"}, [(b"k", b"late")]))
    bench.writer().commit(bench.batch(0, {b"R1": b"next"}, [(b"k", b"next")]))
    found = bench.content(bench.log, 0)
    assert [value for key, value in found if key == b"R1"] == [b"next"]
