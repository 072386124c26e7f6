"""Holds: made, taken back, prolonged, changed, moved. Every function is one decision on one level.

The rule: a hold counts as long as the clock is before its expiry, whether or not the sweep has been
there; after that a confirmation or an ERP offset within the grace gets it back only if the stock is
still there. Nothing ever takes more from a hold than is left of it: the excess is reported.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from processor.inventory import rows as row
from processor.inventory.explain import explain
from processor.inventory.identity import HOLD_LINES_MAX, parse_hold
from processor.inventory.lines import Refusal, resolve
from processor.inventory.state import PartitionState
from processor.inventory.stock import Level, ProductLocation, clamp
from schemas import limits
from schemas.codes import Code
from schemas.messages import LineDetail, RequestLine, ReservationRequest, ResultDetail

# Code, level or None, number of the hold or -1, quantity, available, detail.
Outcome = tuple[int, Level | None, int, int, int, ResultDetail | None]
NO_DETAIL: Final = LineDetail()
QUANTITY_MAX: Final = limits.QUANTITY_MAX
# Holds of a level among which those of no order are looked for: some 3 ms. What is not among them
# stays held; its channel gives it back, or it expires.
UNORDERED_LOOKED_AT_MAX: Final = 1_000
_NO_ROOM: Final = "the total of all holds there would be out of range"


class FoundHold:
    """A hold row as it stands."""

    __slots__ = ("hold", "key", "number", "value")

    def __init__(self, key: bytes, number: int, value: bytes, hold: row.Hold) -> None:
        self.key = key
        self.number = number
        self.value = value
        self.hold = hold

    def is_live(self, clock_ms: int) -> bool:
        """Whether it counts at this time."""
        expires_at_ms = self.hold.expires_at_ms
        return self.hold.state == row.LIVE and (expires_at_ms == 0 or expires_at_ms > clock_ms)


class Taken:
    """What was taken from one hold; `found` is the hold before."""

    __slots__ = ("found", "quantity")

    def __init__(self, found: FoundHold, quantity: int) -> None:
        self.found = found
        self.quantity = quantity


def refused(code: Code, message: str = "") -> Outcome:
    """A line refused before stock was looked at."""
    detail = ResultDetail(message=message) if message else None
    return (code, None, -1, 0, 0, detail)


# RESERVE.


def reserve(
    state: PartitionState, request: ReservationRequest, line: RequestLine, level: Level, number: int
) -> Outcome:
    """Hold a quantity, if it fits or no check was asked for; a negative one gives back."""
    quantity = line.quantity
    if quantity == 0 or (quantity < 0 and line.check_availability):
        return refused(Code.QUANTITY_INVALID, "a quantity that is positive, or negative unchecked")
    if not -QUANTITY_MAX <= quantity <= QUANTITY_MAX:
        return refused(Code.QUANTITY_OUT_OF_RANGE)
    if quantity < 0:
        order_id = line.detail.order_id if line.detail else ""
        return give_back(state, level, -quantity, order_id)
    detail = line.detail or NO_DETAIL
    minimum = quantity if detail.minimum_quantity is None else detail.minimum_quantity
    if not 0 < minimum <= quantity:
        return refused(Code.QUANTITY_INVALID, "the minimum is not between 0 and the quantity")
    expires_at_ms = expiry_of(state, request.channel, detail)
    if expires_at_ms is None:
        return refused(Code.EXPIRY_INVALID, "not in the future, or beyond the maximum")
    available = level.available()
    granted = quantity
    if line.check_availability and quantity > available:
        granted = available
        if granted < minimum:
            return _insufficient(state, level, quantity)
    if not level.has_room(granted):
        return refused(Code.QUANTITY_OUT_OF_RANGE, _NO_ROOM)
    state.charge(level, granted)
    hold = row.with_changes(
        _new_hold(state, request, line, level), quantity=granted, expires_at_ms=expires_at_ms
    )
    state.put_hold(level, row.hold_key(level.reservation, number), hold, None)
    code = Code.ACCEPTED if granted == quantity else Code.PARTIAL
    explained = _accepted_detail(state, request, level, expires_at_ms)
    return (code, level, number, granted, clamp(level.available()), explained)


def _new_hold(
    state: PartitionState, request: ReservationRequest, line: RequestLine, level: Level
) -> row.Hold:
    """A hold of the line's quantity without an expiry."""
    detail = line.detail or NO_DETAIL
    return row.Hold(
        row.FORMAT,
        row.LIVE,
        row.raw(level.place_row),
        line.quantity,
        state.clock_ms,
        0,
        line.quantity,
        request.channel,
        detail.order_id,
        detail.order_line_id,
        request.options.actor if request.options else "",
        detail.external_reference,
        detail.priority,
        line.check_availability,
    )


