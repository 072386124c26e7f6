"""Offsets: when the ERP has taken over a demand, the soft hold that stood for it goes.

One ledger per ERP inventory transaction, not per order line: the ERP splits a line into
transactions as parts of it reach a status. The rule: every unit of a transaction is offset at most
once, at the first status at or above the trigger, and what a status takes over is what the
transaction's quantity exceeds that which it took over before. So a status that repeats, skips a
step or comes late takes nothing twice.

Going back: a transaction that falls below the trigger brings its holds back (policy), for the
demand is still there; one that is cancelled, deleted or reduced gives its part back, for the demand
is gone.
"""

from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from processor.inventory import holds, rows as row, splits
from processor.inventory.holds import FoundHold, Taken
from processor.inventory.identity import hold_text, parse_hold, parse_reservation, reservation_text
from processor.inventory.splits import Told
from processor.inventory.state import PartitionState
from processor.inventory.stock import Level, ProductLocation, clamp
from schemas.codes import Code
from schemas.messages import InventoryEvent
from schemas.symbols import ENDED

LADDER: Final = (
    "QUOTATION_ISSUE",
    "ON_ORDER",
    "RESERVED_ORDERED",
    "RESERVED_PHYSICAL",
    "PICKED",
    "DEDUCTED",
    "SOLD",
)
RANK: Final = {status: rank for rank, status in enumerate(LADDER)}
FINAL: Final = ENDED | {"SOLD", "PURCHASED"}  # Nothing is expected after these.
OFFSETS_KEPT_MAX: Final = 256  # Holds of one transaction that can be brought back one by one.


Located = tuple[ProductLocation, dict[str, str]]  # And the dimensions by base name.


class Case:
    """A status and all that is needed to act on it; `follow_ups` gathers what it caused."""

    __slots__ = ("dimensions", "follow_ups", "ledger", "location", "state", "told")

    def __init__(
        self, state: PartitionState, told: Told, place: Located, ledger: row.Ledger
    ) -> None:
        self.state = state
        self.told = told
        self.location, self.dimensions = place
        self.ledger = ledger
        self.follow_ups: list[FollowUp] = []


class FollowUp(NamedTuple):
    """What an offset did, to be told once the whole event is applied."""

    event_type: str
    code: Code
    told: Told
    level: Level | None
    hold_id: str
    quantity: int
    invalid_quantity: int
    message: str
    channel: str = ""


class _Taken:
    """What was found to offset."""

    __slots__ = ("code", "level", "message", "parts", "quantity")

    def __init__(
        self, parts: list[tuple[Level, Taken]], code: Code, level: Level | None, message: str
    ) -> None:
        self.parts = parts
        self.code = code
        self.level = level
        self.message = message
        self.quantity = sum(part.quantity for _, part in parts)


def ledger_of(state: PartitionState, organization_id: str, transaction_id: str) -> row.Ledger:
    """The ledger of a transaction; a new one if it was never seen."""
    stored = state.rows.get(row.ledger_key(organization_id, transaction_id))
    if stored is not None:
        return row.decode_ledger(stored)
    return row.Ledger(
        row.FORMAT, organization_id, transaction_id, _NEVER_SEEN, "", 0, 0, "", {}, [], 0, ""
    )


_NEVER_SEEN: Final = -(2**63)


def reach(case: Case) -> Code:
    """A transaction reached a status: what is due is offset, brought back or given back.

    Writes the ledger; the stock rows are the caller's.
    """
    status, ledger = case.told.status, case.ledger
    code = Code.APPLIED
    if case.state.rules.configuration.offset.enabled:
        if status.status in ENDED:
            code = _end(case)
        elif status.status in RANK:
            code = _move(case)
    ledger.sequence = status.sequence
    ledger.status = status.status
    ledger.quantity = status.quantity if status.status not in ENDED else 0
    ledger.product_id = case.told.product_id
    ledger.dimensions = case.dimensions
    ledger.updated_at_ms = case.state.clock_ms
    ledger.event_id = case.told.event_id
    write_ledger(case.state, ledger)
    if status.status in FINAL:
        key = row.ledger_key(ledger.organization_id, ledger.transaction_id)
        case.state.forget_ledger_later(key)
    return code


def write_ledger(state: PartitionState, ledger: row.Ledger) -> None:
    """Write a transaction's ledger."""
    key = row.ledger_key(ledger.organization_id, ledger.transaction_id)
    state.put(key, row.encode_row(ledger))


