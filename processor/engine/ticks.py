"""Ticks: how the broker's clock reaches a partition that nobody writes to.

Nothing that decides reads a wall clock; time is the append time of records. So a partition that has
something due in the future and no traffic gets a record of its own now and then; and one with more
due than a slice could reach gets the next tick as soon as the last was decided, one at a time. A
tick carries no data: an extra one, or one of a zombie, is harmless. Dying here: the next owner
ticks.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from processor.engine.cycle import WorkerAssignment
from processor.engine.ports import Domain, TickWish
from processor.engine.transport import Polled

TICK_SECONDS: Final = 0.5  # Half of the promise: what is due is announced within a second.
LOST_SECONDS: Final = 5.0  # A tick that was not seen by then is not waited for.


class Ticker:
    """Sends ticks to the owned partitions that want them."""

    def __init__(self, client: Mapping[str, Any], domain: Domain) -> None:
        self._topic, self._key, self._value = domain.tick()
        self._sent: dict[int, float] = {}  # Partition to time.monotonic() of its tick under way.
        self._producer = Producer(
            {**client, "acks": "all", "queue.buffering.max.messages": 10_000, "linger.ms": 0}
        )

    def tick(self, assignment: WorkerAssignment | None) -> None:
        """Send a tick to every partition that wants one now, or wants one and is idle."""
        self._producer.poll(0)
        if assignment is None:
            return
        now = time.monotonic()
        idle_since = now - TICK_SECONDS
        for number, partition in assignment.partitions.items():
            wish = partition.decider.wants_tick()
            if wish is TickWish.NONE or self._sent.get(number, 0.0) > now - LOST_SECONDS:
                continue
            if wish is TickWish.AT_ONCE or partition.decided_at <= idle_since:
                self._send(number)

    def follow(self, assignment: WorkerAssignment | None, polled: Polled) -> None:
        """Polled records were decided: if the tick was among them, more may be wanted at once."""
        number = polled.records[0].partition
        if number not in self._sent or assignment is not polled.assignment:
            return
        if all(record.value != self._value for record in polled.records):
            return
        del self._sent[number]
        if assignment.partitions[number].decider.wants_tick() is TickWish.AT_ONCE:
            self._send(number)

    def _send(self, number: int) -> None:
        try:
            self._producer.produce(self._topic, self._value, self._key, partition=number)
        except (BufferError, KafkaException):
            return  # The broker is away; the next tick is half a second off.
        self._sent[number] = time.monotonic()
