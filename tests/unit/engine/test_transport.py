"""What the transport does with what was read, beside passing it on."""

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.subscription_state import SubscriptionState
from faust.types import TP

from processor.engine.transport import BatchConsumer, BatchConsumerThread

PLACE = TP("requests", 0)


class Reader:
    """Stands in for a reader that has read this far."""

    left_behind = False

    def __init__(self, reached: Mapping[TP, int]) -> None:
        self.reached = reached

    async def poll(self) -> dict[TP, list[Any]]:
        """All there was."""
        return {place: [None] * offset for place, offset in self.reached.items()}


class Flow:
    """Stands in for the cycle: counts what is on its way."""

    def __init__(self) -> None:
        self.assignment = SimpleNamespace(generation=1, positions={PLACE: 0})
        self.records = 0

    def queued(self, records: int, *, left_behind: bool) -> None:
        """Count them."""
        assert not left_behind
        self.records += records


class Bench:
    """A consumer that nothing has started, and a member that asked for nothing for ever."""

    def __init__(self) -> None:
        self.subscription = SubscriptionState()
        self.subscription._last_fetch_ended = -math.inf
        self.flow = Flow()
        self.delivered: list[Any] = []
        thread: Any = object.__new__(BatchConsumerThread)
        thread._consumer = SimpleNamespace(_subscription=self.subscription)
        self.consumer: Any = object.__new__(BatchConsumer)
        self.consumer._thread = thread
        self.consumer.app = SimpleNamespace(flow=self.flow)
        self.consumer.callback = self._pass_on

    async def _pass_on(self, message: Any) -> None:
        self.delivered.append(message.value)


@pytest.mark.parametrize("reached", [{}, {PLACE: 3}])
async def test_a_worker_that_reads_stays_a_member(reached: dict[TP, int]) -> None:
    """Its consumer is never asked for records, and has a member leave that asks for none for long.

    Whether or not there was anything to read.
    """
    bench = Bench()
    assert bench.subscription.fetcher_idle_time == math.inf
    await bench.consumer._deliver(Reader(reached), bench.flow.assignment)
    assert bench.subscription.fetcher_idle_time < math.inf
    assert bench.flow.records == sum(reached.values())
    assert [polled.reached for polled in bench.delivered] == ([reached] if reached else [])


async def test_what_was_read_for_an_assignment_that_has_ended_goes_nowhere() -> None:
    """Whoever owns the partitions now reads it again."""
    bench = Bench()
    ended = SimpleNamespace(generation=0, positions={PLACE: 0})
    await bench.consumer._deliver(Reader({PLACE: 3}), ended)
    assert (bench.flow.records, bench.delivered) == (0, [])
