"""Holdfast's own interface: /v1, honest answers, holds by id."""

from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from producers.gateway import openapi
from producers.gateway.call import Call, endpoint
from producers.gateway.fields import checked_text
from producers.gateway.problems import bad
from producers.gateway.state import Gateway
from producers.gateway.v1.bodies import NoParameters
from producers.gateway.v1.table import OPERATIONS, Operation
from schemas.limits import TEXT_LENGTH_MAX


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Routes of /v1, and of the document that describes every path."""
    described = Response(orjson.dumps(openapi.document()), media_type="application/json")

    async def describe(_request: Request) -> Response:
        return described

    return [
        Route(openapi.PATH, describe, methods=["GET"]),
        *_operations(gateway),
    ]


def _operations(gateway: Gateway) -> list[BaseRoute]:
    return [
        Route(
            # A request id may hold a slash.
            operation.path.replace("{request_id}", "{request_id:path}"),
            _endpoint(gateway, operation),
            methods=[operation.method],
        )
        for operation in OPERATIONS
    ]


def _endpoint(gateway: Gateway, operation: Operation) -> Callable[[Request], Awaitable[Response]]:
    async def handle(call: Call) -> Response:
        for name, value in call.request.path_params.items():
            checked_text(value, name, TEXT_LENGTH_MAX)
        if operation.parameters is NoParameters and call.request.query_params:
            raise bad("no parameter is taken here")
        return await operation.handler(call)

    return endpoint(gateway, handle, scope=operation.scope, area=f"v1 {operation.name}")
