"""One row of an ERP to one inventory transaction; pure.

The rule: nothing is guessed. A status that the mapping does not name, a quantity that is no exact
number, a field that is missing: the row is refused with a code and words, and goes to the dead
letters as it came.
"""

import json
from collections.abc import Mapping as Words
from decimal import Decimal
from typing import Any, Final

import msgspec

from producers.channel.requests import Item, KeyRule, key_by_location
from producers.quantity import QuantityError, to_unscaled
from producers.scm.mapping import ANY, SKIP, Mapping
from schemas.codes import Code
from schemas.limits import CHANGES_MAX, MOVED_FROM, REQUEST_ID_LENGTH_MAX
from schemas.messages import InventoryTransaction, MeasureChange, TransactionStatus
from schemas.symbols import ENDED

TRUE: Final = frozenset({"1", "true", "yes", "y", "t", "x"})
WHOLE_DIGITS_MAX: Final = 19  # Of a number that stands for a word: 1e400 must not become text.
SEQUENCE_MAX: Final = 2**63 - 1
ROW_BYTES_MAX: Final = 65_536

Row = Words[str, Any]
Changes = dict[tuple[str, frozenset[tuple[str, str]]], int]


class Refused(Exception):
    """A row that is not told on; `code` is of the numbered list."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def read_json(text: bytes | str) -> Row:
    """A row from its JSON; numbers stay exact.

    Raises:
        Refused: not one JSON object, or too large.

    """
    if len(text) > ROW_BYTES_MAX:
        raise Refused(Code.ROW_INVALID, f"the row is larger than {ROW_BYTES_MAX} bytes")
    try:
        found = loads_exact(text)
    except (ValueError, RecursionError) as error:
        raise Refused(Code.ROW_INVALID, f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise Refused(Code.ROW_INVALID, "not a JSON object")
    return found


def loads_exact(text: bytes | str) -> Any:
    """JSON whose numbers stay exact, and in which nothing is said twice.

    Raises:
        ValueError: no JSON, NaN or infinity, or a name that is repeated in an object.
        RecursionError: nested beyond reason.

    """
    return json.loads(text, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_once)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not a number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is repeated in one object")
    return found


def translate(mapping: Mapping, row: Row) -> InventoryTransaction | None:
    """What the row tells, or None where its status is one that changes nothing.

    Raises:
        Refused: the row says something that the mapping does not know.

    """
    event_id = _needed(mapping, row, "event_id")
    if len(event_id) > REQUEST_ID_LENGTH_MAX or not event_id.isprintable():
        raise Refused(
            Code.ROW_INVALID, f"event_id: longer than {REQUEST_ID_LENGTH_MAX}, or not printable"
        )
    status = _status(mapping, row)
    dimensions = _dimensions(mapping, row)
    changes = _changes(mapping, row, status, dimensions)
    if status is None and not changes:
        return None
    return InventoryTransaction(
        event_id=event_id,
        organization_id=_needed(mapping, row, "organization_id"),
        product_id=_needed(mapping, row, "product_id"),
        dimensions=dimensions,
        source=mapping.source,
        changes=changes,
        transaction=None if status is None else _transaction(mapping, row, status),
    )


def apart(
    told: InventoryTransaction, key_rule: KeyRule = key_by_location
) -> tuple[InventoryTransaction, ...]:
    """What is told, by record key: an event is decided whole, by the one partition of its key.

    A line that moved to another place gives what it had where it was, and its demand there is
    deleted; where it is now, it is told as it is.

    Raises:
        Refused: its event id is so long that it cannot be told apart.

    """
    own = key_of(told, key_rule)
    elsewhere: dict[bytes, list[MeasureChange]] = {}
    here: list[MeasureChange] = []
    for change in told.changes:
        place = told.dimensions if change.dimensions is None else change.dimensions
        key = key_rule(Item(told.organization_id, told.product_id, place))
        (here if key == own else elsewhere.setdefault(key, [])).append(change)
    left = [
        msgspec.structs.replace(
            told,
            event_id=f"{told.event_id}{MOVED_FROM}{number}",
            dimensions=changes[0].dimensions or {},
            changes=changes,
            transaction=told.transaction
            and msgspec.structs.replace(told.transaction, status="DELETED"),
        )
        for number, changes in enumerate(elsewhere.values())
    ]
    if left and len(left[-1].event_id) > REQUEST_ID_LENGTH_MAX:
        most = REQUEST_ID_LENGTH_MAX - len(MOVED_FROM) - 1
        raise Refused(Code.ROW_INVALID, f"event_id of a row that moved: longer than {most}")
    if not left:
        return (told,)
    status = told.transaction
    if status is not None and status.status in ENDED:
        # It never was here: what ends gives back where it was.
        rest = msgspec.structs.replace(told, changes=here, transaction=None)
        return (*left, rest) if here else tuple(left)
    return (*left, msgspec.structs.replace(told, changes=here))


def key_of(told: InventoryTransaction, key_rule: KeyRule = key_by_location) -> bytes:
    """Record key of what is told, by the partition rule in force."""
    return key_rule(Item(told.organization_id, told.product_id, told.dimensions))


def _at(row: Row, path: str) -> Any:
    found: Any = row
    for name in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def _text(value: Any, path: str) -> str:
    """A scalar as text; empty for nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int):
        return str(value).strip()
    if (
        isinstance(value, Decimal)
        and value.is_finite()
        and value.adjusted() < WHOLE_DIGITS_MAX
        and value == value.to_integral_value()
    ):
        return str(int(value))
    raise Refused(Code.ROW_INVALID, f"{path}: {str(value)[:100]!r} is not a word")


