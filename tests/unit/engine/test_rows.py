"""The overlay: uncommitted rows over committed ones."""

from hashlib import sha512
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st
from rocksdict import Cache

from processor.engine.restore import start_offset
from processor.engine.rows import PartitionRows
from processor.engine.store import PartitionStore, Position, shared_cache

GROUPED = {ord("H"): 3, ord("G"): 3}


def open_store(path: Path, topic_id: str = "topic-1", cache: Cache | None = None) -> PartitionStore:
    """Store whose H rows derive an index row X + value + key."""

    def derive(key: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
        return [(b"X" + value + key, b"")] if key.startswith(b"H") else []

    return PartitionStore(
        path,
        cache=cache or shared_cache(1 << 20),
        topic_id=topic_id,
        derive=derive,
        indexed_kinds=frozenset(b"H"),
        rewritten_kinds={ord("G"): 3},
    )


class Record:
    """A changelog record, as far as a restore looks."""

    def __init__(self, key: bytes, value: bytes | None) -> None:
        self.key = key
        self.value = value


def test_a_database_that_was_there_is_read_through_the_workers_cache(tmp_path: Path) -> None:
    """Its blocks are kept in the cache that bounds the worker's memory, and no more than fit."""
    store = open_store(tmp_path / "db")
    keys = [b"P%05d" % number for number in range(4_000)]
    changes: dict[bytes, bytes | None] = {key: sha512(key).digest() * 16 for key in keys}
    store.apply(changes, Position(1, 0, "topic-1"))
    store.close()
    cache_bytes = 1 << 20
    cache = shared_cache(cache_bytes)
    store = open_store(tmp_path / "db", cache=cache)
    assert [store.get(key) for key in keys] == list(changes.values())
    assert cache_bytes / 2 < cache.get_usage() < 2 * cache_bytes


def test_uncommitted_rows_are_read_but_not_stored(tmp_path: Path) -> None:
    """Losing the overlay loses exactly what was not settled."""
    store = open_store(tmp_path / "db")
    rows = PartitionRows(store, GROUPED)
    rows.put(b"a", b"1")
    assert rows.get(b"a") == b"1"
    assert store.get(b"a") is None


def test_a_row_written_again_before_its_commit_settles_keeps_the_newer_value(
    tmp_path: Path,
) -> None:
    """Deciding goes on while a commit is under way, and must see its own writes."""
    store = open_store(tmp_path / "db")
    rows = PartitionRows(store, GROUPED)
    rows.put(b"Hab1", b"1")
    first = rows.seal()
    rows.put(b"Hab1", b"2")
    store.apply(first, Position(1, 0, "topic-1"))
    rows.settle()
    assert rows.get(b"Hab1") == b"2"
    assert list(rows.scan(b"Hab")) == [(b"Hab1", b"2")]


_KEYS = st.sampled_from(
    [b"Hab" + bytes([n]) for n in range(6)]
    + [b"Hac\x01", b"k"]
    + [b"Gab" + bytes([n]) for n in range(4)]
)
_GROUPS = st.sampled_from([b"Hab", b"Hac", b"Gab"])
_AFTER = st.sampled_from([b"", b"\x00", b"\x02"])
_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _KEYS, st.binary(min_size=1, max_size=2)),
        st.tuples(st.just("delete"), _KEYS, st.just(b"")),
        st.tuples(st.just("scan"), _GROUPS, _AFTER),
        st.tuples(
            st.sampled_from(["seal", "wait", "store", "settle", "complete"]),
            st.just(b""),
            st.just(b""),
        ),
    ),
    max_size=60,
)


