"""The auditor's pass in the worker: a few product-locations a second, for ever, round and round.

The rule: as `audit`, it only looks and tells, once for every finding while the partition stays with
this worker. It never repairs: totals that contradict their holds are a fault to be understood. Its
place in the pass is no state: what it tells depends on no decision, and no decision on it.

A reservation id with more than `HOLDS_MAX` hold rows is left to `holdfast audit`: adding them up
would stop the partition for too long.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final, Protocol

import msgspec

from processor.inventory import rows as row
from processor.inventory.audit import Drift, audit, reservation_of
from processor.inventory.events import event
from processor.inventory.identity import canonical
from processor.inventory.state import PartitionState
from processor.inventory.stock import clamp
from schemas.codes import Code

PAUSE_MS: Final = 1_000  # Of the partition's clock, between two steps.
STEP_ROWS: Final = 500  # Looked at in one step, about: 5 ms.
HOLDS_MAX: Final = (
    5_000  # Hold rows of one reservation id, and rows of one product-location: 50 ms.
)
TOLD_MAX: Final = 1_000  # Findings remembered as told; past that the command has to be used.
GROUP_ROWS: Final = 4  # What looking up a group costs, in rows.

_encode: Final = msgspec.msgpack.Encoder().encode
_KINDS: Final = (b"P", b"H")


class WalkedRows(Protocol):
    """Rows whose groups can be walked (`engine.ports.Rows`)."""

    def get(self, key: bytes, /) -> bytes | None:
        """Value of the row, or None."""
        ...

    def scan(self, group: bytes, after: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]:
        """Rows of the group with a key greater than `after`, in key order."""
        ...

    def next_group(self, after: bytes, /) -> bytes | None:
        """First group behind `after` of the same kind that has committed rows."""
        ...


class Auditor:
    """Walks the stock rows of one partition, then its holds, then starts again.

    Attributes:
        next_ms: no step is due before this.
        passes: how often it came round.

    """

    def __init__(self, rows: WalkedRows) -> None:
        self._rows = rows
        self._after = _KINDS[0]
        self._told: set[Drift] = set()
        self.next_ms = 0
        self.passes = 0

    def step(self, state: PartitionState) -> int:
        """Look at the next few groups; findings become DRIFT events. Returns how many are new."""
        self.next_ms = state.clock_ms + PAUSE_MS
        fresh, left = 0, STEP_ROWS
        while left > 0:
            group = self._rows.next_group(self._after)
            if group is None:
                if self._come_round():
                    break
                continue
            self._after = group
            look = self._of_location if group[:1] == _KINDS[0] else self._of_hold
            found = look(state, group)
            left -= len(found) + GROUP_ROWS
            fresh += self._tell(state, found)
        return fresh

    def _come_round(self) -> bool:
        """Go on with the other kind; tells whether that ends the pass."""
        ended = self._after[:1] == _KINDS[-1]
        self.passes += ended
        self._after = _KINDS[0] if ended else _KINDS[1]
        return ended

    def _tell(self, state: PartitionState, rows: list[tuple[bytes, bytes]]) -> int:
        fresh = 0
        for drift in audit(state.rules, rows, state.clock_ms, with_supply=False):
            if not drift.is_fault or drift in self._told or len(self._told) >= TOLD_MAX:
                continue
            self._told.add(drift)
            fresh += 1
            state.events.append(
                event(
                    state,
                    "DRIFT",
                    Code.ROWS_CONTRADICT,
                    organization_id=drift.organization_id,
                    product_id=drift.product_id,
                    quantity=clamp(drift.found),
                    message=f"{drift.kind}: {drift.place}: {drift.found}, not {drift.expected}",
                )
            )
        return fresh

    def _of_location(self, state: PartitionState, group: bytes) -> list[tuple[bytes, bytes]]:
        """Levels of a product-location with all their holds; totals not yet written included."""
        stored = list(islice(self._rows.scan(group), HOLDS_MAX + 1))
        if len(stored) > HOLDS_MAX:
            return []
        totals = {key: value for key, value in stored if key[13] == row.KIND_LEVEL}
        reservations = {
            key: reservation_of(row.decode_level(value)) for key, value in totals.items()
        }
        location = state.by_hash.get(group[1:])
        if location is not None and location.dirty_levels:
            for level in location.levels.values():
                if level.dirty:
                    reserved = level.reserved + level.unswept
                    totals[level.row_key] = level.row_head + _encode(reserved)
                    reservations[level.row_key] = level.reservation
        rows: list[tuple[bytes, bytes]] = []
        for key, total in totals.items():
            holds = list(islice(self._rows.scan(b"H" + reservations[key]), HOLDS_MAX + 1))
            if len(holds) <= HOLDS_MAX:
                rows += [(key, total), *holds]
        return rows

    def _of_hold(self, state: PartitionState, group: bytes) -> list[tuple[bytes, bytes]]:
        """Holds whose total is missing; where it is there they were looked at with it."""
        holds = list(islice(self._rows.scan(group), HOLDS_MAX + 1))
        if not holds or len(holds) > HOLDS_MAX:
            return []
        value = holds[0][1]
        place = row.decode_place(row.decode_hold(value))
        hashed = row.hold_location(value)
        if self._rows.get(row.level_key(hashed, canonical(place.dimensions), place.measure)):
            return []
        location = state.by_hash.get(hashed)
        level = None if location is None else location.levels.get(group[1:])
        return [] if level is not None and level.dirty else holds
