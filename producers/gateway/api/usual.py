"""Reservations that are written down as nearly all are, read by one compiled decoder.

The strict way (`producers.gateway.strict_json`, `producers.gateway.api.records`) looks at every
member in Python. Here the original's own spelling is decoded at once, and None is answered wherever
anything is unusual: then the strict way reads the body from the beginning, accepts or refuses it,
and says why. The rule: what is read here, the strict way would have read alike.

A decoder keeps the last of two members of one name, which the strict way refuses. So the texts of
the body are counted by their quotes: one that was dropped leaves more quotes than the records hold.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.limits import QUANTITY_MAX, QUANTITY_SCALE

PIECES_MAX: Final = QUANTITY_MAX // QUANTITY_SCALE
TEXTS: Final = 12  # Names of the members, `dimensions` and `quantity` among them, and their texts.
BODY_BYTES_MAX: Final = 1_048_576


class UsualReservation(
    msgspec.Struct, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True
):
    """A reservation in the original's spelling."""

    id: str
    organization_id: str
    product_id: str
    dimensions: dict[str, str]
    quantity_data_source: str
    modifier: str
    quantity: int | float  # A number with a point is left to the strict way: it may not be exact.
    dimension_data_source: str | msgspec.UnsetType = msgspec.UNSET
    if_check_avail_for_reserv: bool | msgspec.UnsetType = msgspec.UNSET

    def texts(self) -> int:
        """How many texts it was written with, names included."""
        source = 0 if self.dimension_data_source is msgspec.UNSET else 2
        check = 0 if self.if_check_avail_for_reserv is msgspec.UNSET else 1
        return TEXTS + 2 * len(self.dimensions) + source + check

    @property
    def is_usual(self) -> bool:
        """Whether its quantity is a whole number within bounds."""
        return type(self.quantity) is int and abs(self.quantity) <= PIECES_MAX


_decode_one: Final = msgspec.json.Decoder(UsualReservation).decode
_decode_many: Final = msgspec.json.Decoder(list[UsualReservation]).decode


def reservation(body: bytes) -> UsualReservation | None:
    """The one reservation that a body is, if it is a usual one."""
    try:
        found = _decode_one(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    usual = b"\\" not in body and body.count(b'"') == 2 * found.texts() and found.is_usual
    return found if usual else None


def reservations(body: bytes) -> list[UsualReservation] | None:
    """The reservations that a body lists, if all of them are usual."""
    if len(body) > BODY_BYTES_MAX:
        return None
    try:
        found = _decode_many(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return found if _are_usual(body, found) else None


def _are_usual(body: bytes, found: Sequence[UsualReservation]) -> bool:
    """Whether nothing was dropped, nothing was written with an escape, and all quantities fit."""
    return (
        b"\\" not in body
        and body.count(b'"') == 2 * sum([one.texts() for one in found])
        and all(one.is_usual for one in found)
    )