@settings(max_examples=100, deadline=None)
@given(operations=_OPERATIONS)
def test_rows_read_like_a_plain_dictionary(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, bytes, bytes]]
) -> None:
    """Get and scan give what a dictionary would, however writes, scans and commits interleave."""
    store = open_store(tmp_path_factory.mktemp("rows") / "db")
    rows = PartitionRows(store, GROUPED)
    model: dict[bytes, bytes] = {}
    sealed: dict[bytes, bytes | None] | None = None
    is_stored = False
    batches = 0
    for verb, key, value in [*operations, ("scan", b"Hab", b""), ("scan", b"Gab", b"")]:
        if verb == "put":
            rows.put(key, value)
            model[key] = value
        elif verb == "delete":
            rows.delete(key)
            model.pop(key, None)
        elif verb == "scan":
            after = key + value if value else b""
            expected = sorted((k, v) for k, v in model.items() if k.startswith(key) and k > after)
            assert list(rows.scan(key, after)) == expected
        elif verb == "seal" and sealed is None:
            sealed = rows.seal()
        elif verb in {"store", "wait"} and sealed is not None and not is_stored:
            batches += 1
            store.apply(sealed, Position(batches, 0, "topic-1"), may_wait=verb == "wait")
            is_stored = True
        elif verb == "complete":
            store.complete()
            assert store.waiting == 0
            assert store.position.offset == batches
        elif verb == "settle" and is_stored:
            rows.settle()
            sealed, is_stored = None, False
    assert rows.get(b"k") == model.get(b"k")


def test_a_store_of_another_topic_incarnation_is_wiped(tmp_path: Path) -> None:
    """A recreated changelog topic makes the local rows worthless."""
    store = open_store(tmp_path / "db")
    store.apply({b"a": b"1"}, Position(7, 0, "topic-1"))
    store.close()
    again = open_store(tmp_path / "db", topic_id="topic-2")
    assert again.position == Position(0, 0, "topic-2")
    assert again.get(b"a") is None


@pytest.mark.parametrize("lost", ["MANIFEST-*", "*.sst", "CURRENT"])
def test_a_broken_database_is_thrown_away(lost: str, tmp_path: Path) -> None:
    """A disk gone bad, or a worker that died while it deleted: the changelog has everything."""
    store = open_store(tmp_path / "db")
    store.apply({b"a": b"1"}, Position(7, 5, "topic-1"))
    store.close()
    for path in (tmp_path / "db").glob(lost):
        path.write_bytes(b"") if lost == "CURRENT" else path.unlink()
    again = open_store(tmp_path / "db")
    assert again.position == Position(0, 0, "topic-1")
    again.apply({b"a": b"2"}, Position(1, 5, "topic-1"))
    again.wipe()
    assert again.get(b"a") is None
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_a_database_that_somebody_else_has_open_is_left_alone(tmp_path: Path) -> None:
    """It is not broken: two workers share a data directory."""
    store = open_store(tmp_path / "db")
    store.apply({b"a": b"1"}, Position(7, 5, "topic-1"))
    files = {path.name for path in (tmp_path / "db").iterdir()}
    with pytest.raises(Exception, match=r"^IO error: lock hold by current process.*db/LOCK"):
        open_store(tmp_path / "db")  # rocksdict knows no other exception.
    assert files <= {path.name for path in (tmp_path / "db").iterdir()}
    store.close()
    assert open_store(tmp_path / "db").get(b"a") == b"1"


def test_what_was_left_of_a_database_that_was_thrown_away_goes(tmp_path: Path) -> None:
    """The worker died while it deleted it."""
    (tmp_path / "db.gone").mkdir()
    (tmp_path / "db.gone" / "1.sst").write_bytes(b"")
    open_store(tmp_path / "db")
    assert [path.name for path in tmp_path.iterdir()] == ["db"]


def test_position_and_rows_survive_together(tmp_path: Path) -> None:
    """After a close the store is the state at its changelog offset."""
    store = open_store(tmp_path / "db")
    store.apply({b"a": b"1", b"b": None}, Position(7, 5, "topic-1"))
    store.close()
    again = open_store(tmp_path / "db")
    assert again.position == Position(7, 5, "topic-1")
    assert again.get(b"a") == b"1"


def test_a_catch_up_removes_index_rows_of_changed_and_deleted_rows(tmp_path: Path) -> None:
    """An index derived from a row goes when the row changes or is deleted."""
    store = open_store(tmp_path / "db")
    store.restore(
        [Record(b"Hab1", b"5"), Record(b"Hab2", b"6")],
        Position(2, 0, "topic-1"),
    )
    store.restore(
        [Record(b"Hab1", b"9"), Record(b"Hab2", None)],
        Position(4, 0, "topic-1"),
    )
    assert list(store.scan(b"X")) == [(b"X9Hab1", b"")]


