"""A domain that knows no stock: it counts records per key. For tests of the engine alone.

Every record adds one to the counter of its key and answers `key=count@offset`. Values `junk` go to
the dead letters. The counter is wrong as soon as one record is lost or decided twice.
"""

from collections.abc import Iterable, Mapping, Sequence

from processor.engine.ports import Outputs, Rows, TickWish
from processor.engine.records import Record
from schemas import topics


class CountingDecider:
    """Counts the records of one partition."""

    def __init__(self, rows: Rows, checkpoint: bytes | None) -> None:
        self._rows = rows
        self._decided = int(checkpoint or b"0")

    def decide(self, records: Sequence[Record], outputs: Outputs, /) -> None:
        """Count every record, answer it."""
        answers = outputs.messages[topics.RESULTS]
        for record in records:
            self._decided += 1
            if record.value == b"junk":
                outputs.messages[topics.DEAD_LETTERS].append((record.key, record.value))
                continue
            key = record.key or b""
            count = int(self._rows.get(b"K" + key) or b"0") + 1
            self._rows.put(b"K" + key, b"%d" % count)
            answer = b"%s=%d@%d" % (key, count, record.offset)
            answers.append((key, answer))

    def checkpoint(self) -> bytes:
        """Number of records decided."""
        return b"%d" % self._decided

    def let_go(self) -> bool:
        """Nothing is remembered."""
        return False

    def wants_tick(self) -> TickWish:
        """Nothing comes due."""
        return TickWish.NONE

    def committed(self) -> None:
        """Nothing is cached."""


class CountingDomain:
    """Opens `CountingDecider`s."""

    output_topics: Sequence[str] = (topics.RESULTS, topics.DEAD_LETTERS)
    dead_letter_topic = topics.DEAD_LETTERS
    group_length: Mapping[int, int] = {}
    local_kinds: frozenset[int] = frozenset()
    indexed_kinds: frozenset[int] = frozenset()
    rewritten_kinds: Mapping[int, int] = {}

    def tick(self) -> tuple[str, bytes, bytes]:
        """Would count as a record like any other."""
        return topics.REQUESTS, b"", b"tick"

    def derive(self, key: bytes, value: bytes, /) -> Iterable[tuple[bytes, bytes]]:
        """No index rows."""
        del key, value
        return ()

    def open(
        self,
        partition: int,
        partitions: int,
        rows: Rows,
        checkpoint: bytes | None,
        /,
        *,
        memory_bytes: int,
    ) -> CountingDecider:
        """Decider of one partition."""
        del partition, partitions, memory_bytes
        return CountingDecider(rows, checkpoint)
