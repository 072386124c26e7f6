"""The read view over a real worker, broker and Redis: what it answers, and what it survives."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from compose.ports import choose_port
from compose.probes import http_answers
from compose.stack import LocalStack
from holdfast.cli import app
from processor.inventory import rows as row
from processor.inventory.identity import hold_text, reservation_hash, reservation_text
from processor.view.applier import Applier
from processor.view.follower import Follower
from processor.view.generations import Generations
from processor.view.keys import Names, Position, encode
from processor.view.plan import Batch
from processor.view.queries import RedisQueries
from processor.view.settings import ViewSettings
from producers.channel import ChannelClient, Item, granted
from producers.channel.requests import key_by_location, request
from producers.channel.verbs import single
from producers.settings import Settings
from schemas import topics
from schemas.codes import Code
from schemas.messages import (
    InventoryEvent,
    RequestOptions,
    ReservationResult,
    TransactionStatus,
)
from schemas.partitioning import partition_of
from schemas.queries import (
    DecisionLine,
    HoldQuery,
    HoldView,
    OnHandQuery,
    QueryInvalid,
    ViewUnavailable,
)
from tests.support.eventually import eventually, eventually_async
from tests.support.records import in_transactions
from tests.support.view import content
from tests.support.worker_process import WorkerProcess

pytestmark = pytest.mark.kafka

UNIT = 1_000_000
WITHIN_S = 20.0
HERE = {"siteid": "1", "locationid": "11"}


@pytest.fixture
def client(running: Settings) -> Iterator[ChannelClient]:
    """A client of the running worker."""
    with ChannelClient(running, "web-shop") as client:
        yield client


@pytest.fixture
def item(client: ChannelClient) -> Item:
    """A product nobody else uses, red and small, ten pieces of it."""
    dimensions = {**HERE, "colorid": "red", "sizeid": "small"}
    item = Item("usmf", f"V-{uuid.uuid4().hex[:8]}", dimensions)
    assert isinstance(
        client.on_hand(item, {"fno.physicalinvent": 10}, source="fno"), InventoryEvent
    )
    return item


@pytest.fixture
def view(redis_url: str, fresh: Callable[[str], str]) -> ViewSettings:
    """A view of its own in the session's Redis."""
    return ViewSettings(redis_url=redis_url, prefix=fresh("view"))


@contextlib.contextmanager
def following(
    settings: ViewSettings, running: Settings, topic: str = topics.CHANGELOG
) -> Iterator[Follower]:
    """Follow in a thread meanwhile."""
    follower = Follower(settings, running.librdkafka(), topic)
    thread = threading.Thread(target=follower.run)
    thread.start()
    try:
        eventually(lambda: follower.is_following)
        yield follower
    finally:
        follower.stop()
        thread.join(WITHIN_S)
        assert not thread.is_alive()


@pytest.fixture
def followed(view: ViewSettings, running: Settings) -> Iterator[ViewSettings]:
    """The view, followed."""
    with following(view, running):
        yield view


@contextlib.asynccontextmanager
async def asking(settings: ViewSettings) -> AsyncIterator[RedisQueries]:
    """Ask a view."""
    queries = RedisQueries(settings)
    try:
        yield queries
    finally:
        await queries.close()


async def available(queries: RedisQueries, item: Item) -> int | None:
    """Available to reserve of a product, in pieces; None if there is no row."""
    query = OnHandQuery(organization_ids=("usmf",), product_ids=(item.product_id,))
    page = await queries.on_hand(query)
    if not page.rows:
        return None
    return page.rows[0].quantities["iv"]["availabletoreserve"] // UNIT


async def every_hold(queries: RedisQueries, query: HoldQuery) -> list[HoldView]:
    """All pages of an answer: other tests leave holds too."""
    holds: list[HoldView] = []
    while True:
        page = await queries.holds(query)
        holds += page.holds
        if not page.cursor:
            return holds
        query = msgspec.structs.replace(query, cursor=page.cursor)


