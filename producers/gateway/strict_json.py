"""JSON as it must be: no duplicate names, no NaN, no infinity, and no number through a float.

Names are case-insensitive at this interface, so they are lower-cased while reading, and two that
differ in case alone are duplicates too. Numbers with a point or an exponent become Decimal: 0.1 is
a tenth, and 1e400 is a number too large, not infinity.
"""

import json
from collections import Counter
from decimal import Decimal
from typing import Any, Final

from producers.gateway.problems import Problem, bad

DEPTH_MAX: Final = 16  # The deepest body of the interface, a configuration, has 6.
NUMBER_LENGTH_MAX: Final = 64
EXPONENT_MAX: Final = 1_000  # Far beyond every quantity, far below what decimal cannot compare.


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {name.lower(): value for name, value in pairs}
    if len(found) != len(pairs):
        counts = Counter(name.lower() for name, _ in pairs)
        raise ValueError(f"the name {counts.most_common(1)[0][0][:64]!r} is there twice")
    return found


def _members_as_written(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _decimal(text: str) -> Decimal:
    if len(text) > NUMBER_LENGTH_MAX:
        raise ValueError("a number is too long")
    number = Decimal(text)
    if abs(number.adjusted()) > EXPONENT_MAX:
        raise ValueError(f"the number {text} is out of range")
    return number


def _integer(text: str) -> int:
    if len(text) > NUMBER_LENGTH_MAX:
        raise ValueError("a number is too long")
    return int(text)


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _decoder(members: Any) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=members,
        parse_float=_decimal,
        parse_int=_integer,
        parse_constant=_constant,
    )


_DECODER: Final = _decoder(_members)
_DECODER_AS_WRITTEN: Final = _decoder(_members_as_written)


def parse(body: bytes, *, lower: bool = True) -> Any:
    """Value of a body, names in lower case (as written when `lower` is False).

    Raises:
        Problem: 400, with what is wrong in words.

    """
    if not body.strip():
        raise bad("the body is empty; JSON is expected", "malformed-json")
    try:
        text = body.decode("utf-8")
        value = (_DECODER if lower else _DECODER_AS_WRITTEN).decode(text)
    except UnicodeDecodeError as error:
        raise bad("the body is not UTF-8", "malformed-json") from error
    except RecursionError as error:
        raise bad("the body is nested too deep", "malformed-json") from error
    except ValueError as error:
        raise bad(f"the body is not JSON: {error}", "malformed-json") from error
    if b"\\u" in body:
        _refuse_half_characters(value)
    return value


def _refuse_half_characters(value: Any, depth: int = 0) -> None:
    """An escaped surrogate without its other half is no text, and could not be sent on."""
    if depth > DEPTH_MAX:
        raise bad("the body is nested too deep", "malformed-json")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise bad("a text holds half a character", "malformed-json") from error
    elif isinstance(value, dict):
        for name, inner in value.items():
            _refuse_half_characters(name, depth + 1)
            _refuse_half_characters(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _refuse_half_characters(inner, depth + 1)


def members_of(value: Any, what: str = "the body") -> dict[str, Any]:
    """The value, which must be an object.

    Raises:
        Problem: 400, it is something else.

    """
    if not isinstance(value, dict):
        raise bad(f"{what}: an object is expected")
    return value


def records_of(value: Any, most: int) -> list[Any]:
    """The value, which must be an array of 1 to `most` records.

    Raises:
        Problem: 400, it is something else, or too long.

    """
    if not isinstance(value, list):
        raise bad("the body: an array is expected")
    if not value:
        raise bad("the array is empty")
    if len(value) > most:
        raise Problem(400, "too-many-records", f"{len(value)} records exceed {most}: split them")
    return value
