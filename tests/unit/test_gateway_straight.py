"""Short requests go straight to their endpoint; whatever is special about one goes the long way.

A real uvicorn server on a loopback port; the endpoint tells what it was given.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from producers.gateway.call import Endpoint
from producers.gateway.front import Front, parameters
from producers.gateway.straight import BODY_BYTES_MAX, HEAD_BYTES_MAX, StraightProtocol, protocol

pytestmark = pytest.mark.timeout(30)

WITHIN_S: Final = 5.0
PATH: Final = "/api/environment/default/onhand/reserve"


async def endpoint(request: Request, body: bytes | None = None) -> Response:
    """Says by which way the request came, and what was in it."""
    way = "long" if body is None else "straight"
    content = b"".join([part async for part in request.stream()]) if body is None else body
    if content == b"fail":
        raise RuntimeError("it fails")
    if content == b"split":
        return Response(b"", headers={"x-split": "a\r\nset-cookie: b"})
    if content == b"close":
        return Response(b"bye", headers={"Connection": "close"})
    query = request.scope["query_string"].decode()
    rest = request.path_params["rest"]
    words = f"{way} {request.method} {rest}?{query} {len(content)}"
    return Response(words.encode(), media_type="text/plain")


async def elsewhere(_scope: Any, _receive: Any, send: Any) -> None:
    """Whatever has another path."""
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b"elsewhere"})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Port of a running server."""
    app = Front(elsewhere, endpoint)
    config = uvicorn.Config(
        app,
        port=0,
        lifespan="off",
        log_config=None,
        http=protocol(app.original, 10 * 2**20),
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await server.shutdown()


async def asked(port: int, sent: bytes, answers: int = 1) -> bytes:
    """Everything that comes back until so many answers are there, or the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        got = b""
        async with asyncio.timeout(WITHIN_S):
            while got.count(b"HTTP/1.1") < answers or b"\r\n\r\n" not in got.rpartition(b"HTTP")[2]:
                part = await reader.read(65_536)
                if not part:
                    break
                got += part
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    got += await reader.read(65_536)
        return got
    finally:
        writer.close()


def post(body: bytes, *headers: str, path: str = PATH, method: str = "POST") -> bytes:
    """Bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_short_requests_go_straight(port: int) -> None:
    """Path, query and body arrive, the answer is whole, and the connection stays open."""
    got = await asked(port, post(b"{}", path=PATH + "?a=1") + post(b""), answers=2)
    assert b"straight POST onhand/reserve?a=1 2" in got
    assert b"onhand/reserve? 0" in got
    assert got.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b"connection: close" not in got


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (post(b"x" * (BODY_BYTES_MAX + 1)), b"long POST onhand/reserve? 65537"),
        (post(b"x", path=PATH.replace("reserve", "%72eserve")), b"long POST onhand/reserve? 1"),
        (post(b"", "Connection: Upgrade", "Upgrade: h2c"), b"long POST onhand/reserve? 0"),
        (post(b"x", "Expect: 100-continue"), b"long POST"),
        (post(b"x", method="PUT"), b"long PUT"),
        (post(b"x", path="/other"), b"elsewhere"),
        (post(b"x", path="/api/environment/default"), b"elsewhere"),
        (
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            "1\r\nx\r\n0\r\n\r\n".encode(),
            b"long POST onhand/reserve? 1",
        ),
        (post(b"x").replace(b"HTTP/1.1", b"HTTP/1.0"), b"long POST onhand/reserve? 1"),
    ],
)
async def test_special_requests_go_the_long_way(port: int, request_: bytes, answer: bytes) -> None:
    """A long body, an escaped path, other methods, versions and codings are uvicorn's to serve."""
    assert answer in await asked(port, request_)


async def test_requests_sent_without_waiting_are_answered_in_order(port: int) -> None:
    """Pipelined requests, straight or not, keep their order on the connection."""
    got = await asked(port, b"".join(post(b"x" * length) for length in range(1, 6)), answers=5)
    places = [got.index(b"onhand/reserve? %d" % length) for length in range(1, 6)]
    assert places == sorted(places)


