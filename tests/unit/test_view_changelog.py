"""How the view cuts what it reads into batches, and what it does when Redis refuses one."""

from collections.abc import Callable
from typing import Any

import pytest
import redis

from processor.view import changelog
from processor.view.applier import Applier
from processor.view.changelog import Changelog
from processor.view.keys import Names, Position, encode
from processor.view.plan import Batch

NOBODY = {"bootstrap.servers": "127.0.0.1:9"}  # Nothing is asked of a broker here.


class Message:
    """A consumed record, as librdkafka's client gives it."""

    def __init__(self, offset: int, key: bytes, value: bytes | None = b"v") -> None:
        self._words = (offset, key, value)

    def offset(self) -> int:
        """Place in the partition."""
        return self._words[0]

    def key(self) -> bytes:
        """Row key."""
        return self._words[1]

    def value(self) -> bytes | None:
        """Row value."""
        return self._words[2]

    def timestamp(self) -> tuple[int, int]:
        """Kind and broker time."""
        return 2, 1_000 + self._words[0]


def watermark(offset: int) -> Message:
    """The engine's row behind a batch."""
    return Message(offset, b"W", encode((1, {"reservation-requests": offset}, b"")))


def reading(*messages: Message) -> Changelog:
    """A changelog of which these records of partition 0 were read and not handed on."""
    log = Changelog(NOBODY)
    log.seek({0: Position(0, 0, {})})
    log._waiting[0] += messages
    return log


def test_rows_wait_for_the_end_of_their_transaction() -> None:
    """Up to the last watermark row; what is behind it comes with the next one."""
    log = reading(Message(0, b"Fa"), watermark(1), Message(3, b"Fb"))
    batch = log._complete(0)
    assert batch is not None
    assert (list(batch.rows), batch.start.offset) == ([b"Fa", b"W"], 0)
    assert batch.end() == Position(2, 1_001, {"reservation-requests": 1})
    assert log._complete(0) is None
    log._waiting[0].append(watermark(4))
    more = log._complete(0)
    assert more is not None
    assert (list(more.rows), more.start) == ([b"Fb", b"W"], batch.end())
    log.close()


def test_at_the_end_nothing_waits_for_a_mark_that_does_not_come() -> None:
    """A compacted log may end without a watermark row: the end that was seen is enough."""
    log = reading(Message(0, b"Fa"))
    assert log._complete(0) is None
    log._reached[0] = 1
    batch = log._complete(0)
    assert batch is not None
    assert batch.end().offset == 1
    log.close()


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without a mark are handed on once too many wait."""
    monkeypatch.setattr(changelog, "WAITING_MAX", 3)
    monkeypatch.setattr(changelog, "WAITING_MIN", 2)
    log = reading(Message(0, b"Fa"), Message(1, b"Fb"))
    assert log._complete(0) is None
    log._waiting[0].append(Message(2, b"Fc"))
    batch = log._complete(0)
    assert batch is not None
    assert len(batch.rows) == 3
    log.close()


@pytest.mark.kafka
def test_a_batch_that_redis_refuses_is_not_counted_as_applied(
    redis_url: str, fresh: Callable[[str], str]
) -> None:
    """An error inside the transaction is raised, the position stays; applying again mends it."""
    names = Names(fresh("view"))
    keys = names.generation(b"g")
    with redis.Redis.from_url(redis_url) as client:
        raw: Any = client
        raw.set(names.live, b"g")
        raw.set(keys(b"c"), "no hash")  # A configuration cannot be stored there.
        applier = Applier(raw, names, keys, serving=True, answers_ms=1_000)
        batch = Batch(0, applier.positions([0])[0])
        batch.add(0, 1, b"C", b"{}")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            applier.apply([batch])
        assert applier.positions([0])[0].offset == 0
        raw.delete(keys(b"c"))
        applier.apply([batch])
        assert applier.positions([0])[0].offset == 1
        assert raw.hgetall(keys(b"c")) == {b"0": b"{}"}


@pytest.mark.kafka
def test_a_transaction_nobody_waited_for_answers_nobody_else(
    redis_url: str, fresh: Callable[[str], str]
) -> None:
    """Its connection is not used again; it is applied whole or not at all, and may be repeated."""
    names = Names(fresh("view"))
    keys = names.generation(b"g")
    with redis.Redis.from_url(redis_url, max_connections=1) as client:
        raw: Any = client
        raw.set(names.live, b"g")
        batch = Batch(0, Position(0, 0, {}))
        for number in range(100):
            batch.add(number, 1, b"F%d" % number, None)
        with Applier(raw, names, keys, serving=True, answers_ms=1_000) as applier:
            applier.begin([batch])
            assert applier.is_under_way
        assert not applier.is_under_way
        assert not applier.finish()
        assert raw.echo("mine") == b"mine"
        assert applier.positions([0])[0].offset in {0, 100}
        with Applier(raw, names, keys, serving=True, answers_ms=1_000) as again:
            at = again.positions([0])[0]
            more = Batch(0, at)
            more.add(at.offset, 1, b"C", b"{}")
            again.begin([more])
            assert again.finish() == [more]
            assert again.positions([0])[0].offset == at.offset + 1
