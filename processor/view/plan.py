"""What a batch of changelog rows changes in Redis: pure, from the rows and the old values alone.

The rule: the plan of a batch is right only on top of the rows before it. So whoever carries it out
does so in one transaction with the positions, and only if they are those the plan began at.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from processor.inventory import rows as row
from processor.view.keys import (
    AT_WAREHOUSE,
    SEPARATOR,
    GenerationKeys,
    Position,
    decode_position,
    encode,
    failure_member,
    hold_entries,
    place_of,
)
from schemas.queries import DECISIONS_KEPT

Command = tuple[bytes | str | int, ...]

STOCK: Final = ord("P")
HOLD: Final = ord("H")
ANSWERS: Final = frozenset(b"RE")
FAILURE: Final = ord("F")
CONFIGURATION: Final = ord("C")
SEEN_MAX: Final = 200_000  # Remembered by one process, in all: some 50 MB.


class _Watermark(msgspec.Struct, frozen=True, array_like=True):
    """Part of the engine's watermark row that the view reads."""

    format: int
    offsets: dict[str, int]


class StockRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A stock leaf (quantities by measure) or a level (its measure, then what is reserved)."""

    format: int
    organization_id: str
    product_id: str
    dimensions: dict[str, str]
    content: dict[str, int] | str
    extra: dict[str, int] | int


decode_stock: Final = msgspec.msgpack.Decoder(StockRow).decode
_decode_watermark: Final = msgspec.msgpack.Decoder(_Watermark).decode


class Batch:
    """Rows of one partition, in changelog order; the last value of each key counts.

    Attributes:
        start: where they begin: the position that must be found in Redis.
        offset: where they end: the next one to read.
        first_at_ms: broker time of the first row, 0 for none.

    """

    __slots__ = (
        "answered",
        "appended_at_ms",
        "first_at_ms",
        "offset",
        "partition",
        "rows",
        "start",
    )

    def __init__(self, partition: int, start: Position) -> None:
        self.partition = partition
        self.start = start
        self.offset = start.offset
        self.appended_at_ms = start.appended_at_ms
        self.first_at_ms = 0
        self.rows: dict[bytes, bytes | None] = {}
        self.answered: list[bytes] = []

    def add(self, offset: int, appended_at_ms: int, key: bytes, value: bytes | None) -> None:
        """Take one row more."""
        self.rows[key] = value
        if value is not None and key[0] in ANSWERS:
            self.answered.append(key)
        self.offset = offset + 1
        self.first_at_ms = self.first_at_ms or appended_at_ms
        self.appended_at_ms = appended_at_ms

    def end(self) -> Position:
        """Position once this batch is applied."""
        watermark = self.rows.get(b"W")
        sources = self.start.sources if watermark is None else _decode_watermark(watermark).offsets
        return Position(self.offset, self.appended_at_ms, sources)


Old = Mapping[bytes, bytes | None]


class Before(NamedTuple):
    """Old values that a plan needs.

    Attributes:
        holds: hold rows, by key without the kind byte.
        products: product by product-location hash, of stock rows that go.
        failures: failed offsets, by id.

    """

    holds: Old
    products: Old
    failures: Old


def needed(batches: Iterable[Batch]) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Keys whose old values are `Before`: of holds, product-locations and failures."""
    holds: list[bytes] = []
    locations: list[bytes] = []
    failures: list[bytes] = []
    for batch in batches:
        for key, value in batch.rows.items():
            if key[0] == HOLD:
                holds.append(key[1:])
            elif key[0] == STOCK and value is None:
                locations.append(row.location_of(key))
            elif key[0] == FAILURE:
                failures.append(key[1:])
    return holds, locations, failures


class Seen:
    """What this process has put into the sets of what was ever seen: need not be put there again.

    The rule: such a set never loses a member, so what is remembered of a partition is true as long
    as its rows go on from where this process left them. If they do not, Redis may have been wiped.
    """

    __slots__ = ("_left_at", "_of", "_size")

    def __init__(self) -> None:
        self._of: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._left_at: dict[int, int] = {}
        self._size = 0

    def of(self, partition: int, offset: int) -> Mapping[bytes, bytes]:
        """What is remembered, for a batch that begins at an offset.

        Of stock rows: product-location hash and place, to the hash they are in; of holds: the index
        of their warehouse.
        """
        if self._left_at.get(partition) != offset:
            self._size -= len(self._of.pop(partition, ()))
        return self._of[partition]

    def add(self, partition: int, offset: int, newly: Mapping[bytes, bytes]) -> None:
        """Remember what is in Redis now, and where the batch ends that brought it there."""
        if self._size + len(newly) > SEEN_MAX:
            self._of.clear()
            self._size = 0
        self._of[partition].update(newly)
        self._size += len(newly)
        self._left_at[partition] = offset


