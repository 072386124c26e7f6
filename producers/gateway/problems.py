"""How the gateway says no: RFC 9457 problem bodies, one shape for every refusal of HTTP itself.

What the stock answers (a refused reservation) is an answer, not one of these, unless the
environment's style is honest; see `producers.gateway.api.answers`.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response

PROBLEM_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:holdfast:problem:"
RETRY_AFTER_S: Final = 1


class Problem(Exception):
    """A request that is refused.

    Attributes:
        status: HTTP status.
        kind: short name of the problem; ends its `type`.
        detail: what is wrong and where, for the caller's developer; never echoes a secret.
        more: further members of the body.
        headers: further headers of the answer.

    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        more: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.more = dict(more or {})
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Members of the problem body."""
        return {
            "type": TYPE_PREFIX + self.kind,
            "title": self.kind.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            # The original's names for the same, so that its clients find what they look for.
            "statusCode": self.status,
            "processingStatus": "failure",
            "message": self.detail,
            **self.more,
        }

    def response(self) -> Response:
        """Answer that says so."""
        return Response(
            orjson.dumps(self.body()),
            status_code=self.status,
            media_type=PROBLEM_TYPE,
            headers=self.headers,
        )


def bad(detail: str, kind: str = "malformed-request") -> Problem:
    """400: the caller's fault, and the same request will be refused again."""
    return Problem(400, kind, detail)


def unauthenticated(detail: str) -> Problem:
    """401: no token, or one that is not accepted."""
    return Problem(
        401, "unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer realm="holdfast"'}
    )


def unavailable(detail: str, retry_after_s: int = RETRY_AFTER_S) -> Problem:
    """503: nothing was written by this; ask again later."""
    return Problem(503, "unavailable", detail, headers={"Retry-After": str(retry_after_s)})