def is_due(state: PartitionState, status: str) -> bool:
    """Whether a transaction at this status has taken over its demand."""
    trigger = RANK["ON_ORDER"] if state.rules.on_order else RANK["RESERVED_ORDERED"]
    return RANK.get(status, -1) >= trigger


def wanted_of(state: PartitionState, status: str, quantity: int) -> int:
    """How much of a transaction's quantity is to be offset at this status."""
    return quantity if is_due(state, status) else 0


def _move(case: Case) -> Code:
    """Up, down or along the ladder."""
    told, ledger = case.told, case.ledger
    status = told.status
    if ledger.offset_quantity and _is_elsewhere(case):
        _bring_back(case, ledger.offset_quantity)
    wanted = wanted_of(case.state, status.status, status.quantity)
    if ledger.sequence == _NEVER_SEEN:
        _claim(case, wanted)
    due = wanted - ledger.offset_quantity
    if due > 0:
        return offset(case, due)
    settle_failure(case.state, told.organization_id, status.transaction_id, 0)
    if due < 0:
        excess = ledger.offset_quantity - status.quantity
        code = _reduce(case, excess) if excess > 0 else Code.APPLIED
        return code if wanted else _step_down(case, code)
    if not wanted and status.quantity < ledger.quantity and _releases(case):
        return _release(case, ledger.quantity - status.quantity)
    return Code.APPLIED


def _claim(case: Case, wanted: int) -> None:
    """A transaction that was never seen: what its siblings have just lost, it has taken over.

    Where it is not due yet, the demand is a soft one, and those holds count again.
    """
    claimed = splits.gain(case.state, case.told, case.told.status.quantity)
    if not claimed:
        return
    if wanted:
        _own(case.ledger, claimed)
    else:
        _count_again(case, claimed)


def _releases(case: Case) -> bool:
    """Whether a demand that went away gives its hold back (policy `cancellation`)."""
    return case.state.rules.configuration.offset.cancellation == "release"


def _reduce(case: Case, quantity: int) -> Code:
    """Less than was offset: the ERP's own measures give the stock back, nobody needs a hold."""
    if not _releases(case):
        return _bring_back(case, quantity)
    for transaction_id, part in _moved(case, quantity):
        _hand_over(case, transaction_id, part)
        quantity -= part
    splits.lost(case.state, case.told, _forget(case.ledger, quantity))
    reverted = any(one.code == Code.OFFSET_REVERTED for one in case.follow_ups)
    return Code.OFFSET_REVERTED if reverted else Code.APPLIED


def _moved(case: Case, quantity: int) -> list[tuple[str, int]]:
    """Which new transactions have taken over how much of this quantity."""
    state, organization_id = case.state, case.ledger.organization_id

    def has(transaction_id: str) -> int:
        return ledger_of(state, organization_id, transaction_id).quantity

    return splits.lose(state, case.told, quantity, has)


def _hand_over(case: Case, transaction_id: str, quantity: int) -> None:
    """A new transaction has taken over this part of the demand, and of what was offset for it.

    What it took itself meanwhile, of this order or of a stranger, goes back to whom it was taken
    from; where it is not due yet, the part's own holds count again.
    """
    state, organization_id = case.state, case.ledger.organization_id
    handed = _forget(case.ledger, quantity)
    newer = ledger_of(state, organization_id, transaction_id)
    if not is_due(state, newer.status):
        _count_again(case, handed)
        return
    missing = max(newer.quantity - newer.offset_quantity, 0)
    _count_again(case, _forget(newer, min(max(quantity - missing, 0), newer.offset_quantity)))
    _own(newer, handed)
    write_ledger(state, newer)
    left = newer.quantity - newer.offset_quantity
    settle_failure(state, organization_id, transaction_id, left)


def _release(case: Case, quantity: int) -> Code:
    """Less of a demand that the ERP has not taken over: its hold goes, unless a new one has it."""
    quantity -= sum(part for _, part in _moved(case, quantity))
    if not quantity:
        return Code.APPLIED
    code, gone = _give_back(case, quantity)
    splits.lost(case.state, case.told, gone)
    return code


