"""Faust's Kafka transport, handing the agent whole batches and leaving commits to the engine.

What is replaced, and why (measured and read in Faust 0.15.3; the exact pins of pyproject.toml are
for this module):

* `_drain_messages`: one Faust event for what was polled, its value the raw records in slices of one
  partition each. Faust's own path takes 35 to 100 µs for each event, and has one for each record.
  Nothing is fetched while no partition may decide, nor while enough is queued.
* acks and commits: offsets travel in the transaction. Faust's commits would run ahead of the state.
* isolation: read_committed, since connectors publish in transactions of their own.
* `wait_empty`, which Faust calls before it gives partitions back: the engine finishes or drops
  its batches.

Dying here: nothing has been decided.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from schemas import limits

FETCH_TIMEOUT_S: Final = 0.5
# A broker answers a fetch when it has so much, or after so long. A partition whose records were
# being decided when it was sent is not part of it, and the end of a transaction does not end it:
# what comes meanwhile waits this long. Faust asks for 1,500 ms and one byte: then a steady trickle
# is fetched record by record, and at 5,000 requests a second that took half of the worker's CPU.
FETCH_WAIT_MS: Final = 5
FETCH_BYTES_MIN: Final = 64 * 1024
# When nothing came for `FETCH_TIMEOUT_S`, all partitions are in the fetch that waits, and the first
# record ends it; only what a transaction wrote may wait so long. At 5 ms, an idle worker and its
# broker spent a third of a core on fetching nothing.
IDLE_WAIT_MS: Final = 50


class Flow(Protocol):
    """What the transport asks of the cycle."""

    @property
    def assignment(self) -> "Assignment | None":
        """Partitions that decide now; None between assignments."""
        ...

    def fetchable(self) -> "Assignment | None":
        """The assignment, if more may be fetched for it now: None while enough is queued."""
        ...

    async def wait_fetchable(self) -> None:
        """Return when `fetchable` may have changed."""
        ...

    def queued(self, records: int) -> None:
        """Count records on their way to the agent."""
        ...

    async def hand_over(self) -> None:
        """Finish the transaction under way and forget the rest: partitions are being taken away."""
        ...


class Assignment(Protocol):
    """Partitions that decide, under one generation of the group."""

    @property
    def sources(self) -> set[TP]:
        """Source partitions to fetch from."""
        ...

    @property
    def generation(self) -> int:
        """Generation of the group it belongs to."""
        ...


class Polled:
    """The value of a Faust event: slices of records, and what they were fetched under.

    The records of a slice are consecutive ones of one source partition.
    """

    __slots__ = ("assignment", "slices")

    def __init__(self, assignment: Assignment, slices: list[list[Any]]) -> None:
        self.assignment = assignment
        self.slices = slices


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The aiokafka consumer in its own thread: heartbeats go on while a batch is decided."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        # Faust reads committed records only in its own exactly-once mode, which is not used.
        self.consumer.in_transaction = True
        try:
            consumer = super()._create_worker_consumer(transport)
        finally:
            self.consumer.in_transaction = False
        # Faust has no setting for it; the first fetch waits for whatever comes.
        consumer._fetch_max_wait_ms = IDLE_WAIT_MS  # noqa: SLF001
        return consumer

    def expect(self, *, more: bool) -> None:
        """Fetch from now on for records that keep coming, or for one that may come at some time."""
        fetcher = self._ensure_consumer()._fetcher  # noqa: SLF001 - read at every fetch
        fetcher._fetch_max_wait_ms = FETCH_WAIT_MS if more else IDLE_WAIT_MS  # noqa: SLF001
        fetcher._fetch_min_bytes = FETCH_BYTES_MIN if more else 1  # noqa: SLF001

    @property
    def member_id(self) -> str:
        """The group member this worker is now."""
        consumer = self._ensure_consumer()
        return str(consumer._coordinator.member_id)  # noqa: SLF001 - no public access

    async def position_at(self, offsets: Mapping[TP, int], *, changelog: str) -> None:
        """Read on from these offsets, dropping what was prefetched; never read the changelog.

        Called from the main loop. Not through Faust's method queue: a fetch under way would keep
        it waiting for seconds.
        """
        future = asyncio.run_coroutine_threadsafe(
            self._position_at(offsets, changelog), self.thread_loop
        )
        await asyncio.wrap_future(future)

    async def _position_at(self, offsets: Mapping[TP, int], changelog: str) -> None:
        consumer = self._ensure_consumer()
        # Assigned for ownership only.
        consumer.pause(*(tp for tp in consumer.assignment() if tp.topic == changelog))
        for tp, offset in offsets.items():
            consumer.seek(TopicPartition(*tp), offset)


class BatchConsumer(driver.Consumer):
    """Faust consumer that delivers batches and never commits."""

    _thread: BatchConsumerThread
    callback: Callable[[Any], Awaitable[None]]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._not_fetching = asyncio.Event()
        self._not_fetching.set()

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
            await self._drain(fetcher)
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise  # Faust starts the fetcher again.

    async def _drain(self, fetcher: Any) -> None:
        flow = self.flow
        while not (self.should_stop or fetcher.should_stop):
            assignment = flow.fetchable()
            if assignment is None:
                await flow.wait_fetchable()
                continue
            self._not_fetching.clear()
            try:
                polled = await self._getmany(assignment.sources, timeout=FETCH_TIMEOUT_S)
            except self.consumer_stopped_errors:
                return
            finally:
                self._not_fetching.set()
            self._thread.expect(more=bool(polled))
            # Fetched under an assignment that ended meanwhile, whoever owns it now reads it again.
            if polled and flow.assignment is assignment:
                slices = list(_in_turns(polled))
                flow.queued(sum(map(len, slices)))
                await self.callback(_message(Polled(assignment, slices)))

    async def wait_not_fetching(self) -> None:
        """Return when no fetch of an earlier assignment is under way.

        Such a fetch could otherwise still answer after the consumer was put at its new position:
        its records would be dropped with the old assignment, and the position be past them.
        """
        await self._not_fetching.wait()

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
        """Do nothing: the engine seeks to the watermark."""

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
    longest = max(map(len, polled.values()))
    for start in range(0, longest, limits.POLL_RECORDS_MAX):
        for records in polled.values():
            if start < len(records):
                yield records[start : start + limits.POLL_RECORDS_MAX]


def _message(polled: Polled) -> ConsumerMessage:
    """What Faust passes on; it names the last record of the first slice, and nobody reads that."""
    last = polled.slices[0][-1]
    return ConsumerMessage(
        last.topic,
        last.partition,
        last.offset,
        last.timestamp / 1000.0,
        last.timestamp_type,
        [],
        None,
        polled,
        None,
        0,
        0,
        TP(last.topic, last.partition),
        generation_id=polled.assignment.generation,
    )