def waiting_store(path: Path) -> PartitionStore:
    """One in which two rows wait; the first of a group that was written does not."""
    store = open_store(path)
    store.apply({b"Gab1": b"0", b"Gab2": b"1", b"Hab1": b"5"}, Position(1, 10, "topic-1"))
    some: dict[bytes, bytes | None] = {b"Gab2": b"1", b"Gab1": b"1", b"k": b"v"}
    store.apply(some, Position(5, 20, "topic-1"), may_wait=True)
    changes: dict[bytes, bytes | None] = {b"Gab1": b"2", b"Gab2": None, b"Hab1": b"6"}
    store.apply({**changes, b"Gac1": b"3"}, Position(9, 30, "topic-1"), may_wait=True)
    return store


def test_a_row_that_waits_is_read_and_its_position_waits_with_it(tmp_path: Path) -> None:
    """Whoever reads sees what was committed; the database says no more than it has."""
    store = waiting_store(tmp_path / "db")
    assert store.position == Position(1, 10, "topic-1")
    assert store.waiting == 4  # Two rows, two groups.
    assert [store.get(key) for key in (b"Gab1", b"Gab2", b"Hab1", b"k")] == [b"2", None, b"6", b"v"]
    assert list(store.scan(b"Gab")) == [(b"Gab1", b"2")]
    assert list(store.scan(b"Gab", b"Gab1")) == []
    store.complete()
    assert store.waiting == 0
    assert store.position == Position(9, 30, "topic-1")
    assert list(store.scan(b"Gab")) == [(b"Gab1", b"2")]


def test_the_first_batch_is_written_whole(tmp_path: Path) -> None:
    """A database without a position would pass for an empty one, of whatever topic."""
    store = open_store(tmp_path / "db")
    rows: dict[bytes, bytes | None] = {b"Gab1": b"1", b"Gab2": b"2"}
    store.apply(rows, Position(3, 0, "topic-1"), may_wait=True)
    assert (store.waiting, store.position.offset) == (0, 3)


def test_a_scan_sees_what_was_written_since_the_last_one(tmp_path: Path) -> None:
    """The iterator that is kept between them is let go, also where rows wait."""
    store = waiting_store(tmp_path / "db")
    assert list(store.scan(b"Hab")) == [(b"Hab1", b"6")]
    changes: dict[bytes, bytes | None] = {b"Gab1": b"4", b"Hab2": b"7"}
    store.apply(changes, Position(12, 40, "topic-1"), may_wait=True)
    assert list(store.scan(b"Hab")) == [(b"Hab1", b"6"), (b"Hab2", b"7")]


def test_the_first_row_of_a_group_never_waits(tmp_path: Path) -> None:
    """Who walks the groups finds every one, whatever waits."""
    rows = PartitionRows(waiting_store(tmp_path / "db"), GROUPED)
    assert rows.next_group(b"G") == b"Gab"
    assert rows.next_group(b"Gab") == b"Gac"


def test_a_group_whose_last_row_went_is_found_with_its_next(tmp_path: Path) -> None:
    """That the database was told of a deletion does not mean that it has a row of the group."""
    store = waiting_store(tmp_path / "db")
    store.apply({b"Gad1": None}, Position(10, 0, "topic-1"), may_wait=True)
    store.apply({b"Gad2": b"1"}, Position(11, 0, "topic-1"), may_wait=True)
    assert store.waiting
    assert PartitionRows(store, GROUPED).next_group(b"Gac") == b"Gad"


def test_a_database_says_how_far_it_may_have_rows(tmp_path: Path) -> None:
    """Behind a changelog that lost its end: what is no more there must not be decided on."""
    store = waiting_store(tmp_path / "db")
    assert (store.position.offset, store.written) == (1, 9)
    store._db.flush()
    store._db.close()
    again = open_store(tmp_path / "db")
    assert (again.position.offset, again.written) == (1, 9)
    assert start_offset(again, begin=0, end=9, now_ms=10) == 1
    assert start_offset(again, begin=0, end=8, now_ms=10) == 0
    assert (again.position.offset, again.written, again.get(b"k")) == (0, 0, None)


