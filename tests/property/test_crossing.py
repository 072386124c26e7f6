"""Crossing levels against brute force: nothing is promised twice, nothing that fits is refused.

The oracle shares no code with the room: it fills unit by unit (augmenting paths) and sums by hand.
"""

from itertools import product
from random import Random

from hypothesis import given, settings, strategies as st

from processor.inventory.crossing import Leaf, Node, Pool, fits

VALUES = ("a", "b", "c")
Supply = dict[Leaf, int]
Holds = dict[Node, int]


def below(leaf: Leaf, node: Node) -> bool:
    """Leaf lies below node."""
    return all(want is None or want == has for has, want in zip(leaf, node, strict=True))


def inside(node: Node, other: Node) -> bool:
    """Everything below `node` is below `other`, by the values they name."""
    return all(want is None or want == has for has, want in zip(node, other, strict=True))


class Filling:
    """Units of supply, each taken by at most one unit of a hold; one augmenting path a unit."""

    def __init__(self, supply: Supply, held: Holds) -> None:
        self.units = [leaf for leaf, amount in supply.items() for _ in range(max(amount, 0))]
        self.taken_by: dict[int, Node] = {}
        self.filled = sum(self.add(node) for node, amount in held.items() for _ in range(amount))

    def add(self, node: Node) -> bool:
        """Fill one more unit of the node, moving others; False when none can be."""
        return self._fill(node, set())

    def _fill(self, node: Node, tried: set[int]) -> bool:
        for unit, leaf in enumerate(self.units):
            if unit in tried or not below(leaf, node):
                continue
            tried.add(unit)
            if unit not in self.taken_by or self._fill(self.taken_by[unit], tried):
                self.taken_by[unit] = node
                return True
        return False


def with_more(held: Holds, node: Node, quantity: int) -> Holds:
    """Return the holds and one more."""
    return {**held, node: held.get(node, 0) + quantity}


def net(supply: Supply, held: Holds, node: Node) -> int:
    """Tree rule over every coarser level of the node."""
    frees = []
    for keep in product((True, False), repeat=len(node)):
        wider: Node = tuple(v if k else None for v, k in zip(node, keep, strict=True))
        have = sum(amount for leaf, amount in supply.items() if below(leaf, wider))
        frees.append(have - sum(amount for one, amount in held.items() if inside(one, wider)))
    return min(frees)


def expected(supply: Supply, held: Holds, node: Node) -> int:
    """`available` as the room defines it, by brute force."""
    cap = net(supply, held, node)
    filling = Filling(supply, held)
    fill = 0
    while fill < cap and filling.add(node):
        fill += 1
    return min(cap, fill)


def leaves(width: int) -> st.SearchStrategy[Leaf]:
    """Leaves, some without a value in a dimension."""
    return st.tuples(*[st.sampled_from(("a", "b", "a", "b", "c", ""))] * width)


def nodes(width: int) -> st.SearchStrategy[Node]:
    """Nodes of any subset of the dimensions."""
    return st.tuples(*[st.sampled_from(("a", "b", None, None))] * width)


@st.composite
def situations(draw: st.DrawFn, low: int = -2) -> tuple[Supply, Holds, Node]:
    """Anything, and mostly a full grid whose units are given to the rows and columns over them.

    The second kind can be filled by construction and is tight, so that what crosses competes; a
    last leaf, far from the grid, keeps the top level from binding first.
    """
    width = draw(st.sampled_from((1, 2, 2, 2, 2, 3)))
    if draw(st.integers(0, 3)) == 0:
        supply = draw(st.dictionaries(leaves(width), st.integers(low, 5), max_size=8))
        held = draw(st.dictionaries(nodes(width), st.integers(1, 4), max_size=6))
        return supply, held, draw(nodes(width))
    supply = {("c",) * width: 12}
    held = {}
    usual = draw(st.integers(1, 2**width - 1))
    for leaf in product("ab", repeat=width):
        level = draw(st.sampled_from((usual, usual, usual, 1, 2**width - 1)))
        node: Node = tuple(v if level >> i & 1 else None for i, v in enumerate(leaf))
        supply[leaf] = units = draw(st.sampled_from((1, 2, 3, min(low, 1))))
        taken = units - draw(st.sampled_from((0, 0, 0, 1)))
        if taken > 0:
            held = with_more(held, node, taken)
    asked = draw(st.one_of(st.just((*(None,) * (width - 1), "a")), nodes(width)))
    return supply, held, asked


