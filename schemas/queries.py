"""What may be asked of the read view, and what it answers: the seam between the view and its users.

The gateway and the command line code against `Queries`; whoever starts them gives them one. The
rule: quantities are integers of 10^-6, names are lower case, and everything told was committed.
The view follows the decisions: it is a moment behind, and `reached` waits for it.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

PRODUCTS_MAX: Final = 5_000  # Products one question may name (IV 4).
# Organizations times sites times warehouses that one question may span without pages (IV 4).
COMBINATIONS_MAX: Final = 10_000
STOCK_ROWS_MAX: Final = 200_000  # Stock rows one question may read; beyond it must be narrowed.
# Products ever seen at the places of one question that names none: as many have a row each.
PLACE_PRODUCTS_MAX: Final = 200_000
HOLDS_PAGE_MAX: Final = 1_000  # Holds of one page.
HOLDS_READ_MAX: Final = 10_000  # Holds looked at for one page, when most of them do not fit.
FAILURES_PAGE_MAX: Final = 1_000
DECISIONS_KEPT: Final = 1_000  # Recent decisions remembered of each partition.


class QueryInvalid(ValueError):
    """The question is wrong or too wide; the text says what to ask instead."""


class ViewUnavailable(Exception):
    """The view cannot answer now: it is being rebuilt, or Redis does not answer. Ask again."""


class Combinations(msgspec.Struct, frozen=True, gc=False):
    """Exact combinations of dimension values (IV 4.6, exact query): one row each, in `names` order.

    The name `organizationid` is allowed too: its value is compared with the organization.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class OnHandQuery(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Question about quantities on hand.

    Attributes:
        organization_ids: at least one; several only where the caller's API allows it.
        product_ids: products; none means all at the sites and warehouses of the filters.
        filters: dimension to the values allowed; an empty list allows all.
        group_by: dimensions that rows are told apart by, beside organization and product.
        combinations: exact combinations; its names are added to `group_by`.
        dimension_data_source: data source in whose names dimensions may be spelled; base names
            are always understood.
        return_negative: also tell quantities below zero. Without it they are left out, and rows of
            which nothing is left.
        page_number: from 1.
        page_size: warehouses a page, in the order of site and warehouse; 0: all at once.

    """

    organization_ids: tuple[str, ...]
    product_ids: tuple[str, ...] = ()
    filters: Mapping[str, tuple[str, ...]] = {}
    group_by: tuple[str, ...] = ()
    combinations: Combinations | None = None
    dimension_data_source: str = ""
    return_negative: bool = True
    page_number: int = 1
    page_size: int = 0


class OnHandRow(msgspec.Struct, frozen=True, gc=False):
    """Quantities of one product at one group of dimension values.

    Attributes:
        dimensions: the dimensions that were grouped by; "" where stock has no value.
        quantities: data source to measure to quantity; physical measures that are there, and every
            calculated measure inside the data source it belongs to.

    """

    organization_id: str
    product_id: str
    dimensions: dict[str, str]
    quantities: dict[str, dict[str, int]]


class OnHandPage(msgspec.Struct, frozen=True, gc=False):
    """Answer to an `OnHandQuery`; `has_more`: there is a page after this one."""

    rows: list[OnHandRow]
    has_more: bool = False


class ProductPage(msgspec.Struct, frozen=True, gc=False):
    """Some products, as organization and product id; with a cursor there are more.

    A walk sees every product that was there throughout it, some of them twice.
    """

    products: list[tuple[str, str]]
    cursor: str = ""


class HoldQuery(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Question for holds, oldest first (soonest due first, if only an expiry window is given).

    If no product, reservation, order, channel, expiry or warehouse is given: warehouse by
    warehouse. Everything given must fit. "" and None do not narrow.

    Attributes:
        product_id: needs `organization_id`.
        dimensions: values that the hold's own dimensions must have; site and warehouse are found
            by an index if the organization is given.
        expires_from_ms: holds that expire at this time or later.
        expires_before_ms: holds that expire before this time. Either leaves out holds that never
            expire.
        cursor: of the page before; "" for the first.
        limit: holds a page.

    """

    organization_id: str = ""
    product_id: str = ""
    dimensions: Mapping[str, str] = {}
    order_id: str = ""
    channel: str = ""
    reservation_id: str = ""
    expires_from_ms: int | None = None
    expires_before_ms: int | None = None
    cursor: str = ""
    limit: int = 100


class HoldView(msgspec.Struct, frozen=True, gc=False):
    """One hold.

    Attributes:
        state: live, or lapsed: expired, and revived only by a confirmation within the grace.
        expires_at_ms: None: never.

    """

    hold_id: str
    reservation_id: str
    organization_id: str
    product_id: str
    dimensions: dict[str, str]
    measure: str
    quantity: int
    original_quantity: int
    state: str
    created_at_ms: int
    expires_at_ms: int | None
    channel: str
    order_id: str
    order_line_id: str
    actor: str
    external_reference: str
    priority: int


class HoldPage(msgspec.Struct, frozen=True, gc=False):
    """Some holds. With a cursor there may be more, even if this page is short or empty."""

    holds: list[HoldView]
    cursor: str = ""


class ReservationView(msgspec.Struct, frozen=True, gc=False):
    """What a reservation id stands for; `reserved`: sum of its live holds."""

    reservation_id: str
    organization_id: str
    product_id: str
    dimensions: dict[str, str]
    measure: str
    reserved: int
    holds: int


class DecisionLine(msgspec.Struct, frozen=True, gc=False):
    """Answer to one line, as in ReservationResult.avsc; "" for an id that does not exist."""

    code: int
    reservation_id: str
    hold_id: str
    quantity: int
    available: int
    invalid_quantity: int = 0
    message: str = ""


class DecisionView(msgspec.Struct, frozen=True, gc=False):
    """What a request (or an inventory transaction's event id) was answered.

    Attributes:
        kind: request or transaction; a transaction's code says how it ended, it has no lines.
        partition: partition that decided it.

    """

    request_id: str
    kind: str
    code: int
    decided_at_ms: int
    partition: int
    lines: list[DecisionLine]


class FailureView(msgspec.Struct, frozen=True, gc=False):
    """An offset that failed and waits until it is retried or dismissed."""

    failure_id: str
    code: int
    organization_id: str
    transaction_id: str
    product_id: str
    dimensions: dict[str, str]
    status: str
    quantity: int
    reservation_id: str
    hold_id: str
    order_id: str
    order_line_id: str
    auto_offset: bool
    event_id: str
    at_ms: int
    tries: int


class FailurePage(msgspec.Struct, frozen=True, gc=False):
    """Some failures, oldest first; with a cursor there are more."""

    failures: list[FailureView]
    cursor: str = ""


class ViewHealth(msgspec.Struct, frozen=True, gc=False):
    """How the view is.

    Attributes:
        state: following, rebuilding (nothing is served), or stalled (served, but no view process
            reported for some seconds).
        generation: name of the build that is served, "" for none.
        lag_records: changelog records not yet applied.
        lag_ms: age of the oldest of them, 0 for none.
        seen_ms_ago: since a view process last reported.

    """

    state: str
    generation: str
    partitions: int
    lag_records: int
    lag_ms: int
    seen_ms_ago: int


class Queries(Protocol):
    """The view's answers.

    Everything but `reached` raises `ViewUnavailable` when the view cannot answer.
    """

    async def on_hand(self, query: OnHandQuery) -> OnHandPage:
        """Physical and calculated measures, grouped and filtered (IV 4.6).

        Raises:
            QueryInvalid: unknown dimension, neither products nor places, or too much at once.

        """
        ...

    async def products(self, cursor: str = "") -> ProductPage:
        """Every product with stock or holds, for those who clean up.

        Raises:
            QueryInvalid: the cursor is not one of ours.

        """
        ...

    async def holds(self, query: HoldQuery) -> HoldPage:
        """Holds that fit.

        Raises:
            QueryInvalid: a bound is exceeded or the cursor is not one of ours.

        """
        ...

    async def hold(self, hold_id: str) -> HoldView | None:
        """One hold; None if it is unknown or gone (released, offset in full, or swept)."""
        ...

    async def reservation(self, reservation_id: str) -> ReservationView | None:
        """What is reserved under a reservation id; None if nothing is."""
        ...

    async def decision(self, request_id: str) -> DecisionView | None:
        """What a request or event id was answered; None if unknown or past the dedupe window."""
        ...

    async def recent_decisions(
        self, limit: int = 100, partition: int | None = None
    ) -> list[DecisionView]:
        """The latest decisions, newest first, at most `DECISIONS_KEPT` of each partition."""
        ...

    async def failures(
        self, organization_id: str = "", cursor: str = "", limit: int = 100
    ) -> FailurePage:
        """Failed offsets that wait, oldest first."""
        ...

    async def failure(self, failure_id: str) -> FailureView | None:
        """One failed offset, None if unknown, retried with success or dismissed."""
        ...

    async def reached(self, partition: int, topic: str, offset: int, within_s: float) -> bool:
        """Wait until the view holds what the source record at this position caused.

        False when it does not within `within_s` seconds, or cannot be told.
        """
        ...

    async def configuration(self) -> dict[str, Any]:
        """The configuration document in force, JSON members as written by `holdfast config`."""
        ...

    async def partitions(self) -> list[str]:
        """Ids of the partitions that hold data."""
        ...

    async def health(self) -> ViewHealth:
        """How the view is; raises `ViewUnavailable` only when Redis does not answer."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...
