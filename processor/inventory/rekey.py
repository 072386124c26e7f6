"""Rows put under another partition rule or partition count: where each one goes.

The rule: nothing is decided here and nothing gets lost. A row goes to the partition that records
about its product and place will go to; a remembered id whose place is not known goes to all of
them, where it is inert unless that id comes again. Where rows of one id come together out of
several partitions, the newest stays. Numbers of holds stay, and with them the hold ids: all holds
of one reservation id lay in one partition, so none of them can meet another.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from processor.inventory import rows as row, splits
from processor.inventory.configuration import Configuration, to_json
from processor.inventory.identity import canonical, location_hash
from processor.inventory.row_bodies import Checkpoint
from processor.inventory.rules import Rules
from schemas.partitioning import partition_of
from schemas.symbols import ENDED

Rows = dict[bytes, bytes]
Totals = Counter[tuple[str, ...]]

_LEFT_OUT: Final = frozenset(b"CW")  # Configuration and watermark are written anew.
_REMEMBERED: Final = frozenset(b"RES")
_decode_reminder: Final = msgspec.msgpack.Decoder(tuple[int, list[bytes]]).decode


class Unplaceable(Exception):
    """A row names no partition under the new rule; the text says which."""


class Rekeyed:
    """The rows of every partition to be.

    Attributes:
        partitions: rows by partition.
        met: keys of rows that came together out of several partitions, and differed.

    """

    def __init__(
        self,
        configuration: Configuration,
        partitions: int,
        answered: Mapping[tuple[int, bytes], int],
    ) -> None:
        """Begin with nothing.

        Args:
            configuration: with the new partition rule.
            partitions: the new count.
            answered: partition as it was and row key of a remembered id to the new partition of
                its record, where known. Each partition had ids of its own.

        """
        self.partitions: list[Rows] = [{} for _ in range(partitions)]
        self.met: set[bytes] = set()
        self._configuration = configuration
        self._rules = Rules(configuration)
        self._answered = answered
        self._reminders: list[tuple[bytes, list[bytes]]] = []

    def add(self, number: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Put the rows of one partition, the `number` that it was, in their new places.

        Raises:
            Unplaceable: a hold lacks a dimension that the new rule needs.

        """
        for key, value in rows:
            kind = key[0]
            if kind in _LEFT_OUT:
                continue
            if kind == ord("D"):
                self._reminders.append((key[1:9], _decode_reminder(value)[1]))
            elif kind in _REMEMBERED:
                self._put_newest(self._answered.get((number, key)), key, value)
            elif kind == ord("P"):
                self._add_stock(key, value)
            elif kind == ord("H"):
                self._add_hold(key, value)
            elif kind == ord("F"):
                self._add_failure(key, value)
            else:
                self._add_ledger(key, value)

    def finish(self) -> list[Rows]:
        """Add reminders and configuration; gives the rows by partition."""
        document = to_json(self._configuration)
        for rows in self.partitions:
            for number, (forget_at, keys) in enumerate(self._reminders):
                own = [key for key in keys if key in rows]
                if own:
                    reminder = b"D%b%b" % (forget_at, number.to_bytes(8, "big"))
                    rows[reminder] = msgspec.msgpack.encode((row.FORMAT, own))
            rows[row.CONFIGURATION_KEY] = document
        return self.partitions

    def _put(self, partition: int | None, key: bytes, value: bytes) -> None:
        for rows in self._targets(partition):
            rows[key] = value

    def _put_newest(self, partition: int | None, key: bytes, value: bytes) -> None:
        for rows in self._targets(partition):
            other = rows.setdefault(key, value)
            if other != value:
                self.met.add(key)
                rows[key] = max(other, value, key=lambda one: _newness(key, one))

    def _targets(self, partition: int | None) -> list[Rows]:
        return self.partitions if partition is None else [self.partitions[partition]]

    def _add_stock(self, key: bytes, value: bytes) -> None:
        if key[13] == row.KIND_LEAF:
            leaf = row.decode_leaf(value)
            values = self._rules.stock_values(leaf.dimensions)
            partition, location = self._at(leaf.organization_id, leaf.product_id, values)
            self._put(partition, row.leaf_key(location, leaf.dimensions), value)
        else:
            level = row.decode_level(value)
            place = (level.organization_id, level.product_id, level.dimensions)
            partition, location = self._place(*place)
            spelled = canonical(level.dimensions)
            self._put(partition, row.level_key(location, spelled, level.measure), value)

    def _add_hold(self, key: bytes, value: bytes) -> None:
        place = row.decode_place(row.decode_hold(value))
        partition, location = self._place(place.organization_id, place.product_id, place.dimensions)
        self._put(partition, key, row.at_location(value, location))

    def _add_failure(self, key: bytes, value: bytes) -> None:
        """Put it where a request about it goes, which needs no value of a partition dimension."""
        found = row.decode_failure(value)
        values = self._rules.stock_values(found.dimensions)
        partition, _ = self._at(found.organization_id, found.product_id, values)
        self._put_newest(partition, key, value)

    def _add_ledger(self, key: bytes, value: bytes) -> None:
        """One that names no place yet is kept wherever it may be needed."""
        found = row.decode_ledger(value)
        try:
            partition, _ = self._place(found.organization_id, found.product_id, found.dimensions)
        except Unplaceable:
            partition = None
        self._put_newest(partition, key, value)

    def _place(
        self, organization_id: str, product_id: str, dimensions: Mapping[str, str]
    ) -> tuple[int, bytes]:
        values = self._rules.partition_values(dimensions)
        if values is None:
            raise Unplaceable(
                f"{organization_id} {product_id} {dict(dimensions)} has no value for "
                f"{' or '.join(self._rules.partition_dimensions)}"
            )
        return self._at(organization_id, product_id, values)

    def _at(
        self, organization_id: str, product_id: str, values: tuple[str, ...]
    ) -> tuple[int, bytes]:
        key = self._rules.record_key(organization_id, product_id, values)
        partition = partition_of(key, len(self.partitions))
        return partition, location_hash(organization_id, product_id, values)


