"""The auditor's pass in the worker: a few product-locations a second, for ever, round and round.

The rule: as `audit`, it only looks and tells, once for every finding while the partition stays with
this worker. It never repairs: totals that contradict their holds are a fault to be understood. Its
place in the pass is no state: what it tells depends on no decision, and no decision on it.

A reservation id with more than `HOLDS_MAX` hold rows, and a product-location with more stock rows,
is left to `holdfast audit`: adding them up would stop the partition for too long. What a step may
cost is counted in rows read, whether or not something came of them.
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
STEP_ROWS: Final = 500  # Read in one step, about: 5 ms; and one group more, if it began before.
HOLDS_MAX: Final = 1_000  # Rows of one group: 10 ms.
TOLD_MAX: Final = 1_000  # Findings remembered as told; past that the command has to be used.
GROUP_ROWS: Final = 4  # What looking up a group costs, in rows.

_encode: Final = msgspec.msgpack.Encoder().encode
_KINDS: Final = (b"P", b"H")

_Level = tuple[bytes, bytes]  # Key of its row, and the hash of its reservation id.


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
        self._levels: list[_Level] = []  # Of the product-location under way, not looked at yet.
        self._left = 0  # Rows that this step may still read.
        self._told: set[Drift] = set()
        self.next_ms = 0
        self.passes = 0

    def step(self, state: PartitionState) -> int:
        """Look at the next few groups; findings become DRIFT events. Returns how many are new."""
        self.next_ms = state.clock_ms + PAUSE_MS
        self._left = STEP_ROWS
        fresh = 0
        while self._left > 0:
            if self._levels:
                fresh += self._tell(state, self._of_level(state, *self._levels.pop()))
                continue
            group = self._rows.next_group(self._after)
            if group is None:
                if self._come_round():
                    break
                continue
            self._after = group
            if group[:1] == _KINDS[0]:
                self._levels = self._levels_of(state, group)
            else:
                fresh += self._tell(state, self._of_hold(state, group))
        return fresh

    def _read(self, group: bytes, rows_max: int) -> list[tuple[bytes, bytes]]:
        """Rows of a group, so many and one more at most; they are counted."""
        found = list(islice(self._rows.scan(group), rows_max + 1))
        self._left -= len(found) + GROUP_ROWS
        return found

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

    def _levels_of(self, state: PartitionState, group: bytes) -> list[_Level]:
        """Levels of a product-location, those included whose totals are not yet written."""
        stored = self._read(group, HOLDS_MAX)
        if len(stored) > HOLDS_MAX:
            return []
        levels = {
            key: reservation_of(row.decode_level(value))
            for key, value in stored
            if key[13] == row.KIND_LEVEL
        }
        location = state.by_hash.get(group[1:])
        if location is not None and location.dirty_levels:
            dirty = (level for level in location.levels.values() if level.dirty)
            levels |= {level.row_key: level.reservation for level in dirty}
        return list(levels.items())

    def _of_level(
        self, state: PartitionState, key: bytes, reservation: bytes
    ) -> list[tuple[bytes, bytes]]:
        """A level's total, as it will be written, with all its holds."""
        total = self._rows.get(key)
        location = state.by_hash.get(row.location_of(key))
        level = None if location is None else location.levels.get(reservation)
        if level is not None and level.dirty:
            total = level.row_head + _encode(level.reserved + level.unswept)
        holds = self._read(b"H" + reservation, HOLDS_MAX)
        if total is None or len(holds) > HOLDS_MAX:
            return []
        return [(key, total), *holds]

    def _of_hold(self, state: PartitionState, group: bytes) -> list[tuple[bytes, bytes]]:
        """Holds whose total is missing; where it is there they were looked at with it."""
        first = self._read(group, 0)
        if not first:
            return []
        value = first[0][1]
        place = row.decode_place(row.decode_hold(value))
        hashed = row.hold_location(value)
        if self._rows.get(row.level_key(hashed, canonical(place.dimensions), place.measure)):
            return []
        location = state.by_hash.get(hashed)
        level = None if location is None else location.levels.get(group[1:])
        if level is not None and level.dirty:
            return []
        holds = self._read(group, HOLDS_MAX)
        return [] if len(holds) > HOLDS_MAX else holds
