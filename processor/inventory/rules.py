"""What the decision needs of the configuration, worked out once.

The rule: nothing here changes after it was made; a new configuration makes new rules, and every
level is derived from holds and stock rows anew. Names are lower case inside; dimension values keep
their case.

A *node* is a place in the hierarchy of reservation dimensions below the partition's own. In prefix
mode its key is the values along the hierarchy, down to the first that is missing; where levels
cross (subset mode) it has one entry per dimension, None where the level leaves it open.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from processor.inventory.configuration import BASE_DIMENSIONS, Configuration, default
from schemas.partitioning import bucket_key, location_key, product_key

KNOWN_DIMENSIONS: Final = frozenset(BASE_DIMENSIONS)
NodeKey = tuple[str | None, ...]


class Availability(NamedTuple):
    """One calculated measure that reservations are checked against: a signed sum of measures."""

    number: int
    name: str
    terms: Mapping[str, int]


class ReservationMeasure(NamedTuple):
    """A measure that can be reserved.

    Attributes:
        availability: number of the availability that its reservations are checked against.
        effects: (availability, sign) for every availability that counts this measure.

    """

    name: str
    availability: int
    effects: tuple[tuple[int, int], ...]


class Rules:
    """The compiled configuration of one partition.

    Attributes:
        hierarchy: reservation dimensions below the partition's own, in order.
        reservable: all reservation dimensions.
        leaf_effects: measure of a stock row to (availability, sign).
        masked: reservation dimensions in which an offset and a reservation need not agree.

    """

    __slots__ = (
        "availabilities",
        "configuration",
        "crossing",
        "dedupe_window_ms",
        "default_measure",
        "filter_unconfigured",
        "grace_ms",
        "hierarchical",
        "hierarchy",
        "leaf_effects",
        "masked",
        "measures",
        "on_order",
        "partition_dimensions",
        "reservable",
        "reservation_enabled",
        "reservation_measures",
        "senders",
        "sources",
    )

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        reservation = configuration.reservation
        self.sources = {
            name: dict(source.dimension_mappings)
            for name, source in configuration.data_sources.items()
        }
        self.measures = configuration.physical_measures
        self.partition_dimensions = configuration.partition.dimensions
        self.hierarchy = tuple(
            name for name in reservation.dimensions if name not in self.partition_dimensions
        )
        self.reservable = frozenset(self.hierarchy) | frozenset(self.partition_dimensions)
        self.crossing = reservation.mode == "subset"
        self.hierarchical = reservation.cross_level == "hierarchical"
        self.filter_unconfigured = reservation.filter_unconfigured_dimensions
        self.reservation_enabled = reservation.enabled
        self.senders = {
            source: frozenset(senders)
            for source, senders in configuration.protected_sources.items()
        }
        self.grace_ms = configuration.grace_ms
        self.dedupe_window_ms = configuration.dedupe_window_ms
        self.on_order = configuration.offset.modifier == "on-order"
        match = configuration.offset.match
        self.masked = (
            frozenset[str]() if match is None else frozenset(self.hierarchy) - frozenset(match)
        )
        self._compile_measures()

    def _compile_measures(self) -> None:
        mapping = self.configuration.reservation.mapping
        names = list(dict.fromkeys(mapping.values()))
        self.availabilities = tuple(
            Availability(
                number, name, {term.measure: term.sign for term in self.configuration.terms(name)}
            )
            for number, name in enumerate(names)
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
        """The reservation measure of this name; if it is no longer mapped, one nobody counts."""
        return self.reservation_measures.get(name) or ReservationMeasure(name, 0, ())

    def node_of(self, dimensions: Mapping[str, str], *, crossing: bool) -> NodeKey:
        """Key of the finest node that these dimension values belong to."""
        if crossing:
            return tuple(dimensions.get(name) or None for name in self.hierarchy)
        values: list[str] = []
        for name in self.hierarchy:
            value = dimensions.get(name)
            if not value:
                break
            values.append(value)
        return tuple(values)

    def ancestors(self, node: NodeKey, *, crossing: bool) -> list[NodeKey]:
        """Keys of all nodes that contain a node, from the coarsest to itself."""
        if not crossing:
            return [node[:depth] for depth in range(len(node) + 1)]
        fixed = [index for index, value in enumerate(node) if value is not None]
        keys: list[NodeKey] = []
        for chosen in range(1 << len(fixed)):
            kept = {fixed[bit] for bit in range(len(fixed)) if chosen >> bit & 1}
            keys.append(tuple(value if index in kept else None for index, value in enumerate(node)))
        return sorted(keys, key=lambda key: len(key) - key.count(None))

    def level_name(self, node: NodeKey) -> str:
        """Name of the level of a node, as dimension names."""
        own = [name for name, value in zip(self.hierarchy, node, strict=False) if value is not None]
        return ",".join((*self.partition_dimensions, *own))

    def is_in_hierarchy(self, dimensions: Mapping[str, str]) -> bool:
        """Whether the reservation dimensions given are a prefix of the hierarchy."""
        given = sum(1 for name in self.hierarchy if dimensions.get(name))
        return given == len(self.node_of(dimensions, crossing=False))

    def partition_values(self, dimensions: Mapping[str, str]) -> tuple[str, ...] | None:
        """Values of the partition dimensions, None if one is missing."""
        values = self.stock_values(dimensions)
        return values if all(values) else None

    def stock_values(self, dimensions: Mapping[str, str]) -> tuple[str, ...]:
        """Where stock lies: an empty value of a partition dimension is a place of its own.

        Nothing is promised from there, for a reservation names every partition dimension.
        """
        return tuple([dimensions.get(name, "") for name in self.partition_dimensions])

    def record_key(
        self, organization_id: str, product_id: str, partition_values: Sequence[str]
    ) -> bytes:
        """Key that a record about this product at this place must carry."""
        partition = self.configuration.partition
        if partition.rule == "by-product":
            return product_key(organization_id, product_id)
        site_id, location_id = partition_values
        if partition.rule == "by-location-and-product":
            return bucket_key(
                organization_id, site_id, location_id, product_id, buckets=partition.buckets
            )
        return location_key(organization_id, site_id, location_id)


def default_rules() -> Rules:
    """The 2023-11 edition of the original (IV 2.3, 2.4)."""
    return Rules(default())
