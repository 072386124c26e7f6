"""Which copy of the changelog is served, and how another takes its place.

The rule: `live` moves from one generation to another in one step, and only if it still names the
one that the mover believes is served. A generation that is neither served nor being filled by
somebody who reports is dropped.
"""

import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

import redis

from processor.view.keys import GenerationKeys, Names, Position
from processor.view.plan import position_of

ABANDONED_AFTER_MS: Final = 60_000  # A builder reports every second.
DROPPED_AT_ONCE: Final = 1_000  # Keys of one UNLINK.
SWITCH_TRIES_MAX: Final = 5  # Until it is known which generation is served.

Client = Any  # redis-py's generics say nothing about what a command gives.


class Generations:
    """The generations in one Redis."""

    def __init__(self, client: Client, names: Names) -> None:
        self._redis = client
        self._names = names

    def live(self) -> bytes | None:
        """Name of the generation that is served, None for none."""
        name: bytes | None = self._redis.get(self._names.live)
        return name

    def begin(self) -> GenerationKeys:
        """Keys of a new generation, registered as being filled."""
        keys = self._names.generation(f"{now_ms():x}{secrets.token_hex(3)}".encode())
        self.report(keys)
        return keys

    def report(self, keys: GenerationKeys) -> None:
        """Say that this generation is being filled, so that nobody drops it."""
        self._redis.hset(self._names.builds, keys.name, now_ms())

    def switch(
        self, keys: GenerationKeys, served: bytes | None, positions: Mapping[int, Position]
    ) -> bool:
        """Serve this generation instead of `served`.

        False if another one is served by now, or this one does not stand at `positions`: Redis was
        wiped meanwhile. Then it will not be served either: a try that Redis has not come to yet
        finds that what it watches has changed.

        Raises:
            redis.RedisError: which one is served is not known.

        """
        for _ in range(SWITCH_TRIES_MAX):
            try:
                return self._try_switch(keys, served, positions)
            except redis.WatchError:  # Something has changed, or the answer got lost (redis-py).
                continue
        raise redis.ConnectionError("redis does not say which generation is served")

    def _try_switch(
        self, keys: GenerationKeys, served: bytes | None, positions: Mapping[int, Position]
    ) -> bool:
        places = [keys.at(partition) for partition in positions]
        with self._redis.pipeline() as pipe:
            pipe.watch(self._names.live, *places)
            name, *stored = pipe.mget(self._names.live, *places)
            if name == keys.name:
                return True  # By a try before this one.
            if name != served or [*map(position_of, stored)] != [*positions.values()]:
                return False
            pipe.multi()
            pipe.set(self._names.live, keys.name)
            pipe.hdel(self._names.builds, keys.name)
            if served is not None:
                pipe.hset(self._names.builds, served, 0)  # Until it is dropped, by whomever.
            pipe.execute()
        return True

    def drop(self, name: bytes) -> None:
        """Delete a generation's keys; must not be the one that is served."""
        pattern = self._names.generation(name).prefix + b"*"
        found: list[bytes] = []
        for key in self._redis.scan_iter(match=pattern, count=DROPPED_AT_ONCE):
            found.append(key)
            if len(found) >= DROPPED_AT_ONCE:
                self._redis.unlink(*found)
                found.clear()
        if found:
            self._redis.unlink(*found)
        self._redis.hdel(self._names.builds, name)

    def drop_abandoned(self) -> None:
        """Delete what dead builders have left, and what was served once and not dropped."""
        for name, reported_ms in self._redis.hgetall(self._names.builds).items():
            if int(reported_ms) + ABANDONED_AFTER_MS < now_ms() and name != self.live():
                self.drop(name)


def now_ms() -> int:
    """Wall clock, ms since 1970 UTC: for expiries and reports, never for what is true."""
    return time.time_ns() // 1_000_000
