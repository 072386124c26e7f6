"""What /v1 is asked: bodies and query strings as structs, which are also its OpenAPI document."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from producers.gateway.v1.exact import Quantity
from schemas import limits
from schemas.queries import FAILURES_PAGE_MAX, HOLDS_PAGE_MAX

PRINTABLE: Final = r"^[^\x00-\x1f\x7f]*$"
NAME_LENGTH_MAX: Final = 65  # A measure or a dimension of the configuration.
BASKET_ID_LENGTH_MAX: Final = limits.REQUEST_ID_LENGTH_MAX - len(":511:release")
TIME_MS_MAX: Final = 2**53  # Numbers beyond it are not exact in every JSON reader.
PARTITION_MAX: Final = 100_000
RECENT_MAX: Final = 1_000

RequestId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.REQUEST_ID_LENGTH_MAX,
        pattern=PRINTABLE,
        description="Names the request: asked again, it is answered what it was answered first. "
        "Made by the gateway when it is left out; a retry is not safe then.",
    ),
]
Organization = Annotated[
    str, Meta(min_length=1, max_length=limits.ORGANIZATION_LENGTH_MAX, pattern=PRINTABLE)
]
Product = Annotated[
    str, Meta(min_length=1, max_length=limits.PRODUCT_LENGTH_MAX, pattern=PRINTABLE)
]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH_MAX, pattern=PRINTABLE)]
Value = Annotated[str, Meta(max_length=limits.DIMENSION_VALUE_LENGTH_MAX, pattern=PRINTABLE)]
Dimensions = Annotated[
    dict[Name, Value],
    Meta(
        max_length=limits.DIMENSIONS_MAX,
        description="Dimension names, in any case, to values.",
        examples=[{"siteId": "1", "locationId": "11", "colorId": "red"}],
    ),
]
OptionalName = Annotated[str, Meta(max_length=NAME_LENGTH_MAX, pattern=PRINTABLE)]
Text = Annotated[str, Meta(max_length=limits.TEXT_LENGTH_MAX, pattern=PRINTABLE)]
Reference = Annotated[str, Meta(max_length=limits.REFERENCE_LENGTH_MAX, pattern=PRINTABLE)]
TimeMs = Annotated[
    int, Meta(ge=0, le=TIME_MS_MAX, description="Milliseconds since 1970-01-01T00:00:00Z.")
]
SpanMs = Annotated[
    int, Meta(ge=1, le=limits.EXPIRY_MAX_MS, description="Milliseconds after the decision.")
]
HoldMs = Annotated[int, Meta(ge=1_000, le=3_600_000)]
Priority = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]


class _Asked(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    gc=False,
    rename="camel",
    forbid_unknown_fields=True,
):
    """Names are camel case, and unknown ones are refused."""


class Subject(_Asked, frozen=True, kw_only=True):
    """A product somewhere."""

    organization_id: Organization
    product_id: Product
    dimensions: Dimensions = {}
    dimension_data_source: OptionalName = ""


class _Wanted(Subject, frozen=True, kw_only=True):
    """How much of it is wanted, for whom and under which conditions."""

    quantity: Quantity
    measure: OptionalName = ""
    check_availability: bool = True
    minimum_quantity: Quantity | None = None
    order_id: Text = ""
    order_line_id: Text = ""
    external_reference: Reference = ""
    priority: Priority = 0


class ReservationBody(_Wanted, frozen=True, kw_only=True):
    """One reservation. `dryRun` asks what would be answered; `explain` why."""

    request_id: RequestId = ""
    expires_in_ms: SpanMs | None = None
    expires_at_ms: TimeMs | None = None
    dry_run: bool = False
    explain: bool = False
    actor: Text = ""


class BasketLineBody(_Wanted, frozen=True, kw_only=True):
    """One line of a basket."""


class BasketBody(_Asked, frozen=True, kw_only=True):
    """Lines that are held together or not at all, wherever their stock lies.

    `holdMs` is how long parts are held while the basket is decided, `expiresInMs` how long all of
    it is held afterwards (left out: until it is released or offset).
    """

    lines: Annotated[list[BasketLineBody], Meta(min_length=1, max_length=limits.LINES_MAX)]
    basket_id: Annotated[str, Meta(max_length=BASKET_ID_LENGTH_MAX, pattern=PRINTABLE)] = ""
    expires_in_ms: SpanMs | None = None
    hold_ms: HoldMs = 60_000
    actor: Text = ""


class ConfirmBody(_Asked, frozen=True, kw_only=True):
    """Act on one hold.

    The hold's product and place are looked up in the read view; `subject` (and `measure`, if it is
    not the usual one) say them instead, for a caller that cannot wait for the view.
    """

    request_id: RequestId = ""
    subject: Subject | None = None
    measure: OptionalName = ""
    actor: Text = ""


class ReleaseBody(ConfirmBody, frozen=True, kw_only=True):
    """Give back a hold; all that is left of it when no quantity is named."""

    quantity: Quantity | None = None


class ExtendBody(ConfirmBody, frozen=True, kw_only=True):
    """Move a hold's expiry: one of the two."""

    expires_in_ms: SpanMs | None = None
    expires_at_ms: TimeMs | None = None


