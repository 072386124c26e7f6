"""The gateway's front: the original's paths go straight to their endpoint, the rest by the router.

A router and two layers of exception handling cost a third of a short request, and these paths need
neither: they are looked up in one table, and their endpoints answer every exception themselves.
"""

from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from producers.gateway.call import Endpoint

STRAIGHT: Final = "/api/environment/"


class Front:
    """ASGI application over the routed one."""

    def __init__(self, routed: ASGIApp, original: Endpoint) -> None:
        self._routed = routed
        self._original = original

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or whatever else the server tells."""
        if scope["type"] == "http":
            parameters = _parameters(scope["path"])
            if parameters is not None:
                scope["path_params"] = parameters
                response = await self._original(Request(scope, receive, send))
                await response(scope, receive, send)
                return
        await self._routed(scope, receive, send)


def _parameters(path: str) -> dict[str, Any] | None:
    """Parameters of an original path, None for any other."""
    if not path.startswith(STRAIGHT):
        return None
    environment_id, slash, rest = path[len(STRAIGHT) :].partition("/")
    return {"environment_id": environment_id, "rest": rest} if environment_id and slash else None
