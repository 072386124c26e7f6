"""Writes: records out, committed outcomes back; one await for any number of records.

What the requests of one turn of the event loop send leaves in one hand-over, and one wake-up brings
back all outcomes of one read: a hand-over costs more than a record.

The rule: an outcome is what the worker committed, or the gateway says that it does not know. The
number of records under way is bounded; past it nothing is sent, rather than queued.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from producers.channel.link import DeliverNumbered, Forbidden, Link, Parcel, Slot
from producers.channel.outcomes import (
    Answer,
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


class Sending(msgspec.Struct, frozen=True, gc=False):
    """A record to send: a request or an inventory transaction, and the key of its partition."""

    record: ReservationRequest | InventoryTransaction
    key: bytes


class Told(NamedTuple):
    """What became of a record, and where it lies in the topic (None when that is not known)."""

    outcome: Written
    position: Position | None


class Settled(NamedTuple):
    """What became of records that were sent together, in their order.

    Attributes:
        positions: the furthest of them in each partition that was written to.

    """

    outcomes: list[Written]
    positions: list[Position]


_DECIDED: Final = (ReservationResult, InventoryEvent)


class _Bulk:
    """Outcomes of records that were sent together.

    Each is put down by the link's thread; they are counted on the event loop alone.
    """

    __slots__ = ("_arrived", "future", "left", "outcomes")

    def __init__(self, future: "asyncio.Future[None]", size: int, arrived: "deque[_Bulk]") -> None:
        self.future = future
        self.left = size
        self.outcomes: list[Written] = [NotSent("")] * size
        self._arrived = arrived

    def deliver(self, index: int, outcome: Written) -> None:
        """Put an outcome down; it counts once what has arrived is looked at."""
        if type(outcome) is Forbidden:
            outcome = NotSent(outcome.reason)
        self.outcomes[index] = outcome
        self._arrived.append(self)


class Writer:
    """Sends records and gives their outcomes."""

    def __init__(self, settings: Settings, codec: Codec, *, in_flight_max: int) -> None:
        self._link = Link(settings, codec, delivered=self._wake)
        self._codec = codec
        self._in_flight_max = in_flight_max
        self._known: dict[bytes, int] = {}
        self._arrived: deque[_Bulk] = deque()  # A bulk as often as an outcome of it is there.
        self._leaving: list[Parcel] = []
        self._leaving_of: list[_Bulk] = []  # The bulk of each.
        self._leaving_ms = 0  # How long those are waited for.

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
        return self._link.in_flight + len(self._leaving)

    @property
    def ended(self) -> str:
        """Why nothing can be written any more, for good; empty while it can."""
        return self._link.ended

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
        parcels, outcomes = await self._carry(records, timeout_ms)
        return [
            Told(outcome, _position(parcel.slot, outcome))
            for parcel, outcome in zip(parcels, outcomes, strict=True)
        ]

    async def settle(self, records: Sequence[Sending], *, timeout_ms: int) -> Settled:
        """As `send`; for whoever need not know the position of each."""
        parcels, outcomes = await self._carry(records, timeout_ms)
        if len(parcels) == 1:
            position = _position(parcels[0].slot, outcomes[0])
            return Settled(outcomes, [] if position is None else [position])
        last: dict[tuple[str, int], int] = {}
        for parcel, outcome in zip(parcels, outcomes, strict=True):
            if isinstance(outcome, _DECIDED):
                place = parcel.slot[:2]
                if last.get(place, -1) < outcome.source_offset:
                    last[place] = outcome.source_offset
        return Settled(outcomes, [Position(*place, offset) for place, offset in last.items()])

    async def _carry(
        self, records: Sequence[Sending], timeout_ms: int
    ) -> tuple[list[Parcel], list[Written]]:
        if self.in_flight + len(records) > self._in_flight_max:
            raise unavailable("too many requests are under way")
        bulk = _Bulk(self._loop.create_future(), len(records), self._arrived)
        deliver = bulk.deliver
        parcels = [self._parcel(deliver, index, one) for index, one in enumerate(records)]
        if timeout_ms != self._leaving_ms:
            self._hand_over()
            self._leaving_ms = timeout_ms
        if not self._leaving:
            self._loop.call_soon(self._hand_over)
        self._leaving += parcels
        self._leaving_of += [bulk] * len(parcels)
        await bulk.future
        return parcels, bulk.outcomes

    def _parcel(self, deliver: DeliverNumbered, index: int, sending: Sending) -> Parcel:
        record, key = sending.record, sending.key
        if isinstance(record, ReservationRequest):
            topic, record_id = topics.REQUESTS, record.request_id
            value = self._codec.encode_request(record)
        else:
            topic, record_id = topics.TRANSACTIONS, record.event_id
            value = self._codec.encode_transaction(record)
        slot = Slot(topic, self._partition(topic, key), record_id)
        return Parcel(slot, key, value, deliver, index)

    def _hand_over(self) -> None:
        """Give the link everything that is leaving."""
        leaving, self._leaving = self._leaving, []
        leaving_of, self._leaving_of = self._leaving_of, []
        if not leaving:
            return
        try:
            refused = self._link.send_many(leaving, timeout_ms=self._leaving_ms)
        except Exception as error:  # noqa: BLE001 - those who wait are told, as all are
            for bulk in leaving_of:
                if not bulk.future.done():
                    bulk.future.set_exception(error)
            return
        for number, reason in refused.items():
            reused = isinstance(reason, InFlightError)
            too_large = isinstance(reason, RecordTooLargeError)
            not_sent = NotSent(str(reason), reused=reused, too_large=too_large)
            leaving_of[number].deliver(leaving[number].number, not_sent)
        self._drain()

    def _wake(self) -> None:
        """On the link's thread: have the event loop look at what arrived."""
        if self._arrived:
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        arrived = self._arrived
        while arrived:
            bulk = arrived.popleft()
            bulk.left -= 1
            if not bulk.left and not bulk.future.done():
                bulk.future.set_result(None)

    async def close(self) -> None:
        """Wait for outcomes under way, call the rest unknown, let go of the broker."""
        await asyncio.to_thread(self._link.close, CLOSE_S)


def _position(slot: Slot, outcome: Written) -> Position | None:
    if isinstance(outcome, _DECIDED):
        return Position(slot.topic, slot.partition, outcome.source_offset)
    return None


def is_known(outcome: Written) -> bool:
    """Whether the outcome says what happened."""
    return not isinstance(outcome, Unknown)