def _step_down(case: Case, reduced: Code) -> Code:
    """Back below the trigger: by policy the demand is a soft one again, or its hold stays gone.

    Of a demand that is less than it was, only the rest: `reduced` is what became of the other part.
    """
    quantity = case.ledger.offset_quantity
    if not quantity:
        return reduced
    if case.state.rules.configuration.offset.reversal == "reinstate":
        return _bring_back(case, quantity)
    _forget(case.ledger, quantity)
    return reduced


def _end(case: Case) -> Code:
    """Cancelled or deleted: the part not yet offset gives its hold back; the ERP gives the rest.

    One that has ended before, and one of the receipts' ladder, has nothing to give.
    """
    ledger = case.ledger
    is_new = ledger.sequence == _NEVER_SEEN
    if not is_new and ledger.status not in RANK:
        return Code.APPLIED
    quantity = case.told.status.quantity if is_new else ledger.quantity
    left = quantity - ledger.offset_quantity
    settle_failure(case.state, ledger.organization_id, ledger.transaction_id, 0)
    if not _releases(case):
        return _bring_back(case, ledger.offset_quantity) if ledger.offset_quantity else Code.APPLIED
    _forget(ledger, ledger.offset_quantity)
    return Code.APPLIED if left <= 0 else _give_back(case, left)[0]


def _is_elsewhere(case: Case) -> bool:
    """Whether the transaction was offset under another product or other dimension values."""
    ledger, rules = case.ledger, case.state.rules
    return ledger.product_id != case.told.product_id or any(
        ledger.dimensions.get(name) != case.dimensions.get(name)
        for name in rules.reservable - rules.masked
    )


# Taking over.


def offset(case: Case, due: int) -> Code:
    """Take what is due from the holds that the status names; what is missing is a failure."""
    told = case.told
    status = told.status
    if not (status.hold_id or status.reservation_id or status.auto_offset):
        return Code.APPLIED
    found = _take(case, due)
    quantity = found.quantity
    _own(case.ledger, _taken_from(found.parts))
    if quantity == due:
        if case.ledger.sequence != _NEVER_SEEN:
            settle_failure(case.state, told.organization_id, status.transaction_id, 0)
        case.follow_ups.append(_follow_up("OFFSET_APPLIED", Code.OFFSET_APPLIED, told, found, 0))
        return Code.OFFSET_APPLIED
    code = Code.OFFSET_PARTIAL if quantity else found.code
    _note_failure(case, code, due - quantity)
    case.follow_ups.append(_follow_up("OFFSET_FAILED", code, told, found, due - quantity))
    return code


def _follow_up(kind: str, code: Code, told: Told, found: _Taken, invalid: int) -> FollowUp:
    hold_id = channel = ""
    if len(found.parts) == 1:
        level, part = found.parts[0]
        hold_id = hold_text(level.reservation_id, part.found.number)
        channel = part.found.hold.channel
    return FollowUp(
        event_type=kind,
        code=code,
        told=told,
        level=found.level,
        hold_id=hold_id,
        quantity=found.quantity,
        invalid_quantity=invalid,
        message=found.message,
        channel=channel,
    )


def _take(case: Case, quantity: int) -> _Taken:
    """Find and take: by hold id, by reservation id and dimensions, or by dimensions alone."""
    status, state = case.told.status, case.state
    if status.hold_id:
        return _take_hold(case, quantity)
    levels = _named_levels(case)
    if not levels:
        return _wrong(case.location, parse_reservation(status.reservation_id))
    parts: list[tuple[Level, Taken]] = []
    left = quantity
    if status.order_id:  # Its own come first, wherever they are; then those in their grace.
        for level in levels:
            own = holds.take_of_order(state, level, left, status.order_id)
            left -= _gather(parts, level, own)
        for level in levels if left else ():
            left -= _take_expired(case, level, left, parts)
    for level in levels:
        left -= _gather(parts, level, holds.take(state, level, left))
    message = "" if parts else "nothing is reserved there"
    first = parts[0][0] if parts else levels[0]
    return _Taken(parts, Code.OFFSET_NOTHING_RESERVED, first, message)


def _gather(parts: list[tuple[Level, Taken]], level: Level, taken: list[Taken]) -> int:
    """Add what was taken at a level; tells how much that is."""
    parts += [(level, part) for part in taken]
    return sum(part.quantity for part in taken)


