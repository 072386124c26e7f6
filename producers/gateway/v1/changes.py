"""What happened, read from the topics for the event stream: decisions with what was asked, events.

The rule: only what was committed is told, once, partition by partition in the order of decisions. A
result names its request by offset alone, so the requests are read beside the results and the two
are put together; a result whose request lies before the start is told without it.
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from producers.channel.outcomes import ChannelError
from producers.gateway.v1.exact import encoded
from producers.gateway.v1.shapes import DecidedEvent, StockEvent
from producers.settings import Settings
from schemas import topics
from schemas.codec import Codec, Undecodable
from schemas.messages import InventoryEvent, ReservationRequest, ReservationResult

FOLLOWED: Final = (topics.RESULTS, topics.EVENTS, topics.REQUESTS)
READ_MAX: Final = 2_000
# Gathered so long before they are told: every telling wakes every reader.
GATHER_S: Final = 0.05
# How far back reading starts, so that a reader who was away for a moment misses nothing.
REPLAY_MS: Final = 60_000
REPLAY_RECORDS_MAX: Final = 8_000  # Of all partitions together.
EARLIER_MS: Final = 60_000  # Requests are read from so much earlier than their results.
UNMATCHED_MAX: Final = 10_000  # Results of a partition that wait for their requests to be read.
# Requests of a partition that wait for their results: while no worker decides, they only come in.
# What was asked by those beyond is not told beside its result.
UNDECIDED_MAX: Final = 10_000
DECISION: Final = "decision"
log = structlog.get_logger()


class Change(NamedTuple):
    """One thing that happened.

    Attributes:
        kind: decision, or what kind of event.
        at_ms: when it was committed, by the broker's clock.
        data: JSON.
        places: product, site and location of everything it is about.

    """

    kind: str
    at_ms: int
    data: bytes
    organization_id: str
    channel: str
    places: tuple[tuple[str, str, str], ...]


class _Partition:
    """Requests that may be asked for, and results that wait for theirs."""

    __slots__ = ("requests", "seen", "start", "waiting")

    def __init__(self, start: int) -> None:
        self.start = start
        self.seen = start  # Requests before this offset have been read.
        self.requests: dict[int, ReservationRequest] = {}
        self.waiting: deque[tuple[int, ReservationResult]] = deque()

    def request(self, offset: int, request: ReservationRequest | None) -> None:
        self.seen = offset + 1
        if request is not None and request.action != "TICK":
            self.requests[offset] = request
            if len(self.requests) > UNDECIDED_MAX:
                del self.requests[next(iter(self.requests))]

    def ready(self) -> Iterator[tuple[int, ReservationResult, ReservationRequest | None]]:
        """Results whose requests have been read, or never will be."""
        waiting = self.waiting
        while waiting:
            at_ms, result = waiting[0]
            if result.source_offset >= self.seen and len(waiting) < UNMATCHED_MAX:
                return
            waiting.popleft()
            yield at_ms, result, self._take(result.source_offset)

    def _take(self, offset: int) -> ReservationRequest | None:
        """The request of this offset; those before it are decided, and never asked for again."""
        found = None
        requests = self.requests
        while requests:
            first = next(iter(requests))
            if first > offset:
                break
            request = requests.pop(first)
            if first == offset:
                found = request
        return found


class Changes:
    """Reads the topics from a little before now. Used from one thread; `read` waits.

    Raises:
        ChannelError: no broker answers, or the topics are not there.

    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._codec = codec
        self._timeout_s = settings.connect_timeout_ms / 1000
        self._behind: set[tuple[str, int]] = set()
        self._partitions: dict[int, _Partition] = {}
        self._consumer = Consumer(
            {
                **settings.librdkafka(),
                "group.id": "holdfast-stream",  # The library asks for one; none is joined.
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "latest",
                "fetch.wait.max.ms": 50,
            }
        )
        try:
            self._start()
        except KafkaException as error:
            self._consumer.close()
            raise ChannelError(f"the topics cannot be read: {error.args[0].str()}") from error

    def _start(self) -> None:
        found = self._consumer.list_topics(timeout=self._timeout_s).topics
        missing = [topic for topic in FOLLOWED if topic not in found]
        if missing:
            raise ChannelError(f"the broker has no topic {missing[0]}")
        partitions = sorted(found[topics.RESULTS].partitions)
        most = max(1, REPLAY_RECORDS_MAX // len(partitions))
        starts: list[Any] = []
        since_ms = time.time_ns() // 1_000_000 - REPLAY_MS
        for partition in partitions:
            starts += [
                self._from(topic, partition, since_ms, most)
                for topic in (topics.RESULTS, topics.EVENTS)
            ]
            asked = self._from(topics.REQUESTS, partition, since_ms - EARLIER_MS, 2 * most)
            self._partitions[partition] = _Partition(asked.offset)
            starts.append(asked)
        self._behind = {(place.topic, place.partition) for place in starts}
        self._consumer.assign(starts)

    def _from(self, topic: str, partition: int, since_ms: int, most: int) -> Any:
        place = TopicPartition(topic, partition)
        low, end = self._consumer.get_watermark_offsets(place, timeout=self._timeout_s)
        asked = TopicPartition(topic, partition, max(0, since_ms))
        found = self._consumer.offsets_for_times([asked], timeout=self._timeout_s)[0].offset
        start = end if found < 0 else max(found, end - most, low)
        return TopicPartition(topic, partition, start)

    @property
    def caught_up(self) -> bool:
        """Whether every partition has been read to an end since the start."""
        return not self._behind

    def read(self, wait_s: float) -> list[Change]:
        """What came, after at most `wait_s`; often nothing."""
        first = self._consumer.poll(wait_s)
        if first is None:
            return []
        found: list[Change] = []
        for message in (first, *self._consumer.consume(READ_MAX, GATHER_S)):
            try:
                found += self._changes(message)
            except Undecodable as error:
                log.warning("unreadable record", topic=message.topic(), reason=str(error))
        return found

    def _changes(self, message: Message) -> list[Change]:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                self._behind.discard((message.topic(), message.partition()))
            return []
        topic, number, at_ms = message.topic(), message.partition(), message.timestamp()[1]
        if topic == topics.EVENTS:
            return [_event(at_ms, number, self._codec.decode_event(message.value()))]
        partition = self._partitions[number]
        if topic == topics.REQUESTS:
            partition.request(message.offset(), self._request(message))
        else:
            result = self._codec.decode_result(message.value())
            if not result.replayed:  # What is answered again was told when it was decided.
                partition.waiting.append((at_ms, result))
        return [_decision(number, *ready) for ready in partition.ready()]

    def _request(self, message: Message) -> ReservationRequest | None:
        """The request; None for one that cannot be read, which gets a dead letter, no result."""
        try:
            return self._codec.decode_request(message.value() or b"")
        except Undecodable:
            return None

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()


def _decision(
    partition: int, at_ms: int, result: ReservationResult, request: ReservationRequest | None
) -> Change:
    body = DecidedEvent.of(partition, result, request)
    places: tuple[tuple[str, str, str], ...] = ()
    if request is not None:
        places = tuple(_place(line.product_id, line.dimensions) for line in request.lines)
    return Change(
        DECISION,
        at_ms,
        encoded(body),
        request.organization_id if request else "",
        request.channel if request else "",
        places,
    )


def _event(at_ms: int, partition: int, event: InventoryEvent) -> Change:
    return Change(
        event.event_type.lower().replace("_", "-"),
        at_ms,
        encoded(StockEvent.of(partition, event)),
        event.organization_id,
        event.channel,
        (_place(event.product_id, event.dimensions),),
    )


def _place(product_id: str, dimensions: dict[str, str]) -> tuple[str, str, str]:
    site, location = dimensions.get("siteid"), dimensions.get("locationid")
    if site is None or location is None:  # Written in another case, or in a data source's names.
        lower = {name.lower(): value for name, value in dimensions.items()}
        site = site or lower.get("siteid") or lower.get("inventsiteid", "")
        location = location or lower.get("locationid") or lower.get("inventlocationid", "")
    return product_id, site, location
