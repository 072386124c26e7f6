"""Ownership: what happens when the group gives partitions to this worker, or takes them away.

Replaces Faust's table recovery, which skips or wedges records when it is interrupted. On revocation
the cycle stops deciding at once. On assignment every partition, also one that came back, is caught
up from its changelog, its position is taken from its watermark row, and only then is it read and
decided again: somebody else may have owned it in between, even if only for a moment. Those that
this worker decided before are decided while the others are restored. Dying in between: nothing was
decided of what was not caught up.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from faust.tables import TableManager
from faust.types import TP
from mode import Service

from processor.engine import metrics
from processor.engine.cycle import (
    WATERMARK_KEY,
    Cycle,
    Incarnation,
    OwnedPartition,
    Watermark,
    WorkerAssignment,
    read_watermark,
)
from processor.engine.faults import Fault, fail_stop
from processor.engine.membership import Membership
from processor.engine.ports import Domain
from processor.engine.restore import Restorer, SourceOffsets
from processor.engine.rows import PartitionRows
from processor.engine.standby import Standby
from processor.engine.store import PartitionStore, shared_cache
from processor.engine.transport import BatchConsumerThread
from schemas import topics

TOPICS_LOOK_SECONDS: Final = 10.0  # What is decided meanwhile is well within the dedupe window.
UNASSIGNED_SECONDS: Final = 60.0  # At least; a group waits for a dead member's session timeout.

log = structlog.get_logger(__name__)


class Kafka(Protocol):
    """How to reach the cluster, in the words of both client libraries."""

    def librdkafka(self) -> dict[str, Any]:
        """Settings for confluent-kafka."""
        ...

    def aiokafka(self) -> dict[str, Any]:
        """Keyword arguments for aiokafka."""
        ...

    def faust_credentials(self) -> Any:
        """Credentials for Faust's `broker_credentials`, None for a plaintext broker."""
        ...


class _NotDescribed(Fault):
    """A topic is missing, or nobody answers."""


