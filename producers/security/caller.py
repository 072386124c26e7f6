"""Who is asking, once a token has been proven, and what it may do."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

Scope = Literal["reserve", "onhand.write", "read", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("reserve", "onhand.write", "read", "admin")

# The claims in which identity providers name a client, the most specific first.
_CLIENT_CLAIMS: Final = ("azp", "appid", "client_id", "sub")
_SCOPE_CLAIMS: Final = ("scope", "scp", "roles")


class Refused(Exception):
    """The token is not accepted. The text names the reason, never the token.

    Attributes:
        unavailable: the keys could not be had, so nothing is known about the token.

    """

    def __init__(self, reason: str, *, unavailable: bool = False) -> None:
        super().__init__(reason)
        self.unavailable = unavailable


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """A proven caller.

    Attributes:
        client_id: the application; limits and read-your-writes count by it.
        scopes: what it may do.
        environments: environment ids it may reach.
        expires_at_s: end of its token, seconds since 1970.

    """

    client_id: str
    scopes: frozenset[str]
    environments: frozenset[str]
    expires_at_s: float

    def may(self, scope: Scope) -> bool:
        """Whether the token holds the scope."""
        return scope in self.scopes


def caller_of(claims: Mapping[str, Any], environment_claim: str) -> Caller:
    """Caller named by proven claims.

    Raises:
        Refused: no client is named.

    """
    client_id = next((claims[n] for n in _CLIENT_CLAIMS if isinstance(claims.get(n), str)), "")
    if not client_id:
        raise Refused("the token names no client")
    scopes = frozenset(word for name in _SCOPE_CLAIMS for word in _words(claims.get(name)))
    return Caller(
        client_id=client_id,
        scopes=scopes,
        environments=frozenset(_words(claims.get(environment_claim))),
        expires_at_s=float(claims["exp"]),
    )


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list):
        return [word for word in value if isinstance(word, str)]
    return []