class Plan:
    """Commands that apply batches to one generation.

    Attributes:
        newly_seen: by partition, what `Seen` is told once the commands are carried out.

    """

    def __init__(self, keys: GenerationKeys, seen: Seen, *, answers_ms: int, now_ms: int) -> None:
        self._keys = keys
        self._seen = seen
        self._answers_ms = answers_ms
        self._now_ms = now_ms
        self.newly_seen: dict[int, dict[bytes, bytes]] = {}
        self._stored: defaultdict[bytes, list[bytes]] = defaultdict(list)  # hash: field, value, …
        self._removed: defaultdict[bytes, list[bytes]] = defaultdict(list)  # hash: fields
        self._indexed: defaultdict[bytes, list[bytes | int]] = defaultdict(list)
        self._unindexed: defaultdict[bytes, list[bytes]] = defaultdict(list)
        self._sets: defaultdict[bytes, set[bytes]] = defaultdict(set)
        self._others: list[Command] = []
        self._positions: list[Command] = []

    def add(self, batch: Batch, before: Before) -> None:
        """Plan one batch."""
        self._known = self._seen.of(batch.partition, batch.start.offset)
        self._new = self.newly_seen[batch.partition] = {}
        for key, value in batch.rows.items():
            kind = key[0]
            if kind == HOLD:
                self._hold(key[1:], value, before.holds.get(key[1:]))
            elif kind == STOCK:
                self._stock(key[1:], value, before.products)
            elif kind in ANSWERS:
                self._answer(batch.partition, key, value)
            elif kind == FAILURE:
                self._failure(key[1:], value, before.failures.get(key[1:]))
            elif kind == CONFIGURATION:
                self._configuration(batch.partition, value)
        if batch.answered:
            self._latest(batch.partition, batch.answered)
        self._positions.append(("SET", self._keys.at(batch.partition), encode(batch.end())))

    def commands(self) -> list[Command]:
        """Everything, as Redis commands.

        Indexes first, rows then, positions last: whatever part of it was done, doing all of it
        again ends the same.
        """
        keys = self._keys
        commands: list[Command] = []
        commands += [("ZREM", keys(end), *members) for end, members in self._unindexed.items()]
        commands += [("ZADD", keys(end), *members) for end, members in self._indexed.items()]
        commands += [("SADD", keys(end), *members) for end, members in self._sets.items()]
        commands += [("HSET", keys(end), *pairs) for end, pairs in self._stored.items()]
        commands += [("HDEL", keys(end), *fields) for end, fields in self._removed.items()]
        return commands + self._others + self._positions

    def _hold(self, key: bytes, value: bytes | None, old: bytes | None) -> None:
        entries = [] if value is None else hold_entries(key, value)
        gone = [] if old is None else hold_entries(key, old)
        for end, member in gone:
            if (end, member) not in entries:
                self._unindexed[end].append(member)
        for end, member in entries:
            if (end, member) not in gone:
                self._indexed[end] += (0, member)
        if value is None:
            self._removed[b"h"].append(key)
            return
        self._stored[b"h"] += (key, value)
        at_warehouse = entries[0][0]
        if at_warehouse not in self._known and at_warehouse not in self._new:
            self._new[at_warehouse] = b""
            self._indexed[b"hw"] += (0, at_warehouse[len(AT_WAREHOUSE) :])

    def _stock(
        self, key: bytes, value: bytes | None, products: Mapping[bytes, bytes | None]
    ) -> None:
        place = place_of(key)
        if value is None:
            product = products.get(key[:12])
            if product is not None:
                self._removed[_stock_hash(product, place)].append(key)
            return
        where = key[:12] + place
        known = self._known.get(where) or self._new.get(where)
        if known is None:
            known = self._new[where] = self._first_seen(key[:12], place, decode_stock(value))
        self._stored[known] += (key, value)

    def _first_seen(self, location: bytes, place: bytes, stock: StockRow) -> bytes:
        """Plan what is put down once for a product at a place; its hash of stock rows."""
        organization_id = stock.organization_id.encode()
        product_id = stock.product_id.encode()
        product = organization_id + SEPARATOR + product_id
        self._stored[b"pl"] += (location, product)
        self._sets[b"p:" + product].add(place)
        self._sets[b"w:%b%b%b" % (organization_id, SEPARATOR, place)].add(product_id)
        return _stock_hash(product, place)

    def _answer(self, partition: int, key: bytes, value: bytes | None) -> None:
        # A deletion is left to the expiry: the worker's own clean-up comes later than that.
        if value is None:
            return
        until_ms = row.answer_head(value)[0] + self._answers_ms
        if until_ms > self._now_ms:
            stored = b"%b%b" % (partition.to_bytes(2, "big"), value)
            self._others.append(("SET", self._keys.answers + key, stored, "PXAT", until_ms))

    def _latest(self, partition: int, answered: list[bytes]) -> None:
        latest = self._keys.latest(partition)
        self._others.append(("LPUSH", latest, *answered[-DECISIONS_KEPT:]))
        self._others.append(("LTRIM", latest, 0, DECISIONS_KEPT - 1))

    def _failure(self, key: bytes, value: bytes | None, old: bytes | None) -> None:
        if old is not None:
            self._unindexed[b"fi"].append(failure_member(key, old))
        if value is None:
            self._removed[b"f"].append(key)
        else:
            self._stored[b"f"] += (key, value)
            self._indexed[b"fi"] += (0, failure_member(key, value))

    def _configuration(self, partition: int, value: bytes | None) -> None:
        field = b"%d" % partition
        if value is None:
            self._removed[b"c"].append(field)
        else:
            self._stored[b"c"] += (field, value)
        self._others.append(("INCR", self._keys(b"cv")))


def _stock_hash(product: bytes, place: bytes) -> bytes:
    return b"s:%b%b%b" % (product, SEPARATOR, place)


def position_of(stored: bytes | None) -> Position:
    """Position as it is kept; the beginning where there is none."""
    return Position(0, 0, {}) if stored is None else decode_position(stored)
