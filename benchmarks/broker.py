"""The load on a real broker: topics made, requests preloaded, results read back.

All Kafka contestants are measured alike: by the broker's own append times of the results, read
after the run. Nothing reads the results while they are written, since a reader would take the CPU
that is being measured.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.programs import Program

ANSWER_WITHIN_S = 30.0
STALL_S = 120.0  # Nothing moved for so long: the run has failed.
CONSUME_RECORDS_MAX = 10_000
CONSUME_WITHIN_S = 0.1  # The last records of a topic are fewer, and are waited for so long.
COORDINATOR_NOT_READY = frozenset(
    {
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
    }
)
NO_LEADER_YET = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
RETRY_S = 0.1
LOG_ERRORS_ONLY = 3  # librdkafka's own warnings (a fresh broker's coordinator) are no news.

Progress = Callable[[str, int, int], None]  # What, how many are done, of how many.


class Produced(NamedTuple):
    """One record to preload."""

    key: bytes
    value: bytes
    partition: int


def create_topics(bootstrap: str, topics: Iterable[NewTopic]) -> None:
    """Create topics and wait until the broker has them."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics(list(topics), operation_timeout=ANSWER_WITHIN_S).values():
        future.result(ANSWER_WITHIN_S)


def preload(
    bootstrap: str, topic: str, records: Sequence[Produced], progress: Progress, what: str
) -> None:
    """Write `records` in order and wait until the broker has acknowledged all."""
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": LOG_ERRORS_ONLY,
            "enable.idempotence": True,  # Order of records is the order of decisions.
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 500_000,
        }
    )
    for index, (key, value, partition) in enumerate(records):
        while True:
            try:
                producer.produce(topic, value, key, partition, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        if index % 5_000 == 0:
            producer.poll(0)
            progress(what, index, len(records))
    left = producer.flush(60.0)
    if left or failures:
        raise KafkaException(failures[0] if failures else f"{left} records not delivered")
    progress(what, len(records), len(records))


def reader(bootstrap: str, group: str = "bench-reader") -> Consumer:
    """A consumer that sees committed records only and commits nothing."""
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": LOG_ERRORS_ONLY,
            "group.id": group,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 262_144,
            "fetch.message.max.bytes": 4_194_304,
            "fetch.wait.max.ms": 5,
        }
    )


def end_of(consumer: Consumer, partition: TopicPartition) -> int:
    """Offset behind the last record; a topic that was just made is waited for."""
    deadline = time.monotonic() + ANSWER_WITHIN_S
    while True:
        try:
            _, high = consumer.get_watermark_offsets(partition, timeout=ANSWER_WITHIN_S)
            return int(high)
        except KafkaException as error:
            if error.args[0].code() not in NO_LEADER_YET or time.monotonic() > deadline:
                raise
        time.sleep(RETRY_S)


class GroupProgress:
    """How far a consumer group has come with a source topic, by its committed offsets."""

    def __init__(self, bootstrap: str, group: str, topic: str, partitions: int) -> None:
        self._consumer: Any = reader(bootstrap, group)
        self._wanted = [TopicPartition(topic, number) for number in range(partitions)]
        self.ends = [end_of(self._consumer, partition) for partition in self._wanted]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def left(self) -> int:
        """Records below `ends` (the ends when this began) that are not committed yet."""
        try:
            entries = self._consumer.committed(self._wanted, timeout=ANSWER_WITHIN_S)
        except KafkaException as error:
            if error.args[0].code() in COORDINATOR_NOT_READY:
                return sum(self.ends)  # A fresh broker still makes the topic of offsets.
            raise
        pairs = zip(self.ends, entries, strict=True)
        return sum(max(0, end - max(0, entry.offset)) for end, entry in pairs)

    def wait(self, programs: Sequence[Program], progress: Progress, what: str) -> None:
        """Wait until nothing is left; TimeoutError when nothing moves for STALL_S."""
        total = fewest = self.left()
        moved_at = time.monotonic()
        while fewest:
            for program in programs:
                program.check_alive()
            time.sleep(0.05)
            left = self.left()
            if left < fewest:
                fewest, moved_at = left, time.monotonic()
                progress(what, total - fewest, total)
            if time.monotonic() - moved_at > STALL_S:
                raise TimeoutError(f"{what}: {fewest} of {total} records left, and none moves")


def read_all(bootstrap: str, topic: str, partitions: int) -> Iterator[Message]:
    """Every committed record of `topic` up to its end now."""
    consumer = reader(bootstrap)
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    unfinished = set(range(partitions))
    deadline = time.monotonic() + STALL_S
    try:
        while unfinished:
            for message in consumer.consume(CONSUME_RECORDS_MAX, timeout=CONSUME_WITHIN_S):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its only name
                    unfinished.discard(message.partition())
                else:
                    raise KafkaException(error)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: partitions {unfinished} not read to their end")
    finally:
        consumer.close()