async def test_what_was_decided_is_found_by_every_question(
    client: ChannelClient, item: Item, followed: ViewSettings
) -> None:
    """A reservation shows on hand, among holds by each of its references, and by its request id."""
    answer = await asyncio.to_thread(client.reserve, item, 3, order_id=item.product_id)
    assert isinstance(answer, ReservationResult)
    line = answer.lines[0]
    async with asking(followed) as queries:
        await eventually_async(lambda: queries.decision(answer.request_id))
        assert await available(queries, item) == 7
        hold = await queries.hold(line.hold_id)
        assert hold is not None
        assert (hold.quantity, hold.order_id, hold.channel) == (
            3 * UNIT,
            item.product_id,
            "web-shop",
        )
        assert (hold.state, hold.expires_at_ms, hold.dimensions) == ("live", None, item.dimensions)
        for query in (
            HoldQuery(organization_id="usmf", product_id=item.product_id),
            HoldQuery(order_id=item.product_id),
            HoldQuery(reservation_id=line.reservation_id),
            HoldQuery(channel="web-shop", organization_id="usmf", limit=1_000),
            HoldQuery(
                organization_id="usmf",
                dimensions={"SiteId": "1", "locationid": "11"},
                limit=1_000,
            ),
            HoldQuery(limit=1_000),
        ):
            assert hold in await every_hold(queries, query)
        assert hold not in await every_hold(queries, HoldQuery(expires_from_ms=0))
        reservation = await queries.reservation(line.reservation_id)
        assert reservation is not None
        assert (reservation.reserved, reservation.holds) == (3 * UNIT, 1)
        decision = await queries.decision(answer.request_id)
        assert decision is not None
        assert (decision.kind, decision.code) == ("request", Code.ACCEPTED)
        told = DecisionLine(1, line.reservation_id, line.hold_id, 3 * UNIT, 7 * UNIT)
        assert decision.lines == [told]
        assert decision in await queries.recent_decisions(20)
        assert decision in await queries.recent_decisions(20, decision.partition)
        assert await queries.decision("never-asked") is None
        assert await queries.hold("no hold") is None
        assert await queries.reservation("0" * 24) is None


async def test_a_caller_sees_its_own_write(
    client: ChannelClient, item: Item, followed: ViewSettings
) -> None:
    """Once `reached` says so for the record's offset, the answer holds it: 50 writes, no miss."""
    asked = HoldQuery(organization_id="usmf", product_id=item.product_id)
    async with asking(followed) as queries:
        partition = partition_of(key_by_location(item), len(await queries.partitions()))
        for count in range(1, 51):
            answer = await asyncio.to_thread(client.reserve, item, "0.1")
            assert isinstance(answer, ReservationResult)
            offset = answer.source_offset
            assert await queries.reached(partition, topics.REQUESTS, offset, WITHIN_S)
            assert len((await queries.holds(asked)).holds) == count
        assert not await queries.reached(0, topics.REQUESTS, 10**12, 0.01)
        assert not await queries.reached(99, topics.REQUESTS, 0, 0.01)


async def test_closed_while_it_waits_for_a_write_it_leaves_no_connection(
    followed: ViewSettings,
) -> None:
    """What looks for a write on its own, after its caller has gone, ends with the rest."""
    for _ in range(10):  # Not every one is in its pause.
        queries = RedisQueries(followed)
        for within_s in (0.1, 0.0001):  # Once positions are known, a look begins with a pause.
            assert not await queries.reached(0, topics.REQUESTS, 10**12, within_s)
        look = queries._look
        assert look is not None
        await queries.close()
        await asyncio.wait([look])
        pool = queries._reader._redis.connection_pool
        left = [*pool._available_connections, *pool._in_use_connections]
        assert not [one for one in left if one.is_connected]


async def test_a_status_and_its_offset_show_at_once(
    client: ChannelClient, item: Item, followed: ViewSettings
) -> None:
    """While the ERP takes reservations over, no look ever sees the demand twice or not at all."""
    holds = [client.reserve(item, 1, order_id=f"SO-{number}") for number in range(8)]
    seen: set[int | None] = set()
    async with asking(followed) as queries:
        await eventually_async(lambda: _is(available(queries, item), 2))
        telling = asyncio.create_task(asyncio.to_thread(_take_over, client, item, holds))
        while not telling.done():
            seen.add(await available(queries, item))
        await telling
        wanted = {"fno.reservphysical": 8, "iv.softreserved": 0}
        await eventually_async(lambda: _has(queries, item, wanted))
    assert seen == {2}


