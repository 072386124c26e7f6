"""The rows of one partition: an overlay of uncommitted writes over the committed ones in RocksDB.

The rule: RocksDB holds only what a committed Kafka transaction wrote. Writes of the batch being
decided and of the batch being committed live in the overlay, so that deciding goes on while a
commit is under way; a batch leaves the overlay when `PartitionStore` has it. Losing the overlay
loses nothing that anyone was told.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from processor.engine.store import PartitionStore, laid_over

Changes = dict[bytes, bytes | None]


class _Missing:
    """Marks an absent overlay entry: None is a deletion."""


_MISSING: Final = _Missing()


class _Batch:
    """The writes of one batch.

    Which keys of a group were written is not known before somebody scans a group of their kind:
    most batches write holds by the thousand and scan none.
    """

    __slots__ = ("_group_length", "_groups", "rows")

    def __init__(self, group_length: Mapping[int, int]) -> None:
        self.rows: Changes = {}
        self._group_length = group_length
        self._groups: dict[int, dict[bytes, list[bytes]]] = {}

    def write(self, key: bytes, value: bytes | None) -> None:
        """Put the row, or delete it: None."""
        self.rows[key] = value
        if self._groups:
            groups = self._groups.get(key[0])
            if groups is not None:
                _put_into(groups, key[: self._group_length[key[0]]], key)

    def group(self, group: bytes) -> list[bytes]:
        """Keys of the group that were written; some may be there twice."""
        kind = group[0]
        groups = self._groups.get(kind)
        if groups is None:
            length = self._group_length[kind]
            groups = self._groups[kind] = {}
            for key in self.rows:
                if key[0] == kind:
                    _put_into(groups, key[:length], key)
        return groups.get(group, _NO_KEYS)


def _put_into(groups: dict[bytes, list[bytes]], group: bytes, key: bytes) -> None:
    keys = groups.get(group)
    if keys is None:
        groups[group] = [key]
    else:
        keys.append(key)


_NO_KEYS: Final[list[bytes]] = []


class PartitionRows:
    """`ports.Rows` over one `PartitionStore`.

    Two batches at most are above it: the open one, and the one being committed. So settling is
    dropping the latter whole, whatever its size.
    """

    __slots__ = ("_group_length", "_open", "_sealed", "_store")

    def __init__(self, store: PartitionStore, group_length: Mapping[int, int]) -> None:
        self._store = store
        self._group_length = dict(group_length)
        self._open = _Batch(self._group_length)
        self._sealed = _Batch(self._group_length)

    def get(self, key: bytes, /) -> bytes | None:
        """Value of the row, uncommitted writes included."""
        value = self._open.rows.get(key, _MISSING)
        if isinstance(value, _Missing):
            value = self._sealed.rows.get(key, _MISSING)
            if isinstance(value, _Missing):
                return self._store.get(key)
        return value

    def put(self, key: bytes, value: bytes, /) -> None:
        """Write the row."""
        self._open.write(key, value)

    def delete(self, key: bytes, /) -> None:
        """Delete the row."""
        self._open.write(key, None)

    def scan(self, group: bytes, after: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]:
        """Rows of the group with a key greater than `after`, in key order."""
        overlaid = {*self._open.group(group), *self._sealed.group(group)}
        stored = self._store.scan(group, after)
        if not overlaid:
            return stored
        return laid_over(stored, sorted([key for key in overlaid if key > after]), self.get)

    def next_group(self, after: bytes, /) -> bytes | None:
        """Give the first group behind `after` of the same kind with committed rows, or None."""
        kind, length = after[:1], self._group_length[after[0]]
        if len(after) == length:  # The smallest key behind every key of the group.
            after = (int.from_bytes(after, "big") + 1).to_bytes(length, "big")
        key = self._store.first_key(kind, after)
        return None if key is None else key[:length]

    def pending_groups(self, kind: bytes, /) -> set[bytes]:
        """Groups of the kind that were written since the last batch that is stored."""
        length = self._group_length[kind[0]]
        return {
            key[:length]
            for batch in (self._open, self._sealed)
            for key in batch.rows
            if key.startswith(kind)
        }

    @property
    def changed(self) -> int:
        """Number of rows written since the last `seal`."""
        return len(self._open.rows)

    def seal(self) -> Changes:
        """Take the writes since the last call: the rows of one batch.

        They stay readable here until `settle`.
        """
        assert not self._sealed.rows, "two transactions of one partition under way"
        self._sealed, self._open = self._open, _Batch(self._group_length)
        return self._sealed.rows

    def settle(self) -> None:
        """Drop the sealed batch: the store has it now."""
        self._sealed = _Batch(self._group_length)
