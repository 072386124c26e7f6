"""The changelog as the view reads it: committed rows only, whole transactions where it can.

Every batch of a partition ends with the engine's watermark row. The rule: rows behind the last one
wait for theirs, so that no question sees half of a decision. A compacted log has few watermark rows
left; so what waits is bounded, and then is handed on as it is.
"""

from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from processor.view.keys import Position
from processor.view.plan import Batch
from schemas import topics

FETCHED_AT_ONCE: Final = 2_000  # Records; what is fetched together is applied together.
# Rows that wait for their watermark row, over all partitions, and of one at least: a transaction of
# the worker is smaller, so only a compacted log comes to it.
WAITING_MAX: Final = 80_000
WAITING_MIN: Final = 2_000
ANSWER_WITHIN_S: Final = 8.0  # Of the broker to a question; a stop waits for it too.
LOG_ERRORS_ONLY: Final = 3
QUEUED_KBYTES_MAX: Final = 16_384  # Fetched ahead of what is applied, over all partitions.
WATERMARK_KEY: Final = b"W"
FETCH_WAIT_MS: Final = 10


class ChangelogMissing(Exception):
    """There is no changelog on this cluster."""


class Changelog:
    """Reads the partitions of the changelog from given positions on.

    Attributes:
        topic_id: incarnation of the topic.

    """

    def __init__(self, kafka: Mapping[str, Any], topic: str = topics.CHANGELOG) -> None:
        self._kafka = {"log_level": LOG_ERRORS_ONLY, **kafka}
        self._topic = topic
        self._consumer = Consumer(
            {
                **self._kafka,
                "group.id": "holdfast-view",  # The library asks for one; none is joined.
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                # A fetch that waits is not woken when a transaction is committed: with the default
                # of 500 ms a decision shows up to half a second late.
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "fetch.error.backoff.ms": 50,
                # With what it may hold of a partition, the library fetches no more for so long: a
                # second by default, for which a view that was behind did nothing.
                "fetch.queue.backoff.ms": FETCH_WAIT_MS,
                "queued.min.messages": 10_000,
                "queued.max.messages.kbytes": QUEUED_KBYTES_MAX,
            }
        )
        self._open: dict[int, Batch] = {}  # Ends with a watermark row, as far as it is complete.
        self._waiting: dict[int, list[Any]] = {}
        self._reached: dict[int, int] = {}  # Ends that were seen, control records included.

    def partitions(self) -> list[int]:
        """Numbers of its partitions.

        Raises:
            ChangelogMissing: there is no such topic.

        """
        found = self._consumer.list_topics(self._topic, timeout=ANSWER_WITHIN_S)
        told = found.topics[self._topic]
        if told.error is not None and told.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise ChangelogMissing(f"topic {self._topic}: {told.error.str()} (docs/security.md)")
        if told.error is not None:
            raise ChangelogMissing(f"no topic {self._topic}: run `holdfast topics create`")
        return sorted(told.partitions)

    def topic_id(self) -> bytes:
        """Incarnation of the topic: another one if it was deleted and made again."""
        admin = AdminClient(self._kafka)
        described = admin.describe_topics(
            TopicCollection([self._topic]), request_timeout=ANSWER_WITHIN_S
        )
        return str(described[self._topic].result().topic_id).encode()

    def ends(self, partitions: list[int]) -> dict[int, int]:
        """End of every partition now."""
        return {
            partition: self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=ANSWER_WITHIN_S
            )[1]
            for partition in partitions
        }

    def seek(self, positions: Mapping[int, Position]) -> None:
        """Read on from these positions; what was read and not taken is forgotten."""
        self._open = {
            partition: Batch(partition, position) for partition, position in positions.items()
        }
        self._waiting = {partition: [] for partition in positions}
        self._reached = {partition: position.offset for partition, position in positions.items()}
        self._consumer.assign(
            [
                TopicPartition(self._topic, partition, position.offset or OFFSET_BEGINNING)
                for partition, position in positions.items()
            ]
        )

    def poll(self, timeout_s: float) -> list[Batch]:
        """What has come in, as batches that may be applied; waits for the first record only.

        Raises:
            KafkaException: the broker refuses to be read on, as at an offset out of range.

        """
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(FETCHED_AT_ONCE - 1, 0)]
        touched: set[int] = set()
        for message in messages:
            error = message.error()
            if error is None:
                self._waiting[message.partition()].append(message)
                touched.add(message.partition())
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                self._reached[message.partition()] = message.offset()
                touched.add(message.partition())
            elif not error.retriable() and error.code() not in _TRANSIENT:
                raise KafkaException(error)
        return [batch for partition in touched if (batch := self._complete(partition)) is not None]

    def _complete(self, partition: int) -> Batch | None:
        """The rows of a partition up to its last watermark row; all, if too many wait."""
        waiting = self._waiting[partition]
        count = len(waiting)
        while count and waiting[count - 1].key() != WATERMARK_KEY:
            count -= 1
        if not count:
            if not waiting:
                return None
            bound = max(WAITING_MIN, WAITING_MAX // len(self._waiting))
            if len(waiting) < bound and not self._is_at_end(partition, waiting):
                return None
            count = len(waiting)
        batch = self._open[partition]
        for message in waiting[:count]:
            key = message.key()
            if key:
                batch.add(message.offset(), message.timestamp()[1], key, message.value())
        del waiting[:count]
        self._open[partition] = Batch(partition, batch.end())
        return batch if batch.offset > batch.start.offset else None

    def _is_at_end(self, partition: int, waiting: list[Any]) -> bool:
        """Whether the end was seen behind what waits: then no watermark row is to come."""
        last: int = waiting[-1].offset()
        return self._reached[partition] > last

    def position(self, partition: int) -> int:
        """Next offset to read, or the end if that was reached."""
        return max(self._open[partition].offset, self._reached[partition])

    def lag(self, partition: int) -> int:
        """Records of the partition that have not been handed on; 0 while it is not known."""
        place = TopicPartition(self._topic, partition)
        end: int = self._consumer.get_watermark_offsets(place, cached=True)[1]
        return max(0, end - self.position(partition))

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()


# Broker away, or in the middle of an election: the library tries again by itself.
_TRANSIENT: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - its public name
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    }
)