def _take_over(client: ChannelClient, item: Item, holds: list[Any]) -> None:
    for number, answer in enumerate(holds):
        status = TransactionStatus(
            transaction_id=f"{item.product_id}-{number}",
            status="RESERVED_PHYSICAL",
            sequence=1,
            quantity=UNIT,
            reservation_id=answer.lines[0].reservation_id,
        )
        told = client.transaction(item, status, {"fno.reservphysical": 1}, source="fno")
        assert isinstance(told, InventoryEvent)
        assert told.code == Code.OFFSET_APPLIED


async def _is(asked: Any, wanted: object) -> bool:
    return bool(await asked == wanted)


async def _has(queries: RedisQueries, item: Item, wanted: dict[str, int]) -> bool:
    query = OnHandQuery(organization_ids=("usmf",), product_ids=(item.product_id,))
    told = (await queries.on_hand(query)).rows[0].quantities
    found = {
        name: told[name.partition(".")[0]].get(name.partition(".")[2], 0) // UNIT for name in wanted
    }
    return found == wanted


async def test_products_of_a_warehouse_without_naming_them(
    client: ChannelClient, followed: ViewSettings
) -> None:
    """Site and warehouse alone find every product there; pages go by warehouse."""
    mark = uuid.uuid4().hex[:8]
    items = [
        Item("usmf", f"{mark}-{product}", {"siteid": mark, "locationid": location})
        for location in ("A", "B", "C")
        for product in range(2)
    ]
    for one in items:
        client.on_hand(one, {"fno.physicalinvent": 1}, source="fno")
    query = OnHandQuery(
        organization_ids=("usmf",),
        filters={"siteid": (mark,), "locationid": ("A", "B", "C", "D")},
        group_by=("locationid",),
    )
    async with asking(followed) as queries:
        await eventually_async(lambda: _is(_count(queries, query), 6))
        seen: list[str] = []
        for number in (1, 2):
            paged = msgspec.structs.replace(query, page_size=2, page_number=number)
            page = await queries.on_hand(paged)
            assert page.has_more == (number == 1)
            seen += [one.dimensions["locationid"] for one in page.rows]
        assert sorted(seen) == ["A", "A", "B", "B", "C", "C"]


async def _count(queries: RedisQueries, query: OnHandQuery) -> int:
    return len((await queries.on_hand(query)).rows)


async def test_failed_offsets_are_listed_until_they_are_dismissed(
    client: ChannelClient, item: Item, followed: ViewSettings
) -> None:
    """An offset of a reservation that does not exist is found in the list, and by its id."""
    status = TransactionStatus(
        transaction_id=item.product_id,
        status="RESERVED_PHYSICAL",
        sequence=1,
        quantity=UNIT,
        reservation_id="0" * 24,
    )
    client.transaction(item, status, {}, source="fno")

    async def found(queries: RedisQueries) -> list[Any]:
        failures: list[Any] = []
        cursor = ""
        while True:  # Other tests leave failures too.
            page = await queries.failures("usmf", cursor, limit=1_000)
            failures += page.failures
            cursor = page.cursor
            if not cursor:
                return [one for one in failures if one.transaction_id == item.product_id]

    async with asking(followed) as queries:
        (failure,) = await eventually_async(lambda: found(queries))
        assert failure.quantity == UNIT
        assert await queries.failure(failure.failure_id) == failure
        assert not (await queries.failures("nobody")).failures
        dismiss = request(
            "DISMISS_OFFSET",
            [],
            request_id=uuid.uuid4().hex,
            organization_id="usmf",
            channel="console",
            options=RequestOptions(offset_failure_id=failure.failure_id),
        )
        assert granted(client.ask(dismiss, key=key_by_location(item)))
        await eventually_async(lambda: _is(queries.failure(failure.failure_id), None))
        assert not await found(queries)


async def test_a_rebuild_serves_meanwhile_and_gives_the_same(
    client: ChannelClient, item: Item, view: ViewSettings, running: Settings
) -> None:
    """Three rebuilds under questions: every answer right, the copy equal, the old one dropped."""
    client.reserve(item, 4)
    wrong: list[object] = []
    names: list[str] = []
    with following(view, running), redis.Redis.from_url(view.redis_url) as raw:
        generations = Generations(raw, Names(view.prefix))
        async with asking(view) as queries:
            await eventually_async(lambda: _is(available(queries, item), 6))
            for _ in range(3):
                old = generations.live()
                assert old is not None
                rebuilding = asyncio.create_task(
                    asyncio.to_thread(Follower(view, running.librdkafka()).rebuild)
                )
                while not rebuilding.done():
                    told = await available(queries, item)
                    if told != 6:
                        wrong.append(told)
                names.append(await rebuilding)
                assert generations.live() == names[-1].encode()
                assert not content(raw, view.prefix, old)
            client.reserve(item, 1)  # The follower has gone over to the new one.
            await eventually_async(lambda: _is(available(queries, item), 5))
    assert not wrong
    assert len(set(names)) == 3


