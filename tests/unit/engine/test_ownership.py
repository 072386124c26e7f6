"""Where a partition is read on from, and when it must not be; what ends a worker without one."""

import asyncio
import math
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NoReturn, cast

import msgspec
import pytest
from aiokafka.consumer.subscription_state import SubscriptionState
from confluent_kafka import KafkaException, TopicCollection

from processor.engine import ownership as module
from processor.engine.cycle import WATERMARK_KEY, Incarnation, Watermark
from processor.engine.faults import Fault
from processor.engine.ownership import EngineTableManager, Ownership
from processor.engine.restore import POSITION_AGE_MS_MAX, SourceOffsets, start_offset
from processor.engine.store import PartitionStore, Position, shared_cache
from processor.engine.transport import BatchConsumerThread

SOURCE = "requests"
NOW_MS = 1_800_000_000_000


class NoDomain:
    """Decides nothing."""

    group_length: Mapping[int, int] = MappingProxyType({})
    indexed_kinds: frozenset[int] = frozenset()
    rewritten_kinds: Mapping[int, int] = {}

    def derive(self, *_: Any) -> list[Any]:
        """No index."""
        return []

    def open(self, *_: Any, **__: Any) -> Any:
        """A partition's decider."""
        return None


def store_at(path: Path, position: Position) -> PartitionStore:
    """A database at a position of its changelog, with one row."""
    store = PartitionStore(
        path / "db",
        cache=shared_cache(1 << 20),
        topic_id=position.topic_id,
        derive=lambda _key, _value: [],
        indexed_kinds=frozenset(),
    )
    store.apply({b"a": b"1"}, position)
    return store


def ownership_of(path: Path, partitions: int = 4, restorer: Any = None) -> Ownership:
    """Of topics whose incarnation is `now`."""
    ownership = Ownership(
        cast("Any", NoDomain()),
        cast("Any", None),
        group_id="group",
        instance_id=None,
        changelog="changelog",
        sources=[SOURCE],
        directory=path,
        cache_bytes=1 << 20,
        restorer=restorer,
        standby=None,
        executor=cast("Any", None),
    )
    ownership._incarnation = Incarnation({SOURCE: "now"}, partitions)
    return ownership


def opened(
    path: Path, watermark: Watermark | None, source: SourceOffsets, partitions: int = 4
) -> int:
    """Position at which the partition is read on, in topics whose incarnation is `now`."""
    ownership = ownership_of(path, partitions)
    store = store_at(path, Position(1, 0, "changelog-1"))
    if watermark is not None:
        store.apply(
            {WATERMARK_KEY: msgspec.msgpack.encode(watermark)}, Position(2, 0, "changelog-1")
        )
    ownership._stores[3] = store
    partition = ownership._open(3, {(SOURCE, 3): source})
    return partition.positions[SOURCE]


def at(offset: int, incarnation: str = "now", partitions: int = 4) -> Watermark:
    """A watermark of one source."""
    return Watermark(1, {SOURCE: offset}, b"", {SOURCE: incarnation}, partitions)


def test_reads_on_at_the_watermark(tmp_path: Path) -> None:
    """Which may be ahead of the group's offset, not behind what retention has left."""
    assert opened(tmp_path / "1", at(10), SourceOffsets(begin=3, committed=10)) == 10
    assert opened(tmp_path / "2", at(10), SourceOffsets(begin=10, committed=7)) == 10
    assert opened(tmp_path / "3", None, SourceOffsets(begin=3, committed=None)) == 3
    with pytest.raises(Fault, match="offsets 10 to 11 were deleted"):
        opened(tmp_path / "4", at(10), SourceOffsets(begin=11, committed=10))


@pytest.mark.parametrize("watermark", [at(10), None])
def test_a_state_that_is_behind_what_was_committed_is_not_decided_on(
    watermark: Watermark | None, tmp_path: Path
) -> None:
    """Rows and offsets are committed together: requests would be answered once more."""
    with pytest.raises(Fault, match="committed offset 12"):
        opened(tmp_path, watermark, SourceOffsets(begin=0, committed=12))


