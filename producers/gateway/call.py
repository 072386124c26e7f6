"""One request on its way in: proven, within its limits, its body read; then an endpoint's turn.

The rule: nothing of a request is looked at before its token is proven, and no body is read beyond
its bound. Every endpoint is wrapped by `endpoint`, so that none can forget.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from producers.channel.outcomes import ChannelError
from producers.gateway import strict_json
from producers.gateway.problems import Problem, unauthenticated, unavailable
from producers.gateway.state import Gateway
from producers.security.caller import Caller, Refused, Scope
from schemas.queries import QueryInvalid, ViewUnavailable

log = structlog.get_logger()

BEARER: Final = b"bearer "
RETRY_HEADER: Final = "Retry-After"
NO_BODY: Final = frozenset({"GET", "HEAD"})
DISCARDED_BYTES_MAX: Final = 16 * 1_048_576  # Of a refused request's body, and for how long.
DISCARDED_WITHIN_S: Final = 5.0


class Call:
    """A request that was let in.

    Attributes:
        body: its raw bytes; empty for GET.
        environment: id in the path, empty outside /api.
        headers: values by name in lower case, the last of those that are there twice.
        style: how a refusal by the stock is answered.

    """

    __slots__ = ("body", "caller", "environment", "gateway", "headers", "request", "style")

    def __init__(self, gateway: Gateway, request: Request, caller: Caller) -> None:
        self.gateway = gateway
        self.request = request
        self.caller = caller
        self.environment = ""
        self.style: str = "honest"
        self.body = b""
        self.headers: dict[bytes, bytes] = dict(request.scope["headers"])

    def json(self, *, lower: bool = True) -> Any:
        """The body's value; raises Problem 400."""
        return strict_json.parse(self.body, lower=lower)

    def header(self, name: bytes, default: str = "") -> str:
        """Value of a header, given by its name in lower case."""
        value = self.headers.get(name)
        return default if value is None else value.decode("latin-1")

    @property
    def channel(self) -> str:
        """Channel under which this caller's requests are decided."""
        return self.caller.client_id[:64]

    @property
    def api_version(self) -> str:
        """`Api-Version`: 1.0 unless it says 2.0.

        Raises:
            Problem: 400, another one.

        """
        version = self.header(b"api-version", "1.0")
        if version not in {"1.0", "2.0"}:
            raise Problem(400, "unknown-version", f"Api-Version {version[:16]!r}: 1.0 or 2.0")
        return version


Handler = Callable[[Call], Awaitable[Response]]


class Endpoint(Protocol):
    """Answers requests; `body` is given where it was read already, within its bound."""

    async def __call__(self, request: Request, body: bytes | None = None) -> Response:
        """Answer one."""
        ...


def endpoint(gateway: Gateway, handler: Handler, *, scope: Scope, area: str) -> Endpoint:
    """Wrap a handler: prove, limit, read, answer, count. `area` labels the figures."""

    async def serve(request: Request, body: bytes | None = None) -> Response:
        started_s = time.monotonic()
        try:
            call = await admit(gateway, request, scope, body)
            response = await handler(call)
        except Problem as problem:
            response = problem.response()
        except Exception as error:  # noqa: BLE001 - every request is answered
            response = _trouble(error, area)
        gateway.metrics.answered(area, response.status_code, time.monotonic() - started_s)
        return response

    return serve


def _trouble(error: Exception, area: str) -> Response:
    if isinstance(error, ViewUnavailable):
        return unavailable(f"the view cannot answer: {error}").response()
    if isinstance(error, QueryInvalid):
        return Problem(400, "query-refused", str(error)).response()
    if isinstance(error, ChannelError):
        return unavailable(f"not sent: {error}").response()
    if isinstance(error, ClientDisconnect):
        return Problem(400, "gone", "the caller went away").response()
    log.error("an endpoint failed", area=area, exc_info=error)
    return Problem(500, "internal-error", "the gateway failed; its log says why").response()


