"""Single fields of a request's body, taken with their type checked; 400 says which one is wrong.

Names arrive in lower case (`producers.gateway.strict_json`); they are quoted in errors as the
interface writes them.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from producers.gateway.problems import bad
from producers.quantity import QuantityError, to_unscaled
from schemas import limits

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_MISSING: Final = object()
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?")


def text(members: Mapping[str, Any], name: str, most: int, default: str | None = None) -> str:
    """A text of 1 to `most` characters without control characters; empty only by default."""
    value = members.get(name.lower())
    if value is None or (value == "" and default is not None):
        if default is not None:
            return default
        raise bad(f"{name} is missing")
    return checked_text(value, name, most)


def checked_text(value: Any, name: str, most: int) -> str:
    """The value, which must be such a text."""
    if not isinstance(value, str):
        raise bad(f"{name}: a text is expected")
    if not value or len(value) > most:
        raise bad(f"{name}: 1 to {most} characters are expected, not {len(value)}")
    if not value.isprintable() and _CONTROL.search(value):
        raise bad(f"{name}: control characters are not accepted")
    return value


def flag(members: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """True or false."""
    value = members.get(name.lower(), default)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise bad(f"{name}: true or false is expected")
    return value


def unscaled(value: Any, name: str) -> int:
    """Integer of 10^-6 for a JSON number, or for a text that holds one."""
    if value is None:
        raise bad(f"{name} is missing")
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise bad(f"{name}: a number is expected")
    if isinstance(value, int):  # The usual case.
        if abs(value) * limits.QUANTITY_SCALE > limits.QUANTITY_MAX:
            raise bad(f"{name}: beyond 999,999,999,999.999999")
        return value * limits.QUANTITY_SCALE
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise bad(f"{name}: a number is expected")
    try:
        return to_unscaled(value)
    except QuantityError as error:
        raise bad(f"{name}: {error}") from error


def dimensions(members: Mapping[str, Any], name: str = "dimensions") -> dict[str, str]:
    """Dimension names, in lower case, to values; none when it is left out."""
    value = members.get(name.lower())
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad(f"{name}: an object of names and texts is expected")
    if len(value) > limits.DIMENSIONS_MAX:
        raise bad(f"{name}: {len(value)} exceed {limits.DIMENSIONS_MAX}")
    for key, inner in value.items():
        if not isinstance(inner, str):
            raise bad(f"{name}.{key[:64]}: a text is expected")
        if len(inner) > limits.DIMENSION_VALUE_LENGTH_MAX:
            raise bad(
                f"{name}.{key[:64]}: longer than {limits.DIMENSION_VALUE_LENGTH_MAX} characters"
            )
        if not inner.isprintable() and _CONTROL.search(inner):
            raise bad(f"{name}.{key[:64]}: control characters are not accepted")
    return value


def texts(members: Mapping[str, Any], name: str, most: int, length: int) -> list[str]:
    """A list of up to `most` texts; a single text is a list of one; none when it is left out."""
    value = members.get(name.lower())
    if value is None:
        return []
    values = value if isinstance(value, list) else [value]
    if len(values) > most:
        raise bad(f"{name}: {len(values)} values exceed {most}")
    return [checked_text(inner, name, length) for inner in values]


def time_ms(members: Mapping[str, Any], name: str) -> int | None:
    """A time of ISO 8601 in milliseconds since 1970; without an offset it is UTC."""
    value = members.get(name.lower())
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(checked_text(value, name, 40))
    except ValueError as error:
        raise bad(f"{name}: a time such as 2026-11-24T10:00:00Z is expected") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
