"""Pages of holds: which index a question is best answered from, and what fits.

The rule: a page costs what it shows, not what there is. The narrowest index that the question names
is walked from the cursor on; what the other conditions refuse is looked at, up to a bound, and the
page may then be short. A question that names none of them goes from warehouse to warehouse.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from processor.inventory import rows as row
from processor.inventory.identity import (
    hold_text,
    parse_reservation,
    reservation_text,
)
from processor.view.keys import (
    AT_WAREHOUSE,
    HOLD_KEY_BYTES,
    MEMBER_BYTES,
    SEPARATOR,
    joined,
)
from schemas.queries import HOLDS_PAGE_MAX, HoldQuery, HoldView, QueryInvalid

STATES: Final[Mapping[int, str]] = {row.LIVE: "live", row.LAPSED: "lapsed"}
FIRST: Final = bytes(MEMBER_BYTES)  # Before every member of an index.
_TIMED: Final = b"hx"
_TIME_MAX: Final = 2**63 - 1


class Walk(NamedTuple):
    """What to walk: an index, from a member on, up to a member; both as ZRANGEBYLEX writes them.

    Attributes:
        name: index, the end of its key; "" for none yet: the first warehouse's.
        roams: goes on with the index of the next warehouse.

    """

    name: bytes
    start: bytes
    end: bytes
    roams: bool = False

    def cursor(self, member: bytes) -> str:
        """Cursor behind a member."""
        return member.hex() + (self.name[len(AT_WAREHOUSE) :].hex() if self.roams else "")

    def warehouses_after(self) -> bytes:
        """Where to look for the next warehouse, as ZRANGEBYLEX writes it."""
        return b"(" + self.name[len(AT_WAREHOUSE) :] if self.name else b"-"

    def at(self, warehouse: bytes) -> "Walk":
        """The walk through the holds of another warehouse, from its first one on."""
        return self._replace(name=AT_WAREHOUSE + warehouse, start=b"-")


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
    member, warehouse = _split(query.cursor)
    if bool(warehouse) != bool(member and not index):
        raise _not_a_cursor()
    start, end = b"-", b"+"
    if index == _TIMED:
        start = b"[" + _time(query.expires_from_ms or 0)
        if query.expires_before_ms is not None:
            end = b"(" + _time(query.expires_before_ms)
    if member:
        start = b"(" + member
    return Walk(index or (warehouse and AT_WAREHOUSE + warehouse), start, end, not index)


def _index(query: HoldQuery) -> bytes | None:
    """Index to walk; "" for those of all warehouses, None if nothing can fit."""
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
        return AT_WAREHOUSE + joined(query.organization_id, site, location)
    if query.channel:
        return b"hc:" + query.channel.encode()
    return b""


def may_hold(warehouse: bytes, query: HoldQuery) -> bool:
    """Whether holds at `<org>/<site>/<place>` may fit the question."""
    organization_id, site, location = warehouse.split(SEPARATOR)
    dimensions = query.dimensions
    return (
        query.organization_id.encode() in {b"", organization_id}
        and dimensions.get("siteid", site.decode()).encode() == site
        and dimensions.get("locationid", location.decode()).encode() == location
    )


def _time(time_ms: int) -> bytes:
    return min(max(time_ms, 0), _TIME_MAX).to_bytes(8, "big")


def _split(cursor: str) -> tuple[bytes, bytes]:
    """Member and warehouse of a cursor, each "" if it has none."""
    try:
        decoded = bytes.fromhex(cursor)
    except ValueError:
        decoded = b""
    if decoded.hex() != cursor or 0 < len(decoded) < MEMBER_BYTES:
        raise _not_a_cursor()
    return decoded[:MEMBER_BYTES], decoded[MEMBER_BYTES:]


def _not_a_cursor() -> QueryInvalid:
    return QueryInvalid("the cursor is not one of a page of these holds")


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
