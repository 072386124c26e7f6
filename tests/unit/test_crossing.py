"""Crossing levels, in numbers a person can check."""

import pytest

from processor.inventory.crossing import WIDTH_MAX, Fit, Leaf, Node, Pool, fits

ANY = None
GRID: dict[Leaf, int] = {
    ("red", "small"): 4,
    ("red", "large"): 4,
    ("blue", "small"): 4,
    ("blue", "large"): 4,
}


def test_red_and_small_cannot_both_have_the_red_small_ones() -> None:
    """Two levels that cross share a leaf; it is promised once."""
    supply: dict[Leaf, int] = {("red", "small"): 10, ("blue", "large"): 10}
    assert fits(supply, {}, (ANY, "small"), 10).ok
    assert fits(supply, {("red", ANY): 10}, (ANY, "small"), 1) == Fit(False, 0, False, 10)


def test_a_hold_moves_out_of_the_way() -> None:
    """A hold on red is filled from large ones when the small ones are asked for."""
    assert fits(GRID, {("red", ANY): 4}, (ANY, "small"), 8).available == 8
    assert fits(GRID, {("red", ANY): 6}, (ANY, "small"), 8).available == 6


def test_a_chain_of_moves() -> None:
    """Filling one more may move a hold that moves another."""
    held: dict[Node, int] = {("red", ANY): 4, (ANY, "large"): 4}
    assert fits(GRID, held, (ANY, "small"), 8).available == 8
    assert fits(GRID, {("red", ANY): 8, (ANY, "large"): 4}, (ANY, "small"), 4).available == 4


def test_debt_is_charged_to_every_level_above() -> None:
    """A leaf below zero fills nothing, and lowers what its colour, size and the whole have."""
    supply: dict[Leaf, int] = {("red", "small"): 10, ("red", "large"): -3}
    assert fits(supply, {}, ("red", ANY), 8) == Fit(False, 7, False, 7)
    assert fits(supply, {}, (ANY, "large"), 1).available == -3
    assert fits(supply, {}, ("red", "small"), 1).available == 7


def test_the_bound_is_named_and_grants_only_what_is_certain() -> None:
    """Out of work, a check says so; what fits even in the worst case is still granted."""
    held: dict[Node, int] = {("red", ANY): 5, ("blue", ANY): 1}
    fit = fits(GRID, held, (ANY, "small"), 7, edges_max=5)
    assert fit == Fit(False, 2, True, 8)
    assert fits(GRID, held, (ANY, "small"), 2, edges_max=5).ok
    assert fits(GRID, held, (ANY, "small"), 7).ok


def test_with_slack_no_flow_is_needed() -> None:
    """Holds that fit beside the asking node, however they are spread, cost no work."""
    held: dict[Node, int] = {("red", ANY): 2, ("blue", ANY): 2}
    assert fits(GRID, held, (ANY, "small"), 8, edges_max=0) == Fit(True, 8, False, 8)


def test_held_never_falls_below_zero() -> None:
    """Giving back more than is held is a fault of the caller."""
    pool = Pool(1)
    pool.hold(("red",), 1)
    with pytest.raises(ValueError, match="would fall to -1"):
        pool.hold(("red",), -2)


def test_the_number_of_crossing_dimensions_is_bounded() -> None:
    """256 levels is the most a pool keeps."""
    Pool(WIDTH_MAX)
    with pytest.raises(ValueError, match="at most 8"):
        Pool(WIDTH_MAX + 1)
