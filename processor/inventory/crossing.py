"""Whether a quantity still fits when reservation levels cross: exact, bounded, pure.

The question. Stock of one product at one place lies in *leaves*, one per combination of dimension
values. A *node* is what can be reserved: a value or "any" per dimension. In subset mode nodes
cross: holds on `red` and on `small` can both be filled from the leaf red/small, so checking each of
them alone against its own stock promises that leaf twice.

The definition. `available(n) = min(net(n), fill(n))`, where

* `net(n)` is the smallest `free(a)` over the configured levels' nodes `a` that contain `n`, itself
  included; `free(a)` = sum of the signed leaf supplies below `a` - quantity held at or below `a`.
  This is the tree rule. It may be negative.
* `fill(n)` is the largest quantity that can be held at `n` in addition without any filled unit of
  the live holds losing its leaf: the increase of the maximum flow from holds to leaves. A leaf
  below zero fills nothing and counts as 0 here; `net` has charged its debt to every level above it.

What follows (with proofs short enough to check):

* While all holds can be filled and no leaf is negative, `available` is exact: by Hall's condition a
  quantity fits if and only if `q <= fill(n)`, and `fill(n) <= net(n)`, since each `a` is one of
  Hall's sets. No promise is made twice, and nothing that fits is refused.
* On a laminar family (any two nodes are disjoint or nested, as in prefix mode) `fill(n) >= net(n)`
  always, also with debts and over-promised nodes, so `available` is the tree rule and no flow is
  needed.
* Holds on the node that contains everything never enter the flow: they take any leaf that others
  leave, and `net` has counted their total. Holds on a single leaf are taken from that leaf first: a
  swap shows that it loses nobody anything.
* Where there is slack no flow is needed either. Let every hold spread over its leaves in proportion
  to what they can fill: its *load* is its quantity over the capacity of its leaves, and the load of
  a leaf is the sum over the holds that contain it. Let those that overlap the asking node without
  lying in it spread over their leaves outside it alone, which raises their load. If the largest
  load of a leaf and the largest raises, one of each level, add up to no more than 1, no leaf is
  asked for more than it has, for a leaf lies in one node of a level only. So all holds are filled
  and nobody from outside takes of the asking node: `fill(n) >= free(n) >= net(n)`. Whole units
  follow from fractions, since all capacities are whole (integrality of flows).
* Granting `q <= available` lowers `available` by exactly `q`.

The value is a function of supply and holds alone, never of how they came about, so a replay decides
the same. That is why no flow is kept between decisions: only its value is unique, the work to
extend it is not, and the bound must be hit by the same records in every replay.

The bound: `WORK_MAX` steps over edges of the flow network. When it is hit, what is known to fit is
still granted; the rest is refused by name (Code.AVAILABILITY_BOUND), never guessed.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple

WIDTH_MAX: Final = 8  # Dimensions beside the partition's own: 256 levels at most.
LOAD_ONE: Final = 1 << 40  # A load of 1.
WORK_MAX: Final = 100_000  # Steps over edges of one check: about 1 to 2 us each, 0.2 s at most.

Leaf = tuple[str, ...]  # One value per dimension; "" where the stock row has none.
Node = tuple[str | None, ...]  # One value per dimension; None for any.
_Held = tuple[int, Any]  # Mask of the dimensions a node fixes, and their values.


class Fit(NamedTuple):
    """What a check found.

    Attributes:
        ok: the quantity fits.
        available: the largest quantity that fits, before this one; may be negative. With
            `bound_hit` a quantity that is known to fit, not necessarily the largest.
        bound_hit: the work bound was hit before the answer was exact.
        net: the tree rule's part of the answer.

    """

    ok: bool
    available: int
    bound_hit: bool
    net: int

    def remaining(self, quantity: int) -> int:
        """Available after `quantity` has been held, checked or not."""
        return min(self.net - quantity, max(self.available - quantity, 0))


class Pool:
    """Supply and holds of one product at one place and one availability measure.

    Keeps `free` of every configured level up to date (2^width small steps a change), so that most
    checks are look-ups; a flow is computed only where held nodes really cross.
    """

    __slots__ = (
        "_capacity",
        "_chain",
        "_free",
        "_full",
        "_get",
        "_held",
        "_holders",
        "_leaves",
        "_levels",
        "_loads",
        "_nodes",
        "_raised",
        "_supply",
        "_width",
    )

    def __init__(self, width: int, levels: Iterable[int] | None = None) -> None:
        """Open an empty pool.

        Args:
            width: number of dimensions of leaves and nodes; leave the partition's own out.
            levels: configured levels as bit masks, bit i for dimension i; None: all subsets. The
                empty mask, everything, is always one of them.

        """
        if not 0 <= width <= WIDTH_MAX:
            raise ValueError(f"{width} dimensions: at most {WIDTH_MAX} can cross")
        masks = range(1 << width) if levels is None else {0, *levels}
        self._width = width
        self._full = (1 << width) - 1
        self._levels = tuple(sorted(masks))
        self._get = tuple(_getter(mask, width) for mask in range(1 << width))
        self._free: dict[int, dict[Any, int]] = {mask: {} for mask in self._levels}
        self._supply: dict[Leaf, int] = {}
        self._held: dict[int, dict[Any, int]] = {}
        self._leaves: dict[int, dict[Any, set[Leaf]]] = {}
        # Two answers that hold until a held node comes or goes: they say nothing of quantities.
        self._chain: dict[int, bool] = {}
        # What leaves below a node can fill, of the levels that were asked for; held nodes by place;
        # their loads, and the sums at the leaves (None until needed, or when leaves come and go).
        self._capacity: dict[int, dict[Any, int]] = {}
        self._nodes: dict[int, dict[Any, Node]] = {}
        self._raised: dict[int, dict[Any, int]] = {}
        self._loads: dict[Leaf, int] | None = None
        self._holders: dict[Leaf, list[_Held]] = {}

    def supply(self, leaf: Leaf, delta: int) -> None:
        """Change the supply of a leaf."""
        spare = self._spare(leaf)
        amount = self._supply.get(leaf, 0) + delta
        values = _mask(leaf)
        if amount == 0:
            self._supply.pop(leaf, None)
            for mask, places in self._leaves.items():
                if mask & values == mask:
                    places.get(self._get[mask](leaf), set()).discard(leaf)
        else:
            if leaf not in self._supply:
                for mask, places in self._leaves.items():
                    if mask & values == mask:
                        places.setdefault(self._get[mask](leaf), set()).add(leaf)
            self._supply[leaf] = amount
        self._charge(leaf, values, delta)
        self._note_spare(leaf, values, self._spare(leaf) - spare)

    def hold(self, node: Node, delta: int) -> None:
        """Change the quantity held at a node; it never falls below zero."""
        mask = _mask(node)
        leaf = tuple([value or "" for value in node]) if mask == self._full else None
        spare = 0 if leaf is None else self._spare(leaf)
        places = self._held.setdefault(mask, {})
        place = self._get[mask](node)
        before = places.get(place, 0)
        amount = before + delta
        if amount < 0:
            raise ValueError(f"held at {node} would fall to {amount}")
        if amount:
            places[place] = amount
            self._nodes.setdefault(mask, {})[place] = node
        else:
            places.pop(place, None)
            self._nodes.get(mask, {}).pop(place, None)
        if not places:
            del self._held[mask]
        if (before == 0) != (amount == 0):
            self._chain.clear()
            self._holders.clear()
        self._charge(node, mask, -delta)
        if leaf is not None:
            self._note_spare(leaf, mask, self._spare(leaf) - spare)
        elif mask and self._loads is not None:
            self._spread(self._loads, mask, place)

    def fit(self, node: Node, quantity: int, work_max: int = WORK_MAX) -> Fit:
        """Check whether `quantity` more can be held at `node`."""
        net = self._net(node)
        mask = _mask(node)
        if net <= 0 or mask == 0 or self._is_chain(mask) or self._is_slack(mask, node):
            return Fit(quantity <= net, net, False, net)
        fill, exact = self._fill(mask, node, net, work_max)
        return Fit(quantity <= fill, fill, not exact, net)

    def _charge(self, values: Sequence[str | None], fixed: int, delta: int) -> None:
        for mask in self._levels:
            if mask & fixed == mask:
                level = self._free[mask]
                place = self._get[mask](values)
                free = level.get(place, 0) + delta
                if free:
                    level[place] = free
                else:
                    level.pop(place, None)

    def _net(self, node: Node) -> int:
        fixed = _mask(node)
        return min(
            self._free[mask].get(self._get[mask](node), 0)
            for mask in self._levels
            if mask & fixed == mask
        )

    def _is_chain(self, mask: int) -> bool:
        """Every held level and this one are configured and nested in each other."""
        known = self._chain.get(mask)
        if known is None:
            masks = sorted({mask, *self._held}, key=lambda one: (one.bit_count(), one))
            nested = all(a & b == a for a, b in pairwise(masks))
            known = self._chain[mask] = nested and all(one in self._free for one in masks)
        return known

    def _is_slack(self, mask: int, node: Node) -> bool:
        """Whether loads show that all other holds can be filled outside the node."""
        loads = self._spread_all() if self._loads is None else self._loads
        total = max(loads.values(), default=0)
        own = self._capacity_of(mask).get(self._get[mask](node), 0)
        for held_mask, places in self._held.items():
            if total > LOAD_ONE:
                return False
            if held_mask in (0, self._full) or held_mask & mask == mask:
                continue  # In the node, or beside it.
            if held_mask & mask == held_mask:
                place = self._get[held_mask](node)
                if place in places:
                    total += self._raise(held_mask, place, own)
            else:
                total += self._raise_beside(mask, node, held_mask)
        return total <= LOAD_ONE

    def _raise(self, mask: int, place: Any, inside: int) -> int:
        """How much a hold's load grows if it leaves so much capacity alone."""
        outside = self._capacity_of(mask).get(place, 0) - inside
        return _load(self._held[mask][place], outside) - self._raised[mask][place]

    def _raise_beside(self, mask: int, node: Node, held_mask: int) -> int:
        """How much the loads of a level's held nodes grow, at most, that cross the node."""
        shared, both = self._get[mask & held_mask], self._get[mask | held_mask]
        wanted = shared(node)
        common = self._capacity_of(mask | held_mask)
        largest = 0
        for place, held in self._nodes[held_mask].items():
            if shared(held) == wanted:
                meeting = tuple([a or b for a, b in zip(node, held, strict=True)])
                inside = common.get(both(meeting), 0)
                largest = max(largest, self._raise(held_mask, place, inside))
        return largest

    def _spread_all(self) -> dict[Leaf, int]:
        """Loads of all leaves, made anew."""
        loads = self._loads = dict.fromkeys(self._supply, 0)
        self._raised = {}
        for mask, places in self._held.items():
            if mask not in (0, self._full):
                for place in places:
                    self._spread(loads, mask, place)
        return loads

    def _spread(self, loads: dict[Leaf, int], mask: int, place: Any) -> None:
        """Bring a held node's load, and the leaves below it, to what it is now."""
        raised = self._raised.setdefault(mask, {})
        amount = self.held_at(mask, place)
        load = _load(amount, self._capacity_of(mask).get(place, 0)) if amount else 0
        change = load - raised.get(place, 0)
        if amount:
            raised[place] = load
        else:
            raised.pop(place, None)
        if change:
            for leaf in self.leaves_at(mask, place):
                loads[leaf] += change

    def _capacity_of(self, mask: int) -> dict[Any, int]:
        """What the leaves below each node of a level can fill."""
        capacity = self._capacity.get(mask)
        if capacity is None:
            capacity = self._capacity[mask] = {}
            get = self._get[mask]
            for leaf in self._supply:
                if _mask(leaf) & mask == mask:
                    place = get(leaf)
                    capacity[place] = capacity.get(place, 0) + self.spare_at(leaf)
        return capacity

    def _spare(self, leaf: Leaf) -> int:
        """What the leaf can fill, 0 where there is none."""
        return self.spare_at(leaf) if leaf in self._supply else 0

    def _note_spare(self, leaf: Leaf, values: int, delta: int) -> None:
        """A leaf can fill more or less than before, or is no leaf any more."""
        for mask, capacity in self._capacity.items():
            if delta and mask & values == mask:
                place = self._get[mask](leaf)
                capacity[place] = capacity.get(place, 0) + delta
        if self._loads is None:
            return
        if (leaf in self._loads) != (leaf in self._supply):
            self._loads = None
        elif delta:
            for mask, places in self._held.items():
                if mask not in (0, self._full) and mask & values == mask:
                    place = self._get[mask](leaf)
                    if place in places:
                        self._spread(self._loads, mask, place)

    def _fill(self, mask: int, node: Node, cap: int, work_max: int) -> tuple[int, bool]:
        """`fill(node)`, no more than `cap`, and whether it is exact."""
        network = _Network(self, mask, node, work_max)
        if network.at_least >= cap:
            return cap, True
        if network.work_left < 0:
            return network.at_least, False
        network.arrange()
        held = range(len(network.remaining) - 1)
        if not network.push(held):
            return network.at_least, False
        newest = len(held)
        network.remaining[newest] = cap
        exact = network.push(range(newest, newest + 1))
        return max(cap - network.remaining[newest], network.at_least), exact

    def leaves_at(self, mask: int, place: Any) -> Iterable[Leaf]:
        """Leaves with supply below the node."""
        if mask == 0:
            return self._supply
        places = self._leaves.get(mask)
        if places is None:
            places = self._leaves[mask] = {}
            for leaf in self._supply:
                if _mask(leaf) & mask == mask:
                    places.setdefault(self._get[mask](leaf), set()).add(leaf)
        return places.get(place, ())

    def spare_at(self, leaf: Leaf) -> int:
        """What the leaf can fill beside the holds on it alone."""
        held = self._held.get(self._full)
        taken = held.get(self._get[self._full](leaf), 0) if held else 0
        return max(self._supply[leaf] - taken, 0)

    def held_at(self, mask: int, place: Any) -> int:
        """Quantity held at exactly this node."""
        return self._held.get(mask, {}).get(place, 0)

    def place(self, mask: int, values: Sequence[str | None]) -> Any:
        """Values of the dimensions in the mask, as one key."""
        return self._get[mask](values)

    def holders(self, leaf: Leaf) -> list[_Held]:
        """Held nodes that contain the leaf and others: neither everything nor the leaf alone."""
        found = self._holders.get(leaf)
        if found is None:
            values = _mask(leaf)
            found = self._holders[leaf] = []
            for mask, places in self._held.items():
                if mask not in (0, self._full) and mask & values == mask:
                    place = self._get[mask](leaf)
                    if place in places:
                        found.append((mask, place))
            found.sort()
        return found


