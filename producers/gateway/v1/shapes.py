"""What /v1 answers: structs that are encoded as they stand, and described so in OpenAPI."""

from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta

from producers.channel.outcomes import code_name
from producers.gateway.v1.exact import Quantity
from schemas.messages import (
    InventoryEvent,
    RequestLine,
    ReservationRequest,
    ReservationResult,
    ResultDetail,
    ResultLine,
)
from schemas.queries import DecisionLine, DecisionView, FailureView, HoldView, ReservationView

TimeMs = Annotated[int, Meta(description="Milliseconds since 1970-01-01T00:00:00Z.")]
CodeName = Annotated[str, Meta(description="Name of the outcome, from the numbered list.")]


class _Shape(
    msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel", omit_defaults=True
):
    """Names are camel case; what says nothing is left out."""


class TermShape(_Shape, frozen=True, kw_only=True):
    """One signed term of an availability."""

    measure: str
    quantity: Quantity


class LineShape(_Shape, frozen=True, kw_only=True):
    """Answer to one line.

    `available` is what could be held after the decision; `level` and `terms` explain it;
    `nextFreeAtMs` is the next time at which a hold there ends by its expiry.
    """

    code: CodeName
    reservation_id: str = ""
    hold_id: str = ""
    quantity: Quantity
    available: Quantity
    invalid_quantity: Quantity | None = None
    expires_at_ms: TimeMs | None = None
    level: str = ""
    terms: list[TermShape] | None = None
    next_free_at_ms: TimeMs | None = None
    message: str = ""

    @classmethod
    def of(cls, line: ResultLine | DecisionLine) -> Self:
        """Shape of a result's line, or of the view's."""
        return cls(**members_of(line))


def members_of(line: ResultLine | DecisionLine) -> dict[str, Any]:
    """Members of a `LineShape`."""
    members: dict[str, Any] = {
        "code": code_name(line.code),
        "reservation_id": line.reservation_id,
        "hold_id": line.hold_id,
        "quantity": Quantity(line.quantity),
        "available": Quantity(line.available),
    }
    if isinstance(line, DecisionLine):
        if line.invalid_quantity:
            members["invalid_quantity"] = Quantity(line.invalid_quantity)
        members["message"] = line.message
    elif line.detail is not None:
        members |= _detail(line.detail)
    return members


def _detail(detail: ResultDetail) -> dict[str, Any]:
    members: dict[str, Any] = {
        "expires_at_ms": detail.expires_at_ms,
        "level": detail.level,
        "next_free_at_ms": detail.next_free_at_ms,
        "message": detail.message,
    }
    if detail.invalid_quantity:
        members["invalid_quantity"] = Quantity(detail.invalid_quantity)
    if detail.terms:
        members["terms"] = [
            TermShape(measure=term.measure, quantity=Quantity(term.quantity))
            for term in detail.terms
        ]
    return members


class DecidedShape(LineShape, frozen=True, kw_only=True):
    """Answer to a request of one line. `replayed`: it was decided before, under the same id."""

    request_id: str
    decided_at_ms: TimeMs
    replayed: bool = False


class PendingShape(_Shape, frozen=True, kw_only=True):
    """The request was sent, and its outcome is not known yet; `Location` says where it will be."""

    request_id: str
    code: Literal["PENDING"]
    message: str


class AvailabilityShape(_Shape, frozen=True, kw_only=True):
    """What could be held at this moment. `sufficient` answers a quantity that was asked for."""

    available: Quantity
    reservation_id: str
    level: str = ""
    terms: list[TermShape] | None = None
    next_free_at_ms: TimeMs | None = None
    sufficient: bool | None = None
    message: str = ""
    decided_at_ms: TimeMs


class BasketShape(_Shape, frozen=True, kw_only=True):
    """How a basket ended.

    `code`: ACCEPTED; BASKET_REFUSED: a part was refused, all of it was given back; PENDING: not
    known, ask the same basket again. A line without an answer is null.
    """

    basket_id: str
    code: CodeName
    lines: list[LineShape | None]
    reasons: list[str] | None = None
    unfinished: list[str] | None = None


class HoldShape(_Shape, frozen=True, kw_only=True):
    """One hold. `state`: live, or lapsed (expired; a confirmation within the grace revives it)."""

    hold_id: str
    reservation_id: str
    organization_id: str
    product_id: str
    dimensions: dict[str, str]
    measure: str
    quantity: Quantity
    original_quantity: Quantity
    state: str
    created_at_ms: TimeMs
    expires_at_ms: TimeMs | None = None
    channel: str = ""
    order_id: str = ""
    order_line_id: str = ""
    actor: str = ""
    external_reference: str = ""
    priority: int = 0

    @classmethod
    def of(cls, hold: HoldView) -> Self:
        """Shape of the view's hold."""
        members = msgspec.structs.asdict(hold)
        members["quantity"] = Quantity(hold.quantity)
        members["original_quantity"] = Quantity(hold.original_quantity)
        return cls(**members)


class HoldsShape(_Shape, frozen=True, kw_only=True):
    """Some holds; with a cursor there may be more, even if this page is short or empty."""

    holds: list[HoldShape]
    cursor: str = ""


class ReservationShape(_Shape, frozen=True, kw_only=True):
    """What a reservation id stands for; `reserved`: the sum of its live holds."""

    reservation_id: str
    organization_id: str
    product_id: str
    dimensions: dict[str, str]
    measure: str
    reserved: Quantity
    holds: int

    @classmethod
    def of(cls, reservation: ReservationView) -> Self:
        """Shape of the view's reservation."""
        members = msgspec.structs.asdict(reservation)
        members["reserved"] = Quantity(reservation.reserved)
        return cls(**members)


