"""Where a record goes: the names and the partition rule of the configuration in force.

The rule: keys are computed as the channel client computes them (`producers.channel.requests`), and
no more of the configuration is read than names and rule.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from producers.channel.requests import Keys

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


class Places:
    """Names and keys by one configuration document.

    Attributes:
        key: of a record about a product somewhere, see `Keys.key`.
        key_of: key rule for the channel client and baskets, see `Keys.key_of`.
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
        rule = str(partition.get("rule", "by-location"))
        keys = Keys(
            rule,
            int(partition.get("buckets", 64)),
            {
                source: content.get("dimension_mappings") or {}
                for source, content in document["data_sources"].items()
            },
        )
        self._names = keys.names
        self.key = keys.key
        self.key_of = keys.key_of
        self.document = document
        self.questions: dict[bytes, OnHandQuery] = {}
        self.by_product = rule == "by-product"
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