@pytest.mark.parametrize(
    "request_", [post(b"close"), post(b"x", "Connection: close")], ids=["by us", "by the caller"]
)
async def test_connection_ends_where_it_was_said(port: int, request_: bytes) -> None:
    """An answer that closes says so, and the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_)
    async with asyncio.timeout(WITHIN_S):
        assert (await reader.read()).count(b"connection: close") == 1
    writer.close()


@pytest.mark.parametrize("body", [b"fail", b"split"])
async def test_failing_endpoint_is_500_and_no_header_is_split(port: int, body: bytes) -> None:
    """An exception, or a header that holds the end of a line, is 500 and the end."""
    got = await asked(port, post(body))
    assert got.startswith(b"HTTP/1.1 500")
    assert b"set-cookie" not in got


class Wire(asyncio.Transport):
    """The other end of a connection: keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written += data

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closing

    def close(self) -> None:
        """Nothing comes any more."""
        self.closing = True

    def pause_reading(self) -> None:
        """What is sent by a test comes all the same."""

    def resume_reading(self) -> None:
        """See above."""


class Connection:
    """A connection without a network: what is sent arrives in the pieces in which it is sent."""

    def __init__(self, endpoint: Endpoint, most: int = 10 * 2**20, **settings: Any) -> None:
        front = Front(elsewhere, endpoint)
        make: Any = settings.pop("by", None) or protocol(front.original, most)
        config = uvicorn.Config(front, lifespan="off", log_config=None, **settings)
        config.load()
        self.state = ServerState()
        self.state.default_headers = [(b"server", b"holdfast")]
        self.wire = Wire()
        self.protocol: StraightProtocol = make(config=config, server_state=self.state, app_state={})
        self.protocol.connection_made(self.wire)

    async def ask(self, *pieces: bytes) -> bytes:
        """What is answered to these pieces."""
        self.wire.written = b""
        for piece in pieces:
            self.protocol.data_received(piece)
        await turns()
        return self.wire.written


async def turns() -> None:
    """Everything that needs nobody else is done."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_body_in_pieces_is_put_together() -> None:
    """A request that comes in byte by byte is one request."""
    request_ = post(b"abc")
    got = await Connection(endpoint).ask(*(request_[n : n + 1] for n in range(len(request_))))
    assert got.startswith(b"HTTP/1.1 200 OK\r\nserver: holdfast\r\n")
    assert got.endswith(b"\r\n\r\nstraight POST onhand/reserve? 3")


async def test_a_connection_goes_straight_again_and_again() -> None:
    """One request after the other; each is counted, and none is still served."""
    connection = Connection(endpoint)
    for count in range(1, 4):
        assert b"straight POST" in await connection.ask(post(b"x"))
        assert connection.state.total_requests == count
    assert not connection.state.tasks


@pytest.mark.parametrize("most", [7, 10 * 2**20])
async def test_the_longest_body_goes_straight_and_no_longer_one(most: int) -> None:
    """The bound is the gateway's own, where it is lower than what is held for anybody."""
    longest = min(most, BODY_BYTES_MAX)
    connection = Connection(endpoint, most)
    assert b"straight" in await connection.ask(post(b"x" * longest))
    assert b"long" in await connection.ask(post(b"x" * (longest + 1)))


