"""Writes: records out, committed outcomes back; one await for any number of records.

The rule: an outcome is what the worker committed, or the gateway says that it does not know. The
number of records under way is bounded; past it nothing is sent, rather than queued.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from producers.channel.link import Link, Outcome, Slot
from producers.channel.outcomes import (
    Answer,
    ChannelError,
    EventAnswer,
    InFlightError,
    RecordTooLargeError,
    Unknown,
)
from producers.gateway.positions import Position
from producers.gateway.problems import unavailable
from producers.settings import Settings
from schemas import topics
from schemas.codec import Codec
from schemas.messages import (
    InventoryEvent,
    InventoryTransaction,
    ReservationRequest,
    ReservationResult,
)

CLOSE_S: Final = 10.0
KEYS_MAX: Final = 65_536  # Keys whose partition is remembered.


class NotSent(NamedTuple):
    """A record that was not sent, for certain."""

    reason: str
    reused: bool = False  # Its id is under way with other content.
    too_large: bool = False


Written = Answer | EventAnswer | NotSent


class Sending(NamedTuple):
    """A record to send: a request or an inventory transaction, and the key of its partition."""

    record: ReservationRequest | InventoryTransaction
    key: bytes


class Told(NamedTuple):
    """What became of a record, and where it lies in the topic (None when that is not known)."""

    outcome: Written
    position: Position | None


class _Bulk:
    """Outcomes of records that were sent together; touched by the event loop alone."""

    __slots__ = ("future", "left", "outcomes", "partitions")

    def __init__(self, future: "asyncio.Future[None]", size: int) -> None:
        self.future = future
        self.left = size
        self.outcomes: list[Written] = [NotSent("")] * size
        self.partitions: list[tuple[str, int]] = [("", 0)] * size

    def put(self, index: int, outcome: Written) -> None:
        self.outcomes[index] = outcome
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result(None)


class Writer:
    """Sends records and gives their outcomes."""

    def __init__(self, settings: Settings, codec: Codec, *, in_flight_max: int) -> None:
        self._link = Link(settings, codec)
        self._codec = codec
        self._in_flight_max = in_flight_max
        self._known: dict[bytes, int] = {}
        self._arrived: deque[tuple[_Bulk, int, Outcome]] = deque()

    async def open(self) -> None:
        """Connect, and listen to the answers of every partition.

        Raises:
            ChannelError: no broker answers, or the topics are not there.

        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        self._link.open()
        for topic in topics.SOURCES:
            for partition in range(self._link.partitions[topic]):
                self._link.listen_for(Slot(topic, partition, ""))

    @property
    def in_flight(self) -> int:
        """Records sent and not yet answered."""
        return self._link.in_flight

    @property
    def partitions(self) -> int:
        """Partitions of the source topics."""
        return self._link.partitions[topics.REQUESTS]

    def _partition(self, topic: str, key: bytes) -> int:
        """Partition of a key; both source topics have the same count. Hashing costs 4 us."""
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= KEYS_MAX:
                self._known.clear()
            found = self._known[key] = self._link.partition(topic, key)
        return found

    async def send(self, records: Sequence[Sending], *, timeout_ms: int) -> list[Told]:
        """Send records side by side and wait for all outcomes, in the order of the records.

        Raises:
            Problem: 503, too many are under way; nothing was sent.

        """
        if self._link.in_flight + len(records) > self._in_flight_max:
            raise unavailable("too many requests are under way")
        bulk = _Bulk(self._loop.create_future(), len(records))
        for index, sending in enumerate(records):
            self._send(bulk, index, sending, timeout_ms)
        await bulk.future
        return [
            Told(outcome, _position(place, outcome))
            for place, outcome in zip(bulk.partitions, bulk.outcomes, strict=True)
        ]

    def _send(self, bulk: _Bulk, index: int, sending: Sending, timeout_ms: int) -> None:
        record, key = sending
        if isinstance(record, ReservationRequest):
            topic, record_id = topics.REQUESTS, record.request_id
            value = self._codec.encode_request(record)
        else:
            topic, record_id = topics.TRANSACTIONS, record.event_id
            value = self._codec.encode_transaction(record)
        partition = self._partition(topic, key)
        bulk.partitions[index] = (topic, partition)

        def deliver(outcome: Outcome) -> None:
            self._arrived.append((bulk, index, outcome))
            # One wake-up serves every outcome that arrived until it runs.
            if len(self._arrived) == 1:
                self._loop.call_soon_threadsafe(self._drain)

        try:
            self._link.send(
                Slot(topic, partition, record_id), key, value, deliver, timeout_ms=timeout_ms
            )
        except InFlightError as error:
            bulk.put(index, NotSent(str(error), reused=True))
        except RecordTooLargeError as error:
            bulk.put(index, NotSent(str(error), too_large=True))
        except ChannelError as error:
            bulk.put(index, NotSent(str(error)))

    def _drain(self) -> None:
        arrived = self._arrived
        while arrived:
            bulk, index, outcome = arrived.popleft()
            bulk.put(index, outcome)

    async def close(self) -> None:
        """Wait for outcomes under way, call the rest unknown, let go of the broker."""
        await asyncio.to_thread(self._link.close, CLOSE_S)


def _position(place: tuple[str, int], outcome: Written) -> Position | None:
    if isinstance(outcome, ReservationResult | InventoryEvent):
        return Position(*place, outcome.source_offset)
    return None


def is_known(outcome: Written) -> bool:
    """Whether the outcome says what happened."""
    return not isinstance(outcome, Unknown)
