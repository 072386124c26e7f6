"""Ticks: one at a time, at once while more is due, else to idle partitions alone."""

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from processor.engine import ticks
from processor.engine.ports import Domain, TickWish
from processor.engine.transport import Polled

if TYPE_CHECKING:
    from processor.engine.cycle import WorkerAssignment

TICK = b"tick"


class SentOnly:
    """A producer that keeps what it was given."""

    def __init__(self, _: object) -> None:
        self.sent: list[int] = []

    def poll(self, _: float) -> None:
        """Nothing is delivered."""

    def produce(self, _topic: str, value: bytes, _key: bytes, partition: int) -> None:
        """Keep it."""
        assert value == TICK
        self.sent.append(partition)


class Bench:
    """A ticker over one partition whose wish a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ticks, "Producer", SentOnly)
        domain = cast("Domain", SimpleNamespace(tick=lambda: ("requests", b"", TICK)))
        self.ticker = ticks.Ticker({}, domain)
        self.wish = TickWish.NONE
        decider = SimpleNamespace(wants_tick=lambda: self.wish)
        self.partition = SimpleNamespace(decider=decider, decided_at=time.monotonic())
        self.assignment: Any = SimpleNamespace(partitions={3: self.partition})

    def sent(self) -> int:
        """How many ticks went out since the last question."""
        sent = cast("SentOnly", self.ticker._producer).sent
        count = len(sent)
        sent.clear()
        return count

    def tick(self) -> int:
        """The timer fires."""
        self.ticker.tick(cast("WorkerAssignment", self.assignment))
        return self.sent()

    def decided(self, *values: bytes) -> int:
        """Records were decided."""
        records = [SimpleNamespace(partition=3, value=value) for value in values]
        self.ticker.follow(self.assignment, Polled(self.assignment, [records], {}))
        return self.sent()


def test_an_idle_partition_gets_a_tick_where_something_comes_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None where nothing comes due or records keep time going; one where neither is so."""
    bench = Bench(monkeypatch)
    bench.partition.decided_at = 0.0
    assert bench.tick() == 0
    bench.wish = TickWish.WHEN_IDLE
    bench.partition.decided_at = time.monotonic()
    assert bench.tick() == 0
    bench.partition.decided_at = 0.0
    assert bench.tick() == 1


def test_while_more_is_due_each_tick_is_followed_by_the_next_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one goes out when the last was decided, until nothing is due."""
    bench = Bench(monkeypatch)
    bench.wish = TickWish.AT_ONCE
    assert bench.tick() == 1
    assert bench.decided(TICK) == 1
    assert bench.decided(TICK) == 1
    bench.wish = TickWish.WHEN_IDLE
    assert bench.decided(TICK) == 0


def test_there_is_never_a_second_tick_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the timer nor other records add one: a slice each would stall the partition."""
    bench = Bench(monkeypatch)
    bench.wish = TickWish.AT_ONCE
    assert bench.tick() == 1
    assert bench.tick() == 0
    assert bench.decided(b"other") == 0
    assert bench.decided(b"other", TICK, b"other") == 1
    assert bench.tick() == 0


def test_a_tick_that_got_lost_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker was away: the timer sends another after a while."""
    bench = Bench(monkeypatch)
    bench.wish = TickWish.AT_ONCE
    assert bench.tick() == 1
    bench.ticker._sent[3] -= ticks.LOST_SECONDS
    assert bench.tick() == 1


def test_partitions_that_have_more_due_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are, a few ticks are under way, and each partition comes to its turn."""
    bench = Bench(monkeypatch)
    bench.wish = TickWish.AT_ONCE
    numbers = range(10)
    bench.assignment.partitions = dict.fromkeys(numbers, bench.partition)
    sent = cast("SentOnly", bench.ticker._producer).sent
    bench.ticker.tick(bench.assignment)
    under_way, turns = list(sent), list[int]()
    while len(turns) < 3 * len(numbers):
        assert len(under_way) == ticks.SWEEPING_MAX
        turns.append(under_way.pop(0))
        sent.clear()
        bench.ticker.follow(
            bench.assignment,
            Polled(bench.assignment, [[SimpleNamespace(partition=turns[-1], value=TICK)]], {}),
        )
        under_way += sent
    assert {turns.count(number) for number in numbers} == {3}


def test_the_turns_of_others_do_not_keep_time_from_idle_partitions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A partition with something due later gets its tick while others sweep."""
    bench = Bench(monkeypatch)
    bench.wish = TickWish.AT_ONCE
    idle = SimpleNamespace(
        decider=SimpleNamespace(wants_tick=lambda: TickWish.WHEN_IDLE), decided_at=0.0
    )
    bench.assignment.partitions = {**dict.fromkeys(range(5), bench.partition), 7: idle}
    assert bench.tick() == ticks.SWEEPING_MAX + 1
    assert 7 in bench.ticker._sent
