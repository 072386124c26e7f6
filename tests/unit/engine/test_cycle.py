"""When the cycle asks for more records, and what goes into one transaction."""

import asyncio
import threading
import time
from typing import Any, cast

import msgspec
import pytest
from faust.types import TP

from processor.engine import cycle
from processor.engine.cycle import (
    Cycle,
    Incarnation,
    OwnedPartition,
    Watermark,
    WorkerAssignment,
)
from processor.engine.faults import Fault
from processor.engine.membership import Membership
from processor.engine.records import Record
from processor.engine.store import Position
from processor.engine.transaction import Aborted, SealedBatch
from processor.engine.transport import Polled
from schemas import limits

WITHIN_S = 10.0
INCARNATION = Incarnation({"requests": "incarnation"}, 2)
SMALL, LARGE = 3, cycle.SMALL_BATCH_RECORDS


class Nothing:
    """Stands in for the domain, a partition's rows, its decider and its store: decides nothing.

    `decided`: offsets of what it was to decide. `sets_aside`: every record is a dead letter.
    """

    output_topics = ("dead-letters",)
    dead_letter_topic = "dead-letters"
    position = Position(0, 0, "")
    remembered = 3
    sets_aside = False
    waiting = 0

    def __init__(self) -> None:
        self.decided: list[int] = []
        self.completed: list[int] = []

    def decide(self, records: list[Any], outputs: Any) -> None:
        """No outputs, unless all are set aside."""
        self.decided += [record.offset for record in records]
        if self.sets_aside:
            outputs.messages[self.dead_letter_topic] += [(None, b"")] * len(records)

    def checkpoint(self) -> bytes:
        """Nothing to keep."""
        return b""

    def committed(self) -> None:
        """Nothing is kept until then."""

    def let_go(self) -> bool:
        """Forget one thing."""
        self.remembered -= 1
        return self.remembered > 0

    def put(self, key: bytes, value: bytes) -> None:
        """The watermark row."""
        self.rows = {key: value}

    def seal(self) -> dict[bytes, bytes]:
        """The watermark row alone."""
        return self.rows

    def settle(self) -> None:
        """Nothing was sealed."""

    def apply(self, _rows: Any, position: Position, *, may_wait: bool) -> None:
        """Nothing is stored; a row waits where it may."""
        if may_wait:
            self.waiting += 1
        else:
            self.waiting, self.position = 0, position

    def complete(self) -> None:
        """Nothing waits any more."""
        self.completed.append(self.waiting)
        self.waiting = 0


class Writer:
    """Stands in for the producer: a commit takes until it is let, and the next `aborts` fail."""

    def __init__(self) -> None:
        self.aborts = 0
        self.batches: list[SealedBatch] = []
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def commit(self, batch: SealedBatch) -> dict[int, int]:
        """Wait, in the commit thread."""
        self.batches.append(batch)
        self.begun.release()
        assert self.let.acquire(timeout=2 * WITHIN_S)
        if self.aborts:
            self.aborts -= 1
            raise Aborted("as told")
        return dict.fromkeys(batch.rows, 1)

    def close(self) -> None:
        """Nothing is open."""


class Ground:
    """A cycle that decides for two partitions."""

    def __init__(self) -> None:
        nothing: Any = Nothing()
        self.writer = Writer()
        self.aborted = 0
        self.cycle = Cycle(
            nothing, cast("Any", self.writer), on_aborted=self._count, reach=lambda _: None
        )
        self.deciders = [Nothing(), Nothing()]
        owned = self.restored()
        self.assignment = WorkerAssignment(Membership("group", "member", 1, None), owned)
        self.cycle.begin(self.assignment)

    def _count(self) -> None:
        self.aborted += 1

    def restored(self) -> dict[int, OwnedPartition]:
        """The partitions, as they are where nothing was ever committed."""
        nothing: Any = Nothing()
        return {
            number: OwnedPartition(
                number,
                nothing,
                nothing,
                cast("Any", decider),
                {"requests": 0},
                incarnation=INCARNATION,
            )
            for number, decider in enumerate(self.deciders)
        }

    def next_assignment(self) -> WorkerAssignment:
        """Of the same partitions, in a later generation."""
        member = Membership("group", "member", self.assignment.generation + 1, None)
        self.assignment = WorkerAssignment(member, self.assignment.partitions)
        return self.assignment

    def polled(self, records: int, *, left_behind: bool = False) -> Polled:
        """So many records of each partition, on from where they are."""
        slices = []
        reached = {}
        for number, partition in self.assignment.partitions.items():
            first = partition.positions["requests"]
            reached[TP("requests", number)] = first + records
            slices.append(
                [
                    Record("requests", number, first + at, 7, key=None, value=b"")
                    for at in range(records)
                ]
            )
        self.cycle.queued(len(slices) * records, left_behind=left_behind)
        return Polled(self.assignment, slices, reached)

    async def committing(self) -> None:
        """Return when a commit has begun."""
        assert await asyncio.to_thread(self.writer.begun.acquire, timeout=WITHIN_S)

    async def outcome(self) -> None:
        """Let the commit under way end; returns when the cycle has taken in how it did."""
        await self.committing()
        self.writer.let.release()
        async with asyncio.timeout(WITHIN_S):
            await self.cycle.wait_fetchable()

    async def settled(self) -> None:
        """Let every commit end; returns when there is none under way."""
        self.writer.let.release(100)
        async with asyncio.timeout(WITHIN_S):
            while self.cycle._under_way is not None:
                await asyncio.wait([self.cycle._under_way.future])
                await asyncio.sleep(0)

    async def fetchable(self) -> None:
        """Return when more may be fetched."""
        async with asyncio.timeout(WITHIN_S):
            while self.cycle.fetchable() is None:
                await self.cycle.wait_fetchable()

    def close(self) -> None:
        """Let whatever is under way end."""
        self.writer.let.release(100)
        self.cycle.close()


