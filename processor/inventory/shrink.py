"""Supply that falls below what is held: nobody promised it away, the stock is gone all the same.

The rule: it is never silent. One SUPPLY_SHORT event says how much is missing at the level that
lacks most; by policy the holds stay (`keep-and-alert`), or as many lose as are missing: the newest
first, or those of the lowest priority and of them the newest, with a HOLD_SHORT event for each.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from processor.inventory import holds, rows as row
from processor.inventory.events import event, hold_event
from processor.inventory.holds import FoundHold
from processor.inventory.state import PartitionState
from processor.inventory.stock import Level, Node, ProductLocation, clamp
from schemas.codes import Code
from schemas.messages import InventoryEvent

_KEEP: Final = "keep-and-alert"


class Lowered(NamedTuple):
    """A stock row whose supply fell under an availability."""

    location: ProductLocation
    dimensions: dict[str, str]
    availability: int


def answer(state: PartitionState, lowered: Iterable[Lowered]) -> None:
    """Tell where more is held than there is now, and do what the policy says."""
    told: set[tuple[object, ...]] = set()
    for entry in lowered:
        node = entry.location.node_of(entry.dimensions)
        key = (*entry.location.key, entry.availability, node)
        if key in told:
            continue
        told.add(key)
        path = entry.location.path(entry.availability, node)
        short = max(-min(one.free for one in path), _unfilled(entry))
        if short <= 0:
            continue
        state.events.append(_supply_short(state, entry, short))
        if state.rules.configuration.supply_shrink != _KEEP:
            for one in reversed(path):
                _shorten(state, entry, one)
            _shorten_crossing(state, entry)


def _unfilled(entry: Lowered) -> int:
    """What holds at levels that cross lack, though there is enough at each level by itself."""
    pools = entry.location.pools
    return pools[entry.availability].unfilled() if pools else 0


def _supply_short(state: PartitionState, entry: Lowered, short: int) -> InventoryEvent:
    location = entry.location
    name = state.rules.availabilities[entry.availability].name
    return event(
        state,
        "SUPPLY_SHORT",
        Code.INSUFFICIENT_STOCK,
        organization_id=location.organization_id,
        product_id=location.product_id,
        dimensions=entry.dimensions,
        quantity=clamp(short),
        available=clamp(-short),
        message=f"more is held than there is of {name}",
    )


def _shorten(state: PartitionState, entry: Lowered, node: Node) -> None:
    """Take from the holds at or below a node until there is enough for the rest."""
    if node.free >= 0:
        return
    for found, level in _candidates(state, entry, node):
        if node.free >= 0:
            return
        _reduce(state, level, found, min(found.hold.quantity, -node.free))


def _shorten_crossing(state: PartitionState, entry: Lowered) -> None:
    """Take from the holds whose part would help the others, until all can be filled."""
    short = _unfilled(entry)
    if not short:
        return
    for found, level in _candidates(state, entry):
        level.charge(-found.hold.quantity)
        helped = short - _unfilled(entry)
        level.charge(found.hold.quantity)
        if helped:
            _reduce(state, level, found, helped)
            short -= helped
        if not short:
            return


def _candidates(
    state: PartitionState, entry: Lowered, node: Node | None = None
) -> list[tuple[FoundHold, Level]]:
    """Live holds under the availability, at or below the node if there is one; who loses first."""
    by_priority = state.rules.configuration.supply_shrink == "priority"
    candidates = [
        (found.hold.priority if by_priority else 0, -found.number, level.reservation, found, level)
        for level in entry.location.levels.values()
        if any(
            number == entry.availability and sign < 0 and (node is None or node in path)
            for number, path, sign in level.effects
        )
        for found in _live_holds(state, level)
    ]
    candidates.sort(key=lambda candidate: candidate[:3])
    return [(found, level) for _, _, _, found, level in candidates]


def _reduce(state: PartitionState, level: Level, found: FoundHold, quantity: int) -> None:
    holds.reduce_hold(state, level, found, quantity)
    state.events.append(
        hold_event(
            state,
            "HOLD_SHORT",
            Code.INSUFFICIENT_STOCK,
            level=level,
            number=found.number,
            hold=found.hold,
            quantity=quantity,
            message="the supply fell below what was held",
        )
    )


def _live_holds(state: PartitionState, level: Level) -> Iterable[FoundHold]:
    if not level.reserved:
        return
    for key, value in state.rows.scan(level.group, level.oldest):
        found = FoundHold(key, int.from_bytes(key[13:], "big"), value, row.decode_hold(value))
        if found.is_live(state.clock_ms):
            yield found
