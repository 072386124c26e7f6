"""The cycle: polled records in, decided one after the other, committed in transactions, stored.

One transaction is under way at most. While batches are small, the next records are fetched when the
last are stored; when they are large, the next batch is decided meanwhile, against the overlay. So a
batch holds whatever arrived while the previous one was committed: at low load one record, at high
load thousands, with no timer in between. Everything here runs on Faust's event loop, except
`_commit_and_store`, which runs on the commit thread.

If the process dies: before the commit, nothing of the batch is visible and the next owner reads its
records again; after it, the changelog has its rows. There is no third case, because the outputs,
the rows and the offsets are in one transaction, and RocksDB is written after it.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
import structlog
from faust.types import TP

from processor.engine import metrics
from processor.engine.faults import Fault, fail_stop
from processor.engine.membership import Membership
from processor.engine.ports import Domain, Outputs, PartitionDecider
from processor.engine.rows import Changes, PartitionRows
from processor.engine.store import PartitionStore, Position
from processor.engine.transaction import Aborted, SealedBatch, TransactionWriter
from processor.engine.transport import Polled
from schemas import limits

SLICE_RECORDS: Final = 200  # Decided between two looks at the commit under way: about 3 ms.
MESSAGES_MAX: Final = 60_000  # Messages of one transaction: 512-line baskets multiply records.
QUEUED_RECORDS_MAX: Final = 2 * limits.BATCH_RECORDS_MAX  # On their way to the agent.
# The commit thread needs the interpreter a dozen times a transaction, and waits for it so long each
# time while records are decided or parsed. Small transactions gain by a short wait (at 5,000
# requests a second a commit took 24 ms instead of 29); full ones lose (one hot key: a seventh).
SMALL_BATCH_RECORDS: Final = 500
SWITCH_SECONDS: Final = 0.005  # Python's own.
SWITCH_SMALL_SECONDS: Final = 0.0005
# Rows that wait in memory (`store`), of all partitions of a process together, and their groups:
# some 30 MB, where a row has 250 bytes.
WAITING_ROWS_MAX: Final = 65_536
WAITING_MS_MAX: Final = 5_000  # What a crash makes the next owner read again, about, as a time.
HAND_OVER_SECONDS_MAX: Final = 3.0  # A commit that takes longer is left to the coordinator.

WATERMARK_KEY: Final = b"W"
_WATERMARK_FORMAT: Final = 1

log = structlog.get_logger(__name__)


class Watermark(msgspec.Struct, frozen=True, array_like=True):
    """What a partition's rows contain, written with every batch: the truth about the position.

    Attributes:
        format: version of this row's layout.
        offsets: source topic to the next offset to decide.
        checkpoint: the decider's own state (clock, sequence).
        sources: source topic to its incarnation, which the offset belongs to. Earlier releases
            write none, and pass it by.
        partitions: how many there are; 0 by earlier releases.

    """

    format: int
    offsets: dict[str, int]
    checkpoint: bytes
    sources: dict[str, str] = {}
    partitions: int = 0


class Incarnation(msgspec.Struct, frozen=True):
    """What the topics are that positions belong to: see `Watermark`."""

    sources: dict[str, str] = {}
    partitions: int = 0


class OwnedPartition:
    """One partition while this worker decides for it."""

    __slots__ = (
        "dead_letter_run",
        "decided_at",
        "decider",
        "incarnation",
        "number",
        "positions",
        "rows",
        "store",
    )

    def __init__(
        self,
        number: int,
        store: PartitionStore,
        rows: PartitionRows,
        decider: PartitionDecider,
        positions: dict[str, int],
        *,
        incarnation: Incarnation,
    ) -> None:
        self.number = number
        self.incarnation = incarnation
        self.store = store
        self.rows = rows
        self.decider = decider
        self.positions = positions
        self.dead_letter_run = 0
        self.decided_at = 0.0  # time.monotonic(): when it last had something to decide

    def seal(self) -> Changes:
        """Take the batch's rows, the watermark row last."""
        checkpoint, incarnation = self.decider.checkpoint(), self.incarnation
        watermark = Watermark(
            _WATERMARK_FORMAT,
            self.positions,
            checkpoint,
            incarnation.sources,
            incarnation.partitions,
        )
        self.rows.put(WATERMARK_KEY, msgspec.msgpack.encode(watermark))
        changes = self.rows.seal()
        # Last in the changelog: its offset is the end of the batch.
        changes[WATERMARK_KEY] = changes.pop(WATERMARK_KEY)
        return changes


