"""The channel client with a real worker: what is answered, and what a basket leaves behind."""

import uuid
from collections.abc import Iterator

import msgspec
import pytest

from producers.channel import (
    AsyncChannelClient,
    BasketLine,
    ChannelClient,
    Item,
    Undecided,
    granted,
)
from producers.channel.basket import BasketPlan, converse
from producers.channel.outcomes import Unknown
from producers.channel.requests import key_by_location
from producers.channel.verbs import single
from producers.settings import Settings
from schemas.codes import Code
from schemas.messages import InventoryEvent, ReservationResult
from tests.support.eventually import eventually

pytestmark = pytest.mark.kafka

HERE = {"siteid": "1", "locationid": "11"}
THERE = {"siteid": "2", "locationid": "22"}
UNIT = 1_000_000


@pytest.fixture
def client(running: Settings) -> Iterator[ChannelClient]:
    """A client of the running worker."""
    with ChannelClient(running, "web-shop") as client:
        yield client


@pytest.fixture
def items(client: ChannelClient) -> list[Item]:
    """A product nobody else uses, 5 pieces of it at each of two warehouses."""
    product = f"P-{uuid.uuid4().hex[:8]}"
    found = [Item("usmf", product, place) for place in (HERE, THERE)]
    for item in found:
        event = client.on_hand(item, {"fno.physicalinvent": 5}, source="fno")
        assert isinstance(event, InventoryEvent)
        assert event.available == 5 * UNIT
    return found


def available(client: ChannelClient, item: Item) -> int:
    """What can be held there now, in 10^-6."""
    answer = client.availability(item)
    assert isinstance(answer, ReservationResult)
    assert answer.code == Code.INSUFFICIENT_STOCK
    return answer.lines[0].available


def test_verbs_do_what_they_say(client: ChannelClient, items: list[Item]) -> None:
    """Every verb of the client reaches the hold it names."""
    here = items[0]
    held = client.reserve(here, 2, expires_in_ms=600_000, order_id="SO-1")
    assert isinstance(held, ReservationResult)
    hold = held.lines[0].hold_id
    assert granted(client.extend(here, hold, expires_in_ms=900_000))
    assert granted(client.confirm(here, hold))
    assert granted(client.amend(here, hold, 4))
    assert available(client, here) == 1 * UNIT
    back = client.unreserve(here, 1, held.lines[0].reservation_id)
    assert granted(back)
    assert granted(client.release(here, hold))
    assert available(client, here) == 5 * UNIT
    gone = client.release(here, hold)
    assert isinstance(gone, ReservationResult)
    assert gone.code == Code.HOLD_CLOSED


def test_transfer_moves_a_hold_to_other_values(client: ChannelClient, items: list[Item]) -> None:
    """A hold moves to other dimension values of its partition in one step."""
    here = items[0]
    red = Item("usmf", here.product_id, {**HERE, "colorid": "red"})
    client.on_hand(red, {"fno.physicalinvent": 3}, source="fno")
    held = client.reserve(here, 2)
    assert isinstance(held, ReservationResult)
    moved = client.transfer(here, held.lines[0].hold_id, red.dimensions)
    assert isinstance(moved, ReservationResult)
    assert moved.code == Code.ACCEPTED
    assert available(client, red) == 1 * UNIT


def test_repeated_request_is_the_first_answer(client: ChannelClient, items: list[Item]) -> None:
    """The same id and content gets the first answer again; other content is refused."""
    request_id = str(uuid.uuid4())
    first = client.reserve(items[0], 3, request_id=request_id)
    again = client.reserve(items[0], 3, request_id=request_id)
    other = client.reserve(items[0], 4, request_id=request_id)
    assert isinstance(first, ReservationResult)
    assert isinstance(again, ReservationResult)
    assert isinstance(other, ReservationResult)
    assert again.replayed
    assert again.lines == first.lines
    assert other.code == Code.REQUEST_ID_REUSED
    assert available(client, items[0]) == 2 * UNIT


def test_wrong_key_is_a_dead_letter_at_once(client: ChannelClient, items: list[Item]) -> None:
    """A record whose key is not its stock's is set aside, and the caller is told at once."""
    asked = single("RESERVE", "web-shop", items[0], 1, {})
    outcome = client.ask(asked, key=b"usmf|9|99")
    assert isinstance(outcome, Undecided)
    assert outcome.code == Code.KEY_MISMATCH
    assert available(client, items[0]) == 5 * UNIT


def test_basket_is_all_or_nothing(client: ChannelClient, items: list[Item]) -> None:
    """Over two warehouses: refused when one lacks stock, and then nothing is held anywhere."""
    here, there = items
    refused = client.basket([BasketLine(here, 5), BasketLine(there, 6)])
    assert refused.code is Code.BASKET_REFUSED
    assert (available(client, here), available(client, there)) == (5 * UNIT, 5 * UNIT)
    accepted = client.basket([BasketLine(here, 5), BasketLine(there, 4)])
    assert accepted.code is Code.ACCEPTED
    assert (available(client, here), available(client, there)) == (0, 1 * UNIT)


