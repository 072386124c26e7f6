"""What an ERP, POS or warehouse tells: measures of stock rows, and the status of transactions.

The rule: an event is applied whole or not at all, its measure changes and the offset that its
status causes in one step, so that no instant shows the demand twice or not at all. Event ids are
remembered like request ids. A status that comes late (its sequence is not higher than the last one
seen) changes nothing.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import msgspec

from processor.inventory import offsets, rows as row, shrink, splits
from processor.inventory.lines import Refusal, base_dimensions, id_is_valid, text_is_valid
from processor.inventory.state import PartitionState
from processor.inventory.stock import clamp
from schemas import limits
from schemas.codes import Code
from schemas.messages import InventoryEvent, InventoryTransaction, TransactionStatus
from schemas.symbols import ENDED

_encode: Final = msgspec.msgpack.Encoder().encode


class _Change:
    """One measure of one stock row, resolved."""

    __slots__ = ("dimensions", "location", "measure", "quantity")

    def __init__(self, place: offsets.Located, measure: str, quantity: int) -> None:
        self.location, self.dimensions = place
        self.measure = measure
        self.quantity = quantity


class _Staged:
    """Stock rows as they will be, and by how much each measure changes."""

    __slots__ = ("code", "deltas", "leaves")

    def __init__(self) -> None:
        self.leaves: dict[bytes, row.Leaf] = {}
        self.deltas: list[tuple[_Change, int]] = []
        self.code = Code.APPLIED


def decide_transaction(
    state: PartitionState, event: InventoryTransaction, base: dict[str, str] | Refusal
) -> list[InventoryEvent]:
    """Decide an inventory transaction; `base`: its dimensions, as `base_dimensions` gives them.

    The first event says how it ended, the others what followed.
    """
    state.events = []
    own = _place(state, event, base)
    code, message = _decide(state, event, own)
    status = event.transaction
    head = InventoryEvent(
        event_type="TRANSACTION",
        code=int(code),
        sequence=state.sequence,
        at_ms=state.clock_ms,
        source_topic=state.source_topic,
        source_offset=state.source_offset,
        source_id=event.event_id,
        organization_id=event.organization_id,
        product_id=event.product_id,
        dimensions=event.dimensions,
        transaction_id="" if status is None else status.transaction_id,
        order_id="" if status is None else status.order_id,
        available=_available(state, own),
        message=message,
    )
    return [head, *state.events]


def _available(state: PartitionState, own: offsets.Located | Refusal) -> int:
    """What could be promised now at the finest level of the event's stock row; 0 if it has none."""
    rules = state.rules
    if isinstance(own, Refusal) or rules.default_measure not in rules.reservation_measures:
        return 0
    location, dimensions = own
    state.touch(location)
    availability = rules.reservation_measures[rules.default_measure].availability
    node = location.node_of(dimensions)
    path = location.path(availability, node)
    free = min(one.free for one in path) if rules.hierarchical else path[-1].free
    if location.pools and free > 0:
        free = location.pools[availability].fit(node, free).available
    return clamp(free)


def _decide(
    state: PartitionState, event: InventoryTransaction, own: offsets.Located | Refusal
) -> tuple[Code, str]:
    if not id_is_valid(event.event_id, limits.REQUEST_ID_LENGTH_MAX):
        return Code.REQUEST_ID_INVALID, "event id: 1 to 128 characters, none of control"
    key = b"E" + event.event_id.encode()
    digest = _digest(event)
    stored = state.rows.get(key)
    if stored is not None:
        decided_at_ms, answered = row.answer_head(stored)
        if decided_at_ms + state.rules.dedupe_window_ms > state.clock_ms:
            if answered == digest:
                return Code.DUPLICATE, "this event was told before"
            return Code.REQUEST_ID_REUSED, "this event id was used before, for other content"
    code, message = _decide_new(state, event, own)
    state.rows.put(key, row.encode_answer(state.clock_ms, digest, (row.FORMAT, int(code))))
    state.forget_later(key)
    return code, message


def _digest(event: InventoryTransaction) -> bytes:
    """Digest of everything that is told but the id; the order of dimensions does not matter."""
    changes = [
        (
            change.measure,
            str(
                change.quantity
            ),  # As text: what is out of range need not fit an integer of msgpack.
            None if change.dimensions is None else sorted(change.dimensions.items()),
        )
        for change in event.changes[: limits.CHANGES_MAX + 1]
    ]
    status = event.transaction
    words = (
        (event.organization_id, event.product_id, event.dimension_data_source),
        (sorted(event.dimensions.items()), event.source, event.mode, event.modified_at_ms),
        changes,
        None if status is None else msgspec.structs.replace(status, quantity=0),
        None if status is None else str(status.quantity),
    )
    return blake2b(_encode(words), digest_size=8).digest()