def test_a_source_topic_that_was_made_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    """Its offsets begin again: what lies before the old position was never decided."""
    watermark = at(1_000, incarnation="before")
    assert opened(tmp_path, watermark, SourceOffsets(begin=0, committed=None)) == 0


def test_topics_with_more_partitions_than_the_state_has_are_refused(tmp_path: Path) -> None:
    """Half of the keys would lie in partitions that know nothing of their stock and holds."""
    with pytest.raises(Fault, match="one of 4 partitions, and the topics have 8"):
        opened(tmp_path, at(10), SourceOffsets(begin=0, committed=10), partitions=8)


def test_a_watermark_of_an_earlier_release_says_neither(tmp_path: Path) -> None:
    """And an earlier release reads one of this: what was added stands behind."""
    before = msgspec.convert([1, {SOURCE: 10}, b""], Watermark)
    assert opened(tmp_path, before, SourceOffsets(begin=0, committed=10), partitions=8) == 10


class Earlier(msgspec.Struct, frozen=True, array_like=True):
    """The row as earlier releases know it."""

    format: int
    offsets: dict[str, int]
    checkpoint: bytes


def test_an_earlier_release_reads_a_watermark_of_this_one() -> None:
    """A release can be taken back: what was added stands behind the rest."""
    row = msgspec.msgpack.encode(at(10))
    assert msgspec.msgpack.decode(row, type=Earlier) == Earlier(1, {SOURCE: 10}, b"")


OLD_MS = NOW_MS - POSITION_AGE_MS_MAX - 1


@pytest.mark.parametrize(
    ("offset", "timestamp_ms", "begin", "end", "start"),
    [
        (10, OLD_MS, 0, 10, 10),  # Nothing was committed since.
        (10, OLD_MS, 0, 11, 10),  # Only the marker of its own last transaction is behind it.
        (10, OLD_MS, 0, 12, 0),  # A row that was deleted meanwhile may have been compacted away.
        (10, NOW_MS, 0, 500, 10),
        (10, NOW_MS, 11, 500, 11),
        (10, NOW_MS, 0, 9, 0),
    ],
)
def test_a_database_is_rebuilt_only_where_it_cannot_be_caught_up(
    *, offset: int, timestamp_ms: int, begin: int, end: int, start: int, tmp_path: Path
) -> None:
    """However long nobody wrote: a quiet partition has all there is, but the last marker."""
    store = store_at(tmp_path, Position(offset, timestamp_ms, "changelog-1"))
    assert start_offset(store, begin, end, NOW_MS) == start
    is_kept = start == offset
    assert (store.get(b"a") == b"1") is is_kept


def test_a_database_that_has_reached_the_end_is_as_old_as_that(tmp_path: Path) -> None:
    """What is behind its last row was seen to be no row: it is not rebuilt again and again."""
    store = store_at(tmp_path, Position(10, OLD_MS, "changelog-1"))
    store.reach(14, NOW_MS)
    assert store.position == Position(14, NOW_MS, "changelog-1")
    assert start_offset(store, 0, 15, NOW_MS) == 14
    store.reach(12, NOW_MS + 1)
    assert store.position == Position(14, NOW_MS, "changelog-1")


class Restores:
    """Notes what is restored; the restore of `slow` waits until it may end."""

    def __init__(self, slow: set[int]) -> None:
        self.slow = slow
        self.begun: list[set[int]] = []
        self.may_end = asyncio.Event()

    async def restore(
        self, stores: Mapping[int, PartitionStore], sources: list[str]
    ) -> dict[tuple[str, int], SourceOffsets]:
        """As that of the engine."""
        self.begun.append(set(stores))
        if self.slow & set(stores):
            await self.may_end.wait()
        return {
            (topic, number): SourceOffsets(begin=0, committed=None)
            for topic in sources
            for number in stores
        }


async def settled() -> None:
    """All that can run without what is waited for has run."""
    for _ in range(20):
        await asyncio.sleep(0)


class Kept:
    """Takes over what others decide now."""

    def __init__(self) -> None:
        self.positions: dict[int, int] = {}

    def take(self, _number: int) -> None:
        """Nothing was followed."""

    def watch(self, number: int, store: PartitionStore) -> None:
        """Note from where it is to be followed."""
        self.positions[number] = store.position.offset


