"""The view's answers, from Redis: `schemas.queries.Queries`.

The rule: a question costs a bounded number of round trips (one, for the stock of named products and
for a hold, decision or failure by its id), and its work is done here, in pure functions over rows.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from processor.inventory import rows as row
from processor.inventory.configuration import Configuration, default, from_json, to_json
from processor.inventory.identity import (
    hold_text,
    parse_hold,
    parse_reservation,
    reservation_text,
)
from processor.view import holds as pages, measure
from processor.view.generations import now_ms
from processor.view.keys import SEPARATOR, GenerationKeys, Position, decode_report, joined
from processor.view.plan import Command, StockRow, decode_stock, position_of
from processor.view.reader import Reader
from processor.view.settings import ViewSettings
from schemas.queries import (
    DECISIONS_KEPT,
    FAILURES_PAGE_MAX,
    HOLDS_READ_MAX,
    PLACE_PRODUCTS_MAX,
    STOCK_ROWS_MAX,
    DecisionLine,
    DecisionView,
    FailurePage,
    FailureView,
    HoldPage,
    HoldQuery,
    HoldView,
    OnHandPage,
    OnHandQuery,
    ProductPage,
    QueryInvalid,
    ReservationView,
    ViewHealth,
    ViewUnavailable,
)

REACHED_EVERY_S: Final = 0.003  # Between two looks at the positions, for all who wait.
STALLED_AFTER_MS: Final = 5_000
PRODUCTS_A_TRIP: Final = 200
WAREHOUSES_A_TRIP: Final = 50
PLACES_NAMED_MAX: Final = 100  # Beyond it, all places of a product are read and sifted here.
WORDS_MAX: Final = 1_000  # Of one command: a script can hand on some thousand.
CURSOR_DIGITS: Final = 20  # Of a scan's cursor: an unsigned number of 64 bits.
CONFIGURATION_TRIES_MAX: Final = 5


class RedisQueries:
    """Answers questions; one per asyncio loop. Connects with the first."""

    def __init__(self, settings: ViewSettings) -> None:
        self._reader = Reader(settings)
        self._formulas: measure.Formulas | None = None
        self._configuration: Configuration | None = None
        self._known: tuple[bytes, bytes | None] | None = None  # Generation and count of changes.
        self._positions: dict[int, Position] = {}
        self._positions_of: GenerationKeys | None = None
        self._look: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """See `Queries.close`."""
        if self._look is not None:  # It would connect anew.
            self._look.cancel()
            await asyncio.wait([self._look])
        await self._reader.close()

    # Stock.

    async def on_hand(self, query: OnHandQuery) -> OnHandPage:
        """See `Queries.on_hand`."""
        formulas = self._formulas or await self._renew()
        selection = measure.select(query, formulas)
        if selection.product_ids:
            wanted = [
                joined(organization, product)
                for organization in selection.organization_ids
                for product in selection.product_ids
            ]
            pairs = selection.pairs(PLACES_NAMED_MAX)
            stock = await self._stock(wanted, [joined(*pair) for pair in pairs])
            more = False
        else:
            stock, more = await self._stock_of_places(selection, query)
            query = msgspec.structs.replace(query, page_size=0)
        if not self._is_current():  # The answers just read say that it has changed.
            formulas = await self._renew()
            selection = measure.select(query, formulas)
        page = measure.on_hand(stock, selection, query, formulas)
        return OnHandPage(page.rows, more) if more else page

    async def _stock(
        self, products: Sequence[bytes], places: Sequence[bytes] = ()
    ) -> list[StockRow]:
        """Stock rows of products at these places; everywhere if none are named."""
        rows: list[StockRow] = []
        for start in range(0, len(products), PRODUCTS_A_TRIP):
            some = products[start : start + PRODUCTS_A_TRIP]
            most = STOCK_ROWS_MAX - len(rows)

            def commands(
                keys: GenerationKeys, some: Sequence[bytes] = some, most: int = most
            ) -> list[Command]:
                return [_stock_command(keys, some, places, most)]

            (found,) = await self._reader.read(commands)
            if found is None:
                raise QueryInvalid(f"more than {STOCK_ROWS_MAX} stock rows: ask for fewer products")
            rows += [decode_stock(value) for value in chain.from_iterable(found)]
        return rows

    async def _stock_of_places(
        self, selection: measure.Selection, query: OnHandQuery
    ) -> tuple[list[StockRow], bool]:
        """Stock of every product at the places of a question, of one page where it asks for one."""
        span = selection.span()
        start = (query.page_number - 1) * query.page_size
        end = start + query.page_size if query.page_size else span
        places = selection.places(start, end)
        more = span > end
        if not places:
            return [], False
        (found,) = await self._reader.read(
            lambda keys: [
                ("MEMBERS", PLACE_PRODUCTS_MAX, *[keys(b"w:" + joined(*place)) for place in places])
            ]
        )
        if found is None:
            raise QueryInvalid(
                f"more than {PLACE_PRODUCTS_MAX} products at these places: ask for fewer places, "
                "or in smaller pages"
            )
        wanted = {
            joined(place[0], product.decode())
            for place, products in zip(places, found, strict=True)
            for product in products
        }
        chosen = frozenset(places)
        pairs = {place[1:] for place in places}
        named = [joined(*pair) for pair in pairs] if len(pairs) <= PLACES_NAMED_MAX else []
        stock = await self._stock(sorted(wanted), named)
        return [one for one in stock if measure.warehouse_of(one) in chosen], more

    async def products(self, cursor: str = "") -> ProductPage:
        """See `Queries.products`."""
        if not (cursor.isascii() and (cursor or "0").isdigit() and len(cursor) <= CURSOR_DIGITS):
            raise QueryInvalid("the cursor is not one of a walk over products")
        ((after, found),) = await self._reader.read(
            lambda keys: [("HSCAN", keys(b"pl"), cursor or 0, "COUNT", PRODUCTS_A_TRIP)]
        )
        distinct = dict.fromkeys(found[1::2])  # Fields and values take turns.
        pairs = [tuple(product.decode().split(SEPARATOR.decode(), 1)) for product in distinct]
        return ProductPage(
            [(one[0], one[1]) for one in pairs], "" if after == b"0" else after.decode()
        )

    # Holds.

    async def hold(self, hold_id: str) -> HoldView | None:
        """See `Queries.hold`."""
        parsed = parse_hold(hold_id)
        if parsed is None:
            return None
        key = parsed[0] + parsed[1].to_bytes(8, "big")
        (value,) = await self._reader.read(lambda keys: [("HGET", keys(b"h"), key)])
        return None if value is None else pages.hold_view(key, value)

    async def holds(self, query: HoldQuery) -> HoldPage:
        """See `Queries.holds`."""
        query = msgspec.structs.replace(
            query, dimensions={name.lower(): value for name, value in query.dimensions.items()}
        )
        walk = pages.walk_of(query)
        if walk is not None and not walk.name:
            walk = await self._next_warehouse(walk, query)
        found: list[HoldView] = []
        read = 0
        while walk is not None:
            count = max(query.limit, 100) if read else query.limit
            members = await self._members(walk, count)
            for member, hold in await self._holds_of(members):
                if hold is not None and pages.fits(hold, query):
                    found.append(hold)
                if len(found) == query.limit:
                    return HoldPage(found, walk.cursor(member))
            read += len(members) + 1  # A warehouse without holds is a look, too.
            if len(members) == count:
                if read >= HOLDS_READ_MAX:
                    return HoldPage(found, walk.cursor(members[-1]))
                walk = walk._replace(start=b"(" + members[-1])
                continue
            walk = await self._next_warehouse(walk, query)
            if walk is not None and read >= HOLDS_READ_MAX:
                return HoldPage(found, walk.cursor(pages.FIRST))
        return HoldPage(found)

    async def _next_warehouse(self, walk: pages.Walk, query: HoldQuery) -> pages.Walk | None:
        """The walk through the next warehouse's holds, None if it does not roam or was the last."""
        while walk.roams:
            names = await self._warehouses(walk.warehouses_after())
            for name in names:
                walk = walk.at(name)
                if pages.may_hold(name, query):
                    return walk
            if len(names) < WAREHOUSES_A_TRIP:
                break
        return None

    async def _warehouses(self, after: bytes) -> list[bytes]:
        limit = ("LIMIT", 0, WAREHOUSES_A_TRIP)
        (names,) = await self._reader.read(
            lambda keys: [("ZRANGEBYLEX", keys(b"hw"), after, "+", *limit)]
        )
        return list(names)

    async def _members(self, walk: pages.Walk, count: int) -> list[bytes]:
        (members,) = await self._reader.read(
            lambda keys: [("ZRANGEBYLEX", keys(walk.name), walk.start, walk.end, "LIMIT", 0, count)]
        )
        return list(members)

    async def _holds_of(self, members: Sequence[bytes]) -> Iterable[tuple[bytes, HoldView | None]]:
        """The holds of index members; None for one that went meanwhile."""
        if not members:
            return []
        wanted = [pages.key_of(member) for member in members]
        (values,) = await self._reader.read(lambda keys: [("HMGET", keys(b"h"), *wanted)])
        return [
            (member, None if value is None else pages.hold_view(key, value))
            for member, key, value in zip(members, wanted, values, strict=True)
        ]

    async def reservation(self, reservation_id: str) -> ReservationView | None:
        """See `Queries.reservation`."""
        reservation = parse_reservation(reservation_id)
        if reservation is None:
            return None
        index = b"hr:" + reservation
        oldest, count = await self._reader.read(
            lambda keys: [
                ("ZRANGEBYLEX", keys(index), "-", "+", "LIMIT", 0, 1),
                ("ZCARD", keys(index)),
            ]
        )
        for _, hold in await self._holds_of(oldest):
            if hold is not None:
                return await self._reservation_of(hold, count)
        return None

    async def _reservation_of(self, hold: HoldView, count: int) -> ReservationView:
        dimensions = hold.dimensions
        place = joined(dimensions.get(measure.SITE, ""), dimensions.get(measure.WAREHOUSE, ""))
        stock = await self._stock([joined(hold.organization_id, hold.product_id)], [place])
        reserved = [
            level.extra
            for level in stock
            if level.content == hold.measure and level.dimensions == hold.dimensions
        ]
        return ReservationView(
            reservation_id=hold.reservation_id,
            organization_id=hold.organization_id,
            product_id=hold.product_id,
            dimensions=hold.dimensions,
            measure=hold.measure,
            reserved=sum(total for total in reserved if isinstance(total, int)),
            holds=count,
        )

    # Decisions.

    async def decision(self, request_id: str) -> DecisionView | None:
        """See `Queries.decision`."""
        wanted = [b"R" + request_id.encode(), b"E" + request_id.encode()]
        for found in await self._decisions(wanted):
            return found
        return None

    async def recent_decisions(
        self, limit: int = 100, partition: int | None = None
    ) -> list[DecisionView]:
        """See `Queries.recent_decisions`."""
        if not 1 <= limit <= DECISIONS_KEPT:
            raise QueryInvalid(f"1 to {DECISIONS_KEPT} decisions")
        numbers = await self._numbers() if partition is None else [partition]
        latest = await self._reader.read(
            lambda keys: [("LRANGE", keys.latest(number), 0, limit - 1) for number in numbers]
        )
        found = await self._decisions([key for keys in latest for key in keys])
        return sorted(found, key=lambda one: one.decided_at_ms, reverse=True)[:limit]

    async def _decisions(self, answers: Sequence[bytes]) -> list[DecisionView]:
        """Answers that are still known, by kind byte and id."""
        if not answers:
            return []
        starts = range(0, len(answers), WORDS_MAX)
        found = await self._reader.read(
            lambda keys: [
                ("MGET", *[keys.answers + answer for answer in answers[start : start + WORDS_MAX]])
                for start in starts
            ]
        )
        return [
            _decision(answer, value)
            for answer, value in zip(answers, chain.from_iterable(found), strict=True)
            if value is not None
        ]

    # Failed offsets.

    async def failures(
        self, organization_id: str = "", cursor: str = "", limit: int = 100
    ) -> FailurePage:
        """See `Queries.failures`."""
        if not 1 <= limit <= FAILURES_PAGE_MAX:
            raise QueryInvalid(f"a page holds 1 to {FAILURES_PAGE_MAX} failures")
        start = b"-"
        try:
            if cursor:
                start = b"(" + bytes.fromhex(cursor)
        except ValueError as error:
            raise QueryInvalid("the cursor is not one of a page of failures") from error
        (members,) = await self._reader.read(
            lambda keys: [("ZRANGEBYLEX", keys(b"fi"), start, "+", "LIMIT", 0, limit)]
        )
        found = await self._failures([member[8:] for member in members])
        chosen = [
            one for one in found if not organization_id or one.organization_id == organization_id
        ]
        return FailurePage(chosen, members[-1].hex() if len(members) == limit else "")

    async def failure(self, failure_id: str) -> FailureView | None:
        """See `Queries.failure`."""
        for found in await self._failures([failure_id.encode()]):
            return found
        return None

    async def _failures(self, ids: Sequence[bytes]) -> list[FailureView]:
        if not ids:
            return []
        (values,) = await self._reader.read(lambda keys: [("HMGET", keys(b"f"), *ids)])
        return [_failure(value) for value in values if value is not None]

    # Positions and health.

    async def reached(self, partition: int, topic: str, offset: int, within_s: float) -> bool:
        """See `Queries.reached`."""
        deadline = time.monotonic() + within_s
        while not self._has_reached(partition, topic, offset):
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            # One look serves all who wait; it is not cancelled with one of them.
            if self._look is None or self._look.done():
                self._look = asyncio.create_task(self._look_at_positions())
            await asyncio.wait([self._look], timeout=left_s)
        return True

    def _has_reached(self, partition: int, topic: str, offset: int) -> bool:
        if self._reader.keys is not self._positions_of:  # Another generation may not be as far.
            return False
        position = self._positions.get(partition)
        return position is not None and position.sources.get(topic, 0) > offset

    async def _look_at_positions(self) -> None:
        if self._reader.keys is not self._positions_of:
            self._positions = {}
        await asyncio.sleep(REACHED_EVERY_S if self._positions else 0)
        try:
            numbers = list(range(max(len(self._positions), 1)))
            if not self._positions:
                numbers = await self._numbers()
            self._positions = await self._read_positions(numbers)
            self._positions_of = self._reader.keys
        except ViewUnavailable:
            self._positions = {}
            await asyncio.sleep(REACHED_EVERY_S * 10)

    async def _read_positions(self, numbers: Sequence[int]) -> dict[int, Position]:
        (stored,) = await self._reader.read(
            lambda keys: [("MGET", *[keys.at(number) for number in numbers])]
        )
        return dict(zip(numbers, map(position_of, stored), strict=True))

    async def _numbers(self) -> list[int]:
        """Partitions of the changelog."""
        (count,) = await self._reader.read(lambda keys: [("GET", keys(b"partitions"))])
        return list(range(int(count or 0)))

    async def partitions(self) -> list[str]:
        """See `Queries.partitions`."""
        numbers = await self._numbers()
        found = await self._read_positions(numbers) if numbers else {}
        return [str(number) for number, position in found.items() if position.offset]

    async def health(self) -> ViewHealth:
        """See `Queries.health`."""
        try:
            reported, count = await self._reader.read(
                lambda keys: [("GET", keys.health), ("GET", keys(b"partitions"))]
            )
        except ViewUnavailable:
            await self._reader.plain("PING")
            return ViewHealth("rebuilding", "", 0, 0, 0, 0)
        keys = self._reader.keys
        name = "" if keys is None else keys.name.decode()
        if reported is None:
            return ViewHealth("stalled", name, int(count or 0), 0, 0, STALLED_AFTER_MS)
        report = decode_report(reported)
        ago_ms = max(0, now_ms() - report.at_ms)
        state = "stalled" if ago_ms > STALLED_AFTER_MS else "following"
        return ViewHealth(state, name, int(count or 0), report.lag_records, report.lag_ms, ago_ms)

    # Configuration.

    async def configuration(self) -> dict[str, Any]:
        """See `Queries.configuration`."""
        await self._reader.read(_nothing)
        if self._configuration is None or not self._is_current():
            await self._renew()
        assert self._configuration is not None
        members: dict[str, Any] = msgspec.json.decode(to_json(self._configuration))
        return members

    def _is_current(self) -> bool:
        """Whether the configuration is the one of the generation that was last read from."""
        keys = self._reader.keys
        return keys is not None and self._known == (keys.name, self._reader.changes)

    async def _renew(self) -> measure.Formulas:
        """Read the newest configuration that any partition has in force."""
        for _ in range(CONFIGURATION_TRIES_MAX):
            stored, changes = await self._reader.read(
                lambda keys: [("HVALS", keys(b"c")), ("GET", keys(b"cv"))]
            )
            keys = self._reader.keys
            if keys is not None and changes == self._reader.changes:
                documents = [from_json(document) for document in stored]
                newest = max(documents, key=lambda one: one.version, default=None)
                if newest is None:
                    newest = default()
                if newest != self._configuration or self._formulas is None:
                    self._formulas = measure.Formulas(newest)
                self._configuration = newest
                self._known = (keys.name, changes)
                return self._formulas
        raise ViewUnavailable("the configuration changes all the time")