class DecisionShape(_Shape, frozen=True, kw_only=True):
    """What a request, or an inventory transaction's event id, was answered."""

    request_id: str
    kind: str
    code: CodeName
    decided_at_ms: TimeMs
    partition: int
    lines: list[LineShape]

    @classmethod
    def of(cls, decision: DecisionView) -> Self:
        """Shape of the view's decision."""
        return cls(
            request_id=decision.request_id,
            kind=decision.kind,
            code=code_name(decision.code),
            decided_at_ms=decision.decided_at_ms,
            partition=decision.partition,
            lines=[LineShape.of(line) for line in decision.lines],
        )


class DecisionsShape(_Shape, frozen=True, kw_only=True):
    """The latest decisions, newest first."""

    decisions: list[DecisionShape]


class FailureShape(_Shape, frozen=True, kw_only=True):
    """An offset that failed and waits until it is retried or dismissed."""

    failure_id: str
    code: CodeName
    organization_id: str
    transaction_id: str
    product_id: str
    dimensions: dict[str, str]
    status: str
    quantity: Quantity
    reservation_id: str = ""
    hold_id: str = ""
    order_id: str = ""
    order_line_id: str = ""
    auto_offset: bool = False
    event_id: str = ""
    at_ms: TimeMs
    tries: int

    @classmethod
    def of(cls, failure: FailureView) -> Self:
        """Shape of the view's failure."""
        members = msgspec.structs.asdict(failure)
        members["code"] = code_name(failure.code)
        members["quantity"] = Quantity(failure.quantity)
        return cls(**members)


class FailuresShape(_Shape, frozen=True, kw_only=True):
    """Some failed offsets, oldest first; with a cursor there are more."""

    failures: list[FailureShape]
    cursor: str = ""


class ControlShape(_Shape, frozen=True, kw_only=True):
    """Answer to a retry or a dismissal."""

    request_id: str
    code: CodeName
    decided_at_ms: TimeMs
    replayed: bool = False


class ProblemShape(_Shape, frozen=True, kw_only=True):
    """RFC 9457. A refusal by the stock also carries the members of its decision."""

    type: str
    title: str
    status: int
    detail: str


class AskedShape(_Shape, frozen=True, kw_only=True):
    """What one line of a decision asked for, where that is known, and its answer."""

    product_id: str = ""
    dimensions: dict[str, str] = {}
    measure: str = ""
    asked: Quantity | None = None
    order_id: str = ""
    code: CodeName
    reservation_id: str = ""
    hold_id: str = ""
    quantity: Quantity
    available: Quantity


class DecidedEvent(_Shape, frozen=True, kw_only=True):
    """Event `decision`. Without `action` its request was made before the stream began to read."""

    partition: int
    sequence: int
    request_id: str
    code: CodeName
    decided_at_ms: TimeMs
    action: str = ""
    organization_id: str = ""
    channel: str = ""
    lines: list[AskedShape]

    @classmethod
    def of(
        cls, partition: int, result: ReservationResult, request: ReservationRequest | None
    ) -> Self:
        """Event of a result and, where it is known, its request."""
        asked: list[RequestLine | None] = [*request.lines] if request else []
        if len(asked) != len(result.lines):
            asked = [None] * len(result.lines)
        lines = [_asked(*pair) for pair in zip(asked, result.lines, strict=True)]
        return cls(
            partition=partition,
            sequence=result.sequence,
            request_id=result.request_id,
            code=code_name(result.code),
            decided_at_ms=result.decided_at_ms,
            action=request.action if request else "",
            organization_id=request.organization_id if request else "",
            channel=request.channel if request else "",
            lines=lines,
        )


def _asked(line: RequestLine | None, answered: ResultLine) -> AskedShape:
    known: dict[str, Any] = {}
    if line is not None:
        known = {
            "product_id": line.product_id,
            "dimensions": line.dimensions,
            "measure": line.measure,
            "asked": Quantity(line.quantity),
            "order_id": line.detail.order_id if line.detail else "",
        }
    return AskedShape(
        **known,
        code=code_name(answered.code),
        reservation_id=answered.reservation_id,
        hold_id=answered.hold_id,
        quantity=Quantity(answered.quantity),
        available=Quantity(answered.available),
    )


class StockEvent(_Shape, frozen=True, kw_only=True):
    """Event of an inventory transaction or of what followed from one, or from time.

    Its kind is the event's name: transaction, offset-applied, offset-failed, offset-reverted,
    offset-resolved, hold-expired, hold-short, supply-short, configuration, drift.
    """

    partition: int
    sequence: int
    code: CodeName
    at_ms: TimeMs
    source_id: str
    organization_id: str = ""
    product_id: str = ""
    dimensions: dict[str, str] = {}
    transaction_id: str = ""
    reservation_id: str = ""
    hold_id: str = ""
    order_id: str = ""
    channel: str = ""
    quantity: Quantity
    invalid_quantity: Quantity
    available: Quantity
    message: str = ""

    @classmethod
    def of(cls, partition: int, event: InventoryEvent) -> Self:
        """Event as it was committed."""
        return cls(
            partition=partition,
            sequence=event.sequence,
            code=code_name(event.code),
            at_ms=event.at_ms,
            source_id=event.source_id,
            organization_id=event.organization_id,
            product_id=event.product_id,
            dimensions=event.dimensions,
            transaction_id=event.transaction_id,
            reservation_id=event.reservation_id,
            hold_id=event.hold_id,
            order_id=event.order_id,
            channel=event.channel,
            quantity=Quantity(event.quantity),
            invalid_quantity=Quantity(event.invalid_quantity),
            available=Quantity(event.available),
            message=event.message,
        )
