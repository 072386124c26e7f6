"""Keeps secrets out of logs: a structlog processor, the last before the line is written.

Fields that are named like a secret are masked whole; in any other text, tokens, bearer headers and
passwords inside addresses are masked where they stand.
"""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

MASK: Final = "***"
DEPTH_MAX: Final = 6

_NAMED: Final = re.compile(
    r"authorization|password|passwd|secret|token|assertion|credential|api_?key|cookie",
    re.IGNORECASE,
)
_IN_TEXT: Final = (
    (re.compile(r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), rf"\1 {MASK}"),
    (re.compile(r"(?<=://)([^/\s:@]*):[^/\s@]+@"), rf"\1:{MASK}@"),
    (
        re.compile(r"(?i)\b(client_secret|password|client_assertion|access_token)=[^&\s]+"),
        rf"\1={MASK}",
    ),
)


def redact(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask secrets in a log event."""
    return {name: _field(name, value, 0) for name, value in event.items()}


def _field(name: Any, value: Any, depth: int) -> Any:
    if isinstance(name, str) and _NAMED.search(name) and value not in (None, "", 0, False):
        return MASK
    return _masked(value, depth)


def _masked(value: Any, depth: int) -> Any:
    if depth > DEPTH_MAX:
        return MASK
    if isinstance(value, str):
        return in_text(value)
    if isinstance(value, bytes):
        return in_text(value.decode("utf-8", "replace"))
    if isinstance(value, Mapping):
        return {name: _field(name, inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(inner, depth + 1) for inner in value]
    if isinstance(value, BaseException):
        return in_text(repr(value))
    return value


def in_text(text: str) -> str:
    """Mask secrets in running text."""
    for pattern, replacement in _IN_TEXT:
        text = pattern.sub(replacement, text)
    return text
