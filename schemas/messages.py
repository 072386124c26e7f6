"""The records as Python structs: one class per Avro record, the same field names.

Quantities are integers of 10^-6 (`schemas.limits.QUANTITY_SCALE`); no float touches one. A contract
test holds every struct against its .avsc. `gc=False`: these are trees without cycles, and a batch
makes tens of thousands of them.
"""

import msgspec


class LineDetail(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Rare fields of a request line (ReservationRequest.avsc)."""

    order_id: str = ""
    order_line_id: str = ""
    hold_id: str = ""
    reservation_id: str = ""
    expires_at_ms: int | None = None
    expires_in_ms: int | None = None
    minimum_quantity: int | None = None
    external_reference: str = ""
    target_dimensions: dict[str, str] | None = None
    priority: int = 0


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """One product at one place (ReservationRequest.avsc)."""

    product_id: str
    dimension_data_source: str
    dimensions: dict[str, str]
    measure: str
    quantity: int
    check_availability: bool = True
    detail: LineDetail | None = None


class RequestOptions(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How the request as a whole is treated (ReservationRequest.avsc)."""

    atomic: bool = True
    dry_run: bool = False
    explain: bool = False
    actor: str = ""
    offset_failure_id: str = ""
    configuration: bytes | None = None


class ReservationRequest(msgspec.Struct, frozen=True, gc=False):
    """What an order system asks; `action` is a symbol of the Avro enum Action."""

    request_id: str
    action: str
    organization_id: str
    channel: str
    lines: list[RequestLine]
    options: RequestOptions | None = None


class Term(msgspec.Struct, frozen=True, gc=False):
    """One signed term of an explained availability."""

    measure: str
    quantity: int


class ResultDetail(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """More about a line's answer (ReservationResult.avsc)."""

    invalid_quantity: int = 0
    expires_at_ms: int | None = None
    level: str = ""
    terms: list[Term] = []
    next_free_at_ms: int | None = None
    message: str = ""


class ResultLine(msgspec.Struct, frozen=True, gc=False):
    """Answer to the request's line at the same index."""

    code: int
    reservation_id: str
    hold_id: str
    quantity: int
    available: int
    detail: ResultDetail | None = None


class ReservationResult(msgspec.Struct, frozen=True, gc=False):
    """The one answer to a request (ReservationResult.avsc)."""

    request_id: str
    code: int
    sequence: int
    decided_at_ms: int
    source_offset: int
    replayed: bool
    lines: list[ResultLine]


class MeasureChange(msgspec.Struct, frozen=True, gc=False):
    """One measure of one stock row (InventoryTransaction.avsc)."""

    measure: str
    quantity: int
    dimensions: dict[str, str] | None = None


class TransactionStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An ERP inventory transaction reached a status; `status` is a symbol of the enum Status."""

    transaction_id: str
    status: str
    sequence: int
    quantity: int
    order_id: str = ""
    order_line_id: str = ""
    reservation_id: str = ""
    hold_id: str = ""
    auto_offset: bool = False


class InventoryTransaction(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What an ERP, POS or warehouse tells; `mode` is ADD or SET."""

    event_id: str
    organization_id: str
    product_id: str
    dimension_data_source: str = ""
    dimensions: dict[str, str]
    source: str
    mode: str = "ADD"
    modified_at_ms: int | None = None
    changes: list[MeasureChange] = []
    transaction: TransactionStatus | None = None


class InventoryEvent(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What happened to stock and holds; `event_type` is a symbol of the enum EventType."""

    event_type: str
    code: int
    sequence: int
    at_ms: int
    source_topic: str
    source_offset: int
    source_id: str
    organization_id: str = ""
    product_id: str = ""
    dimensions: dict[str, str] = {}
    transaction_id: str = ""
    reservation_id: str = ""
    hold_id: str = ""
    order_id: str = ""
    channel: str = ""
    quantity: int = 0
    invalid_quantity: int = 0
    available: int = 0
    message: str = ""


class DeadLetter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A record that could not be read or must not be applied, with its bytes and position."""

    code: int
    reason: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
