"""Records of one line about one product, where a test looks only at how they travel."""

from schemas.messages import (
    InventoryTransaction,
    MeasureChange,
    RequestLine,
    ReservationRequest,
)


def reservation(request_id: str, quantity: int = 1) -> ReservationRequest:
    """A reservation."""
    line = RequestLine("P", "", {"siteid": "1"}, "iv.softreserved", quantity)
    return ReservationRequest(request_id, "RESERVE", "usmf", "web", [line])


def on_hand_change(event_id: str) -> InventoryTransaction:
    """An on-hand change."""
    return InventoryTransaction(
        event_id=event_id,
        organization_id="usmf",
        product_id="P",
        dimensions={"siteid": "1"},
        source="api",
        changes=[MeasureChange("pos.inbound", 1)],
    )
