"""The state of one partition while it is decided for: rows, clock, sequence, cached sums.

The rule: every change of a row or a sum goes through here, so that a basket that fails, or a dry
run, can be taken back to the last number (`begin`, `undo`). Totals of levels are written once per
batch, in `checkpoint`, however often they changed: the holds themselves are written at once.

If the process dies at any point, all of this is lost together, and made again from the committed
rows.
"""

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from processor.inventory import rows as row
from processor.inventory.row_bodies import Checkpoint
from processor.inventory.rules import Rules
from processor.inventory.stock import NEVER_MS, Level, ProductLocation
from schemas import limits

if TYPE_CHECKING:
    from schemas.messages import InventoryEvent

CHANNELS_REMEMBERED_MAX: Final = 1_000
# Keys of targets of one product-location, before it begins anew: one level can be spelled in many
# ways, and has keys of two kinds (`requests.target_of`, `plain`). Each holds up to 2 kB.
TARGETS_REMEMBERED_MAX: Final = 65_536
TRIM_STEPS_MAX: Final = 20_000  # Product-locations looked at in one trim.
LET_GO_MAX: Final = 2_000  # Product-locations freed at once when a partition goes: some 10 ms.
FORGET_BYTES_MAX: Final = limits.ROW_BYTES_MAX // 2

_encode: Final = msgspec.msgpack.Encoder().encode


_ROW: Final = 0
_CHARGED: Final = 1
_UNSWEPT: Final = 2


