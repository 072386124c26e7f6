"""Rows of one partition in a dict: the engine's rows without an engine.

`scan` walks a snapshot of the group, which is as little as the port promises.
"""

from collections.abc import Iterator

from processor.inventory.rows import GROUP_LENGTH


class DictRows:
    """`engine.ports.Rows` over a dict."""

    def __init__(self, rows: dict[bytes, bytes] | None = None) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.get = self.rows.get
        self.written = 0
        self._groups: dict[bytes, set[bytes]] = {}
        self._sorted: dict[bytes, list[bytes]] = {}
        for key, value in (rows or {}).items():
            self.put(key, value)

    def put(self, key: bytes, value: bytes, /) -> None:
        """Write the row."""
        self.written += 1
        length = GROUP_LENGTH.get(key[0])
        if length is not None and key not in self.rows:
            self._groups.setdefault(key[:length], set()).add(key)
            self._sorted.pop(key[:length], None)
        self.rows[key] = value

    def delete(self, key: bytes, /) -> None:
        """Delete the row."""
        self.written += 1
        if self.rows.pop(key, None) is not None:
            length = GROUP_LENGTH.get(key[0])
            if length is not None:
                self._groups[key[:length]].discard(key)

    def next_group(self, after: bytes, /) -> bytes | None:
        """First group behind `after` of the same kind that has rows."""
        length = GROUP_LENGTH[after[0]]
        groups = {key[:length] for key in self.rows if key[0] == after[0]}
        return min((group for group in groups if group > after), default=None)

    def pending_groups(self, _kind: bytes, /) -> set[bytes]:
        """Every row is as good as committed."""
        return set()

    def scan(self, group: bytes, after: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]:
        """Rows of the group with a key greater than `after`, in key order."""
        assert len(group) == GROUP_LENGTH[group[0]]
        if group not in self._sorted:
            self._sorted[group] = sorted(self._groups.get(group, ()))
        for key in list(self._sorted[group]):
            value = self.rows.get(key)
            if key > after and value is not None:
                yield key, value
