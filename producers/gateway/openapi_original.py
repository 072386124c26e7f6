"""The original's interface in OpenAPI: bodies and answers as structs, and the list of its paths.

These structs describe; what reads the bodies is `producers.gateway.api`, which also takes names in
any case. A contract test asks a running gateway what this document allows.
"""

from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import Meta

from producers.gateway.v1.bodies import (
    Dimensions,
    OptionalName,
    Organization,
    Product,
    RequestId,
    Text,
)
from producers.gateway.v1.exact import Quantity
from producers.security.caller import Scope
from schemas import limits

BASE: Final = "/api/environment/{environmentId}/"
Measures = Annotated[dict[str, Quantity], Meta(min_length=1)]
Quantities = Annotated[
    dict[str, Measures],
    Meta(min_length=1, examples=[{"pos": {"inbound": 10}}], description="Source to measures."),
]
Texts = list[str]
Bulk = Meta(min_length=1, max_length=limits.LINES_MAX)


class _Original(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """Names as the original writes them; unknown ones are left alone."""


class Record(_Original, frozen=True, kw_only=True):
    """What every record names. `id` makes a retry safe: the same again is the first answer."""

    id: RequestId
    organization_id: Organization
    product_id: Product
    dimension_data_source: OptionalName = ""
    dimensions: Dimensions = {}


class OnHandChange(Record, frozen=True, kw_only=True):
    """Deltas of physical measures; in setonhand counted values."""

    quantities: Quantities
    modified_date_time_utc: str = msgspec.field(default="", name="modifiedDateTimeUTC")


class Reservation(Record, frozen=True, kw_only=True):
    """One reservation."""

    dimensions: Dimensions
    quantity_data_source: OptionalName
    modifier: OptionalName
    quantity: Quantity
    if_check_avail_for_reserv: bool = True


class Unreservation(Record, frozen=True, kw_only=True):
    """Give back by reservation id."""

    dimensions: Dimensions
    reservation_id: Text
    offset_qty: Quantity = msgspec.field(name="OffsetQty")


class IndexFilters(_Original, frozen=True, kw_only=True):
    """Any dimension may be a filter too, as a list of texts."""

    organization_id: Annotated[Texts, Meta(min_length=1, max_length=64)]
    product_id: Annotated[Texts, Meta(max_length=5_000)] = []


class IndexQuery(_Original, frozen=True, kw_only=True):
    """Quantities at any grouping."""

    filters: IndexFilters
    group_by_values: Texts = []
    return_negative: bool = False
    dimension_data_source: OptionalName = ""


class ExactFilters(_Original, frozen=True, kw_only=True):
    """Combinations of dimension values."""

    organization_id: Texts = []
    product_id: Texts = []
    dimensions: Annotated[Texts, Meta(min_length=1)]
    values: Annotated[list[Texts], Meta(min_length=1)]


class ExactQuery(_Original, frozen=True, kw_only=True):
    """Quantities at exact combinations."""

    filters: ExactFilters
    group_by_values: Texts = []
    return_negative: bool = False
    dimension_data_source: OptionalName = ""


class ChangeAnswer(_Original, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to one change."""

    id: str
    processing_status: str
    message: str
    status_code: int
    code: str = ""


class ReservationAnswer(ChangeAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to one reservation; `statusCode` is the original's, in the body."""

    reservation_id: str = ""
    hold_id: str = ""
    available: Quantity | None = None


class UnreservationAnswer(ReservationAnswer, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to one unreservation."""

    total_invalid_offset_qty_by_reserv_id: Quantity | None = None


class OnHandRow(_Original, frozen=True, kw_only=True, omit_defaults=True):
    """Quantities of a product at one group of dimension values; names in lower case."""

    organization_id: str = ""
    product_id: str
    dimensions: dict[str, str]
    quantities: dict[str, dict[str, Quantity]]


class JobAnswer(_Original, frozen=True, kw_only=True):
    """A job that was started."""

    job_id: str
    processing_status: str
    message: str
    status_code: int


class JobProgress(_Original, frozen=True, kw_only=True, omit_defaults=True):
    """How far a job is."""

    job_id: str
    status: str
    processed: int = 0
    message: str
    status_code: int


class WipeAnswer(_Original, frozen=True, kw_only=True):
    """What was set to nought."""

    released_holds: int
    cleared_rows: int
    processing_status: str
    message: str
    status_code: int


class Path(NamedTuple):
    """One method of one path under `BASE`."""

    name: str
    method: str
    path: str
    scope: Scope
    summary: str
    answered: Any
    asked: Any = None
    parameters: tuple[str, ...] = ()


PATHS: Final[tuple[Path, ...]] = (
    Path(
        "changeOnHand",
        "POST",
        "onhand",
        "onhand.write",
        "Change physical measures",
        ChangeAnswer,
        OnHandChange,
    ),
    Path(
        "changeOnHandBulk",
        "POST",
        "onhand/bulk",
        "onhand.write",
        "Many changes",
        list[ChangeAnswer],
        Annotated[list[OnHandChange], Bulk],
    ),
    Path(
        "setOnHandBulk",
        "POST",
        "setonhand/{inventorySystem}/bulk",
        "onhand.write",
        "Counted values of a data source",
        list[ChangeAnswer],
        Annotated[list[OnHandChange], Bulk],
    ),
    Path(
        "reserveOnHand",
        "POST",
        "onhand/reserve",
        "reserve",
        "Reserve",
        ReservationAnswer,
        Reservation,
    ),
    Path(
        "reserveOnHandBulk",
        "POST",
        "onhand/reserve/bulk",
        "reserve",
        "Many reservations, each for itself",
        list[ReservationAnswer],
        Annotated[list[Reservation], Bulk],
    ),
    Path(
        "unreserveOnHand",
        "POST",
        "onhand/unreserve",
        "reserve",
        "Give back by reservation id",
        UnreservationAnswer,
        Unreservation,
    ),
    Path(
        "unreserveOnHandBulk",
        "POST",
        "onhand/unreserve/bulk",
        "reserve",
        "Give back many",
        list[UnreservationAnswer],
        Annotated[list[Unreservation], Bulk],
    ),
    Path(
        "releaseEverything",
        "POST",
        "onhand/reserve/resyncjob",
        "admin",
        "Release what is reserved under data sources",
        JobAnswer,
        Texts,
    ),
    Path(
        "getJobProgress",
        "GET",
        "getJobProgress",
        "read",
        "How far a job is",
        JobProgress,
        parameters=("jobId",),
    ),
    Path(
        "queryOnHand",
        "POST",
        "onhand/indexquery",
        "read",
        "Quantities at any grouping",
        list[OnHandRow],
        IndexQuery,
    ),
    Path(
        "queryOnHandExactly",
        "POST",
        "onhand/exactquery",
        "read",
        "Quantities at exact combinations",
        list[OnHandRow],
        ExactQuery,
    ),
    Path(
        "getOnHand",
        "GET",
        "onhand",
        "read",
        "The same by query string; lists with commas",
        list[OnHandRow],
        parameters=("organizationId", "productId", "siteId", "locationId", "groupBy"),
    ),
    Path("listPartitions", "GET", "allpartitionids", "admin", "Ids of partitions", Texts),
    Path(
        "wipePartitions",
        "DELETE",
        "partitions/cleanupalldata",
        "admin",
        "Set all stock of partitions to nought, where that is allowed",
        WipeAnswer,
        Texts,
    ),
    Path(
        "wipePartitionsShortly",
        "DELETE",
        "cleanupalldata",
        "admin",
        "The same, as the original's tests write it",
        WipeAnswer,
        Texts,
    ),
    Path(
        "getConfiguration",
        "GET",
        "configuration",
        "read",
        "The document in force",
        dict[str, Any],
    ),
    Path(
        "updateConfiguration",
        "POST",
        "configuration/hardupdate",
        "admin",
        "Put a document to work",
        dict[str, Any],
        dict[str, Any],
    ),
)
