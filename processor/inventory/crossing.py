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
the same. A flow that fills the present holds is kept between decisions and mended by what changes
(`_Filling`): which of many it is depends on history, its value does not, and only the value is
answered. The bound may therefore depend on the size of the network, which is a function of supply
and holds, and never on the work done, which is not.

The bound: `EDGES_MAX` pairs of a held node and a leaf below it. Past it, what is known to fit is
still granted; the rest is refused by name (Code.AVAILABILITY_BOUND), never guessed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple

WIDTH_MAX: Final = 8  # Dimensions beside the partition's own: 256 levels at most.
LOAD_ONE: Final = 1 << 40  # A load of 1.
EDGES_MAX: Final = 20_000  # Of the network: one walk over it takes about 5 ms.

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


class Pool:
    """Supply and holds of one product at one place and one availability measure.

    Keeps `free` of every configured level up to date (2^width small steps a change), so that most
    checks are look-ups; a flow is computed only where held nodes really cross.
    """

    __slots__ = (
        "_capacity",
        "_chain",
        "_filling",
        "_free",
        "_full",
        "_get",
        "_held",
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
        # An answer that holds until a held node comes or goes: it says nothing of quantities.
        self._chain: dict[int, bool] = {}
        self._filling: _Filling | None = None  # From the first check that needs a flow.
        # What leaves below a node can fill, of the levels that were asked for; held nodes by place;
        # their loads, and the sums at the leaves (None until needed, or when leaves come and go).
        self._capacity: dict[int, dict[Any, int]] = {}
        self._nodes: dict[int, dict[Any, Node]] = {}
        self._raised: dict[int, dict[Any, int]] = {}
        self._loads: dict[Leaf, int] | None = None

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
        self._charge(node, mask, -delta)
        if leaf is not None:
            self._note_spare(leaf, mask, self._spare(leaf) - spare)
        elif mask:
            if self._loads is not None:
                self._spread(self._loads, mask, place)
            if self._filling is not None:
                self._filling.hold((mask, place), delta)

    def fit(self, node: Node, quantity: int, edges_max: int = EDGES_MAX) -> Fit:
        """Check whether `quantity` more can be held at `node`."""
        net = self._net(node)
        mask = _mask(node)
        if net <= 0 or mask == 0 or self._is_chain(mask) or self._is_slack(mask, node):
            return Fit(quantity <= net, net, False, net)
        fill, exact = self._fill(mask, node, net, edges_max)
        return Fit(quantity <= fill, fill, not exact, net)

    def unfilled(self, edges_max: int = EDGES_MAX) -> int:
        """How much of what is held cannot be filled, single leaves apart; 0 past the bound."""
        if self._is_larger_than(edges_max):
            return 0
        if self._filling is None:
            self._filling = _Filling(self)
        return self._filling.unfilled()

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
        if self._filling is not None and delta:
            self._filling.supply(leaf, delta)
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

    def _fill(self, mask: int, node: Node, cap: int, edges_max: int) -> tuple[int, bool]:
        """`fill(node)`, no more than `cap`, and whether it is exact."""
        place = self._get[mask](node)
        if self._is_larger_than(edges_max):
            least = min(self._at_least(mask, place), cap)
            return least, least == cap
        if self._filling is None:
            self._filling = _Filling(self)
        return self._filling.room_for(self.leaves_at(mask, place), cap), True

    def _is_larger_than(self, edges_max: int) -> bool:
        """Whether held nodes and the leaves below them are more pairs than that."""
        edges = 0
        for mask, places in self._held.items():
            if mask not in (0, self._full):
                for place in places:
                    edges += 1 + len(self.leaves_at(mask, place))
                    if edges > edges_max:
                        return True
        return False

    def _at_least(self, mask: int, place: Any) -> int:
        """Left for sure: even if all overlapping holds took their whole quantity at this node."""
        spare = 0
        overlapping: set[_Held] = set()
        for leaf in self.leaves_at(mask, place):
            spare += self.spare_at(leaf)
            values = _mask(leaf)
            for held_mask, places in self._held.items():
                if held_mask not in (0, self._full) and held_mask & values == held_mask:
                    held_place = self._get[held_mask](leaf)
                    if held_place in places:
                        overlapping.add((held_mask, held_place))
        return max(spare - sum(self.held_at(*one) for one in overlapping), 0)

    def let_go(self) -> None:
        """Nobody asks it any more: its flow, which refers to it, is freed."""
        self._filling = None

    def spares(self) -> dict[Leaf, int]:
        """What every leaf can fill beside the holds on it alone."""
        return {leaf: self.spare_at(leaf) for leaf in self._supply}

    def demands(self) -> dict[_Held, int]:
        """Quantity of every held node but of everything and of single leaves, finest first."""
        masks = [mask for mask in self._held if mask not in (0, self._full)]
        masks.sort(key=lambda mask: (-mask.bit_count(), mask))
        return {(mask, p): held for mask in masks for p, held in self._held[mask].items()}

    def leaves_at(self, mask: int, place: Any) -> Collection[Leaf]:
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


_ASKING: Final[_Held] = (-1, "")  # The node that asks, beside what is held there already.


class _Filling:
    """A flow that fills the holds of a pool as far as they can be filled, mended as they change.

    The rule: it is a largest flow whenever `room_for` answers, so that what it answers is the
    increase of the largest flow, whichever flow this is. Leaves are taken by demands: held nodes,
    and for the time of a question the asking one.
    """

    __slots__ = ("_leaves_of", "_left", "_pool", "_takers", "_unfilled")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._left = pool.spares()
        self._takers: dict[Leaf, dict[_Held, int]] = {}
        self._unfilled = pool.demands()
        self._leaves_of: Collection[Leaf] = ()

    def hold(self, demand: _Held, delta: int) -> None:
        """More is held at a node, or less."""
        unfilled = self._unfilled.get(demand, 0) + delta
        if unfilled > 0:
            self._unfilled[demand] = unfilled
            return
        self._unfilled.pop(demand, None)
        if unfilled:
            self._take_back(demand, self._pool.leaves_at(*demand), -unfilled)

    def supply(self, leaf: Leaf, delta: int) -> None:
        """A leaf can fill more, or less."""
        left = self._left.get(leaf, 0) + delta
        takers = self._takers.get(leaf)
        while left < 0 and takers:
            demand, taken = takers.popitem()
            part = min(taken, -left)
            if taken > part:
                takers[demand] = taken - part
            self._unfilled[demand] = self._unfilled.get(demand, 0) + part
            left += part
        assert left >= 0
        self._left[leaf] = left
        if not left and not takers:  # Perhaps no leaf any more.
            del self._left[leaf]
            self._takers.pop(leaf, None)

    def unfilled(self) -> int:
        """What is held beyond what a largest flow fills."""
        if self._unfilled:
            self._push(self._unfilled)
        return sum(self._unfilled.values())

    def room_for(self, leaves: Collection[Leaf], cap: int) -> int:
        """The most that can be filled from these leaves, up to `cap`, and every hold as before."""
        if self._unfilled:
            self._push(self._unfilled)
        self._leaves_of = leaves
        asking = {_ASKING: cap}
        self._push(asking)
        found = cap - asking.get(_ASKING, 0)
        self._take_back(_ASKING, leaves, found)
        return found

    def _take_back(self, demand: _Held, leaves: Collection[Leaf], quantity: int) -> None:
        """Of what the demand has been filled with, so much goes back."""
        for leaf in leaves:
            takers = self._takers.get(leaf)
            taken = takers.get(demand, 0) if takers else 0
            if takers is None or not taken:
                continue
            part = min(taken, quantity)
            if taken > part:
                takers[demand] = taken - part
            else:
                del takers[demand]
            self._left[leaf] = self._left.get(leaf, 0) + part
            quantity -= part
            if not quantity:
                return
        assert not quantity, "more would be given back than was filled"

    def _at(self, demand: _Held) -> Collection[Leaf]:
        return self._leaves_of if demand == _ASKING else self._pool.leaves_at(*demand)

    def _push(self, wanted: dict[_Held, int]) -> None:
        """Fill what is wanted as far as it goes (Dinic's algorithm); the rest stays in `wanted`."""
        for demand in list(wanted):
            self._take_what_is_left(demand, wanted)
        while wanted:
            reach = self._reach(wanted)
            if reach is None:
                return
            phase = _Phase(*reach)
            for source in list(wanted):
                self._push_one(source, wanted, phase)

    def _take_what_is_left(self, demand: _Held, wanted: dict[_Held, int]) -> None:
        left = self._left
        for leaf in self._at(demand):
            free = left.get(leaf)
            if free:
                part = min(free, wanted[demand])
                self._move(leaf, demand, part)
                left[leaf] = free - part
                if not _lower(wanted, demand, part):
                    return

    def _reach(
        self, wanted: Mapping[_Held, int]
    ) -> tuple[dict[_Held, int], dict[Leaf, int]] | None:
        """Steps from what is wanted to demands and leaves, as far as the nearest that is left."""
        demands, leaves = dict.fromkeys(wanted, 0), dict[Leaf, int]()
        left, takers = self._left, self._takers
        frontier, depth, found = list(wanted), 0, False
        while frontier and not found:
            following: list[_Held] = []
            for demand in frontier:
                for leaf in self._at(demand):
                    if leaf in leaves:
                        continue
                    leaves[leaf] = depth
                    if left.get(leaf):
                        found = True
                    for taker in takers.get(leaf, ()):
                        if taker not in demands:
                            demands[taker] = depth + 1
                            following.append(taker)
            frontier, depth = following, depth + 1
        return (demands, leaves) if found else None

    def _push_one(self, source: _Held, wanted: dict[_Held, int], phase: "_Phase") -> None:
        """Along the shortest ways until the source has all or none is left."""
        path, via = [source], list[Leaf]()
        while path and source in wanted:
            demand = path[-1]
            if demand not in phase.ways:
                depth, at = phase.demands[demand], phase.leaves
                ways = [leaf for leaf in self._at(demand) if at.get(leaf) == depth]
                phase.ways[demand] = ways
            ways = phase.ways[demand]
            while ways:
                leaf = ways[-1]
                if self._left.get(leaf):
                    self._augment(path, [*via, leaf], wanted)
                    path, via = [source], []
                    break
                taker = self._next_taker(leaf, phase)
                if taker is not None:
                    path.append(taker)
                    via.append(leaf)
                    break
                ways.pop()
            else:
                path.pop()
                if via:
                    phase.takers[via.pop()].pop()

    def _next_taker(self, leaf: Leaf, phase: "_Phase") -> _Held | None:
        """Who would have to give way at a full leaf, one step further."""
        now = self._takers.get(leaf, {})
        if leaf not in phase.takers:
            depth = phase.leaves[leaf] + 1
            phase.takers[leaf] = [one for one in now if phase.demands.get(one) == depth]
        takers = phase.takers[leaf]
        while takers and takers[-1] not in now:
            takers.pop()
        return takers[-1] if takers else None

    def _augment(self, path: list[_Held], via: list[Leaf], wanted: dict[_Held, int]) -> None:
        """Each demand takes its leaf from the one after it, the last one takes what is left."""
        last = via[-1]
        amount = min(wanted[path[0]], self._left[last])
        for leaf, giver in zip(via, path[1:], strict=False):
            amount = min(amount, self._takers[leaf][giver])
        for index, leaf in enumerate(via):
            self._move(leaf, path[index], amount)
            if index + 1 < len(path):
                _lower(self._takers[leaf], path[index + 1], amount)
        self._left[last] -= amount
        _lower(wanted, path[0], amount)

    def _move(self, leaf: Leaf, demand: _Held, amount: int) -> None:
        takers = self._takers.setdefault(leaf, {})
        takers[demand] = takers.get(demand, 0) + amount


class _Phase:
    """One search of Dinic's algorithm: distances, and the ways that were not tried yet."""

    __slots__ = ("demands", "leaves", "takers", "ways")

    def __init__(self, demands: dict[_Held, int], leaves: dict[Leaf, int]) -> None:
        self.demands = demands
        self.leaves = leaves
        self.ways: dict[_Held, list[Leaf]] = {}
        self.takers: dict[Leaf, list[_Held]] = {}


def _lower(amounts: dict[_Held, int], name: _Held, by: int) -> int:
    """Take from one amount, none is no entry; gives what it is now."""
    amount = amounts[name] - by
    if amount:
        amounts[name] = amount
    else:
        del amounts[name]
    return amount


def fits(
    supply: Mapping[Leaf, int],
    held: Mapping[Node, int],
    node: Node,
    quantity: int,
    edges_max: int = EDGES_MAX,
) -> Fit:
    """Check once, without keeping a pool: all subsets of the dimensions are levels."""
    pool = Pool(len(node))
    for leaf, amount in supply.items():
        pool.supply(leaf, amount)
    for place, amount in held.items():
        pool.hold(place, amount)
    return pool.fit(node, quantity, edges_max)


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
