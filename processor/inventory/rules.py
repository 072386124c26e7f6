"""What the decision needs of the configuration, worked out once.

The rule: nothing here changes after it was made; a new configuration makes new rules, and every
level is derived from holds and stock rows anew. Names are lower case inside; dimension values keep
their case.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from schemas.partitioning import location_key

BASE_DIMENSIONS: Final = frozenset(
    [
        *("colorid", "sizeid", "styleid", "configid", "batchid", "serialid", "siteid"),
        *("locationid", "statusid", "wmslocationid", "wmspalletid", "licenseplateid", "versionid"),
        *(f"customdimension{number}" for number in range(1, 13)),
        *(f"extendeddimension{number}" for number in range(1, 9)),
    ]
)
PARTITION_BY_LOCATION: Final = ("siteid", "locationid")


class Availability(NamedTuple):
    """One calculated measure that reservations are checked against: a signed sum of measures."""

    number: int
    name: str
    terms: Mapping[str, int]


class ReservationMeasure(NamedTuple):
    """A measure that can be reserved.

    Attributes:
        availability: index of the availability that its reservations are checked against.
        effects: (availability, sign) for every availability that counts this measure.

    """

    name: str
    availability: int
    effects: tuple[tuple[int, int], ...]


class ChannelExpiry(NamedTuple):
    """How long holds of a channel live, in milliseconds; None: for good, or as long as allowed."""

    default_ms: int | None
    maximum_ms: int | None


class OffsetRules(NamedTuple):
    """When and how the status of an ERP transaction offsets a reservation (IV 6).

    Attributes:
        on_order: the modifier: true for OnOrder, false for Reserve.
        mask: dimensions that need not match, for example the batch that a web shop never knew.
        reinstate: what a step back down the ladder does: re-instate the hold, or nothing.

    """

    enabled: bool = True
    on_order: bool = False
    mask: frozenset[str] = frozenset()
    reinstate: bool = True


class Rules:
    """The compiled configuration of one partition."""

    __slots__ = (
        "availabilities",
        "channels",
        "default_measure",
        "filter_unconfigured",
        "grace_ms",
        "hierarchical",
        "hierarchy",
        "leaf_effects",
        "measures",
        "offsets",
        "partition_dimensions",
        "protected_sources",
        "reservable",
        "reservation_enabled",
        "reservation_measures",
        "shrink",
        "sources",
        "subset",
        "version",
    )

    def __init__(
        self,
        *,
        sources: Mapping[str, Mapping[str, str]],
        measures: Iterable[str],
        calculated: Mapping[str, Mapping[str, int]],
        mapping: Mapping[str, str],
        reservation_dimensions: Iterable[str],
        partition_dimensions: tuple[str, ...] = PARTITION_BY_LOCATION,
        subset: bool = False,
        hierarchical: bool = True,
        filter_unconfigured: bool = True,
        reservation_enabled: bool = True,
        protected_sources: Iterable[str] = ("fno",),
        channels: Mapping[str, ChannelExpiry] | None = None,
        grace_ms: int = 0,
        offsets: OffsetRules | None = None,
        shrink: str = "keep-and-alert",
        version: int = 0,
    ) -> None:
        self.version = version
        self.sources = {name: dict(names) for name, names in sources.items()}
        self.measures = frozenset(measures)
        self.partition_dimensions = partition_dimensions
        self.hierarchy = tuple(
            name for name in reservation_dimensions if name not in partition_dimensions
        )
        self.reservable = frozenset(self.hierarchy) | frozenset(partition_dimensions)
        self.subset = subset
        self.hierarchical = hierarchical
        self.filter_unconfigured = filter_unconfigured
        self.reservation_enabled = reservation_enabled
        self.protected_sources = frozenset(protected_sources)
        self.channels = dict(channels or {})
        self.grace_ms = grace_ms
        self.offsets = offsets or OffsetRules()
        self.shrink = shrink
        self._compile_measures(calculated, mapping)

    def _compile_measures(
        self, calculated: Mapping[str, Mapping[str, int]], mapping: Mapping[str, str]
    ) -> None:
        names = list(dict.fromkeys(mapping.values()))
        self.availabilities = tuple(
            Availability(index, name, dict(calculated[name])) for index, name in enumerate(names)
        )
        self.reservation_measures = {
            measure: ReservationMeasure(measure, names.index(target), self._effects(measure))
            for measure, target in mapping.items()
        }
        self.default_measure = next(iter(mapping), "")
        self.leaf_effects = {
            measure: self._effects(measure)
            for measure in self.measures
            if measure not in mapping and self._effects(measure)
        }

    def _effects(self, measure: str) -> tuple[tuple[int, int], ...]:
        return tuple(
            (availability.number, availability.terms[measure])
            for availability in self.availabilities
            if measure in availability.terms
        )

    def reservation_measure(self, name: str) -> ReservationMeasure:
        """The reservation measure of this name.

        One that nothing counts if it is no longer mapped.
        """
        return self.reservation_measures.get(name) or ReservationMeasure(name, 0, ())

    def values_of(self, dimensions: Mapping[str, str]) -> tuple[str, ...]:
        """Values along the hierarchy below the partition, down to the first that is missing."""
        values: list[str] = []
        for name in self.hierarchy:
            value = dimensions.get(name)
            if not value:
                break
            values.append(value)
        return tuple(values)

    def level_name(self, depth: int) -> str:
        """Name of the level that is `depth` below the partition, as dimension names."""
        return ",".join((*self.partition_dimensions, *self.hierarchy[:depth]))

    def partition_values(self, dimensions: Mapping[str, str]) -> tuple[str, ...] | None:
        """Values of the partition dimensions, None if one is missing."""
        values = tuple(dimensions.get(name, "") for name in self.partition_dimensions)
        return values if all(values) else None

    def record_key(
        self, organization_id: str, product_id: str, partition_values: tuple[str, ...]
    ) -> bytes:
        """Key that a record about this product at this place must carry."""
        del product_id
        site_id, location_id = partition_values
        return location_key(organization_id, site_id, location_id)


def default_rules() -> Rules:
    """The 2023-11 edition of the original (IV 2.3, 2.4)."""
    fno = (
        *("notspecified", "arrived", "availordered", "availphysical", "deducted", "onorder"),
        *("ordered", "physicalinvent", "picked", "postedqty", "quotationissue"),
        *("quotationreceipt", "received", "registered", "reservordered", "reservphysical"),
        *("orderedsum", "softreserved"),
    )
    others = {
        "iv": ("ordered", "softreserved"),
        "pos": ("inbound", "outbound"),
        "iom": ("onorder", "onhand"),
        "erp": ("unrestricted", "qualityinspection"),
        "@iv": (
            *("@softreserved", "@allocated", "@consumed", "@cumulative_allocated"),
            "@cumulative_consumed",
        ),
    }
    measures = [f"fno.{name}" for name in fno]
    measures += [f"{source}.{name}" for source, names in others.items() for name in names]
    added = ("fno.physicalinvent", "fno.ordered", "fno.arrived", "pos.inbound", "iv.ordered")
    subtracted = ("fno.reservphysical", "iv.softreserved", "pos.outbound", "fno.softreserved")
    return Rules(
        sources={name: _FNO_NAMES if name == "fno" else {} for name in ("fno", *others)},
        measures=measures,
        calculated={
            "iv.availabletoreserve": {**dict.fromkeys(added, 1), **dict.fromkeys(subtracted, -1)}
        },
        mapping={"iv.softreserved": "iv.availabletoreserve"},
        reservation_dimensions=("siteid", "locationid", "colorid", "sizeid"),
    )


_FNO_NAMES: Final = {
    **{
        f"invent{name}": name
        for name in ("batchid", "colorid", "locationid", "serialid", "siteid", "sizeid")
    },
    **{f"invent{name}": name for name in ("statusid", "styleid", "versionid")},
    **{f"inventdimension{number}": f"customdimension{number}" for number in range(1, 13)},
}
