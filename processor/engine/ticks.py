"""Ticks: how the broker's clock reaches a partition that nobody writes to.

Nothing that decides reads a wall clock; time is the append time of records. So a partition that has
something due in the future and no traffic gets a record of its own now and then. A tick carries no
data: an extra one, or one of a zombie, is harmless. Dying here: the next owner ticks.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from processor.engine.cycle import WorkerAssignment
from processor.engine.ports import Domain

TICK_SECONDS: Final = 0.5  # Half of the promise: what is due is announced within a second.


class Ticker:
    """Sends ticks to the owned partitions that want them."""

    def __init__(self, client: Mapping[str, Any], domain: Domain) -> None:
        self._topic, self._key, self._value = domain.tick()
        self._producer = Producer(
            {**client, "acks": "all", "queue.buffering.max.messages": 10_000, "linger.ms": 0}
        )

    def tick(self, assignment: WorkerAssignment | None) -> None:
        """Send a tick to every partition that wants one and decided nothing for a while."""
        self._producer.poll(0)
        if assignment is None:
            return
        idle_since = time.monotonic() - TICK_SECONDS
        for number, partition in assignment.partitions.items():
            if partition.decided_at <= idle_since and partition.decider.wants_tick():
                self._send(number)

    def _send(self, number: int) -> None:
        try:
            self._producer.produce(self._topic, self._value, self._key, partition=number)
        except (BufferError, KafkaException):
            return  # The broker is away; the next tick is half a second off.