class Ownership:
    """Opens, restores and closes partitions as they come and go."""

    _admin: AdminClient

    def __init__(
        self,
        domain: Domain,
        kafka: Kafka,
        *,
        group_id: str,
        instance_id: str | None,
        changelog: str,
        sources: Sequence[str],
        directory: Path,
        cache_bytes: int,
        restorer: Restorer,
        standby: Standby | None,
        executor: ThreadPoolExecutor,
    ) -> None:
        self._domain = domain
        self._kafka = kafka
        self._group_id = group_id
        self._instance_id = instance_id
        self._changelog = changelog
        self._sources = sources
        self._directory = directory
        self._cache = shared_cache(cache_bytes)
        self._cache_bytes = cache_bytes
        self._restorer = restorer
        self._standby = standby
        self._executor = executor
        self._stores: dict[int, PartitionStore] = {}
        self._at_hand: set[int] = set()
        self._memory_bytes = cache_bytes  # Of each partition's decider.
        self._incarnation = Incarnation()
        self._topic_id = ""

    def learn_topics(self) -> None:
        """Ask the cluster for the topics' incarnations and their partition count. Blocks.

        Raises:
            Fault: a topic is missing, the partition counts differ, or `holdfast migrate` is under
                way: a worker would begin without the state that it has staged.

        """
        self._admin = AdminClient(self._kafka.librdkafka())
        if self._is_there(topics.STAGING):
            raise Fault(
                "`holdfast migrate` was begun and has not ended: run it again with the same words. "
                "If it has deleted nothing yet, answering no takes it back"
            )
        self._topic_id, self._incarnation = self._ask_topics(within_s=30)

    def look_at_topics(self) -> None:
        """See that the topics are those that this worker began with. Blocks.

        Raises:
            Fault: one was made anew, or has another number of partitions: what is read there is not
                what follows the positions of this worker. At its next start it finds out where to
                read on.

        """
        try:
            found = self._ask_topics(within_s=5)
        except _NotDescribed:
            return  # Brokers are away: nothing is read of them either.
        if found != (self._topic_id, self._incarnation):
            raise Fault("a source topic, or the changelog, was made anew or has other partitions")

    def _is_there(self, name: str) -> bool:
        (future,) = self._admin.describe_topics(
            TopicCollection([name]), request_timeout=30
        ).values()
        try:
            future.result()
        except KafkaException:  # Or it may not be seen.
            return False
        return True

    def _ask_topics(self, within_s: float) -> tuple[str, Incarnation]:
        names = [*self._sources, self._changelog]
        futures = self._admin.describe_topics(TopicCollection(names), request_timeout=within_s)
        counts: dict[str, int] = {}
        ids: dict[str, str] = {}
        for name, future in futures.items():
            try:
                description = future.result()
            except Exception as error:
                raise _NotDescribed(
                    f"topic {name}: {error}. Create the topics with `holdfast topics create`"
                ) from error
            counts[name] = len(description.partitions)
            ids[name] = str(description.topic_id)
        if len(set(counts.values())) != 1:
            raise Fault(f"partition counts differ: {counts}; see `holdfast topics check`")
        return ids.pop(self._changelog), Incarnation(ids, counts[self._changelog])

    def divide(self, numbers: set[int]) -> tuple[set[int], set[int]]:
        """Let go of all other partitions; returns which of these are at hand, and the rest.

        At hand is what this worker decided before, or has a standby copy of: it lacks the last
        moments at most. The rest may take half a minute, for ten million rows.
        """
        for number in set(self._stores) - numbers:
            self._let_go(number, self._stores.pop(number))
        self._at_hand &= numbers
        for number in numbers - set(self._stores):
            copy = None if self._standby is None else self._standby.take(number)
            if copy is not None:
                self._stores[number] = copy
                self._at_hand.add(number)
        self._memory_bytes = self._cache_bytes // max(1, len(numbers))
        return set(self._at_hand), numbers - self._at_hand

    async def open(self, numbers: set[int]) -> dict[int, OwnedPartition]:
        """Restore the partitions and find their watermarks."""
        if not numbers:
            return {}
        for number in numbers - set(self._stores):
            self._stores[number] = self._open_store(number)
        stores = {number: self._stores[number] for number in numbers}
        for store in stores.values():
            store.complete()  # It is read on from where it has everything.
        brokers = await self._restorer.restore(stores, self._sources)
        if any(self._is_behind(number, brokers) for number in numbers):
            # What an old leader told, perhaps, that did not know yet that it was one.
            brokers = await self._restorer.restore(stores, self._sources)
        partitions = {number: self._open(number, brokers) for number in sorted(numbers)}
        self._at_hand |= numbers
        return partitions

    def _open_store(self, number: int) -> PartitionStore:
        return PartitionStore(
            self._directory / f"stock-{number}.db",
            cache=self._cache,
            topic_id=self._topic_id,
            derive=self._domain.derive,
            indexed_kinds=self._domain.indexed_kinds,
            rewritten_kinds=self._domain.rewritten_kinds,
        )

    def _let_go(self, number: int, store: PartitionStore) -> None:
        if self._standby is None:
            store.close()
        else:
            store.complete()
            self._standby.watch(number, store)

    def watch_others(self) -> None:
        """Keep a copy of every partition that others decide."""
        if self._standby is None:
            return
        for number in set(range(self._incarnation.partitions)) - set(self._stores):
            if not self._standby.follows(number):
                self._standby.watch(number, self._open_store(number))

    def _open(
        self, number: int, brokers: Mapping[tuple[str, int], SourceOffsets]
    ) -> OwnedPartition:
        store = self._stores[number]
        watermark = read_watermark(store.get(WATERMARK_KEY))
        self._require_count(watermark)
        positions = {
            topic: self._position(topic, number, watermark, brokers[topic, number])
            for topic in self._sources
        }
        rows = PartitionRows(store, self._domain.group_length)
        checkpoint = None if watermark is None else watermark.checkpoint
        decider = self._domain.open(
            number,
            self._incarnation.partitions,
            rows,
            checkpoint,
            memory_bytes=self._memory_bytes,
        )
        return OwnedPartition(
            number, store, rows, decider, positions, incarnation=self._incarnation
        )

    def _require_count(self, watermark: Watermark | None) -> None:
        """Keys belong to partitions by their number: of another one, stock and holds are apart."""
        before = 0 if watermark is None else watermark.partitions
        if before not in (0, self._incarnation.partitions):
            raise Fault(
                f"the state is one of {before} partitions, and the topics have "
                f"{self._incarnation.partitions}: their number is fixed for life, but by `holdfast "
                "migrate`"
            )

    def _position(
        self, topic: str, number: int, watermark: Watermark | None, source: SourceOffsets
    ) -> int:
        """Where a source partition is read on from.

        Raises:
            Fault: what is to be decided there was deleted, or the state is not all that was
                committed: reading on would lose records, or answer some once more.

        """
        if self._is_anew(topic, watermark):
            log.warning("a source topic was made anew: it is read from its beginning", topic=topic)
            return source.begin
        position = _noted(topic, watermark)
        if position is None:
            position = source.begin
        if position < source.begin:
            raise Fault(
                f"{topic}/{number}: offsets {position} to {source.begin} were deleted by "
                "retention before they were decided"
            )
        # A topic nothing was ever committed for has no group offset.
        committed = source.begin if source.committed is None else source.committed
        if committed > position:
            raise Fault(
                f"{topic}/{number}: the group has committed offset {committed}, and the state is "
                f"that of {position}: the changelog has lost its end, or somebody moved the "
                "group's offsets. Deciding on from there would answer requests once more. Bring "
                "the changelog back, or reset the group's offsets to those of the state"
            )
        if committed < position:
            metrics.WATERMARK_DIFFERENCES.inc()
            log.warning(
                "group offset differs from the watermark, which is the truth",
                topic=topic,
                partition=number,
                group_offset=source.committed,
                watermark=position,
            )
        return position

    def _is_anew(self, topic: str, watermark: Watermark | None) -> bool:
        """Whether the watermark is of another incarnation of the topic."""
        now = self._incarnation.sources[topic]
        return watermark is not None and watermark.sources.get(topic, now) != now

    def _is_behind(self, number: int, brokers: Mapping[tuple[str, int], SourceOffsets]) -> bool:
        """Whether offsets were committed that the rows do not have: one transaction has both."""
        watermark = read_watermark(self._stores[number].get(WATERMARK_KEY))
        return any(
            (brokers[topic, number].committed or 0) > (_noted(topic, watermark) or 0)
            for topic in self._sources
        )

    def membership(self, generation: int, thread: BatchConsumerThread) -> Membership:
        """This worker's place in the group's current generation."""
        return Membership(self._group_id, thread.member_id, generation, self._instance_id)

    def close(self, stop_by: float) -> int:
        """Flush and close the databases until `stop_by` (time.monotonic); returns how many not.

        Looked at between two: a flush cannot be interrupted.
        """
        self._executor.shutdown(wait=False, cancel_futures=True)
        if self._standby is not None:
            self._stores.update(self._standby.take_all())
        while self._stores and time.monotonic() < stop_by:
            self._stores.popitem()[1].close()
        return len(self._stores)