def _take_back(case: Case, quantity: int) -> _Taken:
    """Find and take for a demand that went away: the order's own holds alone.

    Nothing takes the place of what it gives: a hold that another order relies on stays. Those of no
    order are its own where the reservation is named, or the transaction is of no order either.
    """
    status, state = case.told.status, case.state
    if status.hold_id:
        return _take_hold(case, quantity, own_alone=True)
    levels = _named_levels(case)
    if not levels:
        return _wrong(case.location, parse_reservation(status.reservation_id))
    parts: list[tuple[Level, Taken]] = []
    left = quantity
    orders = [status.order_id] if status.order_id else []
    orders += [""] if status.reservation_id or not status.order_id else []
    for order_id in orders:
        for level in levels:
            own = holds.take_of_order(state, level, left, order_id)
            left -= _gather(parts, level, own)
    first = parts[0][0] if parts else levels[0]
    message = "" if parts else "nothing is held there for the order"
    return _Taken(parts, Code.OFFSET_NOTHING_RESERVED, first, message)


def _named_levels(case: Case) -> list[Level]:
    """Levels that the status names: by reservation id and dimensions, or by dimensions alone."""
    levels = _levels(case)
    reservation_id = case.told.status.reservation_id
    if not reservation_id:
        return levels
    return [level for level in levels if level.reservation_id == reservation_id]


def _take_hold(case: Case, quantity: int, *, own_alone: bool = False) -> _Taken:
    """Take from the one hold that is named."""
    parsed = parse_hold(case.told.status.hold_id)
    if parsed is None:
        return _wrong(case.location, None)
    reservation, number = parsed
    level = _exact_level(case, reservation)
    if level is None:
        level = next((one for one in _levels(case) if one.reservation == reservation), None)
    if level is None:
        level = _level_of_hold(case, row.hold_key(reservation, number))
    if level is None:
        return _wrong(case.location, reservation)
    found = holds.find_hold(case.state, level, number)
    if own_alone and found is not None and not _may_take(case, found):
        return _Taken([], Code.OFFSET_NOTHING_RESERVED, level, "the hold is another order's")
    part = None if found is None else _take_found(case.state, level, found, quantity)
    if part is None:
        message = "nothing is left of the hold"
        return _Taken([], Code.OFFSET_NOTHING_RESERVED, level, message)
    return _Taken([(level, part)], Code.OFFSET_PARTIAL, level, "")


def _may_take(case: Case, found: FoundHold) -> bool:
    """Whether a hold may be taken back for a demand that went away: it counts, for this order."""
    is_own = found.hold.order_id in {"", case.told.status.order_id}
    return is_own and found.is_live(case.state.clock_ms)


def _take_found(
    state: PartitionState, level: Level, found: FoundHold, quantity: int
) -> Taken | None:
    """Take from a hold; an expired one within its grace, too, if that much stock is still there.

    What is left of an expired one stays expired.
    """
    part = min(found.hold.quantity, quantity)
    if found.is_live(state.clock_ms):
        holds.reduce_hold(state, level, found, part)
        return Taken(found, part)
    is_over = state.clock_ms >= found.hold.expires_at_ms + state.rules.grace_ms
    if is_over or part > level.available():
        return None
    holds.reduce_expired(state, level, found, part)
    return Taken(found, part)


def _take_expired(case: Case, level: Level, quantity: int, parts: list[tuple[Level, Taken]]) -> int:
    """Take from the order's own holds that expired within the grace."""
    state = case.state
    taken = 0
    for found in holds.holds_of_order(state, level, case.told.status.order_id):
        if taken == quantity:
            break
        if found.is_live(state.clock_ms):
            continue
        part = _take_found(state, level, found, quantity - taken)
        if part is not None:
            parts.append((level, part))
            taken += part.quantity
    return taken


def _exact_level(case: Case, reservation: bytes) -> Level | None:
    """The level of this id, if it is in memory and the dimensions are its own: no hash is made."""
    rules = case.state.rules
    level = case.location.levels.get(reservation)
    if level is None or level.place.measure not in rules.reservation_measures:
        return None
    named = level.place.dimensions
    return level if named == case.dimensions or named == _reservable(case) else None


def _level_of_hold(case: Case, key: bytes) -> Level | None:
    """The level of this hold, if it is of this place and the dimensions match."""
    place = holds.place_of_hold(case.state, case.location, key)
    if place is None:
        return None
    if place.measure in case.state.rules.reservation_measures and _matches(case, place.dimensions):
        return case.location.level(place.dimensions, place.measure)
    return None