def _word(mapping: Mapping, row: Row, field: str) -> str:
    path = getattr(mapping.fields, field)
    said = _text(_at(row, path), path) if path else ""
    return said or mapping.constants.get(field, "")


def _needed(mapping: Mapping, row: Row, field: str) -> str:
    found = _word(mapping, row, field)
    if not found:
        path = getattr(mapping.fields, field) or f"constants.{field}"
        raise Refused(Code.ROW_INVALID, f"{path} ({field}) is missing or empty")
    return found


def _dimensions(mapping: Mapping, row: Row) -> dict[str, str]:
    found = {name: _text(_at(row, path), path) for name, path in mapping.dimensions.items()}
    return {name: value for name, value in found.items() if value}


def _status(mapping: Mapping, row: Row) -> str | None:
    """Our status for the row; None where every ladder skips.

    Raises:
        Refused: a ladder does not know the row's value, or none speaks of such rows.

    """
    asked = False
    for ladder in mapping.ladders:
        if any(_text(_at(row, path), path) != value for path, value in ladder.when.items()):
            continue
        asked = True
        value = _text(_at(row, ladder.field), ladder.field)
        status = ladder.statuses.get(value, ladder.statuses.get(ANY))
        if status is None:
            raise Refused(
                Code.STATUS_UNMAPPED,
                f"{ladder.field}: {value[:100]!r} is not in the mapping {mapping.name}",
            )
        if status != SKIP:
            return status
    if mapping.ladders and not asked:
        told = {path: _text(_at(row, path), path) for one in mapping.ladders for path in one.when}
        raise Refused(Code.STATUS_UNMAPPED, f"no ladder of {mapping.name} speaks of {told}")
    return None


def _quantity(mapping: Mapping, row: Row, field: str = "quantity") -> int:
    path = getattr(mapping.fields, field)
    pieces = _pieces(_at(row, path), path)
    return abs(pieces) if mapping.absolute_quantity else pieces


def _pieces(value: Any, path: str) -> int:
    if not isinstance(value, int | str | Decimal):
        raise Refused(Code.ROW_INVALID, f"{path}: {str(value)[:100]!r} is not a quantity")
    try:
        return to_unscaled(value.strip() if isinstance(value, str) else value)
    except (QuantityError, ArithmeticError) as error:
        raise Refused(Code.ROW_INVALID, f"{path}: {str(error)[:200]}") from error


def _transaction(mapping: Mapping, row: Row, status: str) -> TransactionStatus:
    reservation_id = _word(mapping, row, "reservation_id")
    hold_id = _word(mapping, row, "hold_id")
    said = _word(mapping, row, "auto_offset").lower() in TRUE
    return TransactionStatus(
        transaction_id=_needed(mapping, row, "transaction_id"),
        status=status,
        sequence=_sequence(mapping, row),
        quantity=_quantity(mapping, row),
        order_id=_word(mapping, row, "order_id"),
        order_line_id=_word(mapping, row, "order_line_id"),
        reservation_id=reservation_id,
        hold_id=hold_id,
        auto_offset=not (reservation_id or hold_id) and (said or mapping.auto_offset),
    )


def _sequence(mapping: Mapping, row: Row) -> int:
    text = _needed(mapping, row, "sequence")
    try:
        number = int(text)
    except ValueError as error:
        raise Refused(Code.ROW_INVALID, f"sequence: {text[:100]!r} is no whole number") from error
    if abs(number) > SEQUENCE_MAX:
        raise Refused(Code.ROW_INVALID, "sequence: beyond 64 bits")
    return number


def _changes(
    mapping: Mapping, row: Row, status: str | None, dimensions: dict[str, str]
) -> list[MeasureChange]:
    """What the row changes: as it says, or by the difference of its statuses."""
    said = _at(row, mapping.fields.changes) if mapping.fields.changes else None
    if said is not None:
        return _said_changes(said, mapping.fields.changes)
    here = frozenset(dimensions.items())
    total: Changes = {}
    if status is not None:
        _add(total, mapping, row, status, here, sign=1)
    before = _at(row, mapping.fields.previous) if mapping.fields.previous else None
    if isinstance(before, dict):
        was = _status(mapping, before)
        place = frozenset(_dimensions(mapping, before).items()) or here
        if was is not None:
            _add(total, mapping, before, was, place, sign=-1)
    return [
        MeasureChange(measure, pieces, None if place == here else dict(sorted(place)))
        for (measure, place), pieces in total.items()
        if pieces
    ]


def _add(
    total: Changes,
    mapping: Mapping,
    row: Row,
    status: str,
    place: frozenset[tuple[str, str]],
    *,
    sign: int,
) -> None:
    factors = mapping.measures.get(status, {})
    if not factors:
        return
    pieces = _quantity(mapping, row)
    for measure, factor in factors.items():
        entry = (measure, place)
        total[entry] = total.get(entry, 0) + sign * factor * pieces


def _said_changes(said: Any, path: str) -> list[MeasureChange]:
    if not isinstance(said, dict) or len(said) > CHANGES_MAX:
        raise Refused(
            Code.ROW_INVALID,
            f"{path}: not an object of up to {CHANGES_MAX} measures and quantities",
        )
    return [MeasureChange(measure, _pieces(value, path)) for measure, value in said.items()]
