"""Public keys of an identity provider, fetched, cached and rotated.

The rule: a key that is not published is not believed. An unknown key id is looked for at once, but
not more often than every `RENEW_MIN_S`, so that forged ids cannot make the gateway ask for ever. A
known key is renewed beside, while it answers: a provider that is slow or down costs nothing, for
`STALE_MAX_S`.
"""

import asyncio
import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import jwt

from producers.security.caller import Refused

RENEW_S: Final = 300.0
RENEW_MIN_S: Final = 5.0
STALE_MAX_S: Final = 24 * 3600.0
FETCH_WITHIN_S: Final = 5.0
KEY_SET_BYTES_MAX: Final = 262_144

ALGORITHMS: Final[Mapping[str, str]] = {"RS256": "RSA", "ES256": "EC"}
"""Accepted algorithms and the type of key each needs. No symmetric one: a public key would do."""


class KeySource(Protocol):
    """Finds the public key of an id."""

    async def key(self, key_id: str) -> jwt.PyJWK:
        """Key of that id; raises Refused when there is none."""
        ...


class KeySet:
    """Keys by id, from whatever `read` gives (a document of RFC 7517)."""

    def __init__(
        self, read: Callable[[], bytes], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_s = -STALE_MAX_S - 1
        self._tried_s = -STALE_MAX_S - 1
        self._failure = ""
        self._renewing: asyncio.Task[None] | None = None  # One at a time.

    async def key(self, key_id: str) -> jwt.PyJWK:
        """Key of that id.

        Raises:
            Refused: it is not published, or nothing is known because the provider does not answer.

        """
        now_s = self._clock()
        age_s = now_s - self._fetched_s
        found = self._keys.get(key_id) if age_s <= STALE_MAX_S else None
        is_under_way = self._renewing is not None and not self._renewing.done()
        may_ask = now_s - self._tried_s > RENEW_MIN_S
        if (found is None or age_s > RENEW_S) and may_ask and not is_under_way:
            self._renewing = asyncio.create_task(self._renew())
        if found is None and self._renewing is not None:
            await asyncio.shield(self._renewing)  # Of all who wait, not of one who goes.
            found = self._keys.get(key_id)
        if self._clock() - self._fetched_s > STALE_MAX_S:
            raise Refused(f"the keys cannot be had: {self._failure}", unavailable=True)
        if found is None:
            if self._failure:
                raise Refused(f"the keys cannot be renewed: {self._failure}", unavailable=True)
            raise Refused("the token's key is not published")
        return found

    async def _renew(self) -> None:
        try:
            document = await asyncio.to_thread(self._read)
            keys = _usable(json.loads(document))
        except (OSError, HTTPException, ValueError, TypeError) as error:
            self._failure = str(error) or type(error).__name__
        else:
            self._keys, self._failure = keys, ""
            self._fetched_s = self._clock()
        self._tried_s = self._clock()


def _usable(document: Any) -> dict[str, jwt.PyJWK]:
    """Signature keys with an id, of the types that are accepted; others are passed over."""
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise TypeError("not a key set")
    found = {}
    for entry in document["keys"]:
        usable = (
            isinstance(entry, dict)
            and isinstance(entry.get("kid"), str)
            and entry.get("kty") in ALGORITHMS.values()
            and entry.get("use", "sig") == "sig"
        )
        if usable:
            with contextlib.suppress(jwt.PyJWTError):  # One bad entry must not lock all out.
                found[entry["kid"]] = jwt.PyJWK(entry, algorithm=_algorithm_of(entry["kty"]))
    return found


def _algorithm_of(key_type: str) -> str:
    return next(name for name, kind in ALGORITHMS.items() if kind == key_type)


def remote_keys(url: str) -> KeySet:
    """Key set published at an address; https, or http on this very machine.

    Raises:
        ValueError: the address is neither.

    """
    parts = urlsplit(url)
    here = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost", "::1"}
    if parts.scheme != "https" and not here:
        raise ValueError(f"{url}: keys come by https")

    def read() -> bytes:
        with urllib.request.urlopen(url, timeout=FETCH_WITHIN_S) as answer:  # noqa: S310 - checked
            document: bytes = answer.read(KEY_SET_BYTES_MAX + 1)
        if len(document) > KEY_SET_BYTES_MAX:
            raise ValueError("the key set is too large")
        return document

    return KeySet(read)


def local_keys(file: Path) -> KeySet:
    """Key set in a file."""
    return KeySet(file.read_bytes)