def _decide_new(
    state: PartitionState, event: InventoryTransaction, own: offsets.Located | Refusal
) -> tuple[Code, str]:
    refusal = _check_texts(event)
    if refusal is not None:
        return refusal.code, refusal.message
    if isinstance(own, Refusal):
        return own.code, own.message
    changes = _resolve(state, event, own)
    if isinstance(changes, Refusal):
        return changes.code, changes.message
    status = event.transaction
    ledger: row.Ledger | None = None
    if status is not None:
        ledger = offsets.ledger_of(state, event.organization_id, status.transaction_id)
        if status.sequence <= ledger.sequence and not _has_moved(event, ledger):
            return Code.STALE, f"sequence {status.sequence} is not above {ledger.sequence}"
    staged = _stage(state, event, changes)
    if isinstance(staged, Refusal):
        return staged.code, staged.message
    code = staged.code
    follow_ups: list[offsets.FollowUp] = []
    if status is not None and ledger is not None:
        # Before the measures: stock that an expired hold may still get must not look taken already.
        told = splits.Told(event.event_id, event.organization_id, event.product_id, status)
        case = offsets.Case(state, told, own, ledger)
        code = offsets.reach(case)
        follow_ups = case.follow_ups
    _apply(state, staged)
    state.events.extend(offsets.as_event(state, follow_up) for follow_up in follow_ups)
    shrink.answer(state, _lowered(state, staged))
    return code, ""


def _has_moved(event: InventoryTransaction, ledger: row.Ledger) -> bool:
    """Whether the transaction was ended where it was by this very event, in this partition, too."""
    assert event.transaction is not None
    return (
        event.transaction.sequence == ledger.sequence
        and ledger.status in ENDED
        and ledger.event_id.startswith(event.event_id + limits.MOVED_FROM)
    )


def _check_texts(event: InventoryTransaction) -> Refusal | None:
    if not id_is_valid(event.organization_id, limits.ORGANIZATION_LENGTH_MAX):
        return Refusal(Code.ORGANIZATION_INVALID, "organization id: 1 to 64 characters")
    if not text_is_valid(event.source, limits.TEXT_LENGTH_MAX):
        return Refusal(Code.TEXT_INVALID, "source: up to 128 characters, none of control")
    refusal = None if event.transaction is None else _check_status(event.transaction)
    if refusal is None and not id_is_valid(event.product_id, limits.PRODUCT_LENGTH_MAX):
        return Refusal(Code.PRODUCT_INVALID, "product id: 1 to 128 characters, none of control")
    return refusal


def _check_status(status: TransactionStatus) -> Refusal | None:
    if not id_is_valid(status.transaction_id, limits.TEXT_LENGTH_MAX):
        return Refusal(Code.TEXT_INVALID, "transaction id: 1 to 128 characters, none of control")
    texts = (status.order_id, status.order_line_id, status.reservation_id, status.hold_id)
    if not all(text_is_valid(text, limits.TEXT_LENGTH_MAX) for text in texts):
        return Refusal(Code.TEXT_INVALID, "order, line and ids: up to 128 characters")
    return None


def _resolve(
    state: PartitionState, event: InventoryTransaction, own: offsets.Located
) -> list[_Change] | Refusal:
    """Everything that an event at its place changes, checked in the order of the codes."""
    changes: list[_Change] = []
    for change in event.changes[: limits.CHANGES_MAX + 1]:
        place = own if change.dimensions is None else _locate(state, event, change.dimensions)
        if isinstance(place, Refusal):
            return place
        if not state.same_partition(place[0], own[0]):
            return Refusal(Code.SPANS_PARTITIONS, "a change belongs to another partition key")
        changes.append(_Change(place, change.measure.lower(), change.quantity))
    refusal = _check_changes(state, event, changes) or _check_quantities(event.transaction, changes)
    return refusal or changes


def _locate(
    state: PartitionState, event: InventoryTransaction, named: dict[str, str]
) -> offsets.Located | Refusal:
    return _place(state, event, base_dimensions(state.rules, event.dimension_data_source, named))


