"""What one question may have Redis read: looked at before it is read, since nothing else runs then.

Over a Redis with rows of our own; no worker is needed for them.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import redis

from processor.inventory import rows as row
from processor.view.keys import Names, encode, joined
from processor.view.queries import RedisQueries
from processor.view.settings import ViewSettings
from schemas.queries import OnHandQuery, QueryInvalid

pytestmark = pytest.mark.kafka

PRODUCTS = ("P-1", "P-2")
WAREHOUSES = ("11", "12")
COLORS = ("red", "blue")
ROWS = len(PRODUCTS) * len(WAREHOUSES) * len(COLORS)
PLACES: dict[str, tuple[str, ...]] = {"siteid": ("1",), "locationid": WAREHOUSES}
# By named places, everywhere, and by places alone.
QUESTIONS = (
    OnHandQuery(organization_ids=("usmf",), product_ids=PRODUCTS, filters=PLACES),
    OnHandQuery(organization_ids=("usmf",), product_ids=PRODUCTS),
    OnHandQuery(organization_ids=("usmf",), filters=PLACES),
)


@pytest.fixture
def view(redis_url: str, fresh: Callable[[str], str]) -> ViewSettings:
    """A view of its own in the session's Redis."""
    return ViewSettings(redis_url=redis_url, prefix=fresh("view"))


@pytest.fixture
def raw(view: ViewSettings) -> Iterator[Any]:
    """Its Redis, with two rows of each product at each warehouse."""
    names = Names(view.prefix)
    keys = names.generation(b"g")
    with redis.Redis.from_url(view.redis_url) as client:
        for product in PRODUCTS:
            for warehouse in WAREHOUSES:
                place, spelled = {"siteid": "1", "locationid": warehouse}, joined("1", warehouse)
                rows = {
                    color: encode(
                        (1, "usmf", product, {**place, "colorid": color}, {"pos.inbound": 1}, {})
                    )
                    for color in COLORS
                }
                client.hset(keys.stock(joined("usmf", product), spelled), mapping=rows)
                client.sadd(keys.places(joined("usmf", product)), spelled)
                client.sadd(keys(b"w:" + joined("usmf", "1", warehouse)), product)
        client.set(names.live, b"g")
        yield client


@pytest.fixture
async def queries(view: ViewSettings, raw: Any) -> AsyncIterator[RedisQueries]:
    """Asks it."""
    _ = raw
    queries = RedisQueries(view)
    yield queries
    await queries.close()


def calls(raw: Any, command: str) -> int:
    """How often Redis has carried a command out so far."""
    return int(raw.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


@contextlib.contextmanager
def unread(raw: Any, command: str) -> Iterator[None]:
    """Redis is not asked by this command meanwhile."""
    before = calls(raw, command)
    yield
    assert calls(raw, command) == before


@pytest.mark.parametrize("query", QUESTIONS)
async def test_rows_are_counted_before_they_are_read(
    queries: RedisQueries, raw: Any, query: OnHandQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the bound all are told; one above it is refused, and no row is read for it."""
    monkeypatch.setattr("processor.view.queries.STOCK_ROWS_MAX", ROWS)
    (first, second) = (await queries.on_hand(query)).rows
    assert first.quantities["pos"]["inbound"] == second.quantities["pos"]["inbound"] == ROWS // 2
    monkeypatch.setattr("processor.view.queries.STOCK_ROWS_MAX", ROWS - 1)
    with unread(raw, "hvals"), pytest.raises(QueryInvalid, match="ask for fewer products"):
        await queries.on_hand(query)


@pytest.mark.parametrize(
    ("query", "bound", "fewer"),
    [(QUESTIONS[2], "PLACE_PRODUCTS_MAX", "places"), (QUESTIONS[1], "STOCK_ROWS_MAX", "products")],
    ids=["products at places", "places of products"],
)
async def test_what_is_to_be_looked_at_is_counted_before_it_is_read(
    queries: RedisQueries,
    raw: Any,
    monkeypatch: pytest.MonkeyPatch,
    *,
    query: OnHandQuery,
    bound: str,
    fewer: str,
) -> None:
    """Where no product is named, or no place: ten thousand places may have twenty million."""
    monkeypatch.setattr(f"processor.view.queries.{bound}", 3)
    with unread(raw, "smembers"), pytest.raises(QueryInvalid, match=f"ask for fewer {fewer}"):
        await queries.on_hand(query)


async def test_a_reservation_reads_the_rows_of_its_place(
    queries: RedisQueries, view: ViewSettings, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One level is told, however many rows its product has elsewhere."""
    keys = Names(view.prefix).generation(b"g")
    reservation = bytes(range(12))
    place = row.Place("usmf", PRODUCTS[0], {"siteid": "1", "locationid": "11"}, "iv.softreserved")
    hold = row.Hold(row.FORMAT, row.LIVE, row.raw(row.encode_place(place)), 3, 1, 0, 3)
    key = row.hold_key(reservation, 5)[1:]
    raw.hset(keys(b"h"), key, row.encode_hold(hold, bytes(12), 0))
    raw.zadd(keys(b"hr:" + reservation), {bytes(8) + key: 0})
    level = (1, "usmf", PRODUCTS[0], place.dimensions, place.measure, 3)
    stock = keys.stock(joined("usmf", PRODUCTS[0]), joined("1", "11"))
    raw.hset(stock, "level", encode(level))
    monkeypatch.setattr("processor.view.queries.STOCK_ROWS_MAX", len(COLORS) + 1)
    told = await queries.reservation(reservation.hex())
    assert told is not None
    assert (told.reserved, told.holds) == (3, 1)