@pytest.fixture
def ground() -> Any:
    """Closed at the end."""
    made = Ground()
    yield made
    made.close()


def test_reads_from_the_watermarks(ground: Ground) -> None:
    """An assignment says where to read, of every source partition."""
    assert ground.assignment.positions == {TP("requests", 0): 0, TP("requests", 1): 0}


def test_a_small_batch_is_waited_for(ground: Ground) -> None:
    """Nothing is fetched before the last small batch is stored, and then at once."""

    async def play() -> None:
        assert ground.cycle.fetchable() is ground.assignment
        polled = ground.polled(SMALL)
        assert ground.cycle.fetchable() is None
        await ground.cycle.take(polled)
        await ground.committing()
        assert ground.cycle.fetchable() is None
        ground.writer.let.release()
        await ground.fetchable()

    asyncio.run(play())


def test_all_that_was_polled_goes_out_together(ground: Ground) -> None:
    """One transaction for the few records of all partitions, not one for each."""

    async def play() -> None:
        ground.writer.let.release(2)
        await ground.cycle.take(ground.polled(SMALL))
        await ground.fetchable()

    asyncio.run(play())
    assert [batch.offsets for batch in ground.writer.batches] == [
        {("requests", 0): SMALL, ("requests", 1): SMALL}
    ]


def test_positions_follow_past_markers(ground: Ground) -> None:
    """Behind records, and where there were markers alone: those must not be asked for for ever."""

    async def play() -> None:
        ground.writer.let.release(2)
        polled = ground.polled(SMALL)
        polled.reached = {**polled.reached, TP("requests", 0): SMALL + 1}
        await ground.cycle.take(polled)
        await ground.fetchable()
        await ground.cycle.take(Polled(ground.assignment, [], {TP("requests", 1): SMALL + 5}))
        await ground.fetchable()
        await ground.cycle.take(Polled(ground.assignment, [], {TP("requests", 1): SMALL + 5}))

    asyncio.run(play())
    assert [(batch.records, batch.offsets) for batch in ground.writer.batches] == [
        (2 * SMALL, {("requests", 0): SMALL + 1, ("requests", 1): SMALL}),
        (0, {("requests", 1): SMALL + 5}),
    ]
    (watermark,) = ground.writer.batches[1].rows[1].values()
    assert watermark is not None
    assert msgspec.msgpack.decode(watermark, type=Watermark) == Watermark(
        1, {"requests": SMALL + 5}, b"", INCARNATION.sources, INCARNATION.partitions
    )


def test_many_records_are_fetched_beside_a_commit(ground: Ground) -> None:
    """Under load the next records are read and decided while a transaction is under way."""

    async def play() -> None:
        await ground.cycle.take(ground.polled(LARGE))
        await ground.committing()
        assert ground.cycle.fetchable() is ground.assignment
        await ground.cycle.take(ground.polled(LARGE))
        ground.writer.let.release()
        await ground.committing()

    asyncio.run(play())
    first, second = ground.writer.batches
    assert LARGE <= first.records < 4 * LARGE
    assert first.records + second.records == 4 * LARGE


def test_few_records_of_many_are_no_trickle(ground: Ground) -> None:
    """Where the broker has more (large ones, that is), it is read beside the commit, too."""

    async def play() -> None:
        await ground.cycle.take(ground.polled(SMALL, left_behind=True))
        await ground.committing()
        assert ground.cycle.fetchable() is ground.assignment

    asyncio.run(play())


