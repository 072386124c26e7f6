"""Puts batches of rows into a generation: all of them with their positions in one transaction.

The rule: a batch goes on top of exactly the position it begins at. The positions, and which
generation is served, are watched while the old values are read; had anybody moved one of them, the
transaction does nothing. So a process may die at any instant, two may run, a slow one may wake up
late, and Redis may be wiped: an old row never replaces a newer one.

A transaction is sent by `begin` and its outcome read by `finish`: what comes next can be fetched
and taken apart while Redis is at work.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Self

import msgpack
import redis
from hiredis import pack_command

from processor.view.generations import Client, now_ms
from processor.view.keys import GenerationKeys, Names, Position
from processor.view.plan import Batch, Before, Command, Plan, Seen, needed, position_of

WORDS_MAX: Final = 2_002  # Of one command: its name, its key, and pairs of words.


class Superseded(Exception):
    """Nothing was applied: the positions or the generation are no longer what they were."""


class _UnderWay(NamedTuple):
    """A transaction that was sent, on a connection that is nobody else's until it is read."""

    pipe: Client
    batches: Sequence[Batch]
    plan: Plan


class Applier:
    """Applies batches to one generation.

    Attributes:
        keys: the generation's.
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
        self.keys = keys
        self._answers_ms = answers_ms
        self._seen = Seen()
        self._under_way: _UnderWay | None = None
        self.serving = serving

    def positions(self, partitions: Sequence[int]) -> dict[int, Position]:
        """Where each partition stands."""
        stored = self._redis.mget([self.keys.at(partition) for partition in partitions])
        return dict(zip(partitions, map(position_of, stored), strict=True))

    def apply(self, batches: Sequence[Batch]) -> None:
        """Apply batches of distinct partitions: `begin`, and `finish`."""
        self.begin(batches)
        self.finish()

    def begin(self, batches: Sequence[Batch]) -> None:
        """Send the transaction that applies batches of distinct partitions.

        Raises:
            Superseded: nothing is applied.
            redis.RedisError: nothing is applied, or all of it: read the positions again.

        """
        assert self._under_way is None, "one transaction at a time"
        pipe = self._redis.pipeline()
        try:
            plan = self._plan(pipe, batches)
            _send(pipe.connection, plan.commands())
        except BaseException:
            pipe.reset()
            raise
        self._under_way = _UnderWay(pipe, batches, plan)

    def _plan(self, pipe: Client, batches: Sequence[Batch]) -> Plan:
        keys = self.keys
        places = [keys.at(batch.partition) for batch in batches]
        holds, locations, failures = needed(batches)
        pipe.watch(self._names.live, *places)
        self._check(pipe, batches, places)
        before = Before(
            _read(pipe, keys(b"h"), holds),
            _read(pipe, keys(b"pl"), locations),
            _read(pipe, keys(b"f"), failures),
        )
        plan = Plan(keys, self._seen, answers_ms=self._answers_ms, now_ms=now_ms())
        for batch in batches:
            plan.add(batch, before)
        return plan

    @property
    def is_under_way(self) -> bool:
        """Whether a transaction was sent whose outcome is not known."""
        return self._under_way is not None

    def finish(self) -> Sequence[Batch]:
        """Read the outcome of the transaction under way; what it applied, nothing if there is none.

        Raises:
            Superseded: nothing was applied.
            redis.RedisError: it may have been applied: read the positions again.

        """
        if self._under_way is None:
            return []
        pipe, batches, plan = self._under_way
        self._under_way = None
        try:
            replies = _outcome(pipe.connection)
        finally:
            pipe.reset()
        if replies is None:
            raise Superseded("somebody else moved on")
        for batch in batches:
            self._seen.add(batch.partition, batch.offset, plan.newly_seen[batch.partition])
        return batches

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Forget the transaction under way, if there is one: it may still be applied."""
        if self._under_way is not None:
            self._under_way.pipe.connection.disconnect()  # Nobody else may read its replies.
            self._under_way.pipe.reset()
            self._under_way = None

    def _check(self, pipe: Client, batches: Sequence[Batch], places: Sequence[bytes]) -> None:
        served, *stored = pipe.mget(self._names.live, *places)
        if self.serving and served != self.keys.name:
            raise Superseded("another generation is served, or none")
        for batch, value in zip(batches, stored, strict=True):
            if position_of(value).offset != batch.start.offset:
                raise Superseded(f"partition {batch.partition} stands elsewhere")


# Runs commands that are given as one msgpack document. One command has one reply, and one word is
# taken in faster than many: with a reply for every row, reading them cost the view more than all
# else here; with a word for every value, the view and Redis together took 6 us more a decision.
_RUN: Final = b"""
for _, command in ipairs(cmsgpack.unpack(ARGV[1])) do
  redis.call(unpack(command))
end
return 1
"""
# Redis' reader knows texts of any bytes, but not the type for bytes that came later.
_encode: Final = msgpack.Packer(use_bin_type=False).pack


def _send(connection: Any, commands: Sequence[Command]) -> None:
    """Send commands as one transaction.

    If Redis refuses one of them (out of memory), those before it stay. The order of a plan makes
    that harmless: the positions come last, so the rows are applied again.
    """
    document = _encode([part for command in commands for part in _parts(command)])
    pack: Any = pack_command  # It is said to take one word.
    connection.send_packed_command(
        [pack(one) for one in (("MULTI",), ("EVAL", _RUN, 0, document), ("EXEC",))]
    )


def _outcome(connection: Any) -> Any:
    """What came of what was sent; None if what is watched had changed, and nothing was done."""
    try:
        connection.read_response()
        connection.read_response()
        replies = connection.read_response()
    except redis.RedisError:
        connection.disconnect()  # Replies that were not read must not answer anything else.
        raise
    for reply in replies or ():
        if isinstance(reply, redis.RedisError):
            raise reply
    return replies


def _parts(command: Command) -> Iterable[Command]:
    """A command of very many words as several: Lua hands on at most some thousand at once."""
    if len(command) <= WORDS_MAX:
        return [command]
    head, words = command[:2], command[2:]
    step = WORDS_MAX - 2
    return [(*head, *words[start : start + step]) for start in range(0, len(words), step)]


def _read(pipe: Client, key: bytes, fields: list[bytes]) -> dict[bytes, bytes | None]:
    return dict(zip(fields, pipe.hmget(key, fields), strict=True)) if fields else {}
