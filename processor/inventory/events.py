"""What happened besides the answer, as events: one place that says which record caused it.

The rule: an event carries the sequence, clock and source of the record under decision, never of the
one that caused the state; so events order with the answers of their partition.
"""

from typing import Any

from processor.inventory import rows as row
from processor.inventory.identity import hold_text
from processor.inventory.state import PartitionState
from processor.inventory.stock import Level, clamp
from schemas.codes import Code
from schemas.messages import InventoryEvent


def event(state: PartitionState, event_type: str, code: Code, **about: Any) -> InventoryEvent:
    """An event of the record under decision; `about` are fields of `InventoryEvent`."""
    return InventoryEvent(
        event_type=event_type,
        code=int(code),
        sequence=state.sequence,
        at_ms=state.clock_ms,
        source_topic=state.source_topic,
        source_offset=state.source_offset,
        source_id=state.source_id,
        **about,
    )


def hold_event(
    state: PartitionState,
    event_type: str,
    code: Code,
    *,
    level: Level,
    number: int,
    hold: row.Hold,
    quantity: int,
    message: str,
) -> InventoryEvent:
    """What happened to one hold, told after its level has been charged.

    Args:
        number: the hold's number within its reservation id.
        quantity: of it that is concerned, millionths.

    """
    place = level.place
    return event(
        state,
        event_type,
        code,
        organization_id=place.organization_id,
        product_id=place.product_id,
        dimensions=place.dimensions,
        reservation_id=level.reservation_id,
        hold_id=hold_text(level.reservation_id, number),
        order_id=hold.order_id,
        channel=hold.channel,
        quantity=quantity,
        available=clamp(level.available()),
        message=message,
    )