def test_what_an_assignment_had_queued_is_dropped_with_it(ground: Ground) -> None:
    """It is not decided for the next one, nor counted against it."""

    async def play() -> None:
        stale = ground.polled(SMALL)
        ground.cycle.suspend()
        ground.cycle.begin(ground.next_assignment())
        await ground.cycle.take(stale)
        assert ground.cycle.fetchable() is ground.assignment
        ground.writer.let.release()
        await ground.cycle.take(ground.polled(SMALL))
        await ground.fetchable()

    asyncio.run(play())
    assert [batch.records for batch in ground.writer.batches] == [2 * SMALL]


def test_a_new_assignment_is_fetched_for_at_once(ground: Ground) -> None:
    """What the one before had queued is not waited for."""

    async def play() -> None:
        ground.polled(SMALL)
        assert ground.cycle.fetchable() is None
        ground.cycle.suspend()
        assert ground.cycle.fetchable() is None
        ground.cycle.begin(ground.assignment)
        assert ground.cycle.fetchable() is ground.assignment

    asyncio.run(play())


def test_what_was_aborted_is_told_once_and_decided_again(ground: Ground) -> None:
    """Nothing is decided on until the partitions are restored; then the same records are."""
    ground.writer.aborts = 1

    async def play() -> None:
        await ground.cycle.take(ground.polled(SMALL))
        await ground.outcome()
        assert ground.cycle.assignment is None
        assert ground.cycle.fetchable() is None
        assert ground.aborted == 1
        ground.assignment.partitions = ground.restored()
        ground.cycle.begin(ground.next_assignment())
        await ground.cycle.take(ground.polled(SMALL))
        await ground.outcome()
        assert ground.cycle.fetchable() is ground.assignment

    asyncio.run(play())
    assert ground.aborted == 1
    assert [decider.decided for decider in ground.deciders] == [2 * [*range(SMALL)]] * 2
    assert [(batch.membership.generation, batch.offsets) for batch in ground.writer.batches] == [
        (generation, {("requests", 0): SMALL, ("requests", 1): SMALL}) for generation in (1, 2)
    ]


def test_an_abort_of_what_was_taken_away_touches_nothing_else(ground: Ground) -> None:
    """The next assignment has been restored behind it: it goes on, and nobody is told."""
    ground.writer.aborts = 1

    async def play() -> None:
        await ground.cycle.take(ground.polled(SMALL))
        ground.cycle.suspend()
        ground.assignment.partitions = ground.restored()
        ground.cycle.begin(ground.next_assignment())
        ground.polled(SMALL)  # On its way: there is nothing to fetch before the outcome.
        await ground.outcome()
        assert ground.cycle.assignment is ground.assignment

    asyncio.run(play())
    assert ground.aborted == 0


def test_a_good_record_ends_a_run_of_dead_letters(ground: Ground) -> None:
    """So many in all are a bad producer among good ones; so many in a row are a wrong worker."""
    most = limits.DEAD_LETTER_RUN_MAX
    many = 3 * most // 5
    ground.writer.let.release(100)

    async def play() -> None:
        for dead, good in ((many, 1), (many, 1), (most, 0)):
            ground.deciders[0].sets_aside = True
            await ground.cycle.take(ground.polled(dead))
            ground.deciders[0].sets_aside = not good
            await ground.cycle.take(ground.polled(good))
        with pytest.raises(Fault, match=f"{most + 1} dead letters in a row, partition 0"):
            await ground.cycle.take(ground.polled(1))

    asyncio.run(play())


def test_partitions_are_added_beside_a_transaction(ground: Ground) -> None:
    """What it decided goes on counting, and they are read and decided like the others."""
    partitions = dict(ground.assignment.partitions)
    added = {1: partitions.pop(1)}
    ground.assignment = WorkerAssignment(ground.assignment.membership, partitions)
    ground.cycle.begin(ground.assignment)

    async def play() -> None:
        await ground.cycle.take(ground.polled(SMALL))
        await ground.committing()
        ground.cycle.add(ground.assignment, added)
        ground.writer.let.release(2)
        await ground.fetchable()
        await ground.cycle.take(ground.polled(SMALL))
        await ground.fetchable()

    assert ground.assignment.positions == {TP("requests", 0): 0}
    asyncio.run(play())
    assert ground.assignment.positions == {TP("requests", 0): 0, TP("requests", 1): 0}
    assert [batch.offsets for batch in ground.writer.batches] == [
        {("requests", 0): SMALL},
        {("requests", 0): 2 * SMALL, ("requests", 1): SMALL},
    ]


def test_nothing_is_added_to_an_assignment_that_has_ended(ground: Ground) -> None:
    """Its partitions are somebody else's, or restored once more."""
    ended, partitions = ground.assignment, dict(ground.assignment.partitions)
    ground.cycle.begin(WorkerAssignment(ended.membership, {0: partitions[0]}))
    ground.cycle.add(ended, {1: partitions[1]})
    assert ground.cycle.assignment is not None
    assert set(ground.cycle.assignment.partitions) == {0}


