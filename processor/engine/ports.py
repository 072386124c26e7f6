"""What the engine asks of the domain, and what it gives: the only seam between the two rooms.

The engine knows records and rows. It is given a `Domain`, which opens one `PartitionDecider` per
owned partition. The decider reads and writes rows through `Rows`, appends output messages to
`Outputs`, and never waits, reads a clock or draws a random number: the same records in the same
order over the same rows give the same rows and outputs.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Protocol

from processor.engine.records import Record

Message = tuple[bytes | None, bytes | None]  # Key and value.


class Rows(Protocol):
    """The rows of one partition, own uncommitted writes included.

    A row's key is one kind byte, for grouped kinds a group of fixed length, then anything. `scan`
    walks one group in key order.
    """

    def get(self, key: bytes, /) -> bytes | None:
        """Value of the row, or None."""
        ...

    def put(self, key: bytes, value: bytes, /) -> None:
        """Write the row; reaches the changelog and RocksDB with the batch's commit."""
        ...

    def delete(self, key: bytes, /) -> None:
        """Delete the row (a tombstone in the changelog)."""
        ...

    def scan(self, group: bytes, after: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]:
        """Rows whose key starts with `group` and is greater than `after`, in key order.

        `group` is exactly kind byte + group bytes of the declared length. The caller may put and
        delete rows of the group while it iterates; whether it then sees them is not promised.
        """
        ...

    def next_group(self, after: bytes, /) -> bytes | None:
        """Give the first group behind `after` of the same kind that has committed rows, or None.

        `after` is a group, or a kind byte alone for the first group of the kind.
        """
        ...

    def pending_groups(self, kind: bytes, /) -> set[bytes]:
        """Groups of the kind with writes that are not committed yet: `next_group` may miss them."""
        ...


class Outputs:
    """What the records of one source partition will produce.

    Attributes:
        messages: topic (of `Domain.output_topics`) to messages. They go to the partition of the
            same number, dead letters to the one partition of their topic.
        addressed: messages with headers for topics of the requester's choice: (topic, partition,
            key, value, headers).

    """

    __slots__ = ("addressed", "messages")

    def __init__(self, topics: Iterable[str]) -> None:
        self.messages: dict[str, list[Message]] = {topic: [] for topic in topics}
        self.addressed: list[tuple[str, int, bytes | None, bytes, list[tuple[str, bytes]]]] = []

    def __len__(self) -> int:
        return sum(map(len, self.messages.values())) + len(self.addressed)


class TickWish(Enum):
    """Whether a partition wants a tick.

    Attributes:
        NONE: nothing comes due.
        WHEN_IDLE: something comes due in the future: time must go on without traffic too.
        AT_ONCE: something is due that the last slice did not reach.

    """

    NONE = 0
    WHEN_IDLE = 1
    AT_ONCE = 2


class PartitionDecider(Protocol):
    """Decides the records of one partition, one after the other."""

    def decide(self, records: Sequence[Record], outputs: Outputs, /) -> None:
        """Decide records of one source topic, in offset order.

        Raises only on a fault, never as a refusal.
        """
        ...

    def checkpoint(self) -> bytes:
        """State the decider keeps outside rows (clock, sequence), for the watermark row."""
        ...

    def wants_tick(self) -> TickWish:
        """Tell whether time must not stand still, or whether there is work for a tick now."""
        ...

    def committed(self) -> None:
        """All rows written so far have been committed and are readable.

        Caches may be trimmed now.
        """
        ...

    def let_go(self) -> bool:
        """Nothing more is decided here: free what is in memory, or as much of it as takes 10 ms.

        No cycle of references may be left, for none is collected (`engine.app`). A commit that is
        under way is still told of by `committed`.

        Returns:
            Whether there is more, for which it is called again.

        """
        ...


class Domain(Protocol):
    """What the engine is given at start."""

    @property
    def output_topics(self) -> Sequence[str]:
        """Topics the deciders write to."""
        ...

    @property
    def dead_letter_topic(self) -> str:
        """The one of them whose messages count towards the stop limit."""
        ...

    @property
    def group_length(self) -> Mapping[int, int]:
        """Kind byte to length of kind + group, for kinds that are scanned."""
        ...

    @property
    def local_kinds(self) -> frozenset[int]:
        """Kind bytes of rows that are an index.

        Kept in RocksDB only, derived from other rows at restore.
        """
        ...

    @property
    def rewritten_kinds(self) -> Mapping[int, int]:
        """Kind bytes of grouped rows that nearly every batch writes anew; as in `group_length`."""
        ...

    def tick(self) -> tuple[str, bytes, bytes]:
        """Topic, key and value of a record that only lets time pass."""
        ...

    @property
    def indexed_kinds(self) -> frozenset[int]:
        """Kind bytes of rows that `derive` may give index rows for."""
        ...

    def derive(self, key: bytes, value: bytes, /) -> Iterable[tuple[bytes, bytes]]:
        """Index rows that belong to a restored row.

        Called for every restored row: must be cheap.
        """
        ...

    def open(
        self,
        partition: int,
        partitions: int,
        rows: Rows,
        checkpoint: bytes | None,
        /,
        *,
        memory_bytes: int,
    ) -> PartitionDecider:
        """Decider over restored rows.

        `checkpoint` is the last committed one, None for a new partition. `memory_bytes` is about
        what it may keep of its rows in memory.
        """
        ...
