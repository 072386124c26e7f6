"""Requests and inventory transactions, put together from what a caller says; pure.

The key of a record decides which partition, and so which owner, its stock has. It is computed here
from the organization and the partition dimensions, by location (`organization|siteid|locationid`)
unless told otherwise. It must be the one that the worker computes, or the record is set aside; so
the dimension names of a data source are mapped as the configuration says.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from producers.channel.ids import new_request_id
from producers.quantity import Quantity, to_unscaled
from schemas.messages import (
    InventoryTransaction,
    LineDetail,
    MeasureChange,
    RequestLine,
    RequestOptions,
    ReservationRequest,
    TransactionStatus,
)
from schemas.partitioning import bucket_key, location_key, product_key

NO_DETAIL = LineDetail()
NO_OPTIONS = RequestOptions()
_SITE: Final = "siteid"
_LOCATION: Final = "locationid"
# Before any configuration is applied the ERP has names of its own already; of them, the key's.
DEFAULT_NAMES: Final = {"fno": {"inventsiteid": _SITE, "inventlocationid": _LOCATION}}


class Item(msgspec.Struct, frozen=True):
    """A product somewhere: what every verb acts on.

    `dimensions` are names (case-insensitive) to values; `dimension_data_source` names the data
    source whose own dimension names they use, empty for the base names.
    """

    organization_id: str
    product_id: str
    dimensions: Mapping[str, str]
    dimension_data_source: str = ""


KeyRule = Callable[[Item], bytes]
"""Gives the record key of an item; must agree with the partition rule of the configuration."""


class Keys:
    """Keys of records by one configuration.

    Attributes:
        names: data source to its own dimension names, each to its base name; lower case.

    """

    def __init__(
        self,
        rule: str = "by-location",
        buckets: int = 64,
        names: Mapping[str, Mapping[str, str]] = DEFAULT_NAMES,
    ) -> None:
        self._rule = rule
        self._buckets = buckets
        self.names = {
            source.lower(): {own.lower(): base.lower() for own, base in mapping.items()}
            for source, mapping in names.items()
        }

    def key(
        self, organization_id: str, product_id: str, dimensions: Mapping[str, str], source: str = ""
    ) -> bytes:
        """Key of a record about a product there; base names in lower case.

        A missing site or location is empty, and the worker refuses it by name.
        """
        if self._rule == "by-product":
            return product_key(organization_id, product_id)
        site, location = dimensions.get(_SITE, ""), dimensions.get(_LOCATION, "")
        if source and not (site and location):
            names = self.names.get(source.lower(), {})
            for name, value in dimensions.items():
                base = names.get(name.lower(), name.lower())
                if base == _SITE:
                    site = site or value
                elif base == _LOCATION:
                    location = location or value
        if self._rule == "by-location":
            return location_key(organization_id, site, location)
        return bucket_key(organization_id, site, location, product_id, buckets=self._buckets)

    def key_of(self, item: Item) -> bytes:
        """Key of an item, its names in any case: a `KeyRule`."""
        values = {name.lower(): value for name, value in item.dimensions.items()}
        return self.key(item.organization_id, item.product_id, values, item.dimension_data_source)


key_by_location: Final[KeyRule] = Keys().key_of  # In force where no configuration was applied.


class BasketLine(msgspec.Struct, frozen=True):
    """One line of a basket: what, how much, and the rare fields."""

    item: Item
    quantity: Quantity
    detail: LineDetail = NO_DETAIL
    measure: str = ""
    check_availability: bool = True


def request_line(
    item: Item,
    quantity: Quantity,
    detail: LineDetail = NO_DETAIL,
    *,
    measure: str = "",
    check_availability: bool = True,
) -> RequestLine:
    """One line; a detail that says nothing is left out, so that the common line decodes fast."""
    return RequestLine(
        product_id=item.product_id,
        dimension_data_source=item.dimension_data_source,
        dimensions=dict(item.dimensions),
        measure=measure,
        quantity=to_unscaled(quantity),
        check_availability=check_availability,
        detail=None if detail == NO_DETAIL else detail,
    )


def request(
    action: str,
    lines: Sequence[RequestLine],
    *,
    request_id: str,
    organization_id: str,
    channel: str,
    options: RequestOptions = NO_OPTIONS,
) -> ReservationRequest:
    """Put a request together; options that say nothing are left out."""
    return ReservationRequest(
        request_id=request_id,
        action=action,
        organization_id=organization_id,
        channel=channel,
        lines=list(lines),
        options=None if options == NO_OPTIONS else options,
    )


def as_sent(asked: ReservationRequest) -> ReservationRequest:
    """The request as it goes out: a dry run under an id of its own.

    Answers are matched by id, whoever asked, and nothing remembers a dry run. Under one id, its
    answer could be taken for that of the request which is asked for real afterwards.
    """
    if asked.options is None or not asked.options.dry_run:
        return asked
    return msgspec.structs.replace(asked, request_id=new_request_id())


def item_of(asked: ReservationRequest, index: int = 0) -> Item:
    """Item of one line of a request, to compute the key from."""
    line = asked.lines[index]
    return Item(asked.organization_id, line.product_id, line.dimensions, line.dimension_data_source)


def on_hand_change(
    event_id: str,
    item: Item,
    changes: Mapping[str, Quantity],
    *,
    source: str,
    mode: str = "ADD",
    modified_at_ms: int | None = None,
    transaction: TransactionStatus | None = None,
) -> InventoryTransaction:
    """Changes of measures, and with them the status of a transaction."""
    return InventoryTransaction(
        event_id=event_id,
        organization_id=item.organization_id,
        product_id=item.product_id,
        dimension_data_source=item.dimension_data_source,
        dimensions=dict(item.dimensions),
        source=source,
        mode=mode,
        modified_at_ms=modified_at_ms,
        changes=[MeasureChange(measure, to_unscaled(value)) for measure, value in changes.items()],
        transaction=transaction,
    )