class AmendBody(ConfirmBody, frozen=True, kw_only=True):
    """Change what is left of a hold, up or down, without a gap."""

    quantity: Quantity


class TransferBody(ConfirmBody, frozen=True, kw_only=True):
    """Move a hold to other dimension values of its partition.

    `quantity`: how much it holds there; what it held beyond that is given back. Default: all of it.
    """

    target_dimensions: Dimensions
    quantity: Quantity | None = None


class AvailabilityBody(Subject, frozen=True, kw_only=True):
    """What could be held there? With `quantity`, whether that much could be."""

    measure: OptionalName = ""
    quantity: Quantity | None = None


class FailureBody(_Asked, frozen=True, kw_only=True):
    """Act on a failed offset."""

    request_id: RequestId = ""
    actor: Text = ""


class HoldsParameters(_Asked, frozen=True, kw_only=True):
    """Filters of the list of holds: all given ones must fit."""

    organization_id: Annotated[
        str, Meta(max_length=limits.ORGANIZATION_LENGTH_MAX, pattern=PRINTABLE)
    ] = ""
    product_id: Annotated[
        str,
        Meta(
            max_length=limits.PRODUCT_LENGTH_MAX,
            pattern=PRINTABLE,
            description="Needs organizationId.",
        ),
    ] = ""
    dimensions: Dimensions = {}
    order_id: Text = ""
    channel: Annotated[str, Meta(max_length=limits.CHANNEL_LENGTH_MAX, pattern=PRINTABLE)] = ""
    reservation_id: Text = ""
    expires_from_ms: TimeMs | None = None
    expires_before_ms: TimeMs | None = None
    cursor: Annotated[str, Meta(max_length=1_024, pattern=PRINTABLE)] = ""
    limit: Annotated[int, Meta(ge=1, le=HOLDS_PAGE_MAX)] = 100


class FailuresParameters(_Asked, frozen=True, kw_only=True):
    """Filters of the list of failed offsets."""

    organization_id: Annotated[
        str, Meta(max_length=limits.ORGANIZATION_LENGTH_MAX, pattern=PRINTABLE)
    ] = ""
    cursor: Annotated[str, Meta(max_length=1_024, pattern=PRINTABLE)] = ""
    limit: Annotated[int, Meta(ge=1, le=FAILURES_PAGE_MAX)] = 100


class RecentParameters(_Asked, frozen=True, kw_only=True):
    """Which of the latest decisions."""

    limit: Annotated[int, Meta(ge=1, le=RECENT_MAX)] = 100
    partition: Annotated[int, Meta(ge=0, le=PARTITION_MAX)] | None = None


class EventsParameters(_Asked, frozen=True, kw_only=True):
    """What of the stream is wanted: all given ones must fit."""

    organization_id: Annotated[
        str, Meta(max_length=limits.ORGANIZATION_LENGTH_MAX, pattern=PRINTABLE)
    ] = ""
    product_id: Annotated[str, Meta(max_length=limits.PRODUCT_LENGTH_MAX, pattern=PRINTABLE)] = ""
    site_id: Value = ""
    location_id: Value = ""
    channel: Annotated[str, Meta(max_length=limits.CHANNEL_LENGTH_MAX, pattern=PRINTABLE)] = ""
    last_event_id: Annotated[
        str,
        Meta(
            max_length=128,
            pattern=PRINTABLE,
            description="As the Last-Event-ID header, for readers that cannot set one.",
        ),
    ] = ""


class NoParameters(_Asked, frozen=True, kw_only=True):
    """No parameter is taken."""