async def test_rows_that_wait_are_written_before_a_partition_is_read_on(tmp_path: Path) -> None:
    """Here or as a copy: what they say is not read once more."""
    ownership = ownership_of(tmp_path, restorer=Restores(set()))
    ownership._standby = cast("Any", Kept())
    for number in (1, 2):
        store = PartitionStore(
            tmp_path / str(number),
            cache=shared_cache(1 << 20),
            topic_id="changelog-1",
            derive=lambda _key, _value: [],
            indexed_kinds=frozenset(),
            rewritten_kinds={ord("G"): 2},
        )
        store.apply({b"k": b"1"}, Position(1, 0, "changelog-1"))
        store.apply({b"Ga1": b"1", b"Ga2": b"2"}, Position(9, 0, "changelog-1"), may_wait=True)
        assert store.position.offset == 1
        ownership._stores[number] = store
    ownership.divide({1})
    assert cast("Any", ownership._standby).positions == {2: 9}
    kept = (await ownership.open({1}))[1].store
    assert (kept.waiting, kept.position.offset) == (0, 9)


async def test_at_hand_is_what_was_opened_before_and_is_still_given(tmp_path: Path) -> None:
    """What went to others meanwhile is not, nor what was never here."""
    ownership = ownership_of(tmp_path, restorer=Restores(slow=set()))
    assert ownership.divide({0, 1}) == (set(), {0, 1})
    assert set(await ownership.open({0, 1})) == {0, 1}
    assert ownership.divide({1, 2}) == ({1}, {2})
    assert ownership.divide({0, 1}) == ({1}, {0})


async def test_a_restore_that_was_interrupted_is_not_at_hand(tmp_path: Path) -> None:
    """The next assignment restores the same partition again, and nobody waits for it."""
    restores = Restores(slow={1})
    ownership = ownership_of(tmp_path, restorer=restores)
    ownership.divide({0})
    await ownership.open({0})
    for _ in range(2):
        assert ownership.divide({0, 1}) == ({0}, {1})
        interrupted = asyncio.create_task(ownership.open({1}))
        await settled()
        interrupted.cancel()
        await asyncio.wait([interrupted])
    restores.may_end.set()
    assert set(await ownership.open({1})) == {1}
    assert ownership.divide({0, 1}) == ({0, 1}, set())


class Topics:
    """Stands in for the cluster's admin client: what it says of the topics, by what is told."""

    def __init__(self, *, away: bool = False, **told: Any) -> None:
        self.away = away
        self.ids = {SOURCE: "now", "changelog": "changelog-1"} | told.get("ids", {})
        self.counts = {SOURCE: 4, "changelog": 4} | told.get("counts", {})

    def describe_topics(self, named: TopicCollection, **_: Any) -> dict[str, Future[Any]]:
        """Each in its future."""
        found: dict[str, Future[Any]] = {name: Future() for name in named.topic_names}
        for name, future in found.items():
            if self.away:
                future.set_exception(KafkaException("no broker"))
            else:
                partitions = [None] * self.counts[name]
                future.set_result(SimpleNamespace(partitions=partitions, topic_id=self.ids[name]))
        return found


def looking(path: Path, found: Topics) -> Ownership:
    """Of a worker that began with topics of four partitions, and finds these now."""
    ownership = ownership_of(path)
    ownership._topic_id = "changelog-1"
    ownership._admin = cast("Any", found)
    return ownership


@pytest.mark.parametrize("found", [Topics(), Topics(away=True)], ids=["the same", "away"])
def test_topics_that_are_the_same_or_cannot_be_seen_end_nobody(
    found: Topics, tmp_path: Path
) -> None:
    """A broker that is away for a moment must not end all workers at once."""
    looking(tmp_path, found).look_at_topics()


ANEW = [
    Topics(ids={SOURCE: "anew"}),
    Topics(ids={"changelog": "changelog-2"}),
    Topics(counts={SOURCE: 8, "changelog": 8}),
    Topics(counts={SOURCE: 8}),
]


