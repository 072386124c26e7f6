"""One product-location in memory: what its stock rows and holds add up to, at every level.

A *product-location* is one product at one value of the partition dimensions: all that one decision
looks at. For each availability (a signed sum of measures) it keeps a tree of nodes, one for every
value along the reservation dimensions. The one figure of a node is `free`: the supply of all stock
rows below it, less all that is held at it or below it.

The rule: a quantity may be held at a node if it is not more than `free` there and at every node
above. This is exactly the condition under which all holds can be filled at the same time (Hall's
theorem on a tree, where the sets of stock that holds may draw on are nested). It costs one
comparison a level.

Nothing here is stored: the sums are made from the rows when a product-location is loaded, and again
when the configuration changes. A stock row or hold without a value for a level belongs to the
coarser nodes only.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from processor.inventory import rows as row
from processor.inventory.identity import (
    location_hash,
    reservation_hash,
    reservation_text,
)
from processor.inventory.rules import ReservationMeasure, Rules
from schemas import limits

NEVER_MS: Final = row.NEVER_MS
QUANTITY_MAX: Final = limits.QUANTITY_MAX


class Node:
    """One value along the reservation dimensions, under one availability."""

    __slots__ = ("free",)

    def __init__(self) -> None:
        self.free = 0


Path = tuple[Node, ...]


class Level:
    """What one reservation id stands for: a product at one level, under one measure.

    Attributes:
        reserved: quantity of its live holds. unswept: quantity of holds whose expiry has passed and
        whose rows the sweep has not reached yet. path: nodes from the coarsest to its own, under
        the availability that its reservations are checked against. checked: the part of the path
        that a grant looks at: all of it, or the last node in independent mode. simple: a hold
        lowers `path` by its quantity and touches no other availability. effects: (path, sign) for
        every availability that counts the measure. oldest: key of a hold row before which no live
        hold is left.

    """

    __slots__ = (
        "checked",
        "dirty",
        "effects",
        "group",
        "location",
        "measure",
        "oldest",
        "path",
        "place",
        "place_row",
        "reservation",
        "reservation_id",
        "reserved",
        "row_head",
        "row_key",
        "simple",
        "unswept",
    )

    def __init__(self, location: "ProductLocation", place: row.Place, reservation: bytes) -> None:
        self.location = location
        self.place = place
        self.place_row = row.encode_place(place)
        self.reservation = reservation
        self.reservation_id = reservation_text(reservation)
        self.group = b"H" + reservation
        self.row_key = row.level_key(location.hash, place.dimensions, place.measure)
        self.row_head = row.level_head(place)
        self.reserved = 0
        self.unswept = 0
        self.dirty = False
        self.oldest = b""
        rules = location.rules
        self.measure: ReservationMeasure = rules.reservation_measure(place.measure)
        values = rules.values_of(place.dimensions)
        self.path: Path = location.path(self.measure.availability, values)
        self.checked: Path = self.path if rules.hierarchical else self.path[-1:]
        self.effects = tuple(
            (location.path(availability, values), sign)
            for availability, sign in self.measure.effects
        )
        self.simple = self.measure.effects == ((self.measure.availability, -1),)

    def available(self) -> int:
        """The most that a new reservation here could get.

        Below zero where more is held than there is.
        """
        return min(node.free for node in self.checked)

    def charge(self, quantity: int) -> None:
        """Hold `quantity` more here, or less if negative."""
        self.reserved += quantity
        for path, sign in self.effects:
            change = sign * quantity
            for node in path:
                node.free += change


class ProductLocation:
    """One product at one value of the partition dimensions.

    Attributes:
        levels: reservation hash to level.
        next_due_ms: no live hold expires before this.
        lapsed_until_ms: holds due up to this no longer count, swept or not.
        used: number of the trim period in which it was last used.
        targets: keys under which lines resolve to it, to forget them with it.
        explained: supply terms of a node, by depth and values, until the stock changes.

    """

    __slots__ = (
        "dirty_levels",
        "explained",
        "group",
        "hash",
        "key",
        "lapsed_until_ms",
        "levels",
        "next_due_ms",
        "organization_id",
        "partition_values",
        "product_id",
        "rules",
        "targets",
        "trees",
        "used",
    )

    def __init__(
        self, rules: Rules, organization_id: str, product_id: str, values: tuple[str, ...]
    ) -> None:
        self.rules = rules
        self.organization_id = organization_id
        self.product_id = product_id
        self.partition_values = values
        self.key = (organization_id, product_id, values)
        self.hash = location_hash(organization_id, product_id, values)
        self.group = b"P" + self.hash
        self.trees: tuple[dict[tuple[str, ...], Node], ...] = tuple(
            {(): Node()} for _ in rules.availabilities
        )
        self.levels: dict[bytes, Level] = {}
        self.next_due_ms = NEVER_MS
        self.lapsed_until_ms = 0
        self.used = 0
        self.dirty_levels = 0
        self.targets: list[object] = []
        self.explained: dict[tuple[int, tuple[str, ...]], list[tuple[str, int]]] = {}

    def path(self, availability: int, values: tuple[str, ...]) -> Path:
        """Nodes from the coarsest down to `values`, made where they are missing."""
        tree = self.trees[availability]
        path: list[Node] = []
        for depth in range(len(values) + 1):
            node = tree.get(values[:depth])
            if node is None:
                node = tree[values[:depth]] = Node()
            path.append(node)
        return tuple(path)

    def level(self, dimensions: Mapping[str, str], measure: str) -> Level:
        """The level of these dimension values and measure, made where it is missing."""
        organization_id, product_id = self.organization_id, self.product_id
        reservation = reservation_hash(organization_id, product_id, dimensions, measure)
        level = self.levels.get(reservation)
        if level is None:
            place = row.Place(organization_id, product_id, dict(dimensions), measure)
            level = self.levels[reservation] = Level(self, place, reservation)
        return level

    def supply(self, dimensions: Mapping[str, str], measure: str, quantity: int) -> None:
        """Count a change of one measure of one stock row."""
        effects = self.rules.leaf_effects.get(measure)
        if not effects:
            return
        values = self.rules.values_of(dimensions)
        for availability, sign in effects:
            for node in self.path(availability, values):
                node.free += sign * quantity
        self.explained.clear()

    def size(self) -> int:
        """Number of nodes and levels: what it costs to keep."""
        return len(self.levels) + sum(map(len, self.trees))


def load(location: ProductLocation, rows: Iterable[tuple[bytes, bytes]]) -> None:
    """Add up the rows of the product-location's group."""
    for key, value in rows:
        if key[13] == row.KIND_LEVEL:
            stored = row.decode_level(value)
            level = location.level(stored.dimensions, stored.measure)
            level.charge(stored.reserved)
            continue
        leaf = row.decode_leaf(value)
        for measure, quantity in leaf.quantities.items():
            location.supply(leaf.dimensions, measure, quantity)


def clamp(quantity: int) -> int:
    """A sum of many rows, kept within what one field of an answer can carry."""
    if -QUANTITY_MAX <= quantity <= QUANTITY_MAX:
        return quantity
    return QUANTITY_MAX if quantity > 0 else -QUANTITY_MAX