class WorkerAssignment:
    """The partitions decided under one generation of the group."""

    def __init__(self, membership: Membership, partitions: dict[int, OwnedPartition]) -> None:
        self.membership = membership
        self.partitions = partitions
        self.generation = membership.generation
        # Read in this order, so decided in it: who had to wait for longest comes first. In the
        # order of numbers, a worker that dies soon after each of its starts would decide the same
        # partition each time, and others never.
        waited = sorted(partitions.values(), key=lambda one: one.store.position.timestamp_ms)
        self.positions = _positions(waited)

    def add(self, partitions: dict[int, OwnedPartition]) -> None:
        """Take in more partitions of the same generation."""
        self.partitions.update(partitions)
        self.positions.update(_positions(partitions.values()))


def _positions(partitions: Iterable[OwnedPartition]) -> dict[TP, int]:
    return {
        TP(topic, partition.number): offset
        for partition in partitions
        for topic, offset in partition.positions.items()
    }


class _OpenBatch:
    """What has been decided since the last transaction was sealed."""

    __slots__ = ("_output_topics", "outputs", "records", "topics", "touched")

    def __init__(self, output_topics: Sequence[str]) -> None:
        self._output_topics = output_topics
        self.outputs: dict[int, Outputs] = {}
        self.records = 0
        self.touched: dict[int, set[str]] = {}
        self.topics: dict[str, int] = {}

    def of(self, partition: int) -> Outputs:
        """Outputs of one source partition."""
        outputs = self.outputs.get(partition)
        if outputs is None:
            outputs = self.outputs[partition] = Outputs(self._output_topics)
        return outputs

    def messages(self) -> int:
        """Number of output messages so far."""
        return sum(map(len, self.outputs.values()))

    def count(self, topic: str) -> int:
        """Number of output messages for the topic."""
        return sum(len(outputs.messages[topic]) for outputs in self.outputs.values())


class _UnderWay:
    """The transaction on the commit thread."""

    __slots__ = ("assignment", "batch", "future", "opened")

    def __init__(
        self,
        future: "asyncio.Future[None]",
        assignment: WorkerAssignment,
        batch: SealedBatch,
        opened: _OpenBatch,
    ) -> None:
        self.future = future
        self.assignment = assignment
        self.batch = batch
        self.opened = opened


