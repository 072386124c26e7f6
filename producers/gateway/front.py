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
    """ASGI application over the routed one.

    Attributes:
        original: the one endpoint of the original's paths; short requests come to it straight
            (`producers.gateway.straight`).

    """

    def __init__(self, routed: ASGIApp, original: Endpoint) -> None:
        self._routed = routed
        self.original = original

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or whatever else the server tells."""
        if scope["type"] == "http":
            found = parameters(scope["path"])
            if found is not None:
                scope["path_params"] = found
                response = await self.original(Request(scope, receive, send))
                await response(scope, receive, send)
                return
        await self._routed(scope, receive, send)


def parameters(path: str) -> dict[str, Any] | None:
    """Parameters of an original's path, None for any other."""
    if not path.startswith(STRAIGHT):
        return None
    environment_id, slash, rest = path[len(STRAIGHT) :].partition("/")
    return {"environment_id": environment_id, "rest": rest} if environment_id and slash else None