class _Network:
    """The flow network around one node: demands on one side, classes of equal leaves on the other.

    Demands are held nodes in sorted order, the asking node last. Every loop counts its steps in
    `work_left`, in an order that depends on supply and holds alone.
    """

    def __init__(self, pool: Pool, mask: int, node: Node, work_max: int) -> None:
        self.work_left = work_max
        self.at_least = 0
        self._place = pool.place(mask, node)
        self._mask = mask
        self._members: dict[Leaf, list[_Held]] = {}
        self._spares: dict[Leaf, int] = {}
        self._amounts: dict[_Held, int] = {}
        self._explore(pool)
        if self.work_left >= 0:
            self._set_at_least(pool)
        self._inside = {leaf for leaf in pool.leaves_at(mask, self._place) if leaf in self._spares}
        self.remaining: list[int] = []
        self._adjacent: list[Sequence[int]] = []
        self._spare: list[int] = []
        self._flow: list[dict[int, int]] = []

    def _explore(self, pool: Pool) -> None:
        """Reach every leaf and held node that is connected with the asking one by overlaps."""
        queue: list[_Held] = [(self._mask, self._place)]
        while queue and self.work_left >= 0:
            for leaf in pool.leaves_at(*queue.pop()):
                self.work_left -= 1
                if leaf in self._spares:
                    continue
                spare = pool.spare_at(leaf)
                if spare == 0:
                    continue
                members = pool.holders(leaf)
                self.work_left -= len(members)
                self._spares[leaf], self._members[leaf] = spare, members
                for held in members:
                    if held not in self._amounts:
                        self._amounts[held] = pool.held_at(*held)
                        queue.append(held)

    def _set_at_least(self, pool: Pool) -> None:
        """Even if every overlapping hold took its whole quantity here, this much would be left."""
        spare, overlapping = 0, set()
        for leaf in pool.leaves_at(self._mask, self._place):
            if leaf in self._spares:
                spare += self._spares[leaf]
                overlapping.update(self._members[leaf])
        held = sum(self._amounts[one] for one in overlapping)
        self.at_least = max(spare - held, 0)

    def arrange(self) -> None:
        """Merge leaves that the same demands can take, and number both sides."""
        demands = sorted(self._amounts)
        number = {held: index for index, held in enumerate(demands)}
        newest = len(demands)
        classes: dict[tuple[int, ...], int] = {}
        for leaf, members in self._members.items():
            taken_by = tuple(number[held] for held in members)
            if leaf in self._inside:
                taken_by = (*taken_by, newest)
            if taken_by:
                classes[taken_by] = classes.get(taken_by, 0) + self._spares[leaf]
        # Leaves the asking node cannot take come first, then those that few can take: holds are
        # filled there, and little has to be moved afterwards.
        ordered = sorted(classes, key=lambda key: (key[-1] == newest, len(key), key))
        covers: list[list[int]] = [[] for _ in range(newest + 1)]
        for index, key in enumerate(ordered):
            for demand in key:
                covers[demand].append(newest + 1 + index)
        self.remaining = [self._amounts[held] for held in demands] + [0]
        self._adjacent = [*covers, *ordered]
        self._spare = [0] * (newest + 1) + [classes[key] for key in ordered]
        self._flow = [{} for _ in self._adjacent]
        self.work_left -= sum(len(key) for key in ordered)

    def push(self, sources: Iterable[int]) -> bool:
        """Fill the remaining demand of these sources as far as it goes (Dinic's algorithm).

        Returns False when the work bound was hit before.
        """
        wanting = [source for source in sources if self.remaining[source]]
        while wanting:
            level = self._levels(wanting)
            if level is None:
                return self.work_left >= 0
            pointer = [0] * len(self._adjacent)
            for source in wanting:
                self._push_one(source, level, pointer)
            wanting = [source for source in wanting if self.remaining[source]]
        return self.work_left >= 0

    def _levels(self, sources: list[int]) -> list[int] | None:
        """Distance of each vertex from the sources; None when no spare can be reached."""
        level = [-1] * len(self._adjacent)
        demands = len(self.remaining)
        for source in sources:
            level[source] = 0
        frontier, depth, found = sources, 0, False
        while frontier and not found and self.work_left >= 0:
            depth += 1
            following = []
            for vertex in frontier:
                flow = self._flow[vertex] if vertex >= demands else None
                self.work_left -= len(self._adjacent[vertex])
                for target in self._adjacent[vertex]:
                    if level[target] < 0 and (flow is None or flow.get(target)):
                        level[target] = depth
                        following.append(target)
                        found = found or self._spare[target] > 0
            frontier = following
        return level if found and self.work_left >= 0 else None

    def _push_one(self, source: int, level: list[int], pointer: list[int]) -> None:
        demands = len(self.remaining)
        path = [source]
        while path and self.remaining[source] and self.work_left >= 0:
            vertex = path[-1]
            if self._spare[vertex]:
                self._augment(path)
                path = [source]
                continue
            flow = self._flow[vertex] if vertex >= demands else None
            adjacent = self._adjacent[vertex]
            position = pointer[vertex]
            while position < len(adjacent):
                self.work_left -= 1
                target = adjacent[position]
                if level[target] == level[vertex] + 1 and (flow is None or flow.get(target)):
                    path.append(target)
                    break
                position += 1
            pointer[vertex] = position
            if path[-1] == vertex:
                path.pop()
                if path:
                    pointer[path[-1]] += 1

    def _augment(self, path: list[int]) -> None:
        """Along demand, class, demand, ..., class: each demand takes, the one after it yields."""
        last = path[-1]
        amount = min(self.remaining[path[0]], self._spare[last])
        for index in range(1, len(path) - 1, 2):
            amount = min(amount, self._flow[path[index]][path[index + 1]])
        self.remaining[path[0]] -= amount
        self._spare[last] -= amount
        self.work_left -= len(path)
        for index in range(0, len(path), 2):
            demand, taken = path[index], self._flow[path[index + 1]]
            taken[demand] = taken.get(demand, 0) + amount
            if index + 2 < len(path):
                taken[path[index + 2]] -= amount


def fits(
    supply: Mapping[Leaf, int],
    held: Mapping[Node, int],
    node: Node,
    quantity: int,
    work_max: int = WORK_MAX,
) -> Fit:
    """Check once, without keeping a pool: all subsets of the dimensions are levels."""
    pool = Pool(len(node))
    for leaf, amount in supply.items():
        pool.supply(leaf, amount)
    for place, amount in held.items():
        pool.hold(place, amount)
    return pool.fit(node, quantity, work_max)


def _load(quantity: int, capacity: int) -> int:
    """Quantity over capacity, in units of 1 / `LOAD_ONE`, rounded up; too much where there is none.

    Rounded up, so that a sum that is small enough is small enough in truth.
    """
    return -(-quantity * LOAD_ONE // capacity) if capacity > 0 else LOAD_ONE + 1


def _mask(values: Sequence[str | None]) -> int:
    """Bits of the dimensions that have a value."""
    mask = 0
    for index, value in enumerate(values):
        if value:
            mask |= 1 << index
    return mask


def _getter(mask: int, width: int) -> Any:
    positions = [index for index in range(width) if mask >> index & 1]
    return itemgetter(*positions) if positions else _everything


def _everything(_values: Sequence[str | None]) -> str:
    return ""
