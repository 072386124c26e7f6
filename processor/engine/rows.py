"""The rows of one partition: an overlay of uncommitted writes over the committed ones in RocksDB.

The rule: RocksDB holds only what a committed Kafka transaction wrote. Writes of the batch being
decided and of the batch being committed live in the overlay, so that deciding goes on while a
commit is under way; a batch's writes leave the overlay when `PartitionStore` has them. Losing the
overlay loses nothing that anyone was told.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from processor.engine.store import PartitionStore

Changes = dict[bytes, bytes | None]


class _Missing:
    """Marks an absent overlay entry: None is a deletion."""


_MISSING: Final = _Missing()


class PartitionRows:
    """`ports.Rows` over one `PartitionStore`."""

    __slots__ = ("_changes", "_get_stored", "_group_length", "_groups", "_pending", "_store")

    def __init__(self, store: PartitionStore, group_length: Mapping[int, int]) -> None:
        self._store = store
        self._get_stored = store.get
        self._group_length = dict(group_length)
        self._pending: dict[bytes, bytes | None] = {}
        self._groups: dict[bytes, set[bytes]] = {}
        self._changes: Changes = {}

    def get(self, key: bytes, /) -> bytes | None:
        """Value of the row, uncommitted writes included."""
        value = self._pending.get(key, _MISSING)
        if isinstance(value, _Missing):
            return self._get_stored(key)
        return value

    def put(self, key: bytes, value: bytes, /) -> None:
        """Write the row."""
        self._write(key, value)

    def delete(self, key: bytes, /) -> None:
        """Delete the row."""
        self._write(key, None)

    def _write(self, key: bytes, value: bytes | None) -> None:
        self._pending[key] = value
        self._changes[key] = value
        length = self._group_length.get(key[0])
        if length is not None:
            group = key[:length]
            keys = self._groups.get(group)
            if keys is None:
                self._groups[group] = {key}
            else:
                keys.add(key)

    def scan(self, group: bytes, after: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]:
        """Rows of the group with a key greater than `after`, in key order."""
        overlaid = self._groups.get(group)
        if not overlaid:
            yield from self._store.scan(group, after)
            return
        pending = self._pending
        fresh = sorted(key for key in overlaid if key > after)
        stored = self._store.scan(group, after)
        entry = next(stored, None)
        for key in fresh:
            while entry is not None and entry[0] < key:
                yield entry
                entry = next(stored, None)
            if entry is not None and entry[0] == key:
                entry = next(stored, None)
            value = pending.get(key)
            if value is not None:
                yield key, value
        while entry is not None:
            yield entry
            entry = next(stored, None)

    @property
    def changed(self) -> int:
        """Number of rows written since the last `seal`."""
        return len(self._changes)

    def seal(self) -> Changes:
        """Take the writes since the last call: the rows of one batch."""
        changes, self._changes = self._changes, {}
        return changes

    def settle(self, changes: Changes) -> None:
        """Drop a batch's writes from the overlay: the store has them now.

        A key written again since then stays: its newer value is not stored yet.
        """
        pending = self._pending
        for key, value in changes.items():
            if pending.get(key, _MISSING) is not value:
                continue
            del pending[key]
            length = self._group_length.get(key[0])
            if length is None:
                continue
            group = key[:length]
            keys = self._groups[group]
            keys.discard(key)
            if not keys:
                del self._groups[group]
