"""Where a record goes: the names and the partition rule of the configuration in force.

The rule: the key that is computed here must be the one the worker computes, or the record is set
aside; so the dimension names of a data source are mapped as the configuration says, and no more of
the configuration is read than that.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from producers.channel.requests import Item
from schemas.partitioning import bucket_key, location_key, product_key

if TYPE_CHECKING:
    from schemas.queries import OnHandQuery

API_SENDER: Final = "api"  # As whom the gateway tells of stock; the ERP is somebody else.
BASE_DIMENSIONS: Final = (  # The closed vocabulary of the original.
    *("colorid", "sizeid", "styleid", "configid", "batchid", "serialid"),
    *("siteid", "locationid", "statusid"),
    *("wmslocationid", "wmspalletid", "licenseplateid", "versionid"),
    *(f"customdimension{number}" for number in range(1, 13)),
    *(f"extendeddimension{number}" for number in range(1, 9)),
)
_SITE: Final = "siteid"
_LOCATION: Final = "locationid"


class Places:
    """Names and keys by one configuration document.

    Attributes:
        by_product: the partition is that of the product: no site or location need be named.
        environment: name of the configuration.
        version: of the configuration.
        questions: what bodies of index queries ask by it, remembered by whoever reads them.
        reservable: dimensions that can be reserved at.
        filters: whether other dimensions of a reservation are ignored, not refused.
        sources: names of the data sources.
        measures: physical measures, as `source.measure`.
        reserved_measures: those that are made of reservations.
        protected: data sources that nobody changes by this interface.

    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        partition = document.get("partition") or {}
        reservation = document["reservation"]
        self._rule = str(partition.get("rule", "by-location"))
        self._buckets = int(partition.get("buckets", 64))
        self._names: dict[str, dict[str, str]] = {
            source: {
                str(external).lower(): str(base).lower()
                for external, base in (content.get("dimension_mappings") or {}).items()
            }
            for source, content in document["data_sources"].items()
        }
        self.document = document
        self.questions: dict[bytes, OnHandQuery] = {}
        self.by_product = self._rule == "by-product"
        self.environment = str(document["environment"])
        self.version = int(document["version"])
        self.reservable = frozenset(reservation["dimensions"])
        self.filters = bool(reservation.get("filter_unconfigured_dimensions", True))
        self.sources = frozenset(self._names)
        self.measures = frozenset(
            f"{source}.{measure}"
            for source, content in document["data_sources"].items()
            for measure in content.get("physical_measures") or ()
        )
        self.reserved_measures = frozenset(reservation["mapping"])
        senders = document.get("protected_sources")
        senders = {"fno": ("fno",)} if senders is None else senders
        self._senders = {name: tuple(who) for name, who in senders.items()}
        self.protected = frozenset(name for name, who in senders.items() if API_SENDER not in who)

    def base_name(self, name: str, data_source: str = "") -> str:
        """Base name of a dimension that a data source may call otherwise."""
        lower = name.lower()
        return self._names.get(data_source, {}).get(lower, lower)

    def sender_of(self, source: str) -> str:
        """Who may change a data source's measures: its ERP, or this interface."""
        senders = self._senders.get(source) or (API_SENDER,)
        return str(senders[0])

    def key(
        self, organization_id: str, product_id: str, dimensions: Mapping[str, str], source: str = ""
    ) -> bytes:
        """Key of a record about a product there. A missing site or location is empty."""
        if self.by_product:
            return product_key(organization_id, product_id)
        site, location = dimensions.get(_SITE, ""), dimensions.get(_LOCATION, "")
        if source and not (site and location):
            names = self._names.get(source.lower(), {})
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
        """Key rule for the channel client and baskets."""
        values = {name.lower(): value for name, value in item.dimensions.items()}
        return self.key(
            item.organization_id, item.product_id, values, item.dimension_data_source.lower()
        )

    def unconfigured(self, dimensions: Mapping[str, str], source: str = "") -> str:
        """The first dimension that a reservation may not name; empty when there is none.

        Also one whose value is empty: the original refuses the name.
        """
        if self.filters:
            return ""
        for name in dimensions:
            if self.base_name(name, source.lower()) not in self.reservable:
                return name
        return ""
