"""The gateway as an ASGI application: every route, and nothing that waits at import."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from producers.gateway import identity, v1
from producers.gateway.api.routes import dispatcher
from producers.gateway.front import Front
from producers.gateway.problems import Problem
from producers.gateway.state import Gateway

PING: Final = orjson.dumps({"status": "healthy"})


def create_app(gateway: Gateway) -> Front:
    """Application of a gateway; connects when it starts, lets go when it ends."""

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await gateway.open()
        try:
            yield
        finally:
            await gateway.close()

    routes: list[BaseRoute] = [
        Route("/health/ping", _ping, methods=["GET"]),
        *v1.routes(gateway),
        *identity.routes(gateway),
    ]
    routed = Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _http_problem}
    )
    return Front(routed, dispatcher(gateway))


async def _ping(_request: Request) -> Response:
    """Liveness: the process answers."""
    return Response(PING, media_type="application/json")


async def _http_problem(_request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in the shape of every other refusal."""
    assert isinstance(error, HTTPException)
    kind = {404: "unknown-path", 405: "method-not-allowed"}.get(error.status_code, "refused")
    return Problem(error.status_code, kind, str(error.detail), headers=error.headers).response()
