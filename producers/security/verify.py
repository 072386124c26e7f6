"""Bearer tokens: signature, issuer, audience, times; nothing that is not checked is believed.

Only RS256 and ES256 are accepted, and the algorithm must be that of the published key: `none` and
the symmetric ones (where a public key would be the secret) are refused before any key is looked at.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import jwt

from producers.security.caller import Caller, Refused, caller_of
from producers.security.keys import ALGORITHMS, KeySource

TOKEN_LENGTH_MAX: Final = 8_192
REMEMBERED_MAX: Final = 10_000  # Proven tokens; the one unused longest goes first.
REMEMBERED_S: Final = 60.0  # A key taken out of the set ends its tokens within this.
LEEWAY_S: Final = 5.0  # Clocks of identity providers differ by seconds.


class Verifier:
    """Proves tokens of one issuer for one audience."""

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        audience: str,
        environment_claim: str = "environment",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._environment_claim = environment_claim
        self._clock = clock
        self._proven: OrderedDict[str, tuple[float, Caller]] = OrderedDict()

    def remembered(self, token: str) -> Caller | None:
        """Caller of a token that was proven a moment ago and has not ended."""
        entry = self._proven.get(token)
        if entry is None:
            return None
        until_s, caller = entry
        if self._clock() > until_s:
            del self._proven[token]
            return None
        self._proven.move_to_end(token)
        return caller

    async def prove(self, token: str) -> Caller:
        """Caller that the token names.

        Raises:
            Refused: it is not a token, not ours, ended, or its key is not known.

        """
        known = self.remembered(token)
        if known is not None:
            return known
        if len(token) > TOKEN_LENGTH_MAX:
            raise Refused("the token is too long")
        claims = await self._claims(token)
        caller = caller_of(claims, self._environment_claim)
        until_s = min(caller.expires_at_s, self._clock() + REMEMBERED_S)
        self._proven[token] = (until_s, caller)
        if len(self._proven) > REMEMBERED_MAX:
            self._proven.popitem(last=False)
        return caller

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise Refused("not a token") from error
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            raise Refused("the token's algorithm is not accepted")
        if not isinstance(key_id, str):
            raise Refused("the token names no key")
        key = await self._keys.key(key_id)
        if key.key_type != ALGORITHMS[algorithm]:
            raise Refused("the token's algorithm is not that of its key")
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Refused("the token has ended") from error
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            raise Refused(f"the token is not accepted: {type(error).__name__}") from error