class PartitionState:
    """Everything that decisions of one partition read and write.

    Attributes:
        clock_ms: highest broker append time seen.
        sequence: number of the record being decided.
        events: what happened besides the answer; the caller empties it.
        source_topic, source_offset, source_id: the record being decided, for events.
        next_sweep_ms, next_forget_ms: nothing has to be swept, or forgotten, before this.
        behind: the last slice of the sweep left something that is due.
        swept, forgotten: keys up to which it was; a scan need not wade through what is gone.

    """

    __slots__ = (
        "_dirty",
        "_forget",
        "_forget_bytes",
        "_journal",
        "_period",
        "behind",
        "by_hash",
        "clock_ms",
        "crowded",
        "events",
        "forgotten",
        "locations",
        "locations_max",
        "next_forget_ms",
        "next_sweep_ms",
        "plain_channels",
        "rows",
        "rules",
        "sequence",
        "source_id",
        "source_offset",
        "source_topic",
        "swept",
        "targets",
    )

    def __init__(
        self,
        rules: Rules,
        rows: row.RowAccess,
        checkpoint: bytes | None,
        locations_max: int,
    ) -> None:
        self.rules = rules
        self.rows = rows
        self.clock_ms = 0
        self.sequence = 0
        if checkpoint:
            stored = msgspec.msgpack.decode(checkpoint, type=Checkpoint)
            self.clock_ms = stored.clock_ms
            self.sequence = stored.sequence
        self.locations: dict[tuple[str, str, tuple[str, ...]], ProductLocation] = {}
        self.by_hash: dict[bytes, ProductLocation] = {}
        self.locations_max = locations_max
        self.targets: dict[object, Any] = {}
        self.crowded: set[ProductLocation] = set()
        self.events: list[InventoryEvent] = []
        self.source_topic = ""
        self.source_offset = 0
        self.source_id = ""
        self.next_sweep_ms = 0
        self.behind = False
        self.next_forget_ms = 0
        self.forgotten = b""
        self.plain_channels: set[bytes] = set()
        self.swept = b""
        self._dirty: list[Level] = []
        self._forget: list[bytes] = []
        self._forget_bytes = 0
        self._journal: list[tuple[int, Any, Any]] | None = None
        self._period = 0

    # Product-locations.

    def location(
        self, organization_id: str, product_id: str, partition_values: tuple[str, ...]
    ) -> ProductLocation:
        """The product-location, with everything that is due no longer counted."""
        key = (organization_id, product_id, partition_values)
        location = self.locations.get(key)
        if location is None:
            location = ProductLocation(self.rules, *key)
            location.load(self.rows.scan(location.group))
            location.next_due_ms = self.next_sweep_ms  # No hold of the partition is due before.
            self.locations[key] = location
            self.by_hash[location.hash] = location
        self.touch(location)
        return location

    def touch(self, location: ProductLocation) -> None:
        """A decision looks at the product-location: what is due no longer counts."""
        location.used = self._period
        if self.clock_ms >= location.next_due_ms:
            self.lapse(location)

    def record_key(self, location: ProductLocation) -> bytes:
        """Key that a record about it must carry."""
        if not location.record_key:
            location.record_key = self.rules.record_key(*location.key)
        return location.record_key

    def same_partition(self, one: ProductLocation, other: ProductLocation) -> bool:
        """Whether records about both carry the same key."""
        return one is other or self.record_key(one) == self.record_key(other)

    def lapse(self, location: ProductLocation) -> None:
        """Stop counting the holds of a product-location whose expiry has come.

        The sweep ends them.
        """
        group = b"Y" + location.hash
        after = group + location.lapsed_until_ms.to_bytes(8, "big") + b"\xff" * 20
        clock = self.clock_ms
        location.lapsed_until_ms = clock
        location.next_due_ms = NEVER_MS
        now = clock.to_bytes(8, "big")
        number = int.from_bytes
        due_by_level: defaultdict[bytes, int] = defaultdict(int)
        for key, value in self.rows.scan(group, after):
            if key[13:21] > now:
                location.next_due_ms = number(key[13:21], "big")
                break
            due_by_level[key[21:33]] += number(value, "big")
        for reservation, quantity in due_by_level.items():
            level = location.levels[reservation]
            level.charge(-quantity)
            level.unswept += quantity

    def note_channel(self, channel: str) -> None:
        """The channel's name is valid.

        Remembered if its holds have no expiry of their own accord.
        """
        expiry = self.rules.configuration.expiry_of(channel)
        if self.rules.reservation_enabled and expiry.default_expiry_ms is None:
            if len(self.plain_channels) >= CHANNELS_REMEMBERED_MAX:
                self.plain_channels.clear()
            self.plain_channels.add(channel.encode())

    def remember(self, location: ProductLocation, key: object, target: object) -> None:
        """Keep what a line resolves to, for as long as its product-location is cached."""
        if len(location.targets) >= TARGETS_REMEMBERED_MAX:
            self._forget_targets(location)
        self.targets[key] = target
        location.targets.append(key)

    def _forget_targets(self, location: ProductLocation) -> None:
        for key in location.targets:
            self.targets.pop(key, None)
        location.targets = []

    # Changes, each of them revocable.

    def charge(self, level: Level, quantity: int) -> None:
        """Hold `quantity` more at the level, or less if negative."""
        level.charge(quantity)
        assert level.reserved >= 0
        self.mark(level)
        if self._journal is not None:
            self._journal.append((_CHARGED, level, quantity))

    def charge_unswept(self, level: Level, quantity: int) -> None:
        """Change the quantity of expired holds whose rows the sweep has not reached."""
        level.unswept += quantity
        assert level.unswept >= 0
        self.mark(level)
        if self._journal is not None:
            self._journal.append((_UNSWEPT, level, quantity))

    def cross_for(self, level: Level) -> None:
        """A hold is to count again: by the hierarchy in force its level may cross others."""
        location = level.location
        if not location.crossing and not self.rules.is_in_hierarchy(level.place.dimensions):
            location.cross(self.rows.scan(location.group))

    def mark(self, level: Level) -> None:
        """The level's total is to be written with this batch."""
        if not level.dirty:
            level.dirty = True
            level.location.dirty_levels += 1
            self._dirty.append(level)

    def put(self, key: bytes, value: bytes) -> None:
        """Write a row."""
        if self._journal is not None:
            self._journal.append((_ROW, key, self.rows.get(key)))
        self.rows.put(key, value)

    def delete(self, key: bytes) -> None:
        """Delete a row."""
        if self._journal is not None:
            self._journal.append((_ROW, key, self.rows.get(key)))
        self.rows.delete(key)

    def put_hold(self, level: Level, key: bytes, hold: row.Hold, before: bytes | None) -> None:
        """Write a hold and its index rows; `before` is the row's value so far."""
        location = level.location
        due_ms = row.due_of(hold, self.rules.grace_ms)
        value = row.encode_hold(hold, location.hash, due_ms)
        self.put(key, value)
        if hold.state == row.LIVE and due_ms < location.next_due_ms:
            location.next_due_ms = due_ms
        self.next_sweep_ms = min(self.next_sweep_ms, due_ms)
        head = row.HOLD_HEAD_BYTES
        if before is None:
            if key <= level.oldest:
                level.oldest = b""  # An old hold came back.
            for index_key, index_value in row.index_rows(key, value):
                self.put(index_key, index_value)
        elif before[:head] != value[:head]:
            fresh = dict(row.index_rows(key, value))
            for index_key, _ in row.index_rows(key, before):
                if index_key not in fresh:
                    self.delete(index_key)
            for index_key, index_value in fresh.items():
                self.put(index_key, index_value)

    def delete_hold(self, key: bytes, before: bytes) -> None:
        """Delete a hold and its index rows."""
        self.delete(key)
        for index_key, _ in row.index_rows(key, before):
            self.delete(index_key)

    def begin(self) -> int:
        """Keep what is needed to take back everything from here on; returns a mark for `undo`."""
        if self._journal is None:
            self._journal = []
        return len(self._journal)

    def undo(self, mark: int) -> None:
        """Take back everything since the mark."""
        assert self._journal is not None
        while len(self._journal) > mark:
            kind, changed, before = self._journal.pop()
            if kind == _ROW:
                if before is None:
                    self.rows.delete(changed)
                else:
                    self.rows.put(changed, before)
            elif kind == _CHARGED:
                changed.charge(-before)
                changed.oldest = b""
            else:
                changed.unswept -= before

    def end(self) -> None:
        """What was done since `begin` stays."""
        self._journal = None

    # Batches.

    def forget_later(self, key: bytes) -> None:
        """The row of a remembered id, to be deleted when the dedupe window has passed."""
        self._forget.append(key)
        self._forget_bytes += len(key) + 8
        if self._forget_bytes >= FORGET_BYTES_MAX:
            self._write_forget()

    def _write_forget(self) -> None:
        self._write_reminder(self._forget, self.rules.dedupe_window_ms)
        self._forget = []
        self._forget_bytes = 0

    def _write_reminder(self, keys: list[bytes], in_ms: int) -> None:
        forget_at_ms = self.clock_ms + in_ms
        key = b"D%b%b" % (forget_at_ms.to_bytes(8, "big"), self.sequence.to_bytes(8, "big"))
        self.rows.put(key, _encode((row.FORMAT, keys)))
        self.next_forget_ms = min(self.next_forget_ms, forget_at_ms)

    def forget_ledger_later(self, key: bytes) -> None:
        """The ledger of a transaction that came to its end, to be deleted long after it."""
        self._write_reminder([key], limits.LEDGER_WINDOW_MS)

    def checkpoint(self) -> bytes:
        """Write what a batch owes the rows; returns the state kept in the watermark row."""
        assert self._journal is None
        self._write_totals()
        self._thin_out()
        if self._forget:
            self._write_forget()
        return _encode(Checkpoint(row.FORMAT, self.clock_ms, self.sequence, {}))

    def _write_totals(self) -> None:
        for level in self._dirty:
            stored = level.reserved + level.unswept
            if stored:
                self.rows.put(level.row_key, level.row_head + _encode(stored))
            else:
                self.rows.delete(level.row_key)
                if level.location.crossing and not self.rules.crossing:
                    self.crowded.add(level.location)
            level.dirty = False
            level.location.dirty_levels -= 1
        self._dirty = []

    def _thin_out(self) -> None:
        """Forget product-locations with many levels that were only asked about, or crossed once.

        Requests for made-up dimension values must not fill the memory; and whose levels crossed
        only by holds that have gone decides as after a restart. Done right behind the totals, when
        every product-location is what its rows say.
        """
        for location in self.crowded:
            used = [one for one in location.levels.values() if one.reserved or one.unswept]
            is_crowded = 2 * len(used) < len(location.levels)
            if location.key in self.locations and (is_crowded or location.crosses_no_more(used)):
                del self.locations[location.key]
                self._drop(location)
        self.crowded.clear()

    def trim(self) -> None:
        """Forget product-locations that were not used lately.

        All they know is in committed rows.
        """
        if len(self.locations) <= self.locations_max:
            return
        self._period += 1
        for _ in range(min(TRIM_STEPS_MAX, len(self.locations))):
            if len(self.locations) <= self.locations_max:
                return
            key = next(iter(self.locations))
            location = self.locations.pop(key)
            if location.dirty_levels or location.used >= self._period - 1:
                self.locations[key] = location  # In use: to the end of the line.
                continue
            self._drop(location)

    def _drop(self, location: ProductLocation) -> None:
        del self.by_hash[location.hash]
        self._forget_targets(location)
        location.let_go()

    def let_go(self) -> bool:
        """Forget product-locations, as many as take some 10 ms; tells whether more are left."""
        for _ in range(min(LET_GO_MAX, len(self.locations))):
            _, location = self.locations.popitem()
            self._drop(location)
        self.crowded.clear()
        return bool(self.locations)

    def reload(self, rules: Rules) -> None:
        """Decide by other rules from here on.

        Every sum is made anew from the rows when it is needed.
        """
        self._write_totals()
        while self.let_go():
            pass
        self.plain_channels.clear()
        self.forgotten = b""
        self.rules = rules
