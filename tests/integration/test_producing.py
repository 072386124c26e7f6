"""Both ways of queueing a transaction's messages, on a real broker: the same ends in the topic."""

from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from processor.engine import producing
from processor.engine.faults import Fault
from processor.engine.producing import ANY_PARTITION, Batches, PlainBatches, batches_of, check

pytestmark = pytest.mark.kafka

WITHIN_S = 30.0
PARTITIONS = 2
LAST = b"W-last"
# More than the quick way hands over in one call, with a tombstone and rows that stay behind.
ROWS: dict[bytes, bytes | None] = {
    **{b"R%d" % number: b"value-%d" % number * (number % 7) for number in range(5_000)},
    b"Xlocal": b"",
    b"Hgone": None,
    LAST: b"watermark",
}
KEPT = [(key, value) for key, value in ROWS.items() if key not in {b"Xlocal", LAST}]


@pytest.fixture(params=["quick", "plain"])
def way(request: pytest.FixtureRequest) -> Callable[[Producer], Batches]:
    """Each of the two."""
    return PlainBatches if request.param == "plain" else batches_of


@pytest.fixture
def topic(kafka_bootstrap: str, fresh: Callable[[str], str]) -> str:
    """A topic of one's own."""
    name = fresh("producing")
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)])[name].result(WITHIN_S)
    return name


def producer(bootstrap: str) -> Producer:
    """A producer outside transactions, with room for all.

    Idempotent, as one of transactions is: else what a fresh topic refuses at first, its leader not
    known yet, is sent again behind what came after it.
    """
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.max.bytes": 200_000,
        }
    )


def content(
    bootstrap: str, topic: str, partition: int, count: int
) -> list[tuple[bytes | None, bytes | None]]:
    """The first `count` records of a partition."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "nobody"})
    reader.assign([TopicPartition(topic, partition, 0)])
    try:
        found = reader.consume(count, WITHIN_S)
    finally:
        reader.close()
    return [(message.key(), message.value()) for message in found]


def test_here_the_quick_way_is_taken(kafka_bootstrap: str) -> None:
    """The compiled module was built, and knows the pinned release of confluent-kafka."""
    assert not isinstance(batches_of(producer(kafka_bootstrap)), PlainBatches)


def test_an_unknown_release_gets_the_plain_way(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is assumed of a producer object whose layout nobody looked at."""
    monkeypatch.setattr(producing, "LAYOUT_KNOWN", frozenset({"2.4.0"}))
    assert isinstance(batches_of(producer(kafka_bootstrap)), PlainBatches)


def test_rows_come_in_their_order_without_local_kinds_and_the_omitted(
    way: Callable[[Producer], Batches], kafka_bootstrap: str, topic: str
) -> None:
    """All rows of a batch, tombstones too, in one partition, as they lie in the batch."""
    to = producer(kafka_bootstrap)
    omitted = next(reversed(ROWS))
    assert way(to).queue_rows(topic, 1, ROWS, b"XYO", omitted) == (0, 0)
    assert to.flush(WITHIN_S) == 0
    assert content(kafka_bootstrap, topic, 1, len(KEPT)) == KEPT


def test_messages_without_key_or_value_and_of_length_zero_stay_what_they_are(
    way: Callable[[Producer], Batches], kafka_bootstrap: str, topic: str
) -> None:
    """None is none, empty is empty."""
    to = producer(kafka_bootstrap)
    pairs: list[tuple[bytes | None, bytes | None]] = [
        (b"k", b"v"),
        (None, b"v"),
        (b"k", None),
        (b"", b""),
    ]
    assert way(to).queue(topic, 0, pairs) == (0, 0)
    assert way(to).queue(topic, 0, []) == (0, 0)
    assert to.flush(WITHIN_S) == 0
    assert content(kafka_bootstrap, topic, 0, len(pairs)) == pairs


def test_a_message_for_any_partition_goes_by_its_key(
    way: Callable[[Producer], Batches], kafka_bootstrap: str, topic: str
) -> None:
    """Both partitions get some, the same key always the same."""
    to = producer(kafka_bootstrap)
    pairs: list[tuple[bytes | None, bytes | None]] = [(b"%d" % (n % 20), b"v") for n in range(60)]
    assert way(to).queue(topic, ANY_PARTITION, pairs) == (0, 0)
    assert to.flush(WITHIN_S) == 0
    marks = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    reader = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": "nobody"})
    counts = [reader.get_watermark_offsets(mark, WITHIN_S)[1] for mark in marks]
    reader.close()
    assert sum(counts) == len(pairs)
    assert all(count % 3 == 0 and count for count in counts)


def test_what_is_refused_is_counted_and_is_a_fault(
    way: Callable[[Producer], Batches], kafka_bootstrap: str, topic: str
) -> None:
    """A message above the limit is not queued, and the transaction must not go on without it."""
    to = producer(kafka_bootstrap)
    outcome = way(to).queue(topic, 0, [(b"k", b"v"), (b"k", bytes(300_000)), (b"k", b"v")])
    assert outcome == (1, KafkaError.MSG_SIZE_TOO_LARGE)
    with pytest.raises(Fault, match=r"1 messages for .* refused"):
        check(topic, outcome)
    check(topic, (0, 0))
    assert to.flush(WITHIN_S) == 0
