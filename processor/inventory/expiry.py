"""Time: holds that came due are ended, and ids that nobody repeats any more are forgotten.

The rule: nothing here decides anything. Whether a hold counts is settled by comparing its expiry
with the clock at every decision; the sweep only tidies up behind it and tells. It works in slices,
one a record, so that a hundred thousand holds due at one instant stop nobody; a tick, which has
nothing else to do, takes a larger slice.
"""

from typing import Final

import msgspec

from processor.inventory import rows as row, splits
from processor.inventory.events import hold_event
from processor.inventory.state import PartitionState
from schemas import limits
from schemas.codes import Code

RECORD_EFFORT: Final = 40  # Efforts of one slice behind an ordinary record: about 0.5 ms.
TICK_EFFORT: Final = 4_000  # Behind a tick: 50 ms on a quiet machine, 100 on a busy one.
LOCATION_EFFORT: Final = 4  # A hold of another product-location than the one before; else 1.

_decode_forget: Final = msgspec.msgpack.Decoder(tuple[int, list[bytes]]).decode


def sweep(state: PartitionState, effort: int) -> None:
    """End the holds whose expiry has come, oldest expiry first, as far as the effort allows."""
    clock = state.clock_ms
    if clock < state.next_sweep_ms:
        return
    state.next_sweep_ms = row.NEVER_MS
    location_before = b""
    for key, _ in state.rows.scan(b"X", state.swept):
        due_ms = int.from_bytes(key[1:9], "big")
        if due_ms > clock or effort <= 0:
            state.next_sweep_ms = min(state.next_sweep_ms, due_ms)
            return
        state.swept = key
        value = state.rows.get(key[9:])
        assert value is not None, "an index row without its hold"
        location = row.hold_location(value)
        effort -= 1 if location == location_before else LOCATION_EFFORT
        location_before = location
        _end(state, key[9:], value)


def _end(state: PartitionState, key: bytes, value: bytes) -> None:
    """End one hold."""
    hold = row.decode_hold(value)
    if hold.state == row.LAPSED:
        state.delete_hold(key, value)
        return
    location = state.by_hash.get(row.hold_location(value))
    if location is None:
        place = row.decode_place(hold)
        values = state.rules.partition_values(place.dimensions)
        assert values is not None, "the partition rule never changes in place"
        location = state.location(place.organization_id, place.product_id, values)
        state.lapse(location)  # Where nothing is due it need not look; here something is.
    else:
        state.touch(location)
    level = location.levels[key[1:13]]
    state.charge_unswept(level, -hold.quantity)  # Looking at the location stopped counting it.
    if state.clock_ms < hold.expires_at_ms + state.rules.grace_ms:
        state.put_hold(level, key, row.with_changes(hold, state=row.LAPSED), value)
    else:
        state.delete_hold(key, value)
    state.events.append(
        hold_event(
            state,
            "HOLD_EXPIRED",
            Code.EXPIRED,
            level=level,
            number=int.from_bytes(key[13:], "big"),
            hold=hold,
            quantity=hold.quantity,
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
    """Delete a remembered id or a ledger, unless it was used again since."""
    stored = state.rows.get(key)
    if stored is None:
        return
    if key[:1] == b"S":
        last_ms, kept_ms = splits.last_ms(stored), splits.SPLIT_WINDOW_MS
    elif key[:1] == b"T":
        last_ms, kept_ms = row.decode_ledger(stored).updated_at_ms, limits.LEDGER_WINDOW_MS
    else:
        last_ms, kept_ms = row.answer_head(stored)[0], state.rules.dedupe_window_ms
    if last_ms + kept_ms <= state.clock_ms:
        state.delete(key)
