"""The event stream's memory: the last changes, numbered, from which every reader reads by itself.

The rule: a reader can slow nobody. Changes are kept once, in a ring of bounded count and bytes;
each reader has only a number in it, and one that falls out of the ring is cut off. The topics are
read on a thread of its own, and only while somebody reads.
"""

import asyncio
import contextlib
import secrets
import threading
import time
from typing import Final, NamedTuple

import structlog

from producers.channel.outcomes import ChannelError
from producers.gateway.problems import bad, unavailable
from producers.gateway.v1.changes import Change, Changes
from producers.settings import Settings
from schemas.codec import Codec

RING_ENTRIES: Final = 16_384
RING_BYTES_MAX: Final = 32 * 1_048_576
READ_WAIT_S: Final = 0.05
READY_WITHIN_S: Final = 15.0
IDLE_S: Final = 60.0  # How long the topics are read on after the last reader went.
# A reader that comes from another gateway gets so much again: gateways read in different orders.
OVERLAP_MS: Final = 5_000
log = structlog.get_logger()


class Entry(NamedTuple):
    """A change as it is sent, and what it is about."""

    change: Change
    text: bytes


class Place(NamedTuple):
    """Where a reader begins; `gap` says that something before may be missing."""

    number: int
    gap: bool


class Ring:
    """The last entries by number; used on the event loop alone."""

    def __init__(self, entries: int = RING_ENTRIES, bytes_max: int = RING_BYTES_MAX) -> None:
        self.name = secrets.token_hex(4)  # Tells the numbers of one ring from those of another.
        self.first = 1
        self.next = 1
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: list[Entry | None] = [None] * entries

    def append(self, changes: list[Change]) -> None:
        """Number changes and keep them; the oldest make room."""
        for change in changes:
            head = f"id: {self.name}-{self.next}-{change.at_ms}\nevent: {change.kind}\ndata: "
            text = b"%b%b\n\n" % (head.encode(), change.data)
            if self.next - self.first == len(self._entries):
                self._drop()
            self._entries[self.next % len(self._entries)] = Entry(change, text)
            self.next += 1
            self._bytes += len(text)
            while self._bytes > self._bytes_max and self.next - self.first > 1:
                self._drop()

    def _drop(self) -> None:
        slot = self.first % len(self._entries)
        entry = self._entries[slot]
        assert entry is not None
        self._bytes -= len(entry.text)
        self._entries[slot] = None
        self.first += 1

    def get(self, number: int) -> Entry:
        """The entry of a number from `first` to before `next`."""
        entry = self._entries[number % len(self._entries)]
        assert entry is not None
        return entry

    def after(self, event_id: str) -> Place:
        """Place after an event that a reader has seen, here or at another gateway.

        Raises:
            Problem: 400, it is no event id.

        """
        name, number, at_ms = _parsed(event_id)
        if name == self.name and number < self.next:
            wanted = number + 1
            return Place(max(wanted, self.first), wanted < self.first)
        since_ms = at_ms - OVERLAP_MS
        held = range(self.first, self.next)
        if not held or self.get(self.first).change.at_ms > since_ms:
            return Place(self.first, gap=True)
        number = next((one for one in held if self.get(one).change.at_ms >= since_ms), self.next)
        return Place(number, gap=False)


def _parsed(event_id: str) -> tuple[str, int, int]:
    parts = event_id.split("-")
    if len(parts) != 3 or not all(p.isascii() and p.isdigit() for p in parts[1:]):
        raise bad("Last-Event-ID: the id of an event of this stream is expected")
    return parts[0], int(parts[1]), int(parts[2])


class Feed:
    """Reads the topics into a ring while there are readers."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self.ring = Ring()
        self.readers = 0
        self._more = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._ready: asyncio.Future[None] | None = None
        self._idle_since_s = 0.0
        self.ended = False

    async def attach(self) -> None:
        """One reader more; waits until the topics are read.

        Raises:
            Problem: 503, they cannot be read now.

        """
        if self.ended:
            raise unavailable("the gateway is stopping")
        self.readers += 1
        try:
            if self._ready is None:
                self._begin()
            assert self._ready is not None
            await asyncio.wait_for(asyncio.shield(self._ready), READY_WITHIN_S)
        except (TimeoutError, ChannelError) as error:
            self.detach()
            raise unavailable("the topics cannot be read now") from error
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        """One reader less."""
        self.readers -= 1
        self._idle_since_s = time.monotonic()

    async def wait(self, within_s: float) -> None:
        """Until there is more, or the time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._more.wait()

    def end(self) -> None:
        """End every reader: the gateway stops."""
        self.ended = True
        self._stopping.set()
        self._wake()

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self.ring = Ring()
        ready: asyncio.Future[None] = loop.create_future()
        ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._ready = ready
        self._idle_since_s = time.monotonic()
        self._thread = threading.Thread(
            target=self._run, args=(loop, ready), name="gateway-feed", daemon=True
        )
        self._thread.start()

    # On the loop.

    def _take(self, changes: list[Change]) -> None:
        self.ring.append(changes)
        self._wake()

    def _wake(self) -> None:
        self._more.set()
        self._more = asyncio.Event()

    def _finish(self, ready: "asyncio.Future[None]", error: Exception | None) -> None:
        """The thread ended: the next reader begins anew, those of now are let go."""
        if self._ready is ready:
            self._ready = None
        if not ready.done():
            ready.set_exception(error or ChannelError("stopped"))
        self.ring.first = self.ring.next = self.ring.next + 1  # Nobody's place is left in it.
        self._wake()

    def _is_idle(self) -> bool:
        return not self.readers and time.monotonic() - self._idle_since_s > IDLE_S

    # The thread.

    def _run(self, loop: asyncio.AbstractEventLoop, ready: "asyncio.Future[None]") -> None:
        failure: Exception | None = None
        try:
            changes = Changes(self._settings, self._codec)
            try:
                self._read(changes, loop, ready)
            finally:
                changes.close()
        except Exception as error:  # noqa: BLE001 - said, and told to who waits
            log.warning("event stream stopped", reason=str(error))
            failure = error if isinstance(error, ChannelError) else ChannelError(str(error))
        with contextlib.suppress(RuntimeError):  # The loop has ended.
            loop.call_soon_threadsafe(self._finish, ready, failure)

    def _read(
        self, changes: Changes, loop: asyncio.AbstractEventLoop, ready: "asyncio.Future[None]"
    ) -> None:
        told = False
        while not self._stopping.is_set() and not self._is_idle():
            found = changes.read(READ_WAIT_S)
            if found:
                loop.call_soon_threadsafe(self._take, found)
            if not told and changes.caught_up:
                told = True
                loop.call_soon_threadsafe(_succeed, ready)


def _succeed(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