class Cycle:
    """Decides and commits for one worker. `flow` of the transport."""

    def __init__(
        self,
        domain: Domain,
        writer: TransactionWriter,
        *,
        on_aborted: Callable[[], None],
        reach: Callable[[str], None],
    ) -> None:
        self._domain = domain
        self._writer = writer
        self._on_aborted = on_aborted
        self._reach = reach
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._output_topics = domain.output_topics
        self._dead_letters = domain.dead_letter_topic
        self.assignment: WorkerAssignment | None = None
        self._open = _OpenBatch(self._output_topics)
        self._under_way: _UnderWay | None = None
        self._queued = 0
        self._trickles = False  # All that was there to fetch was a small batch.
        self._changed = asyncio.Event()

    # What the transport asks.

    def fetchable(self) -> WorkerAssignment | None:
        """The assignment, if more may be fetched for it now.

        When records come by small batches, not before the last of them is stored: what was fetched
        sooner would only have to wait, and what comes meanwhile would wait for the next fetch.
        """
        is_busy = self._queued > 0 or self._under_way is not None
        if self._queued >= QUEUED_RECORDS_MAX or (self._trickles and is_busy):
            return None
        return self.assignment

    async def wait_fetchable(self) -> None:
        """Return when `fetchable` may have changed."""
        self._changed.clear()
        if self.fetchable() is None:
            await self._changed.wait()

    def queued(self, records: int, *, left_behind: bool) -> None:
        """Count records on their way to the agent. `left_behind`: more of them waits."""
        self._queued += records
        self._trickles = not left_behind and self._queued < SMALL_BATCH_RECORDS

    # Assignments begin and end.

    def begin(self, assignment: WorkerAssignment) -> None:
        """Decide for these partitions from now on."""
        self.assignment = assignment
        self._open = _OpenBatch(self._output_topics)
        self._queued = 0
        self._trickles = False
        metrics.PARTITIONS_OWNED.set(len(assignment.partitions))
        self._changed.set()

    def add(self, assignment: WorkerAssignment, partitions: dict[int, OwnedPartition]) -> None:
        """Decide for more partitions of an assignment, unless that has ended."""
        if self.assignment is assignment:
            assignment.add(partitions)
            metrics.PARTITIONS_OWNED.set(len(assignment.partitions))

    def suspend(self) -> None:
        """Decide nothing more for this assignment.

        What is not under way is dropped: it was never visible.
        """
        if self.assignment is not None:
            owned = self.assignment.partitions.values()
            self._let_go([partition.decider for partition in owned])
        self.assignment = None
        self._open = _OpenBatch(self._output_topics)
        metrics.PARTITIONS_OWNED.set(0)
        self._changed.set()

    def _let_go(self, deciders: list[PartitionDecider]) -> None:
        """Free what they remember, in pieces: the partitions go to others meanwhile."""
        if deciders and not deciders[-1].let_go():
            deciders.pop()
        if deciders:
            asyncio.get_running_loop().call_soon(self._let_go, deciders)

    async def hand_over(self) -> None:
        """Let the transaction under way finish, within a bound; nothing else was started."""
        self.suspend()
        if self._under_way is None:
            return
        done, _ = await asyncio.wait([self._under_way.future], timeout=HAND_OVER_SECONDS_MAX)
        if not done:
            fail_stop("the transaction under way did not end before the partitions had to go")

    def close(self) -> None:
        """End the commit thread, and the producer's connections."""
        self._executor.shutdown(wait=True)
        self._writer.close()

    # Records come in.

    async def take(self, polled: Polled) -> None:
        """Decide polled records; waits while the open batch is full."""
        for records in polled.slices:
            if self._under_way is not None:
                await asyncio.sleep(0)  # So that a transaction that ended is followed by the next.
            for start in range(0, len(records), SLICE_RECORDS):
                while self._is_full() and self.assignment is polled.assignment:
                    await self._wait_for_commit()
                assignment = self.assignment
                if assignment is None or assignment is not polled.assignment:
                    return
                self._decide(assignment, records[start : start + SLICE_RECORDS])
                self._queued -= min(SLICE_RECORDS, len(records) - start)
                if self._open.records >= SMALL_BATCH_RECORDS:
                    self._pump()
        self._pass_by(polled)
        self._pump()
        self._changed.set()

    def _pass_by(self, polled: Polled) -> None:
        """Positions follow past markers and what was aborted, behind the records before them."""
        assignment = self.assignment
        if assignment is None or assignment is not polled.assignment:
            return
        for tp, offset in polled.reached.items():
            partition = assignment.partitions[tp.partition]
            if offset > partition.positions[tp.topic]:
                partition.positions[tp.topic] = offset
                self._open.touched.setdefault(partition.number, set()).add(tp.topic)

    def _is_full(self) -> bool:
        return (
            self._open.records >= limits.BATCH_RECORDS_MAX or self._open.messages() >= MESSAGES_MAX
        )

    async def _wait_for_commit(self) -> None:
        if self._under_way is None:
            self._pump()
        if self._under_way is not None:
            await asyncio.wait([self._under_way.future])
            await asyncio.sleep(0)

    def _decide(self, assignment: WorkerAssignment, records: list[Any]) -> None:
        first, last = records[0], records[-1]
        partition = assignment.partitions[first.partition]
        topic = first.topic
        position = partition.positions[topic]
        if first.offset < position:
            records = [record for record in records if record.offset >= position]
            if not records:
                return
        opened = self._open
        outputs = opened.of(partition.number)
        dead_letters = outputs.messages[self._dead_letters]
        dead_before = len(dead_letters)
        partition.decider.decide(records, outputs)
        partition.positions[topic] = last.offset + 1
        partition.decided_at = time.monotonic()
        opened.records += len(records)
        opened.topics[topic] = opened.topics.get(topic, 0) + len(records)
        opened.touched.setdefault(partition.number, set()).add(topic)
        self._watch_dead_letters(partition, len(records), len(dead_letters) - dead_before)

    def _watch_dead_letters(self, partition: OwnedPartition, records: int, dead: int) -> None:
        if dead < records:
            partition.dead_letter_run = 0
            return
        partition.dead_letter_run += dead
        if partition.dead_letter_run > limits.DEAD_LETTER_RUN_MAX:
            raise Fault(
                f"{partition.dead_letter_run} dead letters in a row, partition {partition.number}: "
                "this worker or a producer is deployed wrongly; nothing more is drained"
            )

    def complete(self) -> None:
        """Write rows that have waited long enough, while there is nothing to commit."""
        if self.assignment is not None and self._under_way is None:
            _complete(self.assignment, due_max=len(self.assignment.partitions))

    # Batches go out.

    def _pump(self) -> None:
        """Start a transaction if none is under way and something was decided, or passed by."""
        if self._under_way is not None:
            if not self._under_way.future.done():
                return
            self._finish(self._under_way)
        assignment, opened = self.assignment, self._open
        if assignment is None or not opened.touched:
            return
        self._open = _OpenBatch(self._output_topics)
        is_small = opened.records < SMALL_BATCH_RECORDS
        sys.setswitchinterval(SWITCH_SMALL_SECONDS if is_small else SWITCH_SECONDS)
        batch = self._seal(assignment, opened)
        future = asyncio.get_running_loop().run_in_executor(
            self._executor, self._commit_and_store, assignment, batch
        )
        self._under_way = _UnderWay(future, assignment, batch, opened)
        future.add_done_callback(self._on_done)

    def _seal(self, assignment: WorkerAssignment, opened: _OpenBatch) -> SealedBatch:
        partitions = assignment.partitions
        return SealedBatch(
            membership=assignment.membership,
            offsets={
                (topic, number): partitions[number].positions[topic]
                for number, topics in opened.touched.items()
                for topic in topics
            },
            rows={number: partitions[number].seal() for number in opened.touched},
            outputs=opened.outputs,
            records=opened.records,
        )

    def _commit_and_store(self, assignment: WorkerAssignment, batch: SealedBatch) -> None:
        """Commit thread: the transaction, then RocksDB."""
        started = time.perf_counter()
        ends = self._writer.commit(batch)
        committed = time.perf_counter()
        metrics.COMMIT_SECONDS.observe(committed - started)
        now_ms = int(time.time() * 1000)
        self._reach("before-store")
        for number, rows in batch.rows.items():
            store = assignment.partitions[number].store
            position = Position(ends[number], now_ms, store.position.topic_id)
            store.apply(rows, position, may_wait=batch.records >= SMALL_BATCH_RECORDS)
        self._reach("after-store")
        _complete(assignment, due_max=1)
        metrics.STORE_SECONDS.observe(time.perf_counter() - committed)

    def _on_done(self, future: "asyncio.Future[None]") -> None:
        try:
            if self._under_way is not None and self._under_way.future is future:
                self._finish(self._under_way)
            self._pump()
        except Exception as error:  # noqa: BLE001 - whatever it was, the state cannot be trusted
            fail_stop("the cycle broke", error)

    def _finish(self, under_way: _UnderWay) -> None:
        """Take in the outcome of the transaction that was under way."""
        self._under_way = None
        self._changed.set()
        aborted = under_way.future.exception()
        if isinstance(aborted, Aborted):
            log.warning("transaction aborted, its records are read again", cause=str(aborted))
            metrics.ABORTED.inc()
            if self.assignment is under_way.assignment:
                self.suspend()
                self._on_aborted()
            return
        under_way.future.result()
        for number in under_way.batch.rows:
            partition = under_way.assignment.partitions[number]
            partition.rows.settle()
            partition.decider.committed()
        metrics.BATCHES.inc()
        metrics.BATCH_RECORDS.observe(under_way.batch.records)
        metrics.DEAD_LETTERS.inc(under_way.opened.count(self._dead_letters))
        for topic, records in under_way.opened.topics.items():
            metrics.DECIDED.labels(topic).inc(records)


