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

from mypy_extensions import mypyc_attr

from processor.inventory import rows as row
from processor.inventory.crossing import WIDTH_MAX, Pool
from processor.inventory.identity import (
    canonical,
    location_hash,
    reservation_hash,
    reservation_text,
)
from processor.inventory.rules import NodeKey, ReservationMeasure, Rules
from schemas import limits

NEVER_MS: Final = row.NEVER_MS
# Stock rows kept for a product-location; the others are read whenever they change.
LEAF_ROWS_REMEMBERED_MAX: Final = 16
QUANTITY_MAX: Final = limits.QUANTITY_MAX


@mypyc_attr(acyclic=True)  # Refers to nothing: the garbage collector need not look at millions.
class Node:
    """One value along the reservation dimensions, under one availability."""

    __slots__ = ("free",)

    def __init__(self) -> None:
        self.free = 0


Path = tuple[Node, ...]


class Level:
    """What one reservation id stands for: a product at one level, under one measure.

    Attributes:
        reserved: quantity of its live holds.
        unswept: quantity of holds whose expiry has passed and whose rows the sweep has not
            reached yet.
        node: its place among the reservation dimensions.
        path: nodes from the coarsest to its own, under the availability that its reservations
            are checked against.
        checked: the part of the path that a grant looks at: all of it, or the last node in
            independent mode.
        effects: (availability, path, sign) for every availability that counts the measure.
        oldest: key of a hold row up to which no hold is live.

    """

    __slots__ = (
        "checked",
        "dirty",
        "effects",
        "group",
        "location",
        "measure",
        "node",
        "oldest",
        "path",
        "place",
        "place_row",
        "reservation",
        "reservation_id",
        "reserved",
        "row_head",
        "row_key",
        "unswept",
    )

    def __init__(
        self, location: "ProductLocation", place: row.Place, spelled: bytes, reservation: bytes
    ) -> None:
        self.location = location
        self.place = place
        self.place_row = row.encode_place(place)
        self.reservation = reservation
        self.reservation_id = reservation_text(reservation)
        self.group = b"H" + reservation
        self.row_key = row.level_key(location.hash, spelled, place.measure)
        self.row_head = row.level_head(self.place_row)
        self.reserved = 0
        self.unswept = 0
        self.dirty = False
        self.oldest = b""
        self.measure: ReservationMeasure = location.rules.reservation_measure(place.measure)
        self.bind()

    def bind(self) -> None:
        """Find the nodes it belongs to."""
        location, measure = self.location, self.measure
        self.node: NodeKey = location.node_of(self.place.dimensions)
        self.path: Path = location.path(measure.availability, self.node)
        self.checked: Path = self.path if location.rules.hierarchical else self.path[-1:]
        self.effects = tuple(
            [
                (availability, location.path(availability, self.node), sign)
                for availability, sign in measure.effects
            ]
        )

    def available(self) -> int:
        """The most that a new reservation here could get.

        Below zero where more is held than there is.
        """
        checked = self.checked
        free = checked[0].free
        for node in checked:  # Twice a decision; `min` of a list costs half a microsecond.
            free = min(free, node.free)
        pools = self.location.pools
        if pools and free > 0:
            return pools[self.measure.availability].fit(self.node, free).available
        return free

    def has_room(self, quantity: int) -> bool:
        """Whether so much more can be held here, checked or not: a row's sum has a bound."""
        return self.reserved + self.unswept + quantity <= limits.QUANTITY_SUM_MAX

    def is_bounded(self) -> bool:
        """Whether crossing levels made the check stop at its bound of work, short of an answer."""
        pools = self.location.pools
        return bool(pools) and pools[self.measure.availability].fit(self.node, 1).bound_hit

    def charge(self, quantity: int) -> None:
        """Hold `quantity` more here, or less if negative."""
        self.reserved += quantity
        pools = self.location.pools
        for availability, path, sign in self.effects:
            change = sign * quantity
            for node in path:
                node.free += change
            if pools and change:
                pool = pools[availability]
                if sign < 0:
                    pool.hold(self.node, quantity)
                else:
                    pool.supply(tuple(value or "" for value in self.node), quantity)


