"""The compiled twins of the pure readers and writers, where they were built.

The rule: a compiled twin answers only what it is sure of, and returns None for the rest, which is
the pure one's to answer. So a codec without them is slower and otherwise the same. There are none
where there was no C compiler, and none of a build that is older than the structs.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

_compiled: ModuleType | None
try:
    from schemas import _compiled
except ImportError:
    _compiled = None

COMPILED: Final = _compiled is not None

Twin = Callable[[Any, bytes], Any]


def compiled_twin(pure: Callable[..., Any]) -> Twin:
    """Twin of one of the functions of `schemas.reading` or `schemas.writing`.

    A reader's takes (framed bytes or None, frame), a writer's (struct, frame). It returns the
    struct, or the framed bytes, or None: ask the pure one. Where there is no twin, what is
    returned always says None.
    """
    found: Twin = getattr(_compiled, pure.__name__, _declines)
    return found


def no_twin(_pure: Callable[..., Any]) -> Twin:
    """As `compiled_twin` where none was built."""
    return _declines


# The two that have no pure twin: the long way, from decoding to encoding, stands in for both.
# A plain request: id; channel (UTF-8); the bytes that name the place (key of the record,
# organization, product, data source, dimensions, measure); quantity; whether it is checked.
Plain = tuple[bytes, bytes, bytes, int, bool]
ReadPlain = Callable[[bytes | None, bytes | None, bytes], Plain | None]
WritePlain = Callable[[bytes, bytes, tuple[int, int, int, int, int, int], bytes], bytes]


def plain_reader(*, compiled: bool) -> ReadPlain:
    """`_compiled.read_plain`; where there is none, no request is known to be plain."""
    found: ReadPlain = getattr(_compiled, "read_plain", _declines) if compiled else _declines
    return found


def plain_writer() -> WritePlain:
    """`_compiled.write_plain`; only for what `plain_reader` has read."""
    found: WritePlain = getattr(_compiled, "write_plain", _never)
    return found


def _declines(*_words: object) -> None:
    return


def _never(*_words: object) -> bytes:
    raise AssertionError("nothing was read as a plain request")