def test_client_that_dies_half_way_leaves_nothing(client: ChannelClient, items: list[Item]) -> None:
    """When a client dies after its parts were granted, the parts end by their short expiry."""
    lines = tuple(BasketLine(item, 5) for item in items)
    plan = BasketPlan(basket_id=str(uuid.uuid4()), channel="x", lines=lines, hold_ms=2_000)
    asking = next(converse(plan, key_by_location))
    answers = [client.submit(asked, key=key) for asked, key in asking]
    assert all(granted(answer.result()) for answer in answers)
    eventually(lambda: [available(client, item) for item in items] == [5 * UNIT, 5 * UNIT])


def test_basket_again_under_its_id_is_the_same_basket(
    client: ChannelClient, items: list[Item]
) -> None:
    """A client that died before confirming and runs the basket again finishes that very one."""
    lines = tuple(BasketLine(item, 5) for item in items)
    basket_id = str(uuid.uuid4())
    plan = BasketPlan(basket_id=basket_id, channel="web-shop", lines=lines)
    asking = next(converse(plan, key_by_location))
    assert all(granted(client.ask(asked, key=key)) for asked, key in asking)
    outcome = client.basket(lines, basket_id=basket_id)
    assert outcome.code is Code.ACCEPTED
    assert all(isinstance(p.answer, ReservationResult) and p.answer.replayed for p in outcome.parts)
    again = client.basket(lines, basket_id=basket_id)
    assert again.code is Code.ACCEPTED
    assert [available(client, item) for item in items] == [0, 0]


def test_expired_part_undoes_the_basket(client: ChannelClient, items: list[Item]) -> None:
    """Parts that expired before their confirmation make the basket refused, nothing held."""
    lines = tuple(BasketLine(item, 5) for item in items)
    plan = BasketPlan(basket_id=str(uuid.uuid4()), channel="web-shop", lines=lines, hold_ms=300)
    asking = next(converse(plan, key_by_location))
    assert all(granted(client.ask(asked, key=key)) for asked, key in asking)
    eventually(lambda: available(client, items[0]) == 5 * UNIT)
    outcome = client.basket(lines, basket_id=plan.basket_id, hold_ms=plan.hold_ms)
    assert outcome.code is Code.BASKET_REFUSED
    assert "HOLD_" in outcome.reasons[0]
    assert [available(client, item) for item in items] == [5 * UNIT, 5 * UNIT]


async def test_asyncio_basket_is_the_same(
    running: Settings, client: ChannelClient, items: list[Item]
) -> None:
    """The asyncio client carries a basket through as the plain one does."""
    async with AsyncChannelClient(running, "web-shop") as other:
        outcome = await other.basket([BasketLine(item, 5) for item in items])
    assert outcome.code is Code.ACCEPTED
    assert [available(client, item) for item in items] == [0, 0]


def test_short_timeout_is_settled_by_lookup(client: ChannelClient, items: list[Item]) -> None:
    """An answer that was not waited for is recovered, and the request has been decided once."""

    def late() -> Unknown | None:
        answer = client.reserve(items[0], 2, timeout_ms=1)
        if isinstance(answer, Unknown):
            return answer
        assert isinstance(answer, ReservationResult)  # A millisecond was enough for once.
        client.release(items[0], answer.lines[0].hold_id)
        return None

    asked = eventually(late)
    found = client.lookup(asked.request_id)
    assert isinstance(found, ReservationResult)
    assert (found.request_id, granted(found)) == (asked.request_id, True)
    assert available(client, items[0]) == 3 * UNIT


def test_dry_run_changes_nothing(client: ChannelClient, items: list[Item]) -> None:
    """A dry run is decided like the real thing and leaves no trace."""
    asked = single("RESERVE", "web-shop", items[0], 5, {"dry_run": True})
    assert granted(client.ask(asked))
    assert granted(client.ask(msgspec.structs.replace(asked, request_id=str(uuid.uuid4()))))
    assert available(client, items[0]) == 5 * UNIT


def test_a_dry_run_leaves_its_id_to_the_request(client: ChannelClient, items: list[Item]) -> None:
    """Both are under way at once, under one id, and each gets its own answer under it."""
    asked = single("RESERVE", "web-shop", items[0], 2, {"dry_run": True})
    coming = [client.submit(one) for one in (asked, msgspec.structs.replace(asked, options=None))]
    tried, held = [one.result() for one in coming]
    assert granted(tried)
    assert granted(held)
    assert tried.request_id == held.request_id == asked.request_id
    assert available(client, items[0]) == 3 * UNIT
    assert granted(client.release(items[0], held.lines[0].hold_id))


def test_an_unknown_dry_run_can_be_looked_up(client: ChannelClient, items: list[Item]) -> None:
    """By the id that it tells."""
    told = client.reserve(items[0], 2, dry_run=True, timeout_ms=1)
    if not isinstance(told, ReservationResult):
        told = client.lookup(told.request_id)
    assert granted(told)


def test_an_item_may_be_named_as_a_data_source_does(
    client: ChannelClient, items: list[Item]
) -> None:
    """The same stock, and no record goes astray for it."""
    own = {"InventSiteId": HERE["siteid"], "InventLocationId": HERE["locationid"]}
    item = Item("usmf", items[0].product_id, own, "fno")
    answer = client.reserve(item, 2)
    assert granted(answer)
    event = client.on_hand(item, {"fno.physicalinvent": 1}, source="fno")
    assert isinstance(event, InventoryEvent)
    assert available(client, items[0]) == 4 * UNIT
    assert granted(client.release(item, answer.lines[0].hold_id))
