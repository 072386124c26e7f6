"""Why an availability is what it is: the level that bound, its terms, and when stock could free.

The rule: the terms add up to the availability at that level, to the last digit.
"""

from itertools import islice
from typing import Final

from processor.inventory import rows as row
from processor.inventory.rules import NodeKey
from processor.inventory.state import PartitionState
from processor.inventory.stock import Level, clamp
from schemas.messages import ResultDetail, Term

# Nodes of a product-location whose terms are kept in step with its stock rows.
EXPLAINED_MAX: Final = 64
NEXT_FREE_LOOKED_AT_MAX: Final = 64  # Expiries looked at for the next that would help here.


def explain(
    state: PartitionState, level: Level, message: str = "", expires_at_ms: int | None = None
) -> ResultDetail:
    """Explanation of what is available at a level."""
    position, free = _binding(level)
    location = level.location
    node = state.rules.ancestors(level.node, crossing=location.crossing)[position]
    return ResultDetail(
        expires_at_ms=expires_at_ms,
        level=state.rules.level_name(node),
        terms=_terms(state, level, node, free),
        next_free_at_ms=_next_free(state, level, position),
        message=message,
    )


def _binding(level: Level) -> tuple[int, int]:
    """Position on the path of the coarsest node that has least, and what it has."""
    first = len(level.path) - len(level.checked)
    free = [node.free for node in level.checked]
    least = min(free)
    return first + free.index(least), least


def _terms(state: PartitionState, level: Level, node: NodeKey, free: int) -> list[Term]:
    location = level.location
    availability = state.rules.availabilities[level.measure.availability]
    key = (availability.number, node)
    supply = location.explained.get(key)
    if supply is None:
        if len(location.explained) >= EXPLAINED_MAX:
            location.explained.clear()
        supply = location.explained[key] = _supply(state, level, node)
    terms = [Term(name, clamp(quantity)) for name, quantity in supply.items() if quantity]
    held = free - sum(supply.values())
    counted = [name for name in state.rules.reservation_measures if name in availability.terms]
    for name in counted[1:]:
        quantity = availability.terms[name] * _held_below(level, name, node)
        terms.append(Term(name, clamp(quantity)))
        held -= quantity
    if counted:
        terms.append(Term(counted[0], clamp(held)))
    return terms


def _supply(state: PartitionState, level: Level, node: NodeKey) -> dict[str, int]:
    """Signed sums of the stock rows below a node, in the order of the formula."""
    availability = state.rules.availabilities[level.measure.availability]
    sums = {name: 0 for name in availability.terms if name not in state.rules.reservation_measures}
    for key, value in state.rows.scan(level.location.group):
        if key[13] != row.KIND_LEAF:
            continue
        leaf = row.decode_leaf(value)
        if not level.location.is_below(leaf.dimensions, node):
            continue
        for name, quantity in leaf.quantities.items():
            if name in sums:
                sums[name] += availability.terms[name] * quantity
    return sums


def _held_below(level: Level, measure: str, node: NodeKey) -> int:
    return sum(
        other.reserved
        for other in level.location.levels.values()
        if other.place.measure == measure and level.location.is_below(other.place.dimensions, node)
    )


def _next_free(state: PartitionState, level: Level, position: int) -> int | None:
    """The next expiry of a hold at or below the level that bound."""
    location = level.location
    if location.next_due_ms == row.NEVER_MS:
        return None
    node = level.path[position]
    group = b"Y" + location.hash
    after = group + state.clock_ms.to_bytes(8, "big") + b"\xff" * 20
    for key, _ in islice(state.rows.scan(group, after), NEXT_FREE_LOOKED_AT_MAX):
        other = location.levels.get(key[21:33])
        if other is not None and any(node in path for _, path, _ in other.effects):
            return int.from_bytes(key[13:21], "big")
    return None
