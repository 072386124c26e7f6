"""Names of the view's keys in Redis, and what is kept under each.

A *generation* is one whole copy of the changelog. The key `live` names the generation that is
served; a rebuild fills another one beside it and then moves the name. The rule: every key but
`live` and `builds` begins with its generation, so that copies never mix and an old one can be
dropped by its prefix.

    <prefix>:live              name of the generation that is served
    <prefix>:builds            generation being filled -> when its builder last reported (ms), and
                               generation to be dropped -> 0
    <prefix>:<generation>:
      at:<partition>           `Position`: up to where the changelog is applied
      format                   `FORMAT` of the release that built it
      topic, partitions        incarnation of the changelog; number of its partitions
      health                   `Report` of the process that applies
      c, cv                    partition -> configuration document; counter of changes
      s:<org>/<product>/<site>/<place>  stock row key -> value: leaves and levels of a product there
      p:<org>/<product>        set of the <site>/<place> at which the product was ever seen
      pl                       product-location hash -> <org>/<product>
      w:<org>/<site>/<place>   set of the products that were ever seen at a warehouse
      h                        hold key (reservation 12, number 8) -> hold row
      hl:<org>/<site>/<place>  holds at a warehouse; "" for what a hold has not
      hw                       set of the <org>/<site>/<place> at which a hold was ever seen, sorted
      hr: hp: ho: hc:          holds by reservation, product, order, channel
      hx                       holds that expire, soonest first
      a:R<id>, a:E<id>         answer of a request or event id, with an expiry
      l:<partition>            latest answers, newest first
      f, fi                    failed offsets, and their order

"/" stands for the unit separator, which is in no name. Indexes of holds are sorted sets in which
every score is 0 and the member is a time (8, big-endian) and the hold key: so a page begins behind
its cursor without counting.
"""

from functools import lru_cache
from typing import Final

import msgspec

from processor.inventory import rows as row
from processor.inventory.identity import GROUP, UNIT

FORMAT: Final = b"2"  # Of all below; a served generation of another one is built anew.
SEPARATOR: Final = UNIT.encode()
_GROUP: Final = GROUP.encode()
_PLACE: Final = (b"siteid=", b"locationid=")
STOCK_HEAD_BYTES: Final = 13  # Product-location hash and the kind of stock row.
HOLD_KEY_BYTES: Final = 20
MEMBER_BYTES: Final = 28
AT_WAREHOUSE: Final = b"hl:"
PLACES_REMEMBERED_MAX: Final = 65_536  # Levels, and dimension values; 25 MB, and as much again.

Entry = tuple[bytes, bytes]  # Index (the end of its key) and member.


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Up to where one partition of the changelog is applied.

    Attributes:
        offset: next offset to read.
        appended_at_ms: broker time of the last row applied.
        sources: source topic to the next offset to be decided, as of the last watermark row.

    """

    offset: int
    appended_at_ms: int
    sources: dict[str, int]


class Report(msgspec.Struct, frozen=True, array_like=True):
    """What a view process last said of itself; times in ms since 1970 UTC."""

    lag_records: int
    lag_ms: int
    at_ms: int


decode_position: Final = msgspec.msgpack.Decoder(Position).decode
decode_report: Final = msgspec.msgpack.Decoder(Report).decode
_decode_place: Final = msgspec.msgpack.Decoder(row.Place).decode
encode: Final = msgspec.msgpack.Encoder().encode


class Names:
    """Keys that belong to no generation."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix.encode()
        self.live = b"%b:live" % self.prefix
        self.builds = b"%b:builds" % self.prefix

    def generation(self, name: bytes) -> "GenerationKeys":
        """Keys of one generation."""
        return GenerationKeys(self.prefix, name)


class GenerationKeys:
    """Keys of one generation; see the module for what they hold."""

    __slots__ = ("all", "answers", "health", "name", "prefix")

    def __init__(self, prefix: bytes, name: bytes) -> None:
        self.name = name
        self.prefix = b"%b:%b:" % (prefix, name)
        self.health = self.prefix + b"health"
        self.answers = self.prefix + b"a:"

    def __call__(self, end: bytes) -> bytes:
        """Key with this end."""
        return self.prefix + end

    def at(self, partition: int) -> bytes:
        """Key of a partition's position."""
        return b"%bat:%d" % (self.prefix, partition)

    def latest(self, partition: int) -> bytes:
        """Key of a partition's latest answers."""
        return b"%bl:%d" % (self.prefix, partition)

    def stock(self, product: bytes, place: bytes) -> bytes:
        """Key of a product's stock rows at a place."""
        return b"%bs:%b%b%b" % (self.prefix, product, SEPARATOR, place)

    def places(self, product: bytes) -> bytes:
        """Key of the places at which a product was ever seen."""
        return b"%bp:%b" % (self.prefix, product)


def joined(*names: str) -> bytes:
    """Names as one part of a key."""
    return UNIT.join(names).encode()


def place_of(key: bytes) -> bytes:
    """`<site>/<place>` of a stock row, from its key without the kind byte; "" for what it lacks."""
    return _place_in(key[STOCK_HEAD_BYTES:].partition(_GROUP)[0])


@lru_cache(PLACES_REMEMBERED_MAX)
def _place_in(spelled: bytes) -> bytes:
    values = dict(
        pair.partition(b"=")[::2] for pair in spelled.split(SEPARATOR) if pair.startswith(_PLACE)
    )
    return values.get(b"siteid", b"") + SEPARATOR + values.get(b"locationid", b"")


def _when(time_ms: int) -> bytes:
    return time_ms.to_bytes(8, "big")


@lru_cache(PLACES_REMEMBERED_MAX)
def _indexes_of(place_row: bytes) -> tuple[bytes, bytes]:
    """Indexes by product and by warehouse that name a hold, from the row of its place."""
    place = _decode_place(place_row)
    warehouse = [place.dimensions.get(name, "") for name in ("siteid", "locationid")]
    return (
        b"hp:" + joined(place.organization_id, place.product_id),
        AT_WAREHOUSE + joined(place.organization_id, *warehouse),
    )


def hold_entries(key: bytes, value: bytes) -> list[Entry]:
    """Every index entry of a hold, its warehouse's first; `key`: without the kind byte."""
    hold = row.decode_hold(value)
    by_product, at_warehouse = _indexes_of(bytes(hold.place))
    member = _when(hold.created_at_ms) + key
    entries = [(at_warehouse, member), (b"hr:" + key[:12], member), (by_product, member)]
    if hold.order_id:
        entries.append((b"ho:" + hold.order_id.encode(), member))
    if hold.channel:
        entries.append((b"hc:" + hold.channel.encode(), member))
    if hold.expires_at_ms:
        entries.append((b"hx", _when(hold.expires_at_ms) + key))
    return entries


def failure_member(key: bytes, value: bytes) -> bytes:
    """Index member of a failed offset, oldest first; `key`: its id."""
    return _when(row.decode_failure(value).at_ms) + key