def _accepted_detail(
    state: PartitionState, request: ReservationRequest, level: Level, expires_at_ms: int
) -> ResultDetail | None:
    expires = expires_at_ms or None
    if request.options is not None and request.options.explain:
        return explain(state, level, expires_at_ms=expires)
    return None if expires is None else ResultDetail(expires_at_ms=expires)


def _insufficient(state: PartitionState, level: Level, quantity: int) -> Outcome:
    available = level.available()
    message = f"{_pieces(quantity)} asked, {_pieces(available)} available"
    code = Code.INSUFFICIENT_STOCK
    if level.is_bounded():
        code = Code.AVAILABILITY_BOUND
        message = "too many crossing levels to find out within the bound of work"
    return (code, level, -1, 0, clamp(available), explain(state, level, message))


def _pieces(quantity: int) -> str:
    """A quantity for a person."""
    whole, rest = divmod(abs(quantity), limits.QUANTITY_SCALE)
    text = f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
    return f"-{text}" if quantity < 0 else text


def expiry_of(state: PartitionState, channel: str, detail: LineDetail) -> int | None:
    """When a hold of this channel ends: 0 for never, None for an expiry that is not allowed."""
    clock = state.clock_ms
    rule = state.rules.configuration.expiry_of(channel)
    if detail.expires_at_ms is not None:
        expires_at_ms = detail.expires_at_ms
    elif detail.expires_in_ms is not None:
        expires_at_ms = clock + detail.expires_in_ms
    elif rule.default_expiry_ms is None:
        return 0
    else:
        expires_at_ms = clock + rule.default_expiry_ms
    return expires_at_ms if clock < expires_at_ms <= clock + rule.maximum_expiry_ms else None


# Taking back.


def give_back(state: PartitionState, level: Level, quantity: int, order_id: str = "") -> Outcome:
    """Take back from the holds of a level: those of the order first, then the oldest."""
    taken = sum(part.quantity for part in take(state, level, quantity, order_id))
    return _given_back(level, -1, taken, quantity)


def _given_back(level: Level, number: int, taken: int, asked: int) -> Outcome:
    """Answer to a give-back: what was asked beyond what was held is invalid."""
    available = clamp(level.available())
    if taken == asked:
        return (Code.ACCEPTED, level, number, taken, available, None)
    code = Code.PARTIAL if taken else Code.NOTHING_RESERVED
    detail = ResultDetail(invalid_quantity=asked - taken)
    return (code, level, number, taken, available, detail)


def take(state: PartitionState, level: Level, quantity: int, order_id: str = "") -> list[Taken]:
    """Take up to `quantity` from the level's live holds.

    Those of the order first, then the oldest.
    """
    taken = take_of_order(state, level, quantity, order_id) if order_id else []
    left = min(quantity - sum(part.quantity for part in taken), level.reserved)
    if left:
        _take_oldest(state, level, left, taken)
    return taken


def take_of_order(state: PartitionState, level: Level, quantity: int, order_id: str) -> list[Taken]:
    """Take up to `quantity` from the live holds of an order at the level, the oldest first."""
    taken: list[Taken] = []
    left = min(quantity, level.reserved)
    for found in holds_of_order(state, level, order_id) if left else ():
        if found.is_live(state.clock_ms):
            left -= _take_part(state, level, found, left, taken)
        if not left:
            break
    return taken