@pytest.mark.parametrize("url", [PATH, PATH + "?a=1&b=", PATH + "/x?"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_endpoint_is_told_the_same_by_both_ways(method: str, url: str) -> None:
    """Method, path, query, headers and all else of a request are those that uvicorn tells."""
    told: list[dict[str, Any]] = []

    async def telling(request: Request, body: bytes | None = None) -> Response:
        told.append({**request.scope, "straight": body is not None})
        return Response(b"")

    for way in (None, HttpToolsProtocol):
        await Connection(telling, by=way).ask(post(b"", "X-Y: z", path=url, method=method))
    straight, long = told
    assert (straight.pop("straight"), long.pop("straight")) == (True, False)
    assert straight == long


async def test_what_an_endpoint_does_to_its_parameters_is_not_remembered() -> None:
    """A URL is taken apart once, and every request of it gets parameters of its own."""

    async def greedy(request: Request, _body: bytes | None = None) -> Response:
        return Response(request.path_params.pop("rest").encode())

    connection = Connection(greedy)
    for _ in range(2):
        assert (await connection.ask(post(b""))).endswith(b"onhand/reserve")


class Slow:
    """An endpoint that answers when it is told to."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.begun = 0

    async def __call__(self, request: Request, body: bytes | None = None) -> Response:
        """Say which request it was."""
        self.begun += 1
        await self.may_answer.wait()
        return await endpoint(request, body)


async def test_a_request_is_not_answered_before_the_one_in_front_of_it() -> None:
    """The second of a connection waits, although it would go straight; the third one too."""
    slow = Slow()
    connection = Connection(slow)
    assert await connection.ask(post(b"x") + post(b"xx") + post(b"xxx")) == b""
    assert slow.begun == 1
    slow.may_answer.set()
    await turns()
    got = connection.wire.written
    places = [got.index(b"onhand/reserve? %d" % length) for length in (1, 2, 3)]
    assert places == sorted(places)


async def test_a_request_under_way_is_known_until_its_caller_goes_away() -> None:
    """A server that stops waits for it; and nothing is written where nobody reads."""
    slow = Slow()
    connection = Connection(slow)
    await connection.ask(post(b"x"))
    assert len(connection.state.tasks) == 1
    connection.protocol.connection_lost(None)
    slow.may_answer.set()
    await turns()
    assert connection.wire.written == b""
    assert not connection.state.tasks


async def test_an_answer_waits_for_a_reader_that_is_slow() -> None:
    """Nothing is written while the connection's buffer is full."""
    connection = Connection(endpoint)
    connection.protocol.pause_writing()
    assert await connection.ask(post(b"x")) == b""
    connection.protocol.resume_writing()
    await turns()
    assert b"straight POST" in connection.wire.written


async def test_the_number_of_connections_can_be_limited() -> None:
    """Where uvicorn is told a limit, its 503 is not gone round."""
    assert b"HTTP/1.1 503" in await Connection(endpoint, limit_concurrency=1).ask(post(b"x"))


def head_of(size: int) -> bytes:
    """A request whose head has about so many bytes."""
    return post(b"x", "X-Long: " + "y" * size)


def pieces_of(request_: bytes) -> list[bytes]:
    """A request in pieces, none of which is too long by itself."""
    step = HEAD_BYTES_MAX // 4
    return [request_[start : start + step] for start in range(0, len(request_), step)]


async def test_a_head_without_an_end_is_refused() -> None:
    """Nobody is proven yet, so no more than a bound is read of it, all its pieces together."""
    connection = Connection(endpoint)
    got = await connection.ask(*pieces_of(head_of(2 * HEAD_BYTES_MAX))[:-1])
    assert got.startswith(b"HTTP/1.1 400")
    assert got.count(b"HTTP/1.1") == 1
    assert connection.wire.closing


async def test_long_heads_count_one_by_one() -> None:
    """A connection may send any number of them, each within the bound."""
    connection = Connection(endpoint)
    for _ in range(3):
        got = await connection.ask(*pieces_of(head_of(HEAD_BYTES_MAX * 3 // 4)))
        assert got.startswith(b"HTTP/1.1 200")
    assert not connection.wire.closing


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/api/environment/a/onhand/reserve", {"environment_id": "a", "rest": "onhand/reserve"}),
        ("/api/environment/a/", {"environment_id": "a", "rest": ""}),
        ("/api/environment/a", None),
        ("/api/environment//onhand", None),
        ("/v1/environment/a/onhand", None),
    ],
)
def test_a_path_is_the_originals_or_somebody_elses(path: str, found: object) -> None:
    """It names an environment, and something in it."""
    assert parameters(path) == found


async def test_only_requests_go_to_the_originals_endpoint() -> None:
    """Whatever else the server tells is the routed application's."""
    told: list[str] = []

    async def routed(scope: Any, _receive: Any, _send: Any) -> None:
        told.append(scope["type"])

    await Front(routed, endpoint)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert told == ["lifespan"]
