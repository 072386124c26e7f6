"""The short way: a request to reserve one line, with nothing special about it, that is granted.

Nearly all requests are of this kind, and most of what the long way (`requests`) does for them is
making and taking apart objects. Here the words of the record are not even decoded: the bytes that
name the place are the key under which the long way has left what they resolve to. The rule: rows
and answer are those of the long way, to the byte; whatever is not sure to be granted is left to it,
with no stock taken.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Final

from mypy_extensions import mypyc_attr

from processor.inventory import rows as row
from processor.inventory.identity import HASH_BYTES, HOLD_LINES_MAX
from processor.inventory.lines import CONTENT_BYTES, Target, id_is_valid, line_digest
from processor.inventory.state import PartitionState
from processor.inventory.stock import clamp
from schemas import limits
from schemas.codes import Code
from schemas.quick import Plain

# Channel, quantity, clock (ms), number of the hold, what is left, whether it was checked.
Said = tuple[bytes, int, int, int, int, bool]
PlainRows = tuple[bytes, bytes]  # Hold row and answer row.

PLACE_BYTES_MAX: Final = 2_048  # Of one spelling: a map may name a dimension again and again.
_PLACE_AT: Final = 2 * HASH_BYTES + CONTENT_BYTES  # In a stamp.


@mypyc_attr(acyclic=True)
class Grant:
    """What is answered: reservation, number of the hold, and what is left."""

    __slots__ = ("available", "number", "reservation")

    def __init__(self, reservation: bytes, number: int, available: int) -> None:
        self.reservation = reservation
        self.number = number
        self.available = available


def remember_spelling(state: PartitionState, place: bytes, target: Target) -> bool:
    """The long way has found what a place is that is spelled so; tells whether that is new.

    The record was in its place. Its organization is looked at here: nobody has done so yet.
    """
    location = target.level.location
    if (
        place in state.targets
        or len(place) > PLACE_BYTES_MAX
        or not id_is_valid(location.organization_id, limits.ORGANIZATION_LENGTH_MAX)
    ):
        return False
    state.remember(location, place, target)
    return True


def decide_plain(state: PartitionState, plain: Plain) -> Grant | None:
    """Grant a plain request; None where the long way is needed."""
    request_id, channel, place, quantity, checked = plain
    target: Target | None = state.targets.get(place)
    if (
        target is None
        or not 0 < quantity <= limits.QUANTITY_MAX
        or channel not in state.plain_channels
    ):
        return None
    answer_key = b"R" + request_id
    rows = state.rows
    if rows.get(answer_key) is not None:
        return None
    level = target.level
    state.touch(level.location)
    if (checked and quantity > level.available()) or not level.has_room(quantity):
        return None
    state.charge(level, quantity)
    available = clamp(level.available())
    number = state.sequence * HOLD_LINES_MAX
    said: Said = (channel, quantity, state.clock_ms, number, available, checked)
    hold, answer = _quick_rows(target.stamp, said) or pure_rows(target.stamp, said)
    reservation = target.stamp[HASH_BYTES : 2 * HASH_BYTES]
    rows.put(row.hold_key(reservation, number), hold)
    rows.put(answer_key, answer)
    state.forget_later(answer_key)
    return Grant(reservation, number, available)


def pure_rows(stamp: bytes, said: Said) -> PlainRows:
    """Rows of a plain grant, by the functions of the long way."""
    location, reservation = stamp[:HASH_BYTES], stamp[HASH_BYTES : 2 * HASH_BYTES]
    content, place = stamp[2 * HASH_BYTES : _PLACE_AT], stamp[_PLACE_AT:]
    channel, quantity, clock_ms, number, available, checked = said
    name = channel.decode()
    hold = row.Hold(
        row.FORMAT,
        row.LIVE,
        row.raw(place),
        quantity,
        clock_ms,
        0,
        quantity,
        name,
        checked=checked,
    )
    digest = line_digest(content, "RESERVE", name, quantity, checked=checked)
    line = (int(Code.ACCEPTED), reservation, number, quantity, available, None)
    answer = (row.FORMAT, int(Code.ACCEPTED), (line,))
    answered = row.encode_answer(clock_ms, digest, answer)
    return row.encode_hold(hold, location, row.NEVER_MS), answered


def _find_quick_rows() -> Callable[[bytes, Said], PlainRows | None]:
    """The compiled twin of `pure_rows`; where there is none, the pure one itself."""
    try:
        compiled = import_module("processor.inventory._plain_rows")
    except ImportError:
        return pure_rows
    found: Callable[[bytes, Said], PlainRows | None] = compiled.plain_rows
    return found


_quick_rows: Final = _find_quick_rows()
