"""Faust's Kafka transport, handing the agent whole batches and leaving commits to the engine.

What is replaced, and why (measured and read in Faust 0.15.3; the exact pins of pyproject.toml are
for this module):

* `_drain_messages`: one Faust event for what was polled, its value the raw records in slices of one
  partition each. Faust's own path takes 35 to 100 µs for each event, and has one for each record.
  Nothing is fetched while no partition may decide, nor while enough is queued or under way.
* fetching: `processor.engine.sources` reads the records. The consumer has every partition paused;
  it is the member of the group, on its own thread: heartbeats go on while a batch is decided.
* acks and commits: offsets travel in the transaction. Faust's commits would run ahead of the state.
* `wait_empty`, which Faust calls before it gives partitions back: the engine finishes or drops
  its batches.

Dying here: nothing has been decided.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import closing
from typing import Any, Protocol

from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from processor.engine.faults import fail_stop
from processor.engine.sources import SourceReader
from schemas import limits


class Flow(Protocol):
    """What the transport asks of the cycle."""

    @property
    def assignment(self) -> "Assignment | None":
        """Partitions that decide now; None between assignments."""
        ...

    def fetchable(self) -> "Assignment | None":
        """The assignment, if more may be fetched for it now; None while enough is under way."""
        ...

    async def wait_fetchable(self) -> None:
        """Return when `fetchable` may have changed."""
        ...

    def queued(self, records: int, *, left_behind: bool) -> None:
        """Count records on their way to the agent. `left_behind`: more of them waits."""
        ...

    async def hand_over(self) -> None:
        """Finish the transaction under way and forget the rest: partitions are being taken away."""
        ...


class Assignment(Protocol):
    """Partitions that decide, under one generation of the group."""

    @property
    def positions(self) -> Mapping[TP, int]:
        """Source partition to the offset to read from, as of its beginning; some may be added."""
        ...

    @property
    def generation(self) -> int:
        """Generation of the group it belongs to."""
        ...


class Polled:
    """The value of a Faust event: slices of records, and what they were fetched under.

    The records of a slice are consecutive ones of one source partition. `reached`: up to where the
    partitions were read with them, also those of which there were markers alone.
    """

    __slots__ = ("assignment", "reached", "slices")

    def __init__(
        self, assignment: Assignment, slices: list[list[Any]], reached: Mapping[TP, int]
    ) -> None:
        self.assignment = assignment
        self.slices = slices
        self.reached = reached


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The aiokafka consumer in its own thread, as a member of the group and no more."""

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Pause them all, before this thread's loop comes to fetching."""
        consumer = self._ensure_consumer()
        consumer.pause(*consumer.assignment())
        await super().on_partitions_assigned(assigned, generation_id)

    @property
    def member_id(self) -> str:
        """The group member this worker is now."""
        consumer = self._ensure_consumer()
        return str(consumer._coordinator.member_id)  # noqa: SLF001 - no public access

    def is_polled(self) -> None:
        """Say that records are being asked for: a member that asks for none has to leave."""
        if self._consumer is not None:
            subscription = self._consumer._subscription  # noqa: SLF001 - no public access
            subscription._last_fetch_ended = time.monotonic()  # noqa: SLF001

    def lost(self) -> BaseException | None:
        """What ended this worker's membership, if anything did.

        The consumer keeps it for who asks it for records, and waits with all else until then.
        """
        if self._consumer is None:
            return None
        coordinator = self._consumer._coordinator  # noqa: SLF001 - no public access
        if coordinator._pending_exception is not None:  # noqa: SLF001
            error: BaseException = coordinator._pending_exception  # noqa: SLF001
            return error
        task: asyncio.Task[None] = coordinator._coordination_task  # noqa: SLF001
        return task.exception() if task.done() and not task.cancelled() else None


class BatchConsumer(driver.Consumer):
    """Faust consumer that delivers batches and never commits."""

    _thread: BatchConsumerThread
    callback: Callable[[Any], Awaitable[None]]

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def thread(self) -> BatchConsumerThread:
        """The consumer's thread."""
        return self._thread

    @property
    def flow(self) -> Flow:
        """The cycle this consumer feeds."""
        flow: Flow = self.app.flow
        return flow

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not self._has_to_stop(fetcher):
                assignment = self.flow.fetchable()
                if assignment is None:
                    await self.flow.wait_fetchable()
                else:
                    await self._drain(fetcher, assignment)
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise  # Faust starts the fetcher again.
        except Exception as error:  # noqa: BLE001 - Faust would log it, and go on without records
            if not self.app.should_stop:
                fail_stop("the source partitions cannot be read", error)

    async def _drain(self, fetcher: Any, assignment: Assignment) -> None:
        """Deliver what comes, as long as this assignment decides."""
        with closing(SourceReader(self.app.source_brokers, assignment.positions)) as reader:
            while self.flow.assignment is assignment and not self._has_to_stop(fetcher):
                if self.flow.fetchable() is None:
                    await self.flow.wait_fetchable()
                else:
                    await self._deliver(reader, assignment)

    async def _deliver(self, reader: SourceReader, assignment: Assignment) -> None:
        """Read what there is, and pass it on.

        Of an assignment that ended meanwhile, whoever owns it now reads it again.
        """
        polled = await reader.poll()
        self._thread.is_polled()
        reached = reader.reached
        if reached and self.flow.assignment is assignment:
            slices = list(_in_turns(polled))
            self.flow.queued(sum(map(len, slices)), left_behind=reader.left_behind)
            await self.callback(_message(Polled(assignment, slices, reached)))

    def _has_to_stop(self, fetcher: Any) -> bool:
        return bool(self.should_stop or fetcher.should_stop)

    async def on_stop(self) -> None:
        """Close the connections too."""
        await super().on_stop()
        await self.app.source_brokers.close()

    def ack(self, message: Any) -> bool:
        """Forget the event; its offsets are committed with the transaction."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def commit(self, *_: Any, **__: Any) -> bool:
        """Do nothing: offsets are committed with the transaction."""
        return True

    async def perform_seek(self) -> None:
        """Do nothing: the engine reads from the watermark."""

    async def wait_empty(self) -> None:
        """Let the cycle finish what it committed to, before the partitions go."""
        await self.flow.hand_over()

    async def verify_all_partitions_active(self) -> None:
        """Do nothing: Faust's livelock detector judges by its own commits."""


class BatchTransport(driver.Transport):
    """Transport whose consumer delivers batches."""

    Consumer = BatchConsumer


def _in_turns(polled: Mapping[Any, list[Any]]) -> Iterator[list[Any]]:
    """Cut what was polled into slices, partition by turns: a hot one does not starve the others."""
    longest = max(map(len, polled.values()), default=0)
    for start in range(0, longest, limits.POLL_RECORDS_MAX):
        for records in polled.values():
            if start < len(records):
                yield records[start : start + limits.POLL_RECORDS_MAX]


def _message(polled: Polled) -> ConsumerMessage:
    """What Faust passes on; it names one of the partitions, by which it finds the agent."""
    tp, offset = next(iter(polled.reached.items()))
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        offset,
        0.0,
        0,
        [],
        None,
        polled,
        None,
        0,
        0,
        tp,
        generation_id=polled.assignment.generation,
    )
