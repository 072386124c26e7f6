"""Walking the groups of a kind, for whoever looks through everything."""

from pathlib import Path

from processor.engine.rows import PartitionRows
from processor.engine.store import PartitionStore, Position, shared_cache

GROUPED = {ord("H"): 3, ord("G"): 3}


def opened(path: Path) -> PartitionStore:
    """A database with nothing in it, and without an index."""
    return PartitionStore(
        path / "db",
        cache=shared_cache(1 << 20),
        topic_id="topic-1",
        derive=lambda _key, _value: (),
        indexed_kinds=frozenset(),
    )


def test_groups_are_walked_in_order_and_end_with_the_kind(tmp_path: Path) -> None:
    """Every committed group once, whatever lies in it; then nothing, also at the last value."""
    store = opened(tmp_path)
    keys = [b"Haa1", b"Haa2", b"Hab1", b"H\xff\xff1", b"I1"]
    store.apply(dict.fromkeys(keys, b"v"), Position(1, 0, "topic-1"))
    rows = PartitionRows(store, GROUPED)
    walked = [b"H"]
    while (group := rows.next_group(walked[-1])) is not None:
        walked.append(group)
    assert walked == [b"H", b"Haa", b"Hab", b"H\xff\xff"]
    assert rows.next_group(b"G") is None


def test_groups_that_wait_for_their_commit_are_told_by_themselves(tmp_path: Path) -> None:
    """Of the batch that is being decided and of the one that is being committed."""
    rows = PartitionRows(opened(tmp_path), GROUPED)
    rows.put(b"Haa1", b"v")
    rows.put(b"Gaa1", b"v")
    rows.seal()
    rows.delete(b"Hab1")
    rows.put(b"Hab2", b"v")
    assert rows.pending_groups(b"H") == {b"Haa", b"Hab"}
    rows.settle()
    assert rows.pending_groups(b"H") == {b"Hab"}
