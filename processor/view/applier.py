"""Puts batches of rows into a generation: all of them with their positions in one transaction.

The rule: a batch goes on top of exactly the position it begins at. The positions, and which
generation is served, are watched while the old values are read; had anybody moved one of them, the
transaction does nothing. So a process may die at any instant, two may run, a slow one may wake up
late, and Redis may be wiped: an old row never replaces a newer one.
"""

from collections.abc import Sequence
from typing import Final

import redis

from processor.view.generations import Client, now_ms
from processor.view.keys import GenerationKeys, Names, Position
from processor.view.plan import Batch, Before, Plan, needed, position_of

ROWS_A_TRANSACTION: Final = 2_000  # About 10 ms in which Redis answers nobody else.


class Superseded(Exception):
    """Nothing was applied: the positions or the generation are no longer what they were."""


class Applier:
    """Applies batches to one generation.

    Attributes:
        serving: the generation must be the one that is served; else one that is being filled.

    """

    def __init__(
        self,
        client: Client,
        names: Names,
        keys: GenerationKeys,
        *,
        serving: bool,
        answers_ms: int,
    ) -> None:
        self._redis = client
        self._names = names
        self._keys = keys
        self._answers_ms = answers_ms
        self.serving = serving

    def positions(self, partitions: Sequence[int]) -> dict[int, Position]:
        """Where each partition stands."""
        stored = self._redis.mget([self._keys.at(partition) for partition in partitions])
        return dict(zip(partitions, map(position_of, stored), strict=True))

    def apply(self, batches: Sequence[Batch]) -> None:
        """Apply batches of distinct partitions.

        Raises:
            Superseded: nothing was applied.
            redis.RedisError: it may have been applied: read the positions again.

        """
        keys = self._keys
        places = [keys.at(batch.partition) for batch in batches]
        holds, locations, failures = needed(batches)
        with self._redis.pipeline() as pipe:
            pipe.watch(self._names.live, *places)
            self._check(pipe, batches, places)
            before = Before(
                _read(pipe, keys(b"h"), holds),
                _read(pipe, keys(b"pl"), locations),
                _read(pipe, keys(b"f"), failures),
            )
            plan = Plan(keys, answers_ms=self._answers_ms, now_ms=now_ms())
            for batch in batches:
                plan.add(batch, before)
            pipe.multi()
            for command in plan.commands():
                pipe.execute_command(*command)
            try:
                pipe.execute()
            except redis.WatchError as error:
                raise Superseded("somebody else moved on") from error

    def _check(self, pipe: Client, batches: Sequence[Batch], places: Sequence[bytes]) -> None:
        served, *stored = pipe.mget(self._names.live, *places)
        if self.serving and served != self._keys.name:
            raise Superseded("another generation is served, or none")
        for batch, value in zip(batches, stored, strict=True):
            if position_of(value).offset != batch.start.offset:
                raise Superseded(f"partition {batch.partition} stands elsewhere")


def _read(pipe: Client, key: bytes, fields: list[bytes]) -> dict[bytes, bytes | None]:
    return dict(zip(fields, pipe.hmget(key, fields), strict=True)) if fields else {}