def _take_oldest(state: PartitionState, level: Level, left: int, taken: list[Taken]) -> None:
    """Take from live holds by age. Remembers how far none is live: a next search starts there."""
    taken_before = {part.found.key for part in taken}
    gone_so_far = True
    for key, _ in state.rows.scan(level.group, level.oldest):
        value = state.rows.get(key)
        if value is None:
            continue  # Deleted while the scan was under way.
        found = FoundHold(key, int.from_bytes(key[13:], "big"), value, row.decode_hold(value))
        if key in taken_before:
            gone_so_far = False
            continue
        if found.is_live(state.clock_ms):
            part = _take_part(state, level, found, left, taken)
            left -= part
            gone_so_far = gone_so_far and part == found.hold.quantity
        if gone_so_far:
            level.oldest = key
        if not left:
            return


def _take_part(
    state: PartitionState, level: Level, found: FoundHold, left: int, taken: list[Taken]
) -> int:
    part = min(found.hold.quantity, left)
    reduce_hold(state, level, found, part)
    taken.append(Taken(found, part))
    return part


def reduce_hold(state: PartitionState, level: Level, found: FoundHold, quantity: int) -> None:
    """Take `quantity` from a live hold; a hold of which nothing is left is gone."""
    state.charge(level, -quantity)
    _leave_rest(state, level, found, quantity)


def reduce_expired(state: PartitionState, level: Level, found: FoundHold, quantity: int) -> None:
    """Take `quantity` from a hold that counts no more; of none left, the row goes."""
    if found.hold.state == row.LIVE:
        state.charge_unswept(level, -quantity)  # Its row has not been swept.
    _leave_rest(state, level, found, quantity)


def _leave_rest(state: PartitionState, level: Level, found: FoundHold, quantity: int) -> None:
    if quantity == found.hold.quantity:
        state.delete_hold(found.key, found.value)
    else:
        rest = row.with_changes(found.hold, quantity=found.hold.quantity - quantity)
        state.put_hold(level, found.key, rest, found.value)


def holds_of_order(state: PartitionState, level: Level, order_id: str) -> Iterator[FoundHold]:
    """Holds of an order at the level by age, expired ones that are not swept included.

    Those of no order are in no index: the oldest holds of the level are looked at, so many.
    """
    if not order_id:
        oldest = state.rows.scan(level.group, level.oldest)
        for key, _ in islice(oldest, UNORDERED_LOOKED_AT_MAX):
            found = find_hold(state, level, int.from_bytes(key[13:], "big"))
            if found and not found.hold.order_id:
                yield found
        return
    group = b"O%b%b" % (level.reservation, row.order_hash(order_id))
    for key, _ in state.rows.scan(group):
        found = find_hold(state, level, int.from_bytes(key[21:], "big"))
        if found and found.hold.order_id == order_id:
            yield found


# One hold by its id.


def find_hold(state: PartitionState, level: Level, number: int) -> FoundHold | None:
    """The hold of this number at the level."""
    key = row.hold_key(level.reservation, number)
    value = state.rows.get(key)
    return None if value is None else FoundHold(key, number, value, row.decode_hold(value))


def place_of_hold(state: PartitionState, location: ProductLocation, key: bytes) -> row.Place | None:
    """What the hold of this key is of, by its row, if it is at the product-location.

    A level on which nothing counts any more, but for a hold in its grace, need not be in memory.
    """
    value = state.rows.get(key)
    if value is None or row.hold_location(value) != location.hash:
        return None
    return row.decode_place(row.decode_hold(value))


def named_hold(state: PartitionState, line: RequestLine, level: Level) -> FoundHold | Outcome:
    """The hold that a line names, or why there is none."""
    parsed = parse_hold(line.detail.hold_id) if line.detail else None
    if parsed is None or parsed[0] != level.reservation:
        return unknown(
            level, Code.HOLD_UNKNOWN, line.quantity, "no such hold of that product there"
        )
    found = find_hold(state, level, parsed[1])
    if found is not None:
        return found
    # Numbers are given out in order: one from the past belonged to a hold that has ended.
    was_given = parsed[1] < state.sequence * HOLD_LINES_MAX
    code = Code.HOLD_CLOSED if was_given else Code.HOLD_UNKNOWN
    return unknown(level, code, line.quantity, "nothing is left of the hold" if was_given else "")


