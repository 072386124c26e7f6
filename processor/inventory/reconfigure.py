"""Another configuration, put to work at one record of the partition.

The rule: the switch is a record like any other, so it happens at one place in the order of
decisions and again at the same place in every replay. A document that is invalid, older than the
one in force or that would corrupt what is stored is refused whole, and the one in force stays.
Nothing stored changes: all sums are made anew from stock rows and holds.
"""

import msgspec

from processor.inventory import rows as row
from processor.inventory.configuration import Configuration, diff, errors, from_json, validate
from processor.inventory.configuration.compare import refused
from processor.inventory.events import event
from processor.inventory.rules import Rules
from processor.inventory.state import PartitionState
from schemas.codes import Code
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
    for change in refused(diff(current, found)):
        return f"{change.path}: {change.reason}"
    return found


def _tell(state: PartitionState, code: Code, message: str) -> None:
    state.events.append(event(state, "CONFIGURATION", code, message=message))