def test_a_write_that_fails_reaches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What completes the rest must not claim it."""
    store = waiting_store(tmp_path / "db")

    def refuse(_batch: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(store, "_db", SimpleNamespace(write=refuse, get=store._db.get))
        with pytest.raises(OSError, match="no space"):
            store.apply({b"Gab1": b"9", b"k": b"w"}, Position(20, 0, "topic-1"), may_wait=True)
    store.complete()
    assert store.position.offset == 9


def test_nothing_waits_behind_a_close(tmp_path: Path) -> None:
    """The next start has nothing to catch up."""
    waiting_store(tmp_path / "db").close()
    again = open_store(tmp_path / "db")
    assert again.position == Position(9, 30, "topic-1")
    assert (again.get(b"Gab1"), again.get(b"Gab2")) == (b"2", None)


def test_a_database_that_is_wiped_has_nothing_that_waits(tmp_path: Path) -> None:
    """All of it comes from the changelog again."""
    store = waiting_store(tmp_path / "db")
    store.wipe()
    store.complete()
    assert store.position == Position(0, 0, "topic-1")
    assert store.get(b"Gab1") is None


_BATCHES = st.lists(
    st.tuples(
        st.dictionaries(
            st.sampled_from([b"Gab1", b"Gab2", b"Gac1", b"Hab1", b"Hab2", b"k"]),
            st.one_of(st.none(), st.sampled_from([b"5", b"6", b"7"])),
            min_size=1,
            max_size=4,
        ),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(batches=_BATCHES, poll=st.integers(1, 7))
def test_a_crash_leaves_a_database_that_its_changelog_brings_to_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[tuple[dict[bytes, bytes | None], bool, bool]],
    poll: int,
) -> None:
    """Wherever it was, with what waited lost and newer rows of other kinds there, index and all."""
    path = tmp_path_factory.mktemp("crash") / "db"
    store = open_store(path)
    changelog: list[tuple[bytes, bytes | None]] = []
    index: dict[bytes, bytes] = {}  # Key of an H row to that of its index row.
    for changes, may_wait, completes in batches:
        changelog += changes.items()
        derived: dict[bytes, bytes | None] = {}
        for key, value in changes.items():
            if key.startswith(b"H"):
                if key in index:
                    derived[index.pop(key)] = None
                if value is not None:
                    index[key] = b"X" + value + key
        derived |= dict.fromkeys(index.values(), b"")
        position = Position(len(changelog), 0, "topic-1")
        store.apply({**changes, **derived}, position, may_wait=may_wait)
        if completes:
            store.complete()
    store._db.flush()  # All that it was given is on disk, and nothing else.
    store._db.close()
    again = open_store(path)
    left = [Record(*row) for row in changelog[again.position.offset :]]
    reached = again.position.offset
    for start in range(0, len(left), poll):
        some = left[start : start + poll]
        reached += len(some)
        again.restore(some, Position(reached, 0, "topic-1"))
    model = {key: value for key, value in dict(changelog).items() if value is not None}
    found = {key: again.get(key) for key in {key for key, _ in changelog}}
    assert {key: value for key, value in found.items() if value is not None} == model
    assert sorted(key for key, _ in again.scan(b"X")) == sorted(index.values())


_CHANGELOG = st.lists(
    st.tuples(
        st.sampled_from([b"Hab1", b"Hab2", b"Hac1", b"k"]),
        st.one_of(st.none(), st.sampled_from([b"5", b"6", b"7"])),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(changelog=_CHANGELOG, polls=st.lists(st.integers(1, 5), min_size=30, max_size=30))
def test_a_restore_from_nothing_leaves_the_index_of_the_last_rows(
    tmp_path_factory: pytest.TempPathFactory,
    changelog: list[tuple[bytes, bytes | None]],
    polls: list[int],
) -> None:
    """However the changelog is cut into polls, the index is that of the rows in the end."""
    store = open_store(tmp_path_factory.mktemp("restore") / "db")
    left = list(changelog)
    for number, size in enumerate(polls, start=1):
        some, left = left[:size], left[size:]
        store.restore([Record(*one) for one in some], Position(number, 0, "topic-1"))
    last = dict(changelog)
    expected = sorted(b"X" + value + key for key, value in last.items() if value and key != b"k")
    assert [key for key, _ in store.scan(b"X")] == expected