def _newness(key: bytes, value: bytes) -> tuple[int, ...]:
    """Orders the rows of one id.

    A transaction that moved was ended where it was, by the same event that has it go on elsewhere.
    """
    kind = key[:1]
    if kind == b"T":
        ledger = row.decode_ledger(value)
        return ledger.sequence, ledger.status not in ENDED, ledger.updated_at_ms
    if kind == b"F":
        return (row.decode_failure(value).at_ms,)
    return (splits.last_ms(value) if kind == b"S" else row.answer_head(value)[0],)


def totals(partitions: Iterable[Iterable[tuple[bytes, bytes]]]) -> Totals:
    """What must be the same before and after: quantities in millionths and numbers of rows.

    Rows that may lie in several partitions are counted once.
    """
    found: Totals = Counter()
    seen: set[bytes] = set()
    for rows in partitions:
        for key, value in rows:
            kind = key[:1]
            if kind == b"H":
                _count_hold(found, value)
            elif kind == b"P":
                _count_stock(found, key, value)
            elif kind in {b"R", b"E", b"S", b"T", b"F"} and key not in seen:
                seen.add(key)
                found["rows", kind.decode()] += 1
    # An entry of zero and no entry are the same.
    return Counter({name: count for name, count in found.items() if count})


def _count_hold(found: Totals, value: bytes) -> None:
    hold = row.decode_hold(value)
    place = row.decode_place(hold)
    name = (place.organization_id, place.product_id, place.measure)
    found["holds", *name] += 1
    found["held", *name] += hold.quantity if hold.state == row.LIVE else 0


def _count_stock(found: Totals, key: bytes, value: bytes) -> None:
    if key[13] == row.KIND_LEAF:
        leaf = row.decode_leaf(value)
        for measure, quantity in leaf.quantities.items():
            found["stock", leaf.organization_id, leaf.product_id, measure] += quantity
    else:
        level = row.decode_level(value)
        name = (level.organization_id, level.product_id, level.measure)
        found["reserved", *name] += level.reserved


def checkpoint_of(checkpoints: Sequence[bytes]) -> bytes:
    """The decider's state that every new partition begins with.

    Its clock is behind none of the old ones, and its next hold is younger than every old one.
    """
    states = [msgspec.msgpack.decode(one, type=Checkpoint) for one in checkpoints]
    return msgspec.msgpack.encode(
        Checkpoint(
            row.FORMAT,
            max((state.clock_ms for state in states), default=0),
            max((state.sequence for state in states), default=0),
            {},
        )
    )
