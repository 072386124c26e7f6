"""Short requests of the original's paths, from the wire to their endpoint and back in one write.

An ASGI cycle costs more than the endpoint of a single reservation: three awaited messages, an
event, and every header looked at by two expressions. So uvicorn's protocol is taught one more way.
The rule: a request goes straight only if nothing is special about it (a plain path, a body of
known, small length, nothing under way before it on the connection); everything else, every stream
and every refusal of HTTP itself stays uvicorn's. Both ways end in the same endpoint.
"""

import functools
from typing import Any, Final, NamedTuple, cast

import structlog
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from producers.gateway.call import Endpoint
from producers.gateway.front import STRAIGHT, parameters
from producers.gateway.problems import Problem

BODY_BYTES_MAX: Final = 65_536  # What is held before its sender is proven; longer ones wait.
HEAD_BYTES_MAX: Final = 524_288  # Of one head, and of what came in one read with it.
PREFIX: Final = STRAIGHT.encode()
URLS_REMEMBERED: Final = 1_024
URL_BYTES_REMEMBERED: Final = 256
METHODS: Final = {b"GET": "GET", b"POST": "POST"}
LINE_END: Final = b"\r\n"
log = structlog.get_logger()


class _Silent:
    """Stands for the event on which nobody waits here."""

    def set(self) -> None:
        """Wake nobody."""


_NOBODY: Final = _Silent()


class _Target(NamedTuple):
    """A URL that may go straight, taken apart."""

    path: str
    raw_path: bytes
    query: bytes
    parameters: dict[str, Any]


@functools.lru_cache(URLS_REMEMBERED)
def _target(url: bytes) -> _Target | None:
    """Take a URL apart, once for all requests of it; None if it is not a plain one of ours."""
    if not url.startswith(PREFIX) or not url.isascii() or b"%" in url or b"#" in url:
        return None
    raw_path, _, query = url.partition(b"?")
    path = raw_path.decode("ascii")
    found = parameters(path)
    return None if found is None else _Target(path, raw_path, query, found)


class Exchange:
    """One request and its answer; to uvicorn's protocol it looks like a cycle of its own."""

    __slots__ = ("body", "disconnected", "keep_alive", "more_body", "response_complete", "scope")

    message_event = _NOBODY

    def __init__(self, scope: dict[str, Any], *, keep_alive: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_complete = False


class StraightProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, endpoint: Endpoint, body_bytes_max: int, **wiring: Any) -> None:
        super().__init__(**wiring)
        self._endpoint = endpoint
        self._body_bytes_max = min(BODY_BYTES_MAX, body_bytes_max)
        self._begun: Any = None  # Headers of the head that is counted,
        self._complete: Any = None  # and of the last one that ended.
        self._head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse; a head that has no end is refused: nobody has been proven yet."""
        super().data_received(data)
        headers = self.headers
        if headers is self._complete:
            return
        if headers is not self._begun:
            self._begun, self._head_bytes = headers, 0
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_headers_complete(self) -> None:
        """Choose the way."""
        self._complete = self.headers
        scope = self._scope()
        if scope is None:
            super().on_headers_complete()
            return
        exchange = Exchange(scope, keep_alive=self.parser.should_keep_alive())
        self.cycle = cast("RequestResponseCycle", exchange)

    def _scope(self) -> dict[str, Any] | None:
        """What the endpoint is told of the request; None if it does not go straight."""
        before, parser, url = self.cycle, self.parser, self.url
        target = _target(url) if len(url) <= URL_BYTES_REMEMBERED else _target.__wrapped__(url)
        plain = (
            target is not None
            and (before is None or before.response_complete)
            and not self.expect_100_continue
            and self.limit_concurrency is None
        )
        if target is None or not plain:
            return None
        method = METHODS.get(parser.get_method())
        headers = dict(self.headers)
        length = headers.get(b"content-length", b"0")
        plain = (
            method is not None
            and b"transfer-encoding" not in headers
            and length.isdigit()
            and int(length) <= self._body_bytes_max
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )
        if not plain:
            return None
        scope = cast("dict[str, Any]", self.scope)
        scope["method"] = method
        scope["path"] = target.path
        scope["raw_path"] = target.raw_path
        scope["query_string"] = target.query
        scope["path_params"] = dict(target.parameters)
        return scope

    def on_body(self, body: bytes) -> None:
        """Keep it; its length is known to be small."""
        exchange: Any = self.cycle
        if type(exchange) is Exchange:
            exchange.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Serve the request, now that it is whole."""
        exchange: Any = self.cycle
        if type(exchange) is not Exchange:
            super().on_message_complete()
            return
        exchange.more_body = False
        task = self.loop.create_task(self._serve(exchange))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, exchange: Exchange) -> None:
        try:
            response = await self._endpoint(Request(exchange.scope), exchange.body)
            head = self._head(response, exchange)
        except BaseException:  # As in uvicorn: nobody waits for this task.
            log.exception("a request was cut off")
            exchange.keep_alive = False
            response = Problem(500, "internal-error", "the gateway was stopped").response()
            head = self._head(response, exchange)
        if self.flow.write_paused and not exchange.disconnected:
            await self.flow.drain()
        if exchange.disconnected:
            return
        self.transport.write(head + bytes(response.body))
        exchange.response_complete = True
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _head(self, response: Response, exchange: Exchange) -> bytes:
        """Status line and headers.

        Raises:
            ValueError: a header holds the end of a line.

        """
        lines = [STATUS_LINE[response.status_code][:-2]]
        for name, value in [*self.server_state.default_headers, *response.raw_headers]:
            if name == b"connection" and b"close" in value.lower():
                exchange.keep_alive = False
            else:
                lines.append(name + b": " + value)
        if not exchange.keep_alive:
            lines.append(b"connection: close")
        lines.append(LINE_END)
        head = LINE_END.join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            raise ValueError("a header holds the end of a line")
        return head


def protocol(endpoint: Endpoint, body_bytes_max: int) -> Any:
    """What uvicorn makes a connection with."""
    return functools.partial(StraightProtocol, endpoint, body_bytes_max)