def _complete(assignment: WorkerAssignment, due_max: int) -> None:
    """Write what has waited for long enough, of so many partitions: 16,000 rows take 20 ms.

    Of more, where more rows wait than may. A clock that went back makes everything due.
    """
    now_ms = int(time.time() * 1000)
    waiting = sorted(
        (abs(now_ms - partition.store.position.timestamp_ms), number)
        for number, partition in list(assignment.partitions.items())
        if partition.store.waiting
    )
    rows = sum(assignment.partitions[number].store.waiting for _, number in waiting)
    while waiting:
        since_ms, number = waiting.pop()
        if rows <= WAITING_ROWS_MAX and (due_max <= 0 or since_ms < WAITING_MS_MAX):
            break
        due_max -= 1
        store = assignment.partitions[number].store
        rows -= store.waiting
        store.complete()
    metrics.ROWS_WAITING.set(rows)


def read_watermark(value: bytes | None) -> Watermark | None:
    """The watermark of a partition; None where nothing was ever decided.

    Raises:
        Fault: the row has a layout of a later release.

    """
    if value is None:
        return None
    watermark = msgspec.msgpack.decode(value, type=Watermark)
    if watermark.format != _WATERMARK_FORMAT:
        raise Fault(f"watermark row of format {watermark.format}: written by a later release")
    return watermark
