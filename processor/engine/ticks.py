"""Ticks: how the broker's clock reaches a partition that nobody writes to.

Nothing that decides reads a wall clock; time is the append time of records. So a partition that has
something due in the future and no traffic gets a record of its own now and then; and one with more
due than a slice could reach gets ticks one after the other until nothing is due. Those partitions
take turns, a few ticks of the whole worker at a time: its transactions are shared, so a slice of
each partition would make every decision wait for all of them. A tick carries no data: an extra one,
or one of a zombie, is harmless. Dying here: the next owner ticks.
"""

import time
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from processor.engine.cycle import WorkerAssignment
from processor.engine.ports import Domain, TickWish
from processor.engine.transport import Polled

# What is due is told within a second: an idle partition has a tick every 0.4 to 0.6 s, and what is
# left goes to its transaction.
TICK_SECONDS: Final = 0.4
# Partitions that sweep at a time: one slice is decided while the next one's tick is on its way.
SWEEPING_MAX: Final = 2
LOST_SECONDS: Final = 5.0  # A tick that was not seen by then is not waited for.


class Ticker:
    """Sends ticks to the owned partitions that want them."""

    def __init__(self, client: Mapping[str, Any], domain: Domain) -> None:
        self._topic, self._key, self._value = domain.tick()
        self._sent: dict[int, float] = {}  # Partition to time.monotonic() of its tick under way.
        self._last_swept: dict[int, float] = {}  # The same, of the last tick that was to sweep on.
        self._producer = Producer(
            {**client, "acks": "all", "queue.buffering.max.messages": 10_000, "linger.ms": 0}
        )

    def tick(self, assignment: WorkerAssignment | None) -> None:
        """Send a tick to partitions whose turn to sweep it is, and to idle ones that want one."""
        self._producer.poll(0)
        if assignment is None:
            return
        now = time.monotonic()
        self._sent = {
            number: sent for number, sent in self._sent.items() if sent > now - LOST_SECONDS
        }
        self._sweep_on(assignment)
        for number, partition in assignment.partitions.items():
            if number in self._sent or partition.decided_at > now - TICK_SECONDS:
                continue
            if partition.decider.wants_tick() is TickWish.WHEN_IDLE:
                self._send(number)

    def follow(self, assignment: WorkerAssignment | None, polled: Polled) -> None:
        """Polled records were decided: if ticks were among them, the next may go out."""
        if not self._sent or assignment is not polled.assignment:
            return
        came = [
            records[0].partition
            for records in polled.slices
            if records[0].partition in self._sent
            and any(record.value == self._value for record in records)
        ]
        for number in came:
            self._sent.pop(number, None)
        if came:
            self._sweep_on(assignment)

    def _sweep_on(self, assignment: WorkerAssignment) -> None:
        """Send ticks to partitions that have more due, by turns, as many as may sweep at a time."""
        behind = [
            number
            for number, partition in assignment.partitions.items()
            if partition.decider.wants_tick() is TickWish.AT_ONCE
        ]
        sweeping = sum(number in self._sent for number in behind)
        waiting = [number for number in behind if number not in self._sent]
        waiting.sort(key=lambda number: self._last_swept.get(number, 0.0))
        for number in waiting[: max(0, SWEEPING_MAX - sweeping)]:
            self._send(number)
            self._last_swept[number] = time.monotonic()

    def _send(self, number: int) -> None:
        try:
            self._producer.produce(self._topic, self._value, self._key, partition=number)
        except (BufferError, KafkaException):
            return  # The broker is away; the next tick is not far off.
        self._sent[number] = time.monotonic()