def unknown(level: Level, code: Code, quantity: int, message: str) -> Outcome:
    """A refusal that changes nothing: all that was asked is invalid."""
    detail = ResultDetail(invalid_quantity=max(quantity, 0), message=message)
    return (code, level, -1, 0, clamp(level.available()), detail)


def unreserve(state: PartitionState, line: RequestLine, level: Level) -> Outcome:
    """Take back by reservation id, or from one hold alone when it is named."""
    if line.quantity <= 0:
        return refused(Code.QUANTITY_INVALID, "how much to give back, positive")
    if line.quantity > QUANTITY_MAX:
        return refused(Code.QUANTITY_OUT_OF_RANGE)
    detail = line.detail or NO_DETAIL
    if detail.hold_id and detail.reservation_id in {"", level.reservation_id}:
        return release(state, line, level)
    if detail.reservation_id != level.reservation_id:
        message = "the reservation id is not that of this product and these dimensions"
        return unknown(level, Code.RESERVATION_UNKNOWN, line.quantity, message)
    return give_back(state, level, line.quantity, detail.order_id)


def release(state: PartitionState, line: RequestLine, level: Level) -> Outcome:
    """Take back from exactly one hold; 0 means all that is left."""
    if line.quantity < 0:
        return refused(Code.QUANTITY_INVALID, "how much to give back, or 0 for all")
    if line.quantity > QUANTITY_MAX:
        return refused(Code.QUANTITY_OUT_OF_RANGE)
    found = named_hold(state, line, level)
    if not isinstance(found, FoundHold):
        return found
    if not found.is_live(state.clock_ms):
        return unknown(level, Code.HOLD_EXPIRED, line.quantity, "the hold has expired")
    asked = line.quantity or found.hold.quantity
    taken = min(asked, found.hold.quantity)
    reduce_hold(state, level, found, taken)
    return _given_back(level, found.number, taken, asked)


# Changes of one hold.


def revive(state: PartitionState, level: Level, found: FoundHold, *, check: bool) -> Code | None:
    """Count an expired hold again, if its grace has not ended and its stock is still there.

    Returns:
        None if the hold is live now, else why not. The row is left to the caller to write.

    """
    hold = found.hold
    if found.is_live(state.clock_ms):
        return None
    if state.clock_ms >= hold.expires_at_ms + state.rules.grace_ms:
        return Code.HOLD_EXPIRED
    if check and hold.quantity > level.available():
        return Code.HOLD_EXPIRED
    if found.key <= level.oldest:
        level.oldest = b""
    if hold.state == row.LAPSED and not level.has_room(hold.quantity):
        return Code.HOLD_EXPIRED
    if hold.state == row.LIVE:
        state.charge_unswept(level, -hold.quantity)  # Its row has not been swept.
    state.charge(level, hold.quantity)
    return None


def prolong(
    state: PartitionState, request: ReservationRequest, line: RequestLine, level: Level
) -> Outcome:
    """EXTEND: another expiry. CONFIRM: none any more."""
    detail = line.detail or NO_DETAIL
    expires_at_ms: int | None = 0
    if request.action == "EXTEND":
        expires_at_ms = expiry_of(state, request.channel, detail)
        if not expires_at_ms:
            return refused(Code.EXPIRY_INVALID, "EXTEND needs an expiry in the future")
    found = named_hold(state, line, level)
    if not isinstance(found, FoundHold):
        return found
    checked = found.hold.checked and (line.check_availability or found.is_live(state.clock_ms))
    code = revive(state, level, found, check=line.check_availability)
    if code is not None:
        return unknown(level, code, 0, "the hold has expired and cannot be had back")
    assert expires_at_ms is not None
    changed = row.with_changes(
        found.hold, state=row.LIVE, expires_at_ms=expires_at_ms, checked=checked
    )
    state.put_hold(level, found.key, changed, found.value)
    explained = _accepted_detail(state, request, level, expires_at_ms)
    available = clamp(level.available())
    return (Code.ACCEPTED, level, found.number, changed.quantity, available, explained)


