"""Another configuration, put to work at one record of the partition.

The rule: the switch is a record like any other, so it happens at one place in the order of
decisions and again at the same place in every replay. A document that is invalid, older than the
one in force or that would corrupt what is stored is refused whole, and the one in force stays.
Nothing stored changes: all sums are made anew from stock rows and holds. Where nothing is on hand
and nothing held there is nothing to corrupt: there even the partition rule may change, and stock
rows that say nought go, for by the other rule they would lie elsewhere.
"""

from collections.abc import Iterator
from itertools import chain

import msgspec

from processor.inventory import rows as row
from processor.inventory.configuration import Configuration, diff, errors, from_json, validate
from processor.inventory.configuration.compare import refused
from processor.inventory.events import event
from processor.inventory.rules import Rules
from processor.inventory.state import PartitionState
from schemas.codes import Code
from schemas.limits import PRODUCT_LOCATIONS_LOOKED_AT_MAX as LOOKED_AT_MAX
from schemas.messages import ReservationRequest


def rules_of(rows: row.RowReader, initial: Rules) -> Rules:
    """Rules of the configuration in force in a partition; the initial ones before the first."""
    stored = rows.get(row.CONFIGURATION_KEY)
    return initial if stored is None else Rules(from_json(stored))


def configure(state: PartitionState, request: ReservationRequest) -> Code:
    """Decide a CONFIGURE request; an event says what came of it."""
    document = request.options.configuration if request.options else None
    found = _read(state, document)
    if isinstance(found, str):
        _tell(state, Code.CONFIGURATION_INVALID, found)
        return Code.CONFIGURATION_INVALID
    if found != state.rules.configuration and not (request.options and request.options.dry_run):
        assert document is not None
        if found.partition != state.rules.configuration.partition:
            for key in list(_stock_keys(state)):
                state.delete(key)
        state.reload(Rules(found))
        state.put(row.CONFIGURATION_KEY, document)
        _tell(state, Code.ACCEPTED, f"version {found.version} is in force")
    return Code.ACCEPTED


def _read(state: PartitionState, document: bytes | None) -> Configuration | str:
    """The configuration that a document holds, or why it cannot be put to work."""
    if document is None:
        return "no document"
    try:
        found = from_json(document)
    except msgspec.DecodeError as error:
        return f"not a configuration document: {error}"
    problems = errors(validate(found))
    if problems:
        first = problems[0]
        return f"{first.path}: {first.rule}; {first.remedy}"
    current = state.rules.configuration
    if found == current:
        return found
    if state.rows.get(row.CONFIGURATION_KEY) is not None and found.version <= current.version:
        return f"version {found.version} is not above {current.version}, which is in force"
    may_move = found.partition != current.partition and _is_empty(state)
    for change in refused(diff(current, found), may_move=may_move):
        return f"{change.path}: {change.reason}"
    return found


def _is_empty(state: PartitionState) -> bool:
    """Whether nothing is on hand and nothing held; False where that is too much to look at.

    A level that is not nought has holds, or is among those in use.
    """
    groups = chain(_groups(state, b"H"), _stock_groups(state))
    for looked_at, group in enumerate(groups):
        if looked_at >= LOOKED_AT_MAX:
            return False
        for key, value in state.rows.scan(group):
            if key[:1] == b"H" or (
                key[13] == row.KIND_LEAF and any(row.decode_leaf(value).quantities.values())
            ):
                return False
    return all(
        not level.reserved and not level.unswept
        for location in state.locations.values()
        for level in location.levels.values()
    )


def _stock_groups(state: PartitionState) -> Iterator[bytes]:
    """Groups of stock rows, those of product-locations in use first."""
    for location in state.locations.values():
        yield location.group
    yield from _groups(state, b"P")


def _groups(state: PartitionState, kind: bytes) -> Iterator[bytes]:
    """Groups of the kind; some that have no row any more, some twice."""
    yield from sorted(state.rows.pending_groups(kind))
    group = state.rows.next_group(kind)
    while group is not None:
        yield group
        group = state.rows.next_group(group)


def _stock_keys(state: PartitionState) -> Iterator[bytes]:
    for group in _stock_groups(state):
        for key, _ in state.rows.scan(group):
            yield key


def _tell(state: PartitionState, code: Code, message: str) -> None:
    state.events.append(event(state, "CONFIGURATION", code, message=message))