def _noted(topic: str, watermark: Watermark | None) -> int | None:
    """Next offset of a source topic, where the watermark has one."""
    return None if watermark is None else watermark.offsets.get(topic)


class EngineTableManager(TableManager):
    """Faust's table manager, with ownership in place of its recovery."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self._ready = asyncio.Event()
        self._assigning: asyncio.Task[None] | None = None
        self._assigned: set[int] = set()
        self._generation = 0
        self._unassigned_since = time.monotonic()

    async def on_start(self) -> None:
        """Register the table's changelog; Faust's one-second pause here serves its own recovery."""
        await self._update_channels()

    def on_rebalance_start(self) -> None:
        """Consumer thread: a rebalance begins."""
        super().on_rebalance_start()
        self._unassigned_since = time.monotonic()
        self._ready.clear()

    def on_partitions_revoked(self, revoked: set[TP]) -> None:  # noqa: ARG002 - all are, eagerly
        """Stop deciding; `BatchConsumer.wait_empty` then waits for the transaction under way."""
        if self._assigning is not None:
            self._assigning.cancel()
        self.app.flow.suspend()

    async def on_rebalance(
        self,
        assigned: set[TP],
        revoked: set[TP],  # noqa: ARG002 - all were
        newly_assigned: set[TP],  # noqa: ARG002 - one that stayed is caught up like a new one
        generation_id: int = 0,
    ) -> None:
        """Partitions came: restore them in a task, so that the group is not kept waiting."""
        self._recovery_started.set()
        await self._update_channels()
        changelog = self.app.changelog
        self._assigned = {tp.partition for tp in assigned if tp.topic == changelog}
        self._generation = generation_id
        self.assign_again()

    def assign_again(self) -> None:
        """Restore the current assignment and decide for it.

        After a rebalance, or an aborted transaction.
        """
        if self._assigning is not None:
            self._assigning.cancel()
        self._assigning = asyncio.get_running_loop().create_task(self._assign())

    async def _assign(self) -> None:
        try:
            await self.app.flow.hand_over()
            await self._restore_and_begin(self._generation)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - nothing may be decided on a state in doubt
            if self.should_stop:
                return
            fail_stop("assignment failed", error)

    async def _restore_and_begin(self, generation: int) -> None:
        """Decide what is at hand at once, and the rest when it is restored, beside that."""
        ownership: Ownership = self.app.ownership
        membership = ownership.membership(generation, self.app.consumer.thread)
        at_hand, rest = ownership.divide(set(self._assigned))
        first, later = (at_hand, rest) if at_hand else (rest, set())
        restoring = asyncio.ensure_future(ownership.open(later))
        try:
            assignment = WorkerAssignment(membership, await ownership.open(first))
            if self._is_over(generation):
                return
            await self._begin(assignment)
            more = await restoring
        finally:
            restoring.cancel()
        if self._is_over(generation):
            return
        if more:
            cycle: Cycle = self.app.flow
            cycle.add(assignment, more)
            log.info("deciding more", partitions=sorted(more), generation=generation)
        ownership.watch_others()

    def _is_over(self, generation: int) -> bool:
        return generation != self._generation or self.app.consumer_generation_id != generation

    async def _begin(self, assignment: WorkerAssignment) -> None:
        app = self.app
        app.flow_control.resume()
        app.consumer.resume_flow()
        cycle: Cycle = app.flow
        cycle.begin(assignment)
        await app._fetcher.maybe_start()  # noqa: SLF001 - as its recovery would
        if not self._ready.is_set():
            self.on_actives_ready()
            self.on_standbys_ready()
            app.on_rebalance_end()
            self._ready.set()
        log.info(
            "deciding", partitions=sorted(assignment.partitions), generation=assignment.generation
        )

    @Service.task  # type: ignore[untyped-decorator]
    async def _watch_assignment(self) -> None:
        """End the process when the group gives no answer: a client stuck in a join stays stuck.

        So it does where the client gave its membership up. A restore has its own bound on standing
        still.
        """
        while not self.should_stop:
            await self.sleep(1.0)
            lost = self.app.consumer.thread.lost()
            if lost is not None and not self.should_stop:
                fail_stop("this worker is no member of its group any more", lost)
            restoring = self._assigning is not None and not self._assigning.done()
            waited_s = time.monotonic() - self._unassigned_since
            if restoring:
                self.app.consumer.thread.is_polled()  # However long that takes.
            most_s = max(UNASSIGNED_SECONDS, 2 * self.app.conf.broker_session_timeout)
            if not self._ready.is_set() and not restoring and waited_s > most_s:
                fail_stop(f"the group gave no assignment for {waited_s:.0f} s")

    @Service.task  # type: ignore[untyped-decorator]
    async def _watch_topics(self) -> None:
        """End the process when a topic is not the one any more that it was."""
        while not self.should_stop:
            await self.sleep(TOPICS_LOOK_SECONDS)
            try:
                await asyncio.to_thread(self.app.ownership.look_at_topics)
            except Fault as fault:
                if not self.should_stop:
                    fail_stop("the topics are not those of this worker's state", fault)

    async def wait_until_recovery_completed(self) -> bool:
        """Wait until the first assignment decides; True when the app stops first."""
        return bool(await self.wait_for_stopped(self._ready))

    async def on_stop(self) -> None:
        """Stop fetching; the databases are closed by the worker when everything has stopped."""
        if self._assigning is not None:
            self._assigning.cancel()
        await self.app._fetcher.stop()  # noqa: SLF001 - as Faust's own on_stop
        for table in self.values():
            await table.stop()
