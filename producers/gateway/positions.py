"""Read your own writes: where a caller last wrote, so that its next query can wait for that.

The rule: memory is bounded in callers, and in partitions a caller; what is forgotten only makes a
query a little older, never wrong for long. A caller of several gateways carries the position itself
(`Holdfast-Position`).
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from schemas.topics import REQUESTS, TRANSACTIONS

CALLERS_MAX: Final = 10_000
PARTITIONS_A_CALLER_MAX: Final = 1_024
HEADER_POSITIONS_MAX: Final = 64
HEADER: Final = "Holdfast-Position"


class Position(NamedTuple):
    """A record in a source topic."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Positions:
    """The furthest write of each caller, by partition."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, dict[tuple[str, int], int]] = OrderedDict()

    def wrote(self, caller: str, positions: Iterable[Position]) -> None:
        """Remember writes."""
        known = self._callers.setdefault(caller, {})
        for topic, partition, offset in positions:
            place = (topic, partition)
            if known.get(place, -1) < offset:
                known[place] = offset
        while len(known) > PARTITIONS_A_CALLER_MAX:
            known.pop(next(iter(known)))
        self._callers.move_to_end(caller)
        if len(self._callers) > CALLERS_MAX:
            self._callers.popitem(last=False)

    def of(self, caller: str) -> list[Position]:
        """Writes that no query of the caller has seen yet."""
        known = self._callers.get(caller)
        return [] if not known else [Position(t, p, offset) for (t, p), offset in known.items()]

    def seen(self, caller: str, position: Position) -> None:
        """The view has reached it: no later query need ask."""
        known = self._callers.get(caller)
        place = (position.topic, position.partition)
        if known is not None and known.get(place, -1) <= position.offset:
            known.pop(place, None)
            if not known:
                self._callers.pop(caller, None)


def furthest(positions: Iterable[Position]) -> list[Position]:
    """One position per partition, the last."""
    found: dict[tuple[str, int], int] = {}
    for topic, partition, offset in positions:
        if found.get((topic, partition), -1) < offset:
            found[topic, partition] = offset
    return [Position(topic, partition, offset) for (topic, partition), offset in found.items()]


def header_value(positions: Iterable[Position]) -> str:
    """Value of the header: the furthest of each partition."""
    positions = list(positions)
    if len(positions) == 1:
        return str(positions[0])
    return ", ".join(str(position) for position in furthest(positions)[:HEADER_POSITIONS_MAX])


def from_header(value: str) -> list[Position]:
    """Positions of a header.

    Raises:
        ValueError: not `topic/partition/offset`, comma-separated.

    """
    found = []
    for part in value.split(","):
        topic, partition, offset = part.strip().split("/")
        numbers = partition.isascii() and partition.isdigit() and offset.isascii()
        if topic not in (REQUESTS, TRANSACTIONS) or not numbers or not offset.isdigit():
            raise ValueError(part)
        found.append(Position(topic, int(partition), int(offset)))
    if len(found) > HEADER_POSITIONS_MAX:
        raise ValueError("too many positions")
    return found
