"""Records of one line about one product, where a test looks only at how they travel."""

import uuid
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Producer

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


def in_transactions(
    kafka: dict[str, Any], topic: str, *transactions: tuple[bool, Sequence[tuple[bytes, bytes]]]
) -> None:
    """Write rows to partition 0 of a topic: each transaction committed (True) or aborted."""
    producer = Producer({**kafka, "transactional.id": f"tests-{uuid.uuid4().hex}"})
    producer.init_transactions(30)
    for is_committed, rows in transactions:
        producer.begin_transaction()
        for key, value in rows:
            producer.produce(topic, key=key, value=value, partition=0)
        assert producer.flush(30) == 0  # What is aborted has come to the log before.
        if is_committed:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)
