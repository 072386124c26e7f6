"""The auditor: whether the rows of a partition say the same wherever they say it.

The rule: it only looks. What it finds is told and never repaired in silence. Totals of levels are
compared with the sum of their holds, every hold with the identity in its key, and at every level
what is held with what there is.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from processor.inventory import rows as row
from processor.inventory.identity import (
    canonical,
    hold_text,
    location_hash,
    reservation_hash,
    reservation_text,
)
from processor.inventory.rules import Rules
from processor.inventory.stock import ProductLocation

Kind = Literal["level-total", "hold", "short"]


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """One finding.

    Attributes:
        kind: `level-total`: a level's total is not the sum of its holds. `hold`: a hold's row
            contradicts itself. `short`: more is held than there is, although every hold there was
            checked; no drift where the supply was lowered since (SUPPLY_SHORT told so).
        organization_id, product_id: whose rows they are.
        place: what it is about, in words.
        expected, found: quantities in millionths.

    """

    kind: Kind
    organization_id: str
    product_id: str
    place: str
    expected: int
    found: int

    @property
    def is_fault(self) -> bool:
        """Whether the rows contradict each other: nothing that happens to stock explains that."""
        return self.kind != "short"


class _Held:
    """What the hold rows of one reservation id add up to."""

    __slots__ = ("checked", "live", "place", "total")

    def __init__(self, place: row.Place) -> None:
        self.place = place
        self.total = 0
        self.live = 0
        self.checked = True


def audit(
    rules: Rules, rows: Iterable[tuple[bytes, bytes]], now_ms: int, *, with_supply: bool = True
) -> list[Drift]:
    """Look through all rows of a partition, or of some levels with all their holds.

    Args:
        rules: of the configuration in force there.
        rows: key and value of every row, in any order; other kinds than stock and holds are passed.
        now_ms: holds due by then are not counted against the stock.
        with_supply: the stock rows are there too, and what is held is compared with them.

    """
    drifts: list[Drift] = []
    held: dict[bytes, _Held] = {}
    totals: dict[bytes, row.LevelRow] = {}
    leaves: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for key, value in rows:
        if key[:1] == b"H":
            _add_hold(rules, key, value, held=held, drifts=drifts, now_ms=now_ms)
        elif key[:1] == b"P" and key[13] == row.KIND_LEAF:
            leaves.setdefault(row.location_of(key), []).append((key, value))
        elif key[:1] == b"P":
            level = row.decode_level(value)
            totals[reservation_of(level)] = level
    drifts += _compare_totals(held, totals)
    if with_supply:
        drifts += _find_short(rules, held, leaves)
    return drifts


def reservation_of(level: row.LevelRow | row.Place) -> bytes:
    """Hash of the reservation id that the row or hold stands for."""
    spelled = canonical(level.dimensions)
    return reservation_hash(level.organization_id, level.product_id, spelled, level.measure)


def _add_hold(
    rules: Rules,
    key: bytes,
    value: bytes,
    *,
    held: dict[bytes, _Held],
    drifts: list[Drift],
    now_ms: int,
) -> None:
    hold = row.decode_hold(value)
    place = row.decode_place(hold)
    reservation = key[1:13]
    values = rules.partition_values(place.dimensions) or ()
    counted = hold.quantity if hold.state == row.LIVE else 0
    head = int.from_bytes(value[20:28], "big")
    is_own = reservation == reservation_of(place) and row.hold_location(value) == location_hash(
        place.organization_id, place.product_id, values
    )
    if head != counted or hold.quantity <= 0 or not is_own:
        name = hold_text(reservation_text(reservation), int.from_bytes(key[13:], "big"))
        drifts.append(_drift("hold", place, name, counted, head))
    entry = held.setdefault(reservation, _Held(place))
    entry.total += counted
    if hold.expires_at_ms == 0 or hold.expires_at_ms > now_ms:
        entry.live += counted
        entry.checked = entry.checked and hold.checked


def _compare_totals(
    held: Mapping[bytes, _Held], totals: Mapping[bytes, row.LevelRow]
) -> Iterable[Drift]:
    for reservation in held.keys() | totals.keys():
        expected = held[reservation].total if reservation in held else 0
        found = totals[reservation].reserved if reservation in totals else 0
        if expected != found:
            place = held[reservation].place if reservation in held else totals[reservation]
            yield _drift("level-total", place, _words(place), expected, found)


def _drift(
    kind: Kind, place: row.Place | row.LevelRow, words: str, expected: int, found: int
) -> Drift:
    return Drift(
        kind=kind,
        organization_id=place.organization_id,
        product_id=place.product_id,
        place=words,
        expected=expected,
        found=found,
    )


def _words(place: row.Place | row.LevelRow) -> str:
    dimensions = canonical(place.dimensions).decode().replace("\x1f", ", ")
    return f"{place.organization_id} {place.product_id} {dimensions} ({place.measure})"


def _find_short(
    rules: Rules,
    held: Mapping[bytes, _Held],
    leaves: Mapping[bytes, list[tuple[bytes, bytes]]],
) -> Iterable[Drift]:
    """Levels at which live holds, all of them checked, exceed the supply."""
    by_location: dict[bytes, tuple[tuple[str, str, tuple[str, ...]], list[_Held]]] = {}
    for entry in held.values():
        place = entry.place
        values = rules.partition_values(place.dimensions) or ()
        key = (place.organization_id, place.product_id, values)
        by_location.setdefault(location_hash(*key), (key, []))[1].append(entry)
    for location_id, (key, entries) in by_location.items():
        if not all(entry.checked for entry in entries):
            continue
        location = ProductLocation(rules, *key)
        location.load(leaves.get(location_id, ()))
        for entry in entries:
            location.level(entry.place.dimensions, entry.place.measure).charge(entry.live)
        for entry in entries:
            level = location.level(entry.place.dimensions, entry.place.measure)
            available = min(node.free for node in level.path)
            if entry.live and available < 0:
                yield _drift("short", entry.place, _words(entry.place), 0, -available)
        location.let_go()
