"""Rows of one partition in a dict: the engine's rows without an engine.

`scan` sorts what is there when it is called, which is as little as the port promises.
"""

from collections.abc import Iterator


class DictRows:
    """`engine.ports.Rows` over a dict."""

    def __init__(self, rows: dict[bytes, bytes] | None = None) -> None:
        self.rows: dict[bytes, bytes] = dict(rows or {})
        self.get = self.rows.get
        self.written = 0

    def put(self, key: bytes, value: bytes, /) -> None:
        """Write the row."""
        self.rows[key] = value
        self.written += 1

    def delete(self, key: bytes, /) -> None:
        """Delete the row."""
        self.rows.pop(key, None)
        self.written += 1

    def scan(self, group: bytes, after: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]:
        """Rows of the group with a key greater than `after`, in key order."""
        keys = sorted(key for key in self.rows if key.startswith(group) and key > after)
        for key in keys:
            value = self.rows.get(key)
            if value is not None:
                yield key, value