def _matches(case: Case, dimensions: dict[str, str]) -> bool:
    """Whether dimension values agree, apart from those that are masked."""
    rules, own = case.state.rules, _reservable(case)
    return all(dimensions.get(name) == own.get(name) for name in rules.reservable - rules.masked)


def _reservable(case: Case) -> dict[str, str]:
    """The part of the dimensions that can be reserved."""
    reservable = case.state.rules.reservable
    return {name: value for name, value in case.dimensions.items() if name in reservable}


def _levels(case: Case) -> list[Level]:
    """Levels that the dimensions match: exactly first, then with masked dimensions left open."""
    rules, location = case.state.rules, case.location
    own = _reservable(case)
    exact = [location.level(own, measure) for measure in rules.reservation_measures]
    if not rules.masked:
        return exact
    masked = [
        level
        for level in location.levels.values()
        if level not in exact and level.reserved and _matches(case, level.place.dimensions)
    ]
    masked.sort(key=lambda level: (-len(level.place.dimensions), level.reservation))
    return exact + masked


def _wrong(location: ProductLocation, reservation: bytes | None) -> _Taken:
    level = location.levels.get(reservation) if reservation else None
    # A level where nothing is reserved may or may not be in memory: it must not make a difference.
    if level is not None and (level.reserved or level.unswept):
        message = "the id belongs to other dimension values"
        return _Taken([], Code.OFFSET_WRONG_DIMENSIONS, level, message)
    message = "no such reservation of that product there"
    return _Taken([], Code.OFFSET_WRONG_RESERVATION, None, message)


# Giving back and bringing back.


def _give_back(case: Case, quantity: int) -> tuple[Code, list[row.Offset]]:
    """A demand went away before the ERP took it over: its hold goes with it; which ones did."""
    told = case.told
    status = told.status
    if not (status.hold_id or status.reservation_id or status.auto_offset):
        return Code.APPLIED, []
    found = _take_back(case, quantity)
    if not found.parts and found.code == Code.OFFSET_NOTHING_RESERVED:
        return Code.APPLIED, []  # Its channel has released it already.
    if not found.parts:
        case.follow_ups.append(_follow_up("OFFSET_FAILED", found.code, told, found, quantity))
        return found.code, []
    message = f"{status.status.lower()}: the demand is gone"
    gone = _Taken(found.parts, found.code, found.level, message)
    invalid = quantity - found.quantity
    case.follow_ups.append(_follow_up("OFFSET_APPLIED", Code.OFFSET_APPLIED, told, gone, invalid))
    return Code.OFFSET_APPLIED, _taken_from(found.parts)


def _taken_from(parts: list[tuple[Level, Taken]]) -> list[row.Offset]:
    """What was taken, so that it can be brought back."""
    return [
        row.Offset(
            part.found.key,
            part.quantity,
            msgspec.Raw(msgspec.msgpack.encode(part.found.hold)),
        )
        for _, part in parts
    ]


def _own(ledger: row.Ledger, taken: list[row.Offset]) -> None:
    """This was offset for the transaction."""
    splits.add(ledger.offsets, taken, OFFSETS_KEPT_MAX)
    ledger.offset_quantity += splits.total(taken)


def _forget(ledger: row.Ledger, quantity: int) -> list[row.Offset]:
    """Take what was offset last out of the ledger; returns it."""
    ledger.offset_quantity -= quantity
    assert ledger.offset_quantity >= 0
    return splits.cut(ledger.offsets, quantity)


def _bring_back(case: Case, quantity: int) -> Code:
    """The demand is a soft one again."""
    _count_again(case, _forget(case.ledger, quantity))
    return Code.OFFSET_REVERTED


def _count_again(case: Case, offsets: list[row.Offset]) -> None:
    """Holds that were taken count again, even if the stock is gone meanwhile."""
    state = case.state
    for gone in offsets:
        hold = row.decode_hold_body(gone.hold)
        place = row.decode_place(hold)
        values = state.rules.partition_values(place.dimensions)
        level = None
        if values is not None:
            location = state.location(place.organization_id, place.product_id, values)
            level = location.level(place.dimensions, place.measure)
        # A changed partition rule may leave it no place, an absurd sum no room: it stays gone.
        is_back = level is not None and level.has_room(gone.quantity)
        if level is not None and is_back:
            _reinstate(state, level, gone, hold)
        follow_up = FollowUp(
            event_type="OFFSET_REVERTED" if is_back else "OFFSET_FAILED",
            code=Code.OFFSET_REVERTED if is_back else Code.OFFSET_WRONG_DIMENSIONS,
            told=case.told,
            level=level,
            hold_id=hold_text(reservation_text(gone.hold_key[1:13]), _number(gone.hold_key)),
            quantity=gone.quantity if is_back else 0,
            invalid_quantity=0 if is_back else gone.quantity,
            message="the hold counts again" if is_back else "there is no place for the hold",
            channel=hold.channel,
        )
        case.follow_ups.append(follow_up)