async def test_a_rebuild_never_goes_back_behind_what_was_served(
    client: ChannelClient,
    item: Item,
    view: ViewSettings,
    running: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What became readable while it was filled is readable when it is served, followed or not."""
    client.reserve(item, 4)
    rebuilder = Follower(view, running.librdkafka())
    fill_to, loop = rebuilder._fill_to, asyncio.get_running_loop()
    async with asking(view) as queries:

        def is_available(pieces: float) -> Any:
            return eventually_async(lambda: _is(available(queries, item), pieces))

        with following(view, running) as follower:
            await is_available(6)

            def fill(*words: Any) -> None:
                fill_to(*words)
                if follower.is_following:
                    client.reserve(item, 1)
                    asyncio.run_coroutine_threadsafe(is_available(5), loop).result(WITHIN_S)
                    follower.stop()
                    eventually(lambda: not follower.is_following)

            monkeypatch.setattr(rebuilder, "_fill_to", fill)
            await asyncio.to_thread(rebuilder.rebuild)
            assert await available(queries, item) == 5


def test_a_switch_whose_answer_is_lost_is_a_switch(
    view: ViewSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py tells a lost answer as a change of what is watched: the generation is served."""
    names = Names(view.prefix)
    execute, lost = redis.client.Pipeline.execute, [True]

    def and_lose(pipe: Any) -> object:
        answer: object = execute(pipe)
        if lost and lost.pop():
            raise redis.WatchError("a TimeoutError occurred while watching")
        return answer

    monkeypatch.setattr(redis.client.Pipeline, "execute", and_lose)
    with redis.Redis.from_url(view.redis_url) as raw:
        generations = Generations(raw, names)
        keys = generations.begin()
        assert generations.switch(keys, None, {})
        assert generations.live() == keys.name
        assert not generations.switch(generations.begin(), None, {})  # Another one is served.


async def test_killed_at_any_instant_it_ends_with_the_content_of_a_rebuild(
    client: ChannelClient, item: Item, view: ViewSettings, running: Settings, tmp_path: Path
) -> None:
    """Ten signal 9 under traffic of reservations and releases: nothing missing, nothing left."""
    http_port = choose_port(None)
    words = ["view", "run", "--bootstrap", running.bootstrap_servers, "--http-port", str(http_port)]
    process = WorkerProcess(
        "view",
        [sys.executable, "-m", "holdfast", *words],
        tmp_path / "view",
        {
            "REDIS_URL": view.redis_url,
            "HOLDFAST_VIEW_PREFIX": view.prefix,
            "HOLDFAST_HOME": str(tmp_path),
        },
    )
    names = Names(view.prefix)
    with redis.Redis.from_url(view.redis_url) as raw:
        generations = Generations(raw, names)
        try:
            for round_number in range(10):
                process.start()
                eventually(generations.live, within_s=60)
                before = _rows(raw, names, generations)
                _traffic(client, item, round_number)
                if round_number % 2:  # Else it dies before or while it starts to apply.
                    eventually(lambda seen=before: _rows(raw, names, generations) != seen)  # type: ignore[misc]
                process.kill()
            process.start()
            # Redis may tell of the one before as level: this one is asked itself.
            ready = f"http://127.0.0.1:{http_port}/ready"
            await eventually_async(lambda: asyncio.to_thread(http_answers, ready), within_s=60)
            await _caught_up(view)
            process.stop()
            assert process.exit_code == 0
        finally:
            process.kill()
        served = generations.live()
        assert served is not None
        found = _without_positions(content(raw, view.prefix, served))
        rebuilt = await asyncio.to_thread(Follower(view, running.librdkafka()).rebuild)
        again = _without_positions(content(raw, view.prefix, rebuilt.encode()))
    assert found == again
    assert len(again[b"hp:" + f"usmf\x1f{item.product_id}".encode()]) > 10  # type: ignore[arg-type]


def _rows(raw: Any, names: Names, generations: Generations) -> object:
    served = generations.live()
    return served and raw.mget(names.generation(served).at(0), names.generation(served).at(1))


def _traffic(client: ChannelClient, item: Item, round_number: int) -> None:
    """Sixty reservations on their way at once, and half of those of the round before given back."""
    asked = [client.submit(single("RESERVE", "web-shop", item, "0.001", {})) for _ in range(60)]
    answers = [one.result() for one in asked]
    for answer in answers[: 20 + round_number]:
        assert isinstance(answer, ReservationResult)
        assert granted(client.release(item, answer.lines[0].hold_id))


async def _caught_up(view: ViewSettings) -> None:
    async with asking(view) as queries:

        async def is_level() -> bool:
            health = await queries.health()
            return health.state == "following" and not health.lag_records

        await eventually_async(is_level, within_s=60)


def _without_positions(found: dict[bytes, object]) -> dict[bytes, object]:
    """The worker's ticks go on between two looks, and move positions alone.

    A version of the configuration is answered by every partition under one id: any of them is kept.
    """
    unlike = (b"at:", b"a:Rconfigure-")
    return {key: value for key, value in found.items() if not key.startswith(unlike)}


async def test_wiped_under_questions_it_says_so_and_comes_back(
    client: ChannelClient, item: Item, running: Settings
) -> None:
    """FLUSHALL three times, then Redis killed: right answers or ViewUnavailable, never wrong."""
    client.reserve(item, 4)
    refused: list[str] = []
    with LocalStack(servers=("redis",)) as stack:
        assert stack.addresses.redis_url is not None
        view = ViewSettings(redis_url=stack.addresses.redis_url)
        with following(view, running), redis.Redis.from_url(view.redis_url) as raw:
            async with asking(view) as queries:

                async def answers() -> bool:
                    try:
                        told = await available(queries, item)
                    except ViewUnavailable as error:
                        refused.append(str(error))
                        return False
                    assert told == 6
                    return True

                for _ in range(3):
                    await eventually_async(answers)
                    raw.flushall()
                    assert not await answers()
                assert (await queries.health()).state in {"rebuilding", "following"}
                await eventually_async(answers)
                stack.servers["redis"].kill()
                assert not await answers()
                stack.servers["redis"].start()
                await eventually_async(answers, within_s=60)
                await asyncio.to_thread(client.reserve, item, 1)
                await eventually_async(lambda: _is(available(queries, item), 5))
    assert any("being rebuilt" in words for words in refused)
    assert any("does not answer" in words for words in refused)


async def test_a_changelog_that_was_made_anew_is_built_anew(
    running: Settings, view: ViewSettings, fresh: Callable[[str], str]
) -> None:
    """Another topic of the same name holds other rows: nothing of the first stays."""
    admin = AdminClient(running.librdkafka())
    topic = fresh("changelog")

    def make() -> None:
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()

    def served() -> bytes | None:
        with redis.Redis.from_url(view.redis_url) as raw:
            return Generations(raw, Names(view.prefix)).live()

    make()
    Follower(view, running.librdkafka(), topic).rebuild()
    first = served()
    admin.delete_topics([topic])[topic].result()
    eventually(lambda: topic not in admin.list_topics(timeout=10).topics)
    make()
    follower = Follower(view, running.librdkafka(), topic)
    thread = threading.Thread(target=follower.run)
    thread.start()
    try:
        eventually(lambda: served() not in {first, None})
        eventually(lambda: follower.is_following)
    finally:
        follower.stop()
        thread.join(WITHIN_S)


@pytest.fixture
def log_of_its_own(running: Settings, fresh: Callable[[str], str]) -> str:
    """A changelog of one partition, with nothing in it."""
    topic = fresh("changelog")
    admin = AdminClient(running.librdkafka())
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    return topic


def _a_hold(number: int) -> list[tuple[bytes, bytes]]:
    """Rows of a batch, as a worker writes them: a hold, and the watermark behind it."""
    place = row.encode_place(row.Place("usmf", "P", HERE, "iv.softreserved"))
    hold = row.Hold(row.FORMAT, row.LIVE, row.raw(place), UNIT, 1_000, 0, UNIT)
    value = row.encode_hold(hold, bytes(12), row.due_of(hold, 0))
    return [
        (row.hold_key(number.to_bytes(12, "big"), 1), value),
        (b"W", encode((1, {topics.REQUESTS: number}, b""))),
    ]


def _hold_id(number: int) -> str:
    return hold_text(reservation_text(number.to_bytes(12, "big")), 1)


async def test_what_was_aborted_is_never_shown(
    running: Settings, view: ViewSettings, log_of_its_own: str
) -> None:
    """A batch that its worker aborted is in the log, and neither a build nor a follower tells it.

    Nor does it move what a caller waits for.
    """
    kafka = running.librdkafka()
    in_transactions(kafka, log_of_its_own, (False, _a_hold(1)), (True, _a_hold(2)))
    async with asking(view) as queries:

        async def is_there(number: int) -> bool:
            return await queries.hold(_hold_id(number)) is not None

        with following(view, running, log_of_its_own):
            assert [await is_there(number) for number in (1, 2)] == [False, True]
            in_transactions(kafka, log_of_its_own, (False, _a_hold(3)), (True, _a_hold(4)))
            await eventually_async(lambda: is_there(4))
            assert [await is_there(number) for number in (1, 2, 3)] == [False, True, False]


@pytest.mark.parametrize("is_old", [True, False])
def test_what_was_left_for_too_long_is_built_anew(
    running: Settings, view: ViewSettings, log_of_its_own: str, *, is_old: bool
) -> None:
    """Deletions behind an old position may be compacted away: it cannot be caught up from there."""
    in_transactions(running.librdkafka(), log_of_its_own, (True, _a_hold(1)))
    first = Follower(view, running.librdkafka(), log_of_its_own).rebuild().encode()
    in_transactions(running.librdkafka(), log_of_its_own, (True, _a_hold(2)))
    names = Names(view.prefix)
    with redis.Redis.from_url(view.redis_url) as raw:
        at = names.generation(first).at(0)
        kept = raw.get(at)
        assert isinstance(kept, bytes)
        if is_old:
            position = msgspec.msgpack.decode(kept, type=Position)
            raw.set(at, encode(msgspec.structs.replace(position, appended_at_ms=1)))
        with following(view, running, log_of_its_own):
            assert (Generations(raw, names).live() != first) is is_old


async def test_what_another_release_built_is_built_anew(
    running: Settings, view: ViewSettings
) -> None:
    """A generation whose keys another release laid out is served until one of ours is there."""
    names = Names(view.prefix)
    first = Follower(view, running.librdkafka()).rebuild().encode()
    with redis.Redis.from_url(view.redis_url) as raw:
        raw.set(names.generation(first)(b"format"), "1")
        with following(view, running):
            assert Generations(raw, names).live() not in {first, None}


def test_what_dead_builders_left_goes_with_the_next_build(
    view: ViewSettings, running: Settings
) -> None:
    """A generation nobody fills or serves any more is dropped; one that is reported stays."""
    names = Names(view.prefix)
    with redis.Redis.from_url(view.redis_url) as raw:
        generations = Generations(raw, names)
        dead, alive = generations.begin(), generations.begin()
        for keys in (dead, alive):
            raw.set(keys(b"h"), "rows")
        raw.hset(names.builds, dead.name, 1)
        first = Follower(view, running.librdkafka()).rebuild()
        assert not raw.exists(dead(b"h"))
        assert raw.exists(alive(b"h"))
        raw.hset(names.builds, first.encode(), 1)  # Served: not dropped, whatever is said of it.
        generations.drop_abandoned()
        assert content(raw, view.prefix, first.encode())
        second = Follower(view, running.librdkafka()).rebuild()
        assert generations.live() == second.encode()
        assert set(raw.hgetall(names.builds)) == {alive.name}


async def test_a_hundred_thousand_holds_of_one_product_page_by_page(
    view: ViewSettings,
) -> None:
    """Every hold once, oldest first; a cursor leads on from anywhere; a bad one is refused."""
    count = 100_000
    _fill_holds(view, count)
    query = HoldQuery(organization_id="usmf", product_id="BIG", limit=1_000)
    async with asking(view) as queries:
        seen: list[str] = []
        times: list[int] = []
        cursor = ""
        for _ in range(count // 1_000 + 1):
            page = await queries.holds(msgspec.structs.replace(query, cursor=cursor))
            seen += [hold.hold_id for hold in page.holds]
            times += [hold.created_at_ms for hold in page.holds]
            cursor = page.cursor
            if not cursor:
                break
        assert len(seen) == len(set(seen)) == count
        assert times == sorted(times)
        last = await queries.holds(msgspec.structs.replace(query, channel="c7", limit=10))
        assert {hold.channel for hold in last.holds} == {"c7"}
        rare = msgspec.structs.replace(query, channel="no such channel")
        short = await queries.holds(rare)  # Stops at its bound, and says how to go on.
        assert not short.holds
        assert short.cursor
        due = HoldQuery(expires_from_ms=50_000, expires_before_ms=50_010, limit=50)
        assert [hold.expires_at_ms for hold in (await queries.holds(due)).holds] == [
            *range(50_000, 50_010)
        ]
        for bad in ("zz", "00", "A" * 56):
            with pytest.raises(QueryInvalid, match="cursor"):
                await queries.holds(msgspec.structs.replace(query, cursor=bad))
        with pytest.raises(QueryInvalid, match="page"):
            await queries.holds(msgspec.structs.replace(query, limit=1_001))
        middle: HoldView | None = await queries.hold(seen[count // 2])
        assert middle is not None
        assert middle.hold_id == seen[count // 2]


async def test_without_an_index_holds_are_told_warehouse_by_warehouse(
    view: ViewSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every hold once, whatever the page, past warehouses that are empty or not asked for."""
    warehouses = [{"siteid": str(number % 3), "locationid": str(number)} for number in range(120)]
    places = [*warehouses, {"siteid": "1"}, {}]
    _fill_places(view, places)
    async with asking(view) as queries:
        for limit in (1, 7, 1_000):
            every = await every_hold(queries, HoldQuery(limit=limit))
            assert sorted(hold.dimensions.get("locationid", "") for hold in every) == sorted(
                place.get("locationid", "") for place in places[1::2] * 2
            )
            assert len({hold.hold_id for hold in every}) == len(every)
        at_site = await every_hold(queries, HoldQuery(dimensions={"siteId": "1"}, limit=5))
        assert {hold.dimensions.get("siteid") for hold in at_site} == {"1"}
        assert len(at_site) == 2 * sum(place.get("siteid") == "1" for place in places[1::2])
        assert not await every_hold(queries, HoldQuery(organization_id="us"))
        monkeypatch.setattr("processor.view.queries.HOLDS_READ_MAX", 3)
        assert len(await every_hold(queries, HoldQuery())) == len(every)
        nothing = HoldQuery(organization_id="usmf", dimensions=places[1], order_id="SO-1")
        assert not await every_hold(queries, nothing)
        one_place = HoldQuery(organization_id="usmf", dimensions=places[1])
        roaming = (await queries.holds(HoldQuery(limit=1))).cursor
        within = (await queries.holds(msgspec.structs.replace(one_place, limit=1))).cursor
        for query, bad in ((one_place, roaming), (HoldQuery(), within)):
            with pytest.raises(QueryInvalid, match="cursor"):
                await queries.holds(msgspec.structs.replace(query, cursor=bad))


def _fill_places(view: ViewSettings, places: Sequence[dict[str, str]]) -> None:
    """Two holds at each place, straight into a generation; those at every other place went."""
    names = Names(view.prefix)
    keys = names.generation(b"g")
    rows = []
    for number, place in enumerate(places):
        encoded = row.raw(row.encode_place(row.Place("usmf", "P", place, "iv.softreserved")))
        for line in (0, 1):
            hold = row.Hold(row.FORMAT, row.LIVE, encoded, UNIT, 1_000 - number, 0, UNIT)
            value = row.encode_hold(hold, bytes(12), row.due_of(hold, 0))
            rows.append((row.hold_key(number.to_bytes(12, "big"), line), value))
    with redis.Redis.from_url(view.redis_url) as raw:
        raw.set(names.live, keys.name)
        applier = Applier(raw, names, keys, serving=True, answers_ms=1_000)
        gone = [(key, None) for number in range(0, len(rows), 4) for key, _ in rows[number:][:2]]
        for some in (rows, gone):
            batch = Batch(0, applier.positions([0])[0])
            for offset, (key, value) in enumerate(some, batch.start.offset):
                batch.add(offset, 1_000, key, value)
            applier.apply([batch])


def _fill_holds(view: ViewSettings, count: int) -> None:
    """Holds of one product, straight into a generation."""
    names = Names(view.prefix)
    keys = names.generation(b"g")
    place = row.encode_place(row.Place("usmf", "BIG", HERE, "iv.softreserved"))
    reservation = reservation_hash("usmf", "BIG", b"", "iv.softreserved")
    assert reservation_text(reservation) in hold_text(reservation_text(reservation), 1)
    with redis.Redis.from_url(view.redis_url) as raw:
        raw.set(names.live, keys.name)
        applier = Applier(raw, names, keys, serving=True, answers_ms=1_000)
        for start in range(0, count, 5_000):
            batch = Batch(0, applier.positions([0])[0])
            for number in range(start, start + 5_000):
                hold = row.Hold(
                    row.FORMAT,
                    row.LIVE,
                    row.raw(place),
                    UNIT,
                    1_000 + number // 7,
                    number,
                    UNIT,
                    channel=f"c{number % 10}",
                )
                value = row.encode_hold(hold, bytes(12), row.due_of(hold, 0))
                batch.add(number, 1_000, row.hold_key(reservation, number), value)
            applier.apply([batch])


async def test_an_acl_user_is_enough_and_a_wrong_password_is_said(
    redis_url: str, view: ViewSettings, running: Settings, item: Item, fresh: Callable[[str], str]
) -> None:
    """A user that may touch the prefix alone follows and asks; secrets show nowhere."""
    user, password = fresh("view-user"), uuid.uuid4().hex
    with redis.Redis.from_url(redis_url) as raw:
        raw.acl_setuser(
            user,
            enabled=True,
            passwords=[f"+{password}"],
            keys=[f"{view.prefix}:*"],
            commands=["+@all", "-@dangerous", "-@admin", "+keys"],
        )
        try:
            limited = msgspec.structs.replace(view, username=user, password=password)
            assert password not in repr(limited)
            with following(limited, running):
                async with asking(limited) as queries:
                    await eventually_async(lambda: _is(available(queries, item), 10))
            wrong = msgspec.structs.replace(limited, password="wrong")
            async with asking(wrong) as queries:
                with pytest.raises(ViewUnavailable) as refusal:
                    await queries.decision("x")
                assert "wrong" not in str(refusal.value).replace("wrong username", "")
        finally:
            raw.acl_deluser(user)


def test_people_ask_it_at_the_console(
    client: ChannelClient,
    item: Item,
    followed: ViewSettings,
    running: Settings,
    tmp_path: Path,
) -> None:
    """Status, on hand, holds, hold and decision, as lines and as JSON."""
    answer = client.reserve(item, 3)
    assert isinstance(answer, ReservationResult)
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": running.bootstrap_servers,
        "REDIS_URL": followed.redis_url,
        "HOLDFAST_VIEW_PREFIX": followed.prefix,
        "HOLDFAST_HOME": str(tmp_path),
    }

    def run(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["view", *words], env=environment)
        assert result.exit_code == code, result.output
        return result.stdout

    eventually(lambda: run("decision", answer.request_id) or True)
    assert json.loads(run("status", "--json"))["state"] == "following"
    assert "following" in run("status")
    told = json.loads(run("onhand", item.product_id, "--org", "usmf", "--by", "colorid", "--json"))
    assert told["dimensions"] == {"colorid": "red"}
    assert told["quantities"]["iv.availabletoreserve"] == "7"
    assert "iv.availabletoreserve" in run("onhand", item.product_id, "--org", "usmf")
    listed = run("holds", "--org", "usmf", "--product", item.product_id, "--json")
    hold_id = answer.lines[0].hold_id
    assert json.loads(listed)["hold_id"] == hold_id
    assert hold_id in run("holds", "--org", "usmf", "--product", item.product_id)
    assert json.loads(run("hold", hold_id))["quantity"] == "3"
    # A process of its own: it takes logging and signals over.
    rebuilt = subprocess.run(
        [sys.executable, "-m", "holdfast", "view", "rebuild"],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "is served" in rebuilt.stdout
    run("hold", "nothing", code=1)
    run("onhand", item.product_id, "--org", "usmf", "--by", "hue", code=2)
