"""Time: holds that came due are ended, and ids that nobody repeats any more are forgotten.

The rule: nothing here decides anything. Whether a hold counts is settled by comparing its expiry
with the clock at every decision; the sweep only tidies up behind it and tells. It works in slices,
one a record, so that a hundred thousand holds due at one instant stop nobody. Once a slice did not
reach everything, ticks follow, which have nothing else to do and take a larger one.
"""

from typing import Final

import msgspec

from processor.inventory import rows as row, splits
from processor.inventory.identity import hold_text
from processor.inventory.offsets import FINAL
from processor.inventory.state import PartitionState
from processor.inventory.stock import Level, clamp
from schemas import limits
from schemas.codes import Code
from schemas.messages import InventoryEvent

# Efforts of one slice, each about 7 us of CPU compiled and 30 from source: the bound of a slice.
RECORD_EFFORT: Final = 40  # Behind an ordinary record: about 0.3 ms.
# Behind a tick, where an earlier slice left something: about 10 ms. The engine lets few partitions
# at a time have such ticks. With 4,000 others waited twice as long.
TICK_EFFORT: Final = 1_000
LEVEL_EFFORT: Final = 4  # The first hold of a level in a slice: its place is looked up, or loaded.
CROSSING_EFFORT: Final = 1_000  # As much where levels cross: what is available may take a flow.
GRACE_EFFORT: Final = 1  # More for a hold that is kept for its grace, and swept again behind it.

_EXPIRED: Final = int(Code.EXPIRED)
_decode_forget: Final = msgspec.msgpack.Decoder(tuple[int, list[bytes]]).decode


class _Place:
    """A level that a slice met, with what every event about a hold of it says."""

    __slots__ = ("available", "level")

    def __init__(self, level: Level) -> None:
        self.level = level
        # The same for all holds of a slice: none of them counts any more.
        self.available = clamp(level.available())


def sweep(state: PartitionState, effort: int) -> None:
    """End the holds whose expiry has come, oldest expiry first, as far as the effort allows.

    `state.behind` tells whether it did not reach all of them.
    """
    clock = state.clock_ms
    if clock < state.next_sweep_ms:
        return
    state.behind = False
    state.next_sweep_ms = row.NEVER_MS
    rows, places = state.rows, dict[bytes, _Place]()
    for index_key, _ in rows.scan(b"X", state.swept):
        due_ms = int.from_bytes(index_key[1:9], "big")
        if due_ms > clock or effort <= 0:
            state.next_sweep_ms = min(state.next_sweep_ms, due_ms)
            state.behind = due_ms <= clock
            return
        state.swept = index_key
        key = index_key[9:]
        value = rows.get(key)
        assert value is not None, "an index row without its hold"
        effort -= 1
        hold = row.decode_hold(value)
        if hold.state == row.LAPSED:
            _delete(state, index_key, key, value)
            continue
        place = places.get(key[1:13])
        if place is None:
            place = places[key[1:13]] = _Place(_level_of(state, key, value, hold))
            effort -= CROSSING_EFFORT if place.level.location.pools else LEVEL_EFFORT - 1
        # Looking at the location stopped counting it.
        state.charge_unswept(place.level, -hold.quantity)
        if clock < hold.expires_at_ms + state.rules.grace_ms:
            effort -= GRACE_EFFORT
            state.put_hold(place.level, key, row.with_changes(hold, state=row.LAPSED), value)
        else:
            _delete(state, index_key, key, value)
        _tell(state, place, int.from_bytes(key[13:], "big"), hold)


def _level_of(state: PartitionState, key: bytes, value: bytes, hold: row.Hold) -> Level:
    """The level of a hold that came due; from here on nothing due at its place counts."""
    location = state.by_hash.get(row.hold_location(value))
    if location is None:
        words = row.decode_place(hold)
        values = state.rules.partition_values(words.dimensions)
        assert values is not None, "the partition rule changes only where nothing is held"
        location = state.location(words.organization_id, words.product_id, values)
        state.lapse(location)  # Where nothing is due it need not look; here something is.
    else:
        state.touch(location)
    return location.levels[key[1:13]]


def _delete(state: PartitionState, index_key: bytes, key: bytes, value: bytes) -> None:
    """`PartitionState.delete_hold` where nothing is ever taken back."""
    delete = state.rows.delete
    delete(key)
    delete(index_key)
    for other in row.index_beside_due(key, value):
        delete(other)


def _tell(state: PartitionState, place: _Place, number: int, hold: row.Hold) -> None:
    """HOLD_EXPIRED; `events.hold_event` in one step, because a burst makes a hundred thousand."""
    level = place.level
    words = level.place
    state.events.append(
        InventoryEvent(
            event_type="HOLD_EXPIRED",
            code=_EXPIRED,
            sequence=state.sequence,
            at_ms=state.clock_ms,
            source_topic=state.source_topic,
            source_offset=state.source_offset,
            source_id=state.source_id,
            organization_id=words.organization_id,
            product_id=words.product_id,
            dimensions=words.dimensions,
            reservation_id=level.reservation_id,
            hold_id=hold_text(level.reservation_id, number),
            order_id=hold.order_id,
            channel=hold.channel,
            quantity=hold.quantity,
            available=place.available,
            message=f"due at {hold.expires_at_ms}",
        )
    )


def forget(state: PartitionState) -> None:
    """Delete the answers to ids that are out of the dedupe window: one batch's worth at a time."""
    clock = state.clock_ms
    if clock < state.next_forget_ms:
        return
    state.next_forget_ms = row.NEVER_MS
    done = False
    for key, value in state.rows.scan(b"D", state.forgotten):
        due_ms = int.from_bytes(key[1:9], "big")
        if due_ms > clock or done:
            state.next_forget_ms = min(state.next_forget_ms, due_ms)
            return
        _, keys = _decode_forget(value)
        for answer_key in keys:
            _forget(state, answer_key)
        state.delete(key)
        state.forgotten = key
        done = True


def _forget(state: PartitionState, key: bytes) -> None:
    """Delete a remembered id or a ledger, unless it was used again since.

    A transaction that goes on behind its end is never forgotten: what it took over would be taken
    once more.
    """
    stored = state.rows.get(key)
    if stored is None:
        return
    if key[:1] == b"S":
        last_ms, kept_ms = splits.last_ms(stored), splits.SPLIT_WINDOW_MS
    elif key[:1] == b"T":
        ledger = row.decode_ledger(stored)
        if ledger.status not in FINAL:
            return
        last_ms, kept_ms = ledger.updated_at_ms, limits.LEDGER_WINDOW_MS
    else:
        last_ms, kept_ms = row.answer_head(stored)[0], state.rules.dedupe_window_ms
    if last_ms + kept_ms <= state.clock_ms:
        state.delete(key)