@pytest.mark.parametrize("found", ANEW, ids=["source", "changelog", "more", "more sources"])
def test_topics_that_are_others_now_are_a_fault(found: Topics, tmp_path: Path) -> None:
    """Made anew, or with more partitions: what lies there does not follow this worker's state."""
    with pytest.raises(Fault, match=r"made anew or has other partitions|partition counts differ"):
        looking(tmp_path, found).look_at_topics()


class EndedError(Exception):
    """Stands for the end of the process."""


class Manager(EngineTableManager):
    """Of a worker that stops after so many looks, and that has waited for ever for its partitions.

    `pending`, `over`: what ended its membership, kept by the client or by its task.
    """

    def __init__(
        self, *, looks: int, pending: Exception | None = None, over: Exception | None = None
    ) -> None:
        self.subscription = SubscriptionState()
        self.subscription._last_fetch_ended = -math.inf
        task: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if over is not None:
            task.set_exception(over)
        thread: Any = object.__new__(BatchConsumerThread)
        thread._consumer = SimpleNamespace(
            _subscription=self.subscription,
            _coordinator=SimpleNamespace(_pending_exception=pending, _coordination_task=task),
        )
        app = SimpleNamespace(
            consumer=SimpleNamespace(thread=thread), conf=SimpleNamespace(broker_session_timeout=45)
        )
        super().__init__(app)
        self._unassigned_since = -math.inf
        self._looks = looks

    async def sleep(self, _n: Any) -> None:
        """Until the next look, or the end."""
        self._looks -= 1
        if self._looks < 0:
            self._stopped.set()
        await asyncio.sleep(0)

    async def watch(self, task: str) -> None:
        """Run one of its tasks until it stops, or ends the process."""
        await getattr(type(self), task)(self)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process would end an error is raised."""

    def fail_stop(reason: str, error: BaseException | None = None) -> NoReturn:
        raise EndedError(reason) from error

    monkeypatch.setattr(module, "fail_stop", fail_stop)


@pytest.mark.usefixtures("ends")
@pytest.mark.parametrize("told", ["pending", "over"])
async def test_a_worker_that_is_no_member_any_more_ends(told: str) -> None:
    """Its client keeps the reason to itself, and waits: nobody would decide its partitions."""
    reason = RuntimeError("fenced")
    manager = Manager(looks=2, **{told: reason})  # type: ignore[arg-type]
    manager._ready.set()
    with pytest.raises(EndedError, match="no member of its group any more") as ended:
        await manager.watch("_watch_assignment")
    assert ended.value.__cause__ is reason


@pytest.mark.usefixtures("ends")
async def test_a_worker_that_the_group_gives_nothing_ends() -> None:
    """A client that is stuck in a join stays stuck."""
    with pytest.raises(EndedError, match="the group gave no assignment"):
        await Manager(looks=2).watch("_watch_assignment")


@pytest.mark.usefixtures("ends")
async def test_a_worker_that_decides_goes_on() -> None:
    """However long ago it was given its partitions; how it reads them is said where that is."""
    manager = Manager(looks=2)
    manager._ready.set()
    await manager.watch("_watch_assignment")
    assert manager.subscription.fetcher_idle_time == math.inf


@pytest.mark.usefixtures("ends")
async def test_a_worker_that_restores_stays_a_member() -> None:
    """However long that takes: it reads nothing meanwhile, and would have to leave."""
    manager = Manager(looks=2)
    manager._assigning = asyncio.create_task(asyncio.Event().wait())
    await manager.watch("_watch_assignment")
    manager._assigning.cancel()
    assert manager.subscription.fetcher_idle_time < math.inf


@pytest.mark.usefixtures("ends")
@pytest.mark.parametrize("found", ANEW, ids=["source", "changelog", "more", "more sources"])
async def test_topics_that_are_others_now_end_the_worker(found: Topics, tmp_path: Path) -> None:
    """At its next start it finds out where to read on."""
    manager = Manager(looks=2)
    manager.app.ownership = looking(tmp_path, found)
    with pytest.raises(EndedError, match="not those of this worker's state") as ended:
        await manager.watch("_watch_topics")
    assert isinstance(ended.value.__cause__, Fault)