async def admit(
    gateway: Gateway, request: Request, scope: Scope, body: bytes | None = None
) -> Call:
    """Let a request in; `body` is None as long as it has not been read.

    Raises:
        Problem: 401, 403, 404, 413 or 429.

    """
    try:
        call = await _let_in(gateway, request, scope)
    except Problem:
        if body is None:
            await _discard_rest(request)
        raise
    if body is not None:
        call.body = body
    elif request.method not in NO_BODY:
        call.body = await read_body(request, gateway.settings.body_bytes_max)
    return call


async def _let_in(gateway: Gateway, request: Request, scope: Scope) -> Call:
    """The call of a request whose body has not been looked at."""
    caller = await prove(gateway, request)
    wait_s = gateway.limit.wait_s(caller.client_id)
    if wait_s:
        gateway.metrics.refused.labels("rate").inc()
        raise _too_many(wait_s)
    if not caller.may(scope):
        gateway.metrics.refused.labels("scope").inc()
        raise Problem(403, "missing-scope", f"the token lacks the scope {scope}")
    call = Call(gateway, request, caller)
    environments = gateway.settings.environments
    name = request.path_params.get("environment_id")
    if name is None:
        if caller.environments.isdisjoint(environments):
            raise Problem(403, "wrong-environment", "the token is for another environment")
    else:
        # Asked in this order, so that a token learns nothing of environments it has no part in.
        if name not in caller.environments:
            raise Problem(403, "wrong-environment", "the token is for another environment")
        if name not in environments:
            raise Problem(404, "unknown-environment", f"no environment {name[:64]!r} here")
        call.environment, call.style = name, environments[name]
    return call


async def prove(gateway: Gateway, request: Request) -> Caller:
    """Caller of the request's bearer token.

    Raises:
        Problem: 401, 429 for an address that keeps failing, 503 when keys cannot be had.

    """
    given = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if len(given) != 1 or given[0][: len(BEARER)].lower() != BEARER:
        gateway.metrics.refused.labels("unauthenticated").inc()
        raise unauthenticated("a bearer token is needed: Authorization: Bearer …")
    token = given[0][len(BEARER) :].decode("latin-1").strip()
    known = gateway.verifier.remembered(token)
    if known is not None:
        return known
    try:
        return await gateway.verifier.prove(token)
    except Refused as refused:
        if refused.unavailable:
            raise unavailable(str(refused)) from refused
        raise refuse(gateway, request, str(refused)) from refused


def refuse(gateway: Gateway, request: Request, reason: str) -> Problem:
    """401 for a proof that failed; 429 for an address from which too many do."""
    gateway.metrics.refused.labels("unauthenticated").inc()
    wait_s = gateway.failures.wait_s(request.client.host if request.client else "")
    return _too_many(wait_s) if wait_s else unauthenticated(reason)


def _too_many(wait_s: float) -> Problem:
    seconds = max(1, int(wait_s + 0.999))
    return Problem(
        429,
        "too-many-requests",
        f"too many requests: ask again in {seconds} s",
        headers={RETRY_HEADER: str(seconds)},
    )


async def read_body(request: Request, most: int) -> bytes:
    """Read the whole body.

    Raises:
        Problem: 413, it is longer than `most`; what follows is not kept.

    """
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        await _discard_rest(request)
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        part, more = await _next_part(request)
        size += len(part)
        if size > most:
            if more:
                await _discard_rest(request)
            raise _too_large(most)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _next_part(request: Request) -> tuple[bytes, bool]:
    """The next part of the body, and whether another one follows."""
    message = await request.receive()
    if message["type"] != "http.request":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


async def _discard_rest(request: Request) -> None:
    """Read on and keep nothing, before a request is refused whose body is still being sent.

    Closed at once, the connection would be reset under a client that sends, and the client would
    never see why. One that waits for `100 Continue` sends nothing.
    """
    if request.method in NO_BODY or "expect" in request.headers:
        return
    left = DISCARDED_BYTES_MAX
    more = True
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(DISCARDED_WITHIN_S):
            while more and left > 0:
                part, more = await _next_part(request)
                left -= len(part)


def _too_large(most: int) -> Problem:
    return Problem(
        413,
        "body-too-large",
        f"the body is longer than {most} bytes: split it",
        headers={"Connection": "close"},
    )
