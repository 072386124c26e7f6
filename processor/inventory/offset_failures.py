"""The list of offsets that failed: tried again, or dismissed by a person.

The rule: an entry stays until its transaction is offset, has no more to be offset, or is dismissed.
One entry a transaction; a later status of the same transaction tries again by itself.
"""

from processor.inventory import offsets, rows as row, splits
from processor.inventory.events import event
from processor.inventory.state import PartitionState
from schemas.codes import Code
from schemas.messages import ReservationRequest, TransactionStatus


def retry_offset(state: PartitionState, request: ReservationRequest) -> Code:
    """Try a failed offset again, as it was told, for as much as is due by now."""
    failure = _entry(state, request)
    if failure is None:
        return Code.FAILURE_UNKNOWN
    values = state.rules.partition_values(failure.dimensions)
    if values is None:  # The partition rule has changed since.
        return Code.PARTITION_DIMENSION_MISSING
    location = state.location(failure.organization_id, failure.product_id, values)
    status = TransactionStatus(
        transaction_id=failure.transaction_id,
        status=failure.status,
        sequence=0,
        quantity=failure.quantity,
        order_id=failure.order_id,
        order_line_id=failure.order_line_id,
        reservation_id=failure.reservation_id,
        hold_id=failure.hold_id,
        auto_offset=failure.auto_offset,
    )
    told = splits.Told(failure.event_id, failure.organization_id, failure.product_id, status)
    ledger = offsets.ledger_of(state, failure.organization_id, failure.transaction_id)
    wanted = offsets.wanted_of(state, ledger.status, ledger.quantity)
    due = min(failure.quantity, wanted - ledger.offset_quantity)
    if due <= 0:
        _drop(state, failure, "nothing is due any more")
        return Code.ACCEPTED
    case = offsets.Case(state, told, (location, failure.dimensions), ledger)
    code = offsets.offset(case, due)
    offsets.write_ledger(state, ledger)
    state.events.extend(offsets.as_event(state, follow_up) for follow_up in case.follow_ups)
    return Code.ACCEPTED if code == Code.OFFSET_APPLIED else code


def dismiss_offset(state: PartitionState, request: ReservationRequest) -> Code:
    """Take an entry off the list; stock and holds stay as they are."""
    failure = _entry(state, request)
    if failure is None:
        return Code.FAILURE_UNKNOWN
    _drop(state, failure, "dismissed")
    return Code.ACCEPTED


def _drop(state: PartitionState, failure: row.Failure, why: str) -> None:
    state.delete(row.failure_key(failure.failure_id))
    state.events.append(
        event(
            state,
            "OFFSET_RESOLVED",
            Code.ACCEPTED,
            organization_id=failure.organization_id,
            product_id=failure.product_id,
            dimensions=failure.dimensions,
            transaction_id=failure.transaction_id,
            reservation_id=failure.reservation_id,
            hold_id=failure.hold_id,
            order_id=failure.order_id,
            quantity=failure.quantity,
            message=why,
        )
    )


def _entry(state: PartitionState, request: ReservationRequest) -> row.Failure | None:
    """The entry of the list that a request names."""
    failure_id = request.options.offset_failure_id if request.options else ""
    value = state.rows.get(row.failure_key(failure_id)) if failure_id else None
    return None if value is None else row.decode_failure(value)