def _stock_command(
    keys: GenerationKeys, products: Sequence[bytes], places: Sequence[bytes], most: int
) -> Command:
    """What asks for the rows of products at these places, everywhere if none are named."""
    if places:
        named = [keys.stock(product, place) for product in products for place in places]
        return ("STOCK", most, *named)
    seen = [keys.places(product) for product in products]
    return ("STOCK EVERYWHERE", most, *seen, *[keys.stock(product, b"") for product in products])


def _nothing(_: GenerationKeys) -> list[Any]:
    return []


def _decision(answer: bytes, stored: bytes) -> DecisionView:
    """A remembered answer; `answer`: kind byte and id, `stored`: partition (2) and row."""
    value = stored[2:]
    found = row.decode_answer(value) if answer[0] == ord("R") else _told(value)
    return DecisionView(
        request_id=answer[1:].decode(),
        kind="request" if answer[0] == ord("R") else "transaction",
        code=found.code,
        decided_at_ms=row.answer_head(value)[0],
        partition=int.from_bytes(stored[:2], "big"),
        lines=[_line(line) for line in found.lines],
    )


def _told(value: bytes) -> row.Answer:
    """Answer of an inventory transaction: a code without lines."""
    written, code = msgspec.msgpack.decode(value[row.ANSWER_HEAD_BYTES :])
    return row.Answer(written, code, [])


def _line(line: row.AnswerLine) -> DecisionLine:
    reservation_id = reservation_text(line.reservation) if line.reservation else ""
    return DecisionLine(
        code=line.code,
        reservation_id=reservation_id,
        hold_id=hold_text(reservation_id, line.number) if line.number >= 0 else "",
        quantity=line.quantity,
        available=line.available,
        invalid_quantity=line.detail.invalid_quantity if line.detail else 0,
        message=line.detail.message if line.detail else "",
    )


def _failure(value: bytes) -> FailureView:
    found = row.decode_failure(value)
    return FailureView(**{name: getattr(found, name) for name in FailureView.__struct_fields__})
