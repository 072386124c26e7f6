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

from producers.gateway.front import Front
from producers.gateway.straight import BODY_BYTES_MAX, protocol

WITHIN_S: Final = 10.0
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
        app, port=0, lifespan="off", log_config=None, http=protocol(app.original, 10 * 2**20)
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
        (post(b"x", path=PATH.replace("r", "%72")), b"long POST onhand/reserve? 1"),
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


async def test_body_in_pieces_is_put_together(port: int) -> None:
    """A request that comes in byte by byte is one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for byte in post(b"abc"):
        writer.write(bytes((byte,)))
        await writer.drain()
    async with asyncio.timeout(WITHIN_S):
        assert (await reader.readuntil(b"reserve? 3")).startswith(b"HTTP/1.1 200")
    writer.close()


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
