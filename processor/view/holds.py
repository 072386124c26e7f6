"""Pages of holds: which index a question is best answered from, and what fits.

The rule: a page costs what it shows, not what there is. The narrowest index that the question names
is walked from the cursor on; what the other conditions refuse is looked at, up to a bound, and the
page may then be short.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from processor.inventory import rows as row
from processor.inventory.identity import (
    hold_text,
    parse_reservation,
    reservation_text,
)
from processor.view.keys import HOLD_KEY_BYTES, MEMBER_BYTES, joined
from schemas.queries import HOLDS_PAGE_MAX, HoldQuery, HoldView, QueryInvalid

STATES: Final[Mapping[int, str]] = {row.LIVE: "live", row.LAPSED: "lapsed"}
_TIMED: Final = b"hx"
_TIME_MAX: Final = 2**63 - 1


class Walk(NamedTuple):
    """What to walk: an index, from a member on, up to a member; both as ZRANGEBYLEX writes them."""

    name: bytes
    start: bytes
    end: bytes


def walk_of(query: HoldQuery) -> Walk | None:
    """How to find the holds of a question; None if there can be none.

    Raises:
        QueryInvalid: the page is too long, or the cursor is not one of this question's.

    """
    if not 1 <= query.limit <= HOLDS_PAGE_MAX:
        raise QueryInvalid(f"a page holds 1 to {HOLDS_PAGE_MAX} holds")
    if query.product_id and not query.organization_id:
        raise QueryInvalid("a product needs its organization")
    index = _index(query)
    if index is None:
        return None
    start, end = b"-", b"+"
    if index == _TIMED:
        start = b"[" + _time(query.expires_from_ms or 0)
        if query.expires_before_ms is not None:
            end = b"(" + _time(query.expires_before_ms)
    if query.cursor:
        start = b"(" + _member(query.cursor)
    return Walk(index, start, end)


def _index(query: HoldQuery) -> bytes | None:
    dimensions = query.dimensions
    site, location = dimensions.get("siteid"), dimensions.get("locationid")
    if query.reservation_id:
        reservation = parse_reservation(query.reservation_id)
        return None if reservation is None else b"hr:" + reservation
    if query.order_id:
        return b"ho:" + query.order_id.encode()
    if query.product_id:
        return b"hp:" + joined(query.organization_id, query.product_id)
    if query.expires_from_ms is not None or query.expires_before_ms is not None:
        return _TIMED
    if query.organization_id and site and location:
        return b"hl:" + joined(query.organization_id, site, location)
    if query.channel:
        return b"hc:" + query.channel.encode()
    return b"ha"


def _time(time_ms: int) -> bytes:
    return min(max(time_ms, 0), _TIME_MAX).to_bytes(8, "big")


def _member(cursor: str) -> bytes:
    try:
        member = bytes.fromhex(cursor)
    except ValueError:
        member = b""
    if len(member) != MEMBER_BYTES or member.hex() != cursor:
        raise QueryInvalid("the cursor is not one of a page of holds")
    return member


def cursor_of(member: bytes) -> str:
    """Cursor behind a member of an index."""
    return member.hex()


def key_of(member: bytes) -> bytes:
    """Hold key in an index member."""
    return member[-HOLD_KEY_BYTES:]


def hold_view(key: bytes, value: bytes) -> HoldView:
    """A hold as it is told; `key`: without the kind byte."""
    hold = row.decode_hold(value)
    place = row.decode_place(hold)
    reservation_id = reservation_text(key[:12])
    return HoldView(
        hold_id=hold_text(reservation_id, int.from_bytes(key[12:], "big")),
        reservation_id=reservation_id,
        organization_id=place.organization_id,
        product_id=place.product_id,
        dimensions=place.dimensions,
        measure=place.measure,
        quantity=hold.quantity,
        original_quantity=hold.original_quantity,
        state=STATES.get(hold.state, str(hold.state)),
        created_at_ms=hold.created_at_ms,
        expires_at_ms=hold.expires_at_ms or None,
        channel=hold.channel,
        order_id=hold.order_id,
        order_line_id=hold.order_line_id,
        actor=hold.actor,
        external_reference=hold.external_reference,
        priority=hold.priority,
    )


def fits(hold: HoldView, query: HoldQuery) -> bool:
    """Whether a hold is asked for."""
    if query.organization_id and hold.organization_id != query.organization_id:
        return False
    if query.product_id and hold.product_id != query.product_id:
        return False
    if query.order_id and hold.order_id != query.order_id:
        return False
    if query.channel and hold.channel != query.channel:
        return False
    if any(hold.dimensions.get(name) != value for name, value in query.dimensions.items()):
        return False
    expires = hold.expires_at_ms
    if query.expires_from_ms is not None and (expires is None or expires < query.expires_from_ms):
        return False
    before = query.expires_before_ms
    return before is None or (expires is not None and expires < before)