def _number(hold_key: bytes) -> int:
    return int.from_bytes(hold_key[13:], "big")


def _reinstate(state: PartitionState, level: Level, gone: row.Offset, hold: row.Hold) -> None:
    state.cross_for(level)
    found = holds.find_hold(state, level, _number(gone.hold_key))
    state.charge(level, gone.quantity)
    if found is not None and found.is_live(state.clock_ms):
        more = row.with_changes(found.hold, quantity=found.hold.quantity + gone.quantity)
        state.put_hold(level, found.key, more, found.value)
        return
    if found is not None:  # The rest of it has expired: that part stays gone.
        if found.hold.state == row.LIVE:
            state.charge_unswept(level, -found.hold.quantity)
        state.delete_hold(found.key, found.value)
    # An order that the ERP knows is firm: a hold whose expiry has passed comes back without one.
    expires_at_ms = hold.expires_at_ms if hold.expires_at_ms > state.clock_ms else 0
    back = row.with_changes(
        hold, state=row.LIVE, quantity=gone.quantity, expires_at_ms=expires_at_ms
    )
    state.put_hold(level, gone.hold_key, back, None)


# The list of failures.


def failure_id_of(organization_id: str, transaction_id: str) -> str:
    """Id of a transaction's entry in the list of failures: one entry a transaction."""
    words = f"{organization_id}\x1e{transaction_id}".encode()
    return reservation_text(blake2b(words, digest_size=12).digest())


def settle_failure(
    state: PartitionState, organization_id: str, transaction_id: str, left: int
) -> None:
    """Of what failed for the transaction no more than `left` is still to be offset."""
    key = row.failure_key(failure_id_of(organization_id, transaction_id))
    stored = state.rows.get(key)
    if stored is None:
        return
    failure = row.decode_failure(stored)
    if left <= 0:
        state.delete(key)
    elif left < failure.quantity:
        failure.quantity = left
        state.put(key, row.encode_row(failure))


def _note_failure(case: Case, code: Code, quantity: int) -> None:
    state, told = case.state, case.told
    status = told.status
    failure_id = failure_id_of(told.organization_id, status.transaction_id)
    key = row.failure_key(failure_id)
    before = state.rows.get(key)
    tries = 1 if before is None else row.decode_failure(before).tries + 1
    failure = row.Failure(
        row.FORMAT,
        failure_id,
        int(code),
        told.organization_id,
        status.transaction_id,
        told.product_id,
        case.dimensions,
        status.status,
        quantity,
        status.reservation_id,
        status.hold_id,
        status.order_id,
        status.order_line_id,
        status.auto_offset,
        told.event_id,
        state.clock_ms,
        tries,
    )
    state.put(key, row.encode_row(failure))


def as_event(state: PartitionState, follow_up: FollowUp) -> InventoryEvent:
    """What an offset did, for the event topic."""
    level, told = follow_up.level, follow_up.told
    status = told.status
    return InventoryEvent(  # Not by `event`: passing on 18 words is a twentieth of an offset.
        event_type=follow_up.event_type,
        code=int(follow_up.code),
        sequence=state.sequence,
        at_ms=state.clock_ms,
        source_topic=state.source_topic,
        source_offset=state.source_offset,
        source_id=state.source_id,
        organization_id=told.organization_id,
        product_id=told.product_id,
        dimensions=level.place.dimensions if level else {},
        transaction_id=status.transaction_id,
        reservation_id=level.reservation_id if level else status.reservation_id,
        hold_id=follow_up.hold_id or status.hold_id,
        order_id=status.order_id,
        channel=follow_up.channel,
        quantity=follow_up.quantity,
        invalid_quantity=follow_up.invalid_quantity,
        available=clamp(level.available()) if level else 0,
        message=follow_up.message,
    )
