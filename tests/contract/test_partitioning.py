"""Everybody's partitioner is the same: Java's, librdkafka's, aiokafka's and ours."""

from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from schemas.partitioning import location_key, partition_of

PARTITIONS = 7
DELIVERY_WITHIN_S = 30.0

# Hashes of org.apache.kafka.common.utils.Utils.murmur2, from Kafka's own UtilsTest.
JAVA_HASHES = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA_HASHES)
@pytest.mark.parametrize("partitions", [1, 2, 8, 1024])
def test_the_partition_is_the_one_that_java_chooses(key: bytes, partitions: int) -> None:
    """Java's toPositive(murmur2(key)) % partitions."""
    assert partition_of(key, partitions) == (JAVA_HASHES[key] & 0x7FFFFFFF) % partitions


def test_a_key_is_plain_text() -> None:
    """The key of the rule by location is `organization|site|location` in UTF-8."""
    assert location_key("usmf", "1", "lager-süd") == "usmf|1|lager-süd".encode()


@pytest.mark.kafka
def test_a_real_producer_chooses_the_same_partition(
    kafka_bootstrap: str, fresh: Callable[[str], str]
) -> None:
    """A producer with `murmur2_random` puts 500 keys where `partition_of` says."""
    topic = fresh("partitioner")
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(DELIVERY_WITHIN_S)
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "partitioner": "murmur2_random"})
    placed: dict[bytes, int] = {}

    def delivered(error: object, message: object) -> None:
        assert error is None, error
        placed[message.key()] = message.partition()  # type: ignore[attr-defined]

    keys = [location_key("usmf", str(n % 9), f"wärehouse {n}") for n in range(500)]
    for key in keys:
        producer.produce(topic, b"", key, on_delivery=delivered)
    assert producer.flush(DELIVERY_WITHIN_S) == 0
    assert placed == {key: partition_of(key, PARTITIONS) for key in keys}
    consumer = Consumer({"bootstrap.servers": kafka_bootstrap, "group.id": fresh("reader")})
    ends = [
        consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=DELIVERY_WITHIN_S)[1]
        for n in range(PARTITIONS)
    ]
    consumer.close()
    assert ends == [list(placed.values()).count(n) for n in range(PARTITIONS)]