def test_an_assignment_of_nothing_ends_too(ground: Ground) -> None:
    """A worker that was given no partition gives none back."""
    ground.cycle.begin(WorkerAssignment(ground.assignment.membership, {}))
    ground.cycle.suspend()
    assert ground.cycle.fetchable() is None


def test_what_is_decided_no_more_is_forgotten(ground: Ground) -> None:
    """Deciders of an assignment that ended keep nothing: what they remember is half a gigabyte."""

    async def play() -> None:
        ground.cycle.suspend()
        for _ in range(6):  # One thing in a turn of the loop.
            await asyncio.sleep(0)

    assert [decider.remembered for decider in ground.deciders] == [3, 3]
    asyncio.run(play())
    assert [decider.remembered for decider in ground.deciders] == [0, 0]


def test_the_partition_that_waited_longest_is_read_first() -> None:
    """A worker that dies soon after each of its starts would decide the same one each time."""
    owned = {}
    for number, stored_at_ms in enumerate((30, 10, 20)):
        there: Any = Nothing()
        there.position = Position(7, stored_at_ms, "")
        owned[number] = OwnedPartition(
            number, there, there, there, {"a": 1, "b": 2}, incarnation=INCARNATION
        )
    assignment = WorkerAssignment(Membership("group", "member", 1, None), owned)
    read = [(one.topic, one.partition) for one in assignment.positions]
    assert read == [(topic, number) for number in (1, 2, 0) for topic in ("a", "b")]


def waiting(ground: Ground, *stores: tuple[int, int]) -> list[Nothing]:
    """Stores with so many rows that wait, and a position of so long ago (ms)."""
    made = []
    for number, (rows, ago_ms) in enumerate(stores):
        store = Nothing()
        store.waiting = rows
        store.position = Position(7, int(time.time() * 1000) - ago_ms, "")
        ground.assignment.partitions[number].store = cast("Any", store)
        made.append(store)
    return made


LATE_MS = cycle.WAITING_MS_MAX + 1


@pytest.mark.parametrize(
    ("stores", "completed"),
    [
        (((5, 100), (9, 50)), ([], [])),
        (((5, LATE_MS), (9, 100)), ([5], [])),
        (((5, LATE_MS), (9, 2 * LATE_MS)), ([5], [9])),
        (((5, -2 * LATE_MS), (9, 50)), ([5], [])),  # The clock went back.
        (((0, 2 * LATE_MS), (9, LATE_MS)), ([], [9])),
        (((cycle.WAITING_ROWS_MAX, 60), (1, 50)), ([cycle.WAITING_ROWS_MAX], [])),
        (((1, 60), (cycle.WAITING_ROWS_MAX + 1, 50)), ([1], [cycle.WAITING_ROWS_MAX + 1])),
        (((0, 60), (cycle.WAITING_ROWS_MAX, 50)), ([], [])),
    ],
)
def test_what_waited_for_longest_is_written_when_it_is_time_or_too_much(
    ground: Ground,
    stores: tuple[tuple[int, int], tuple[int, int]],
    completed: tuple[list[int], list[int]],
) -> None:
    """All that is due where there is nothing to commit, or as many as it takes for the bound."""
    there = waiting(ground, *stores)
    ground.cycle.complete()
    assert tuple(store.completed for store in there) == completed


def test_rows_of_large_batches_may_wait_and_those_of_small_ones_do_not(ground: Ground) -> None:
    """A small batch is no place to save a write: what waits behind it is waited for in vain."""
    first, second = waiting(ground, (0, 50), (0, 50))

    async def play() -> None:
        await ground.cycle.take(ground.polled(LARGE))
        await ground.settled()
        assert (first.waiting, second.waiting) == (1, 1)
        await ground.cycle.take(ground.polled(SMALL))
        await ground.settled()

    asyncio.run(play())
    assert (first.waiting, second.waiting) == (0, 0)


def test_behind_a_transaction_one_partition_is_written(ground: Ground) -> None:
    """The next transaction waits for it."""
    first, second = waiting(ground, (5, LATE_MS), (9, 2 * LATE_MS))
    cycle._complete(ground.assignment, due_max=1)
    assert (first.completed, second.completed) == ([], [9])


def test_nothing_is_completed_beside_a_transaction(ground: Ground) -> None:
    """Its thread writes the same database; it looks for what is due by itself, behind its rows."""
    late, _ = waiting(ground, (5, LATE_MS), (0, 50))

    async def play() -> None:
        await ground.cycle.take(ground.polled(LARGE))
        await ground.committing()
        ground.cycle.complete()
        assert late.completed == []
        await ground.settled()
        assert late.completed == [6]
        ground.cycle.suspend()
        late.waiting = 5
        ground.cycle.complete()

    asyncio.run(play())
    assert late.completed == [6]