class ProductLocation:
    """One product at one value of the partition dimensions.

    Attributes:
        levels: reservation hash to level.
        crossing: levels cross: nodes are any subset of the dimensions, not prefixes.
        pools: by availability where crossing levels must not promise a piece twice, else empty.
        next_due_ms: no live hold expires before this.
        lapsed_until_ms: holds due up to this no longer count, swept or not.
        record_key: see `PartitionState.record_key`; empty until somebody asks.
        used: number of the trim period in which it was last used.
        targets: keys under which lines resolve to it, to forget them with it.
        leaf_rows: its first stock rows, as they are stored: a lookup is a quarter of what an
            on-hand change costs.
        explained: by availability and node, what each measure of its stock rows adds.

    """

    __slots__ = (
        "crossing",
        "dirty_levels",
        "explained",
        "group",
        "hash",
        "key",
        "lapsed_until_ms",
        "leaf_rows",
        "levels",
        "next_due_ms",
        "organization_id",
        "partition_values",
        "pools",
        "product_id",
        "record_key",
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
        self.record_key = b""
        self.levels: dict[bytes, Level] = {}
        self.next_due_ms = NEVER_MS
        self.lapsed_until_ms = 0
        self.used = 0
        self.dirty_levels = 0
        self.targets: list[object] = []
        self.leaf_rows: dict[bytes, bytes] = {}
        self._clear(crossing=rules.crossing)

    def _clear(self, *, crossing: bool) -> None:
        """Forget all sums."""
        self.crossing = crossing
        self.trees: list[dict[NodeKey, Path]] = [{} for _ in self.rules.availabilities]
        width = len(self.rules.hierarchy)
        has_pools = crossing and self.rules.hierarchical and width <= WIDTH_MAX
        self.pools: list[Pool] = [Pool(width) for _ in self.trees] if has_pools else []
        self.explained: dict[tuple[int, NodeKey], dict[str, int]] = {}

    def load(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Add up the rows of the product-location's group.

        A hold made under an earlier hierarchy may lie across the present one: then the levels of
        this product-location cross, and are checked as such.
        """
        stored: list[row.LevelRow] = []
        leaves: list[row.Leaf] = []
        for key, value in rows:
            if key[13] == row.KIND_LEVEL:
                stored.append(row.decode_level(value))
            else:
                leaves.append(row.decode_leaf(value))
                self.remember_leaf(key, value)
        crossing = self.crossing or not all(
            self.rules.is_in_hierarchy(level.dimensions) for level in stored
        )
        self._clear(crossing=crossing)
        self._add_leaves(leaves)
        for entry in stored:
            self.level(entry.dimensions, entry.measure).charge(entry.reserved)

    def remember_leaf(self, key: bytes, value: bytes) -> None:
        """Keep a stock row, where there is room for it or an older one of its key."""
        if len(self.leaf_rows) < LEAF_ROWS_REMEMBERED_MAX or key in self.leaf_rows:
            self.leaf_rows[key] = value

    def let_go(self) -> None:
        """Nobody asks it any more: what refers to each other is parted, and so freed.

        Nothing else would: the engine collects the youngest objects only (`engine.app`), and these
        have grown old.
        """
        self.levels.clear()
        for pool in self.pools:
            pool.let_go()

    def cross(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """From here on its levels cross: all sums are made anew, in place."""
        self._clear(crossing=True)
        leaves = [value for key, value in rows if key[13] == row.KIND_LEAF]
        self._add_leaves(row.decode_leaf(value) for value in leaves)
        for level in self.levels.values():
            level.bind()
            reserved, level.reserved = level.reserved, 0
            level.charge(reserved)

    def crosses_no_more(self, used: Iterable[Level]) -> bool:
        """Whether its levels crossed, and those in use no longer do."""
        rules = self.rules
        return self.crossing != rules.crossing and all(
            rules.is_in_hierarchy(level.place.dimensions) for level in used
        )

    def _add_leaves(self, leaves: Iterable[row.Leaf]) -> None:
        for leaf in leaves:
            for measure, quantity in leaf.quantities.items():
                self.supply(leaf.dimensions, measure, quantity)

    def node_of(self, dimensions: Mapping[str, str]) -> NodeKey:
        """Key of the finest node that these dimension values belong to."""
        return self.rules.node_of(dimensions, crossing=self.crossing)

    def path(self, availability: int, node: NodeKey) -> Path:
        """Nodes from the coarsest down to this one, made where they are missing."""
        if not self.trees:
            return (Node(),)
        tree = self.trees[availability]
        path = tree.get(node)
        if path is not None:
            return path
        if self.crossing:
            above = self.rules.ancestors(node, crossing=True)[:-1]
            path = (*[self.path(availability, key)[-1] for key in above], Node())
        elif node:
            path = (*self.path(availability, node[:-1]), Node())
        else:
            path = (Node(),)
        tree[node] = path
        return path

    def level(self, dimensions: Mapping[str, str], measure: str) -> Level:
        """The level of these dimension values and measure, made where it is missing."""
        organization_id, product_id = self.organization_id, self.product_id
        spelled = canonical(dimensions)
        reservation = reservation_hash(organization_id, product_id, spelled, measure)
        level = self.levels.get(reservation)
        if level is None:
            place = row.Place(organization_id, product_id, dict(dimensions), measure)
            level = self.levels[reservation] = Level(self, place, spelled, reservation)
        return level

    def supply(self, dimensions: Mapping[str, str], measure: str, quantity: int) -> None:
        """Count a change of one measure of one stock row."""
        effects = self.rules.leaf_effects.get(measure)
        if not effects or not quantity:
            return
        key = self.node_of(dimensions)
        for availability, sign in effects:
            for node in self.path(availability, key):
                node.free += sign * quantity
            if self.pools:
                leaf = tuple(value or "" for value in key)
                self.pools[availability].supply(leaf, sign * quantity)
        signs = dict(effects) if self.explained else {}
        for (availability, above), sums in self.explained.items():
            if availability in signs and self.is_below(dimensions, above):
                sums[measure] += signs[availability] * quantity

    def is_below(self, dimensions: Mapping[str, str], node: NodeKey) -> bool:
        """Whether these dimension values lie at a node or below it."""
        own = self.node_of(dimensions)
        if not self.crossing:
            return own[: len(node)] == node
        return all(wanted in {None, value} for wanted, value in zip(node, own, strict=True))


def clamp(quantity: int) -> int:
    """A sum of many rows, kept within what one field of an answer can carry."""
    if -QUANTITY_MAX <= quantity <= QUANTITY_MAX:
        return quantity
    return QUANTITY_MAX if quantity > 0 else -QUANTITY_MAX
