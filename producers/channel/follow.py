"""Reading what was decided: results, events and dead letters, committed, from any time on.

For people who watch and for whoever must find an old answer. No group is joined, so nobody else is
disturbed.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from producers.channel.outcomes import ChannelError
from producers.settings import Settings
from schemas import topics
from schemas.access import refusal
from schemas.codec import Codec, Undecodable
from schemas.messages import DeadLetter, InventoryEvent, ReservationResult

FOLLOWED: Final = (topics.RESULTS, topics.EVENTS, topics.DEAD_LETTERS)
OFFSET_END: Final = -1
RECORDS_A_READ: Final = 500
FROM_THE_START: Final = 0


class Followed(NamedTuple):
    """One committed record; `body` is the reason in words when it cannot be read."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    body: ReservationResult | InventoryEvent | DeadLetter | str


class Follower:
    """Reads the output topics; `since_ms` is broker time, None for from now on."""

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        followed: Sequence[str] = FOLLOWED,
        *,
        since_ms: int | None = None,
    ) -> None:
        self._codec = codec
        self._timeout_s = settings.connect_timeout_ms / 1000
        self._behind: set[tuple[str, int]] = set()
        self._consumer = Consumer(
            {
                **settings.librdkafka(),
                "group.id": "holdfast-follower",  # The library asks for one; none is joined.
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
            }
        )
        try:
            self._start(followed, since_ms)
        except KafkaException as error:
            self._consumer.close()
            raise ChannelError(
                refusal(settings.librdkafka())
                or f"no Kafka broker answers at {settings.bootstrap_servers} "
                f"({error.args[0].str()})"
            ) from error
        except BaseException:
            self._consumer.close()
            raise

    def _start(self, followed: Sequence[str], since_ms: int | None) -> None:
        found = self._consumer.list_topics(timeout=self._timeout_s).topics
        missing = [topic for topic in followed if topic not in found]
        if missing:
            raise ChannelError(
                f"the broker has no topic {missing[0]}: make the topics with "
                "`holdfast topics create`"
            )
        places = [
            TopicPartition(topic, partition)
            for topic in followed
            for partition in found[topic].partitions
        ]
        self._behind = {(place.topic, place.partition) for place in places}
        self._consumer.assign([self._from(place, since_ms) for place in places])

    def _from(self, place: Any, since_ms: int | None) -> Any:
        low, end = self._consumer.get_watermark_offsets(place, timeout=self._timeout_s)
        start = end
        if since_ms == FROM_THE_START:
            start = low
        elif since_ms is not None:
            asked = TopicPartition(place.topic, place.partition, since_ms)
            found = self._consumer.offsets_for_times([asked], timeout=self._timeout_s)[0].offset
            start = end if found == OFFSET_END else found
        return TopicPartition(place.topic, place.partition, start)

    @property
    def caught_up(self) -> bool:
        """Whether every partition has been read to an end since the start."""
        return not self._behind

    def read(self, wait_s: float) -> list[Followed]:
        """What came, after at most `wait_s`; often nothing."""
        first = self._consumer.poll(wait_s)
        if first is None:
            return []
        messages = [first, *self._consumer.consume(RECORDS_A_READ, 0)]
        return [record for message in messages if (record := self._record(message)) is not None]

    def _record(self, message: Message) -> Followed | None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                self._behind.discard((message.topic(), message.partition()))
            return None
        topic = message.topic()
        return Followed(
            topic,
            message.partition(),
            message.offset(),
            message.timestamp()[1],
            message.key(),
            self._body(topic, message.value()),
        )

    def _body(
        self, topic: str, value: bytes
    ) -> ReservationResult | InventoryEvent | DeadLetter | str:
        try:
            if topic == topics.RESULTS:
                return self._codec.decode_result(value)
            if topic == topics.EVENTS:
                return self._codec.decode_event(value)
            return self._codec.decode_dead_letter(value)
        except Undecodable as error:
            return str(error)

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def find_answer(
    settings: Settings, codec: Codec, request_id: str, *, since_ms: int = FROM_THE_START
) -> Followed | None:
    """The first committed answer (or event) of a request id since then, by reading the topics.

    Sends nothing.
    """
    key = request_id.encode()
    with Follower(settings, codec, (topics.RESULTS, topics.EVENTS), since_ms=since_ms) as follower:
        while True:
            for record in follower.read(0.2):
                if record.key == key:
                    return record
            if follower.caught_up:
                return None