@given(situations())
@settings(max_examples=400, deadline=None)
def test_available_is_the_definition(situation: tuple[Supply, Holds, Node]) -> None:
    """In any state, debts and over-promised nodes included, `available` is min(net, fill)."""
    supply, held, node = situation
    fit = fits(supply, held, node, 1)
    assert not fit.bound_hit
    assert fit.available == expected(supply, held, node)
    assert fit.ok is (fit.available >= 1)
    assert fit.net == net(supply, held, node)


@given(situations(low=0), st.lists(st.tuples(st.integers(0, 8), st.integers(1, 4)), max_size=12))
@settings(max_examples=200, deadline=None)
def test_granted_holds_can_always_be_filled_and_no_more_is_refused(
    situation: tuple[Supply, Holds, Node], asks: list[tuple[int, int]]
) -> None:
    """From nothing held, checked grants stay fillable together, and a refused one would not."""
    supply, held, node = situation
    candidates = [*held, node]
    granted: Holds = {}
    for index, quantity in asks:
        asked = candidates[index % len(candidates)]
        more = with_more(granted, asked, quantity)
        fillable = Filling(supply, more).filled == sum(more.values())
        assert fits(supply, granted, asked, quantity).ok is fillable
        if fillable:
            granted = more


@given(situations(), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_answer_does_not_depend_on_history(
    situation: tuple[Supply, Holds, Node], shuffle: object
) -> None:
    """A pool that went up and down in another order answers as a fresh one, bound included."""
    supply, held, node = situation
    pool = Pool(len(node))
    for leaf, amount in reversed(supply.items()):
        pool.supply(leaf, amount + 5)
    for place, amount in reversed(held.items()):
        pool.hold(place, amount + 2)
        pool.fit(node, 1)
    for leaf in supply:
        pool.supply(leaf, -5)
    for place in held:
        pool.hold(place, -2)
    for edges_max in (0, 3, 10, 30, 100_000):
        assert pool.fit(node, 2, edges_max) == fits(supply, held, node, 2, edges_max)


@given(situations())
@settings(max_examples=150, deadline=None)
def test_a_bound_never_grants_what_does_not_fit(situation: tuple[Supply, Holds, Node]) -> None:
    """With any bound, what is answered as available is no more than the exact answer."""
    supply, held, node = situation
    exact = expected(supply, held, node)
    for edges_max in (0, 1, 5, 10, 20, 40):
        fit = fits(supply, held, node, 1, edges_max)
        assert fit.available <= exact
        assert fit.bound_hit or fit.available == exact


@given(situations())
@settings(max_examples=150, deadline=None)
def test_on_a_chain_of_levels_it_is_the_tree_rule(situation: tuple[Supply, Holds, Node]) -> None:
    """With prefixes as levels `available` is the smallest free sum on the path, debts included."""
    supply, held, node = situation
    width = len(node)
    prefixes = [(1 << length) - 1 for length in range(width + 1)]
    path = [tuple(node[:length]) + (None,) * (width - length) for length in range(width + 1)]
    node = [one for one in path if mask(one) in prefixes][-1]
    pool = Pool(width, prefixes)
    for leaf, amount in supply.items():
        pool.supply(leaf, amount)
    kept = {one: amount for one, amount in held.items() if mask(one) in prefixes}
    for one, amount in kept.items():
        pool.hold(one, amount)
    frees = []
    for wider in (one for one in path if inside(node, one)):
        have = sum(amount for leaf, amount in supply.items() if below(leaf, wider))
        frees.append(have - sum(amount for one, amount in kept.items() if inside(one, wider)))
    assert pool.fit(node, 1).available == min(frees)


def mask(node: Node) -> int:
    """Bits of the dimensions that the node fixes."""
    return sum(1 << index for index, value in enumerate(node) if value is not None)


def crowded(seed: int) -> tuple[Supply, Holds, Node]:
    """A larger grid, every unit given to a row or a column: filling one more moves many holds."""
    chosen = Random(seed)  # noqa: S311 - reproducible test data
    width = chosen.choice((2, 2, 3))
    side = 4 if width == 2 else 3
    supply: Supply = {("far",) * width: 40}
    held: Holds = {}
    for leaf in product("abcd"[:side], repeat=width):
        supply[leaf] = units = chosen.randint(0, 4)
        level = chosen.randrange(1, 2**width - 1)
        node: Node = tuple(v if level >> i & 1 else None for i, v in enumerate(leaf))
        taken = max(units - chosen.choice((0, 0, 0, 1)), 0)
        if taken:
            held = with_more(held, node, taken)
    level = chosen.randrange(1, 2**width)
    asked: Node = tuple("a" if level >> i & 1 else None for i in range(width))
    return supply, held, asked


@given(st.integers(0, 10**9))
@settings(max_examples=400, deadline=None)
def test_available_is_exact_where_one_more_moves_many_holds(seed: int) -> None:
    """On crowded grids `available` equals brute force; a bound only ever lowers it, and says so."""
    supply, held, node = crowded(seed)
    exact = expected(supply, held, node)
    assert fits(supply, held, node, 1).available == exact
    for edges_max in (10, 60, 150, 250, 400):
        fit = fits(supply, held, node, 1, edges_max)
        assert fit.available <= exact
        assert fit.bound_hit or fit.available == exact


@given(st.randoms(use_true_random=False), st.integers(2, 3))
@settings(max_examples=150, deadline=None)
def test_where_there_is_slack_the_flow_agrees(random: Random, width: int) -> None:
    """Loads kept through changes of stock and holds are those made anew, and never promise more."""
    pool = Pool(width)
    held: Holds = {}
    for _ in range(40):
        leaf = tuple(random.choice(("a", "b", "c", "")) for _ in range(width))
        if random.random() < 0.4:
            pool.supply(leaf, random.choice((9, 6, 3, -4)))
        node: Node = tuple(value if value and random.random() < 0.5 else None for value in leaf)
        change = random.choice((1, 2, 3, -held.get(node, 0)))
        pool.hold(node, change)
        held[node] = held.get(node, 0) + change
        asked = tuple(value if value and random.random() < 0.5 else None for value in leaf)
        mask = sum(1 << index for index, value in enumerate(asked) if value)
        net = pool.fit(asked, 1).net
        if net > 0 and mask and pool._is_slack(mask, asked):
            assert pool._fill(mask, asked, net, 10**6) == (net, True)
        kept = pool._loads
        if kept is not None:
            assert dict(kept) == dict(pool._spread_all())


@given(st.randoms(use_true_random=False), st.integers(2, 3))
@settings(max_examples=100, deadline=None)
def test_a_flow_kept_through_changes_answers_as_one_made_anew(random: Random, width: int) -> None:
    """Stock and holds come and go, debts and over-promises too: each answer is a fresh pool's."""
    pool = Pool(width)
    supply: Supply = {}
    held: Holds = {}
    for _ in range(40):
        leaf = tuple(random.choice(("a", "b", "b", "c", "")) for _ in range(width))
        if random.random() < 0.5:
            change = random.choice((4, 2, 1, -1, -3, -supply.get(leaf, 0)))
            pool.supply(leaf, change)
            supply[leaf] = supply.get(leaf, 0) + change
        node: Node = tuple(value if value and random.random() < 0.6 else None for value in leaf)
        more = max(random.choice((2, 1, -1, -9)), -held.get(node, 0))
        pool.hold(node, more)
        held[node] = held.get(node, 0) + more
        asked = tuple(value if value and random.random() < 0.6 else None for value in leaf)
        live = {one: amount for one, amount in held.items() if amount}
        assert pool.fit(asked, 2) == fits(supply, live, asked, 2)
        asked_mask = mask(tuple(value or None for value in asked))
        fresh = Pool(width)
        for one, amount in supply.items():
            fresh.supply(one, amount)
        for one, amount in live.items():
            fresh.hold(one, amount)
        assert pool._fill(asked_mask, asked, 9, 10**6) == fresh._fill(asked_mask, asked, 9, 10**6)
