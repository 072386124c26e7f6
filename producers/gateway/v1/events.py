"""GET /v1/events: decisions and stock changes as server-sent events, as they are committed.

A reader that comes back with `Last-Event-ID` goes on behind that event; where the gateway cannot
know what lies between, an event `gap` says so. A reader that does not read, or falls behind by more
than the gateway keeps, is cut off; it costs the others nothing.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from producers.gateway.call import Call
from producers.gateway.problems import unavailable
from producers.gateway.v1.bodies import EventsParameters
from producers.gateway.v1.exact import query_of
from producers.gateway.v1.feed import Entry, Feed

READERS_MAX: Final = 1_000
ENTRIES_A_TURN: Final = 500
CHUNK_BYTES: Final = 65_536
KEEP_ALIVE_S: Final = 15.0
STALL_S: Final = 10.0  # A reader whose connection takes nothing for so long is cut off.
KEEP_ALIVE: Final = b": nothing new\n\n"
GAP: Final = b"event: gap\ndata: {}\n\n"
RETRY: Final = b"retry: 2000\n\n"
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class CutOff(Exception):
    """The reader is too slow; `why` labels the figure."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class StreamMetrics:
    """Figures of the stream."""

    def __init__(self, registry: CollectorRegistry, feed: Feed) -> None:
        self.cut_off = Counter(
            "holdfast_gateway_stream_cut_off",
            "Readers of /v1/events that were cut off: stalled (took nothing), or behind.",
            ("why",),
            registry=registry,
        )
        self.stalled = 0
        self.connections: set[Any] = set()
        readers = Gauge(
            "holdfast_gateway_stream_readers", "Readers of /v1/events.", registry=registry
        )
        readers.set_function(lambda: feed.readers)
        stalled = Gauge(
            "holdfast_gateway_stream_stalled",
            f"Readers whose connection takes nothing now; after {STALL_S:g} s they are cut off.",
            registry=registry,
        )
        stalled.set_function(lambda: self.stalled)
        unsent = Gauge(
            "holdfast_gateway_stream_unsent_bytes",
            "Bytes that wait in this process for the reader for whom most wait.",
            registry=registry,
        )
        unsent.set_function(self._unsent)

    def _unsent(self) -> int:
        sizes = [connection.get_write_buffer_size() for connection in list(self.connections)]
        return max(sizes, default=0)


class Events:
    """The endpoint; one for a gateway."""

    def __init__(self, feed: Feed, registry: CollectorRegistry) -> None:
        self._feed = feed
        self._metrics = StreamMetrics(registry, feed)

    def end(self) -> None:
        """End every reader's stream: the gateway stops."""
        self._feed.end()

    async def serve(self, call: Call) -> Response:
        """GET /v1/events."""
        asked = query_of(call, EventsParameters)
        if self._feed.readers >= READERS_MAX:
            raise unavailable("too many readers of the stream", 10)
        await self._feed.attach()
        try:
            last_id = call.request.headers.get("last-event-id") or asked.last_event_id
            ring = self._feed.ring
            number, gap = ring.after(last_id) if last_id else (ring.next, False)
        except BaseException:
            self._feed.detach()
            raise
        reader = Reader(self._feed, asked, number, call.caller.expires_at_s)
        return EventStream(reader, self._metrics, gap=gap)


async def stream(call: Call) -> Response:
    """GET /v1/events."""
    events = call.gateway.events
    if events is None:
        raise unavailable("this gateway has no stream")
    return await events.serve(call)


class Reader:
    """One reader's place in the ring."""

    def __init__(self, feed: Feed, wanted: EventsParameters, number: int, until_s: float) -> None:
        self._feed = feed
        self._ring = feed.ring
        self._all = wanted == EventsParameters(last_event_id=wanted.last_event_id)
        self._wanted = wanted
        self._number = number
        self._until_s = until_s

    @property
    def over(self) -> bool:
        """Whether the gateway stops, or the reader's token has ended."""
        return self._feed.ended or time.time() > self._until_s

    async def more(self) -> bytes:
        """What is new, or a sign of life.

        Raises:
            CutOff: what comes next is not kept any more.

        """
        alive_until_s = time.monotonic() + KEEP_ALIVE_S
        while not self.over:
            chunk = b"".join(self._take())
            if chunk:
                return chunk
            left_s = alive_until_s - time.monotonic()
            if left_s <= 0:
                return KEEP_ALIVE
            if self._number == self._ring.next:
                await self._feed.wait(left_s)
            else:
                await asyncio.sleep(0)  # Nothing fitted in this turn: others first.
        return b""

    def _take(self) -> Iterator[bytes]:
        ring = self._ring
        if self._number < ring.first:
            raise CutOff("behind")
        size = 0
        for number in range(self._number, min(ring.next, self._number + ENTRIES_A_TURN)):
            self._number = number + 1
            entry = ring.get(number)
            if self._all or fits(self._wanted, entry):
                yield entry.text
                size += len(entry.text)
                if size > CHUNK_BYTES:
                    return

    def leave(self) -> None:
        """Give the place up."""
        self._feed.detach()


def fits(wanted: EventsParameters, entry: Entry) -> bool:
    """Whether a reader wants it: all that it names must be true of one line."""
    change = entry.change
    if wanted.organization_id and wanted.organization_id != change.organization_id:
        return False
    if wanted.channel and wanted.channel != change.channel:
        return False
    product, site, location = wanted.product_id, wanted.site_id, wanted.location_id
    if not (product or site or location):
        return True
    return any(
        product in {"", place[0]} and site in {"", place[1]} and location in {"", place[2]}
        for place in change.places
    )


class EventStream(Response):
    """The endless answer."""

    media_type = "text/event-stream"

    def __init__(self, reader: Reader, metrics: StreamMetrics, *, gap: bool) -> None:
        self.status_code = 200
        self.background = None
        self._reader = reader
        self._metrics = metrics
        self._head = RETRY + (GAP if gap else b"")
        self.init_headers(HEADERS)

    async def __call__(
        self,
        scope: Scope,  # noqa: ARG002 - ASGI's signature
        receive: Receive,
        send: Send,
    ) -> None:
        """Send until the reader goes, is cut off, or the stream is over."""
        connection = _connection(receive)
        self._metrics.connections.add(connection)
        writing = asyncio.create_task(self._write(send))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        except CutOff as cut:
            self._metrics.cut_off.labels(cut.why).inc()
            await _abort(connection)
        finally:
            self._metrics.connections.discard(connection)
            self._reader.leave()
            for task in (writing, leaving):
                task.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        head: Message = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        await send(head)
        chunk = self._head
        while chunk:
            await self._send(send, chunk, more=True)
            chunk = await self._reader.more()
        await self._send(send, b"", more=False)

    async def _send(self, send: Send, chunk: bytes, *, more: bool) -> None:
        self._metrics.stalled += 1  # Not for long: only a full connection makes `send` wait.
        try:
            async with asyncio.timeout(STALL_S):
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
        except TimeoutError as error:
            raise CutOff("stalled") from error
        finally:
            self._metrics.stalled -= 1


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _connection(receive: Receive) -> Any:
    """The request's transport.

    ASGI has no word for it; uvicorn's `receive` belongs to the request, which knows it.
    """
    return receive.__self__.transport  # type: ignore[attr-defined]


async def _abort(connection: Any) -> None:
    """Drop the connection with what waits in it; closing waits for a peer that reads nothing."""
    connection.abort()
    for _ in range(2):  # The loop tells the request that its connection is lost.
        await asyncio.sleep(0)