def amend(
    state: PartitionState, request: ReservationRequest, line: RequestLine, level: Level
) -> Outcome:
    """Another quantity for a hold; more only if it fits."""
    if line.quantity <= 0:
        return refused(Code.QUANTITY_INVALID, "the hold's new quantity, positive")
    if line.quantity > QUANTITY_MAX:
        return refused(Code.QUANTITY_OUT_OF_RANGE)
    found = named_hold(state, line, level)
    if not isinstance(found, FoundHold):
        return found
    if not found.is_live(state.clock_ms):
        return unknown(level, Code.HOLD_EXPIRED, 0, "the hold has expired")
    more = line.quantity - found.hold.quantity
    if more > 0 and line.check_availability and more > level.available():
        return _insufficient(state, level, more)
    if not level.has_room(more):
        return refused(Code.QUANTITY_OUT_OF_RANGE, _NO_ROOM)
    state.charge(level, more)
    checked = found.hold.checked and (more <= 0 or line.check_availability)
    changed = row.with_changes(found.hold, quantity=line.quantity, checked=checked)
    state.put_hold(level, found.key, changed, found.value)
    explained = _accepted_detail(state, request, level, changed.expires_at_ms)
    available = clamp(level.available())
    return (Code.ACCEPTED, level, found.number, line.quantity, available, explained)


def transfer(
    state: PartitionState, request: ReservationRequest, line: RequestLine, level: Level, number: int
) -> Outcome:
    """Move a hold to other dimension values of the partition, without a gap; 0 moves all."""
    detail = line.detail or NO_DETAIL
    target = _transfer_target(state, request, line, level)
    if not isinstance(target, Level):
        return refused(target.code, target.message)
    if line.quantity < 0:
        return refused(Code.QUANTITY_INVALID, "the moved hold's quantity, or 0 for all")
    if line.quantity > QUANTITY_MAX:
        return refused(Code.QUANTITY_OUT_OF_RANGE)
    found = named_hold(state, line, level)
    if not isinstance(found, FoundHold):
        return found
    if not found.is_live(state.clock_ms):
        return unknown(level, Code.HOLD_EXPIRED, 0, "the hold has expired")
    quantity = line.quantity or found.hold.quantity
    level.charge(-found.hold.quantity)
    short = line.check_availability and quantity > target.available()
    level.charge(found.hold.quantity)
    if short:
        return _insufficient(state, target, quantity)
    if not target.has_room(quantity):
        return refused(Code.QUANTITY_OUT_OF_RANGE, _NO_ROOM)
    state.charge(level, -found.hold.quantity)
    state.charge(target, quantity)
    state.delete_hold(found.key, found.value)
    moved = row.with_changes(
        found.hold,
        place=row.raw(target.place_row),
        quantity=quantity,
        external_reference=detail.external_reference or found.hold.external_reference,
        checked=found.hold.checked and line.check_availability,
    )
    state.put_hold(target, row.hold_key(target.reservation, number), moved, None)
    explained = _accepted_detail(state, request, target, moved.expires_at_ms)
    return (Code.ACCEPTED, target, number, quantity, clamp(target.available()), explained)


def _transfer_target(
    state: PartitionState, request: ReservationRequest, line: RequestLine, level: Level
) -> Level | Refusal:
    wanted = line.detail.target_dimensions if line.detail else None
    if wanted is None:
        return Refusal(Code.PARTITION_DIMENSION_MISSING, "TRANSFER needs target_dimensions")
    target = resolve(state, request.organization_id, line, wanted)
    if isinstance(target, Level) and not state.same_partition(target.location, level.location):
        return Refusal(Code.SPANS_PARTITIONS, "the target belongs to another partition key")
    return target
