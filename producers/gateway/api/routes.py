"""The original's paths under /api/environment/{environmentId}; names are case-insensitive.

One route takes them all and looks the rest of the path up in lower case, since the original's
clients write `indexquery` and `indexQuery` alike.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from producers.gateway.api import administration, cleaning, queries, writes
from producers.gateway.call import Call, Endpoint, Handler, endpoint
from producers.gateway.problems import Problem
from producers.gateway.state import Gateway
from producers.security.caller import Scope


class Operation(NamedTuple):
    """One method of one path."""

    scope: Scope
    handler: Handler


OPERATIONS: Final[Mapping[str, Mapping[str, Operation]]] = {
    "onhand": {
        "GET": Operation("read", queries.on_hand),
        "POST": Operation("onhand.write", writes.on_hand),
    },
    "onhand/bulk": {"POST": Operation("onhand.write", writes.on_hand_bulk)},
    "onhand/reserve": {"POST": Operation("reserve", writes.reserve)},
    "onhand/reserve/bulk": {"POST": Operation("reserve", writes.reserve_bulk)},
    "onhand/unreserve": {"POST": Operation("reserve", writes.unreserve)},
    "onhand/unreserve/bulk": {"POST": Operation("reserve", writes.unreserve_bulk)},
    "onhand/indexquery": {"POST": Operation("read", queries.index_query)},
    "onhand/exactquery": {"POST": Operation("read", queries.exact_query)},
    "onhand/reserve/resyncjob": {"POST": Operation("admin", cleaning.clean_up)},
    "getjobprogress": {"GET": Operation("read", cleaning.job_progress)},
    "allpartitionids": {"GET": Operation("admin", cleaning.partition_ids)},
    "partitions/cleanupalldata": {"DELETE": Operation("admin", cleaning.wipe)},
    # Not in the original's catalogue; its own tests clean up by it.
    "cleanupalldata": {"DELETE": Operation("admin", cleaning.wipe)},
    "configuration": {"GET": Operation("read", administration.configuration)},
    "configuration/hardupdate": {"POST": Operation("admin", administration.hard_update)},
}
SET_ON_HAND: Final = "setonhand/"
BULK: Final = "/bulk"


def dispatcher(gateway: Gateway) -> Endpoint:
    """The one endpoint of this interface; it finds `environment_id` and `rest` in the path."""
    endpoints = {
        (path, method): endpoint(gateway, operation.handler, scope=operation.scope, area=path)
        for path, methods in OPERATIONS.items()
        for method, operation in methods.items()
    }
    set_on_hand = endpoint(
        gateway, _set_on_hand, scope="onhand.write", area="setonhand/{inventorySystem}/bulk"
    )

    async def dispatch(request: Request, body: bytes | None = None) -> Response:
        path = request.path_params["rest"].lower().strip("/")
        found = endpoints.get((path, request.method))
        if found is None and _inventory_system(path):
            found = set_on_hand if request.method == "POST" else _refusing(gateway, path, {"POST"})
        if found is None:
            found = _refusing(gateway, path, set(OPERATIONS.get(path, ())))
        return await found(request, body)

    return dispatch


def _inventory_system(path: str) -> str:
    """The data source in setonhand/{inventorySystem}/bulk, else nothing."""
    if not (path.startswith(SET_ON_HAND) and path.endswith(BULK)):
        return ""
    name = path[len(SET_ON_HAND) : -len(BULK)]
    return "" if "/" in name else name


async def _set_on_hand(call: Call) -> Response:
    path = call.request.path_params["rest"].lower().strip("/")
    return await writes.set_on_hand_bulk(call, _inventory_system(path))


def _refusing(gateway: Gateway, path: str, methods: set[str]) -> Endpoint:
    """An endpoint that says what is wrong with the path; to the proven only."""

    async def refuse(_call: Call) -> Response:
        if methods:
            allowed = ", ".join(sorted(methods))
            raise Problem(
                405, "method-not-allowed", f"{path}: {allowed}", headers={"Allow": allowed}
            )
        raise Problem(404, "unknown-path", f"there is no {path[:100]!r} here")

    return endpoint(gateway, refuse, scope="read", area="unknown")