def _place(
    state: PartitionState, event: InventoryTransaction, base: dict[str, str] | Refusal
) -> offsets.Located | Refusal:
    if isinstance(base, Refusal):
        return base
    values = state.rules.stock_values(base)
    if event.transaction is not None and not all(values):  # Holds are taken over where they are.
        return Refusal(
            Code.PARTITION_DIMENSION_MISSING, ", ".join(state.rules.partition_dimensions)
        )
    return state.location(event.organization_id, event.product_id, values), base


def _check_changes(
    state: PartitionState, event: InventoryTransaction, changes: list[_Change]
) -> Refusal | None:
    rules = state.rules
    sender = event.source.lower()
    for change in changes:
        if change.measure not in rules.measures:
            return Refusal(Code.MEASURE_UNKNOWN, f"measure {change.measure[:64]!r} is unknown")
    for change in changes:
        owner = change.measure.partition(".")[0]
        if sender not in rules.senders.get(owner, {sender}):
            allowed = ", ".join(sorted(rules.senders[owner]))
            return Refusal(Code.DATA_SOURCE_PROTECTED, f"{owner} may be changed by {allowed} only")
    for change in changes:
        if change.measure in rules.reservation_measures:
            return Refusal(Code.MEASURE_RESERVED, f"{change.measure} is made of reservations")
    return None


def _check_quantities(status: TransactionStatus | None, changes: list[_Change]) -> Refusal | None:
    if status is not None and status.quantity < (0 if status.status in ENDED else 1):
        return Refusal(Code.QUANTITY_INVALID, "the transaction's quantity is positive")
    quantities = [change.quantity for change in changes]
    if status is not None:
        quantities.append(status.quantity)
    if any(abs(quantity) > limits.QUANTITY_MAX for quantity in quantities):
        return Refusal(Code.QUANTITY_OUT_OF_RANGE, "a quantity is out of range")
    if len(changes) > limits.CHANGES_MAX:
        return Refusal(Code.TOO_MANY_CHANGES, f"at most {limits.CHANGES_MAX} changes an event")
    return None


def _stage(
    state: PartitionState, event: InventoryTransaction, changes: list[_Change]
) -> _Staged | Refusal:
    """Work out the stock rows without writing them."""
    staged = _Staged()
    leaves = staged.leaves
    counted_at_ms = state.clock_ms
    if event.modified_at_ms is not None:  # One of the future would make all later ones stale.
        counted_at_ms = min(event.modified_at_ms, counted_at_ms)
    for change in changes:
        key = row.leaf_key(change.location.hash, change.dimensions)
        leaf = leaves.get(key) or _read_leaf(state, key, change)
        leaves[key] = leaf
        before = leaf.quantities.get(change.measure, 0)
        after = before + change.quantity
        if event.mode == "SET":
            if counted_at_ms < leaf.counted_at_ms.get(change.measure, 0):
                staged.code = Code.STALE
                continue
            leaf.counted_at_ms[change.measure] = counted_at_ms
            after = change.quantity
        if abs(after) > limits.QUANTITY_SUM_MAX:
            return Refusal(Code.QUANTITY_OUT_OF_RANGE, f"{change.measure} would be out of range")
        leaf.quantities[change.measure] = after
        staged.deltas.append((change, after - before))
    return staged


def _read_leaf(state: PartitionState, key: bytes, change: _Change) -> row.Leaf:
    location = change.location
    stored = location.leaf_rows.get(key) or state.rows.get(key)
    if stored is not None:
        return row.decode_leaf(stored)
    return row.Leaf(
        row.FORMAT, location.organization_id, location.product_id, change.dimensions, {}, {}
    )


def _lowered(state: PartitionState, staged: _Staged) -> Iterator[shrink.Lowered]:
    """Stock rows of which there is less now under some availability."""
    for change, delta in staged.deltas:
        for availability, sign in state.rules.leaf_effects.get(change.measure, ()):
            if sign * delta < 0:
                yield shrink.Lowered(change.location, change.dimensions, availability)


def _apply(state: PartitionState, staged: _Staged) -> None:
    for key, leaf in staged.leaves.items():
        value = row.encode_row(leaf)
        state.put(key, value)
        state.by_hash[row.location_of(key)].remember_leaf(key, value)
    for change, delta in staged.deltas:
        change.location.supply(change.dimensions, change.measure, delta)
