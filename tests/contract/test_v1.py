"""Holdfast's own interface: holds by id, baskets, availability, decisions, failed offsets."""

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest

from producers.channel import ChannelClient, Item
from producers.settings import Settings
from schemas.messages import TransactionStatus
from tests.support.eventually import eventually
from tests.support.gateway import Shop

pytestmark = pytest.mark.kafka


@pytest.fixture
def erp(http_stack: Settings) -> Iterator[ChannelClient]:
    """Who tells of orders."""
    with ChannelClient(http_stack, "erp") as client:
        yield client


def subject(shop: Shop, **more: Any) -> dict[str, Any]:
    """What every body of /v1 names."""
    place = {"siteId": "1", "locationId": "11", "colorId": "red"}
    return {
        "organizationId": "usmf",
        "productId": shop.product,
        "dimensions": {**place, **more.pop("dimensions", {})},
        **more,
    }


def stocked(shop: Shop, quantity: int, **dimensions: str) -> None:
    """Put something on the shelf."""
    body = shop.change(quantity)
    body["dimensions"] = {**shop.dimensions, **dimensions}
    assert shop.post("onhand", body).json()["statusCode"] == 200


def post(client: httpx.Client, path: str, body: Any = None) -> httpx.Response:
    """POST to /v1."""
    content = b"" if body is None else orjson.dumps(body)
    return client.post(f"/v1/{path}", content=content)


def reserved(client: httpx.Client, shop: Shop, quantity: Any, **more: Any) -> dict[str, Any]:
    """A hold."""
    answer = post(client, "reservations", subject(shop, quantity=quantity, **more))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def available(client: httpx.Client, shop: Shop) -> Any:
    """What could be held."""
    return post(client, "availability", subject(shop)).json()["available"]


def test_reservation_is_a_hold_with_an_id(client: httpx.Client, shop: Shop) -> None:
    """A grant names its hold, what is left and when it ends; the same id is answered the same."""
    stocked(shop, 10)
    body = subject(shop, quantity="2.5", requestId=uuid.uuid4().hex, expiresInMs=60_000)
    first, again = (post(client, "reservations", body) for _ in range(2))
    assert first.status_code == again.status_code == 200
    found = first.json()
    assert found["code"] == "ACCEPTED"
    assert found["available"] == 7.5
    assert found["expiresAtMs"] == found["decidedAtMs"] + 60_000
    assert again.json() == {**found, "replayed": True}
    assert first.headers["Holdfast-Position"].startswith("reservation-requests/")


def test_insufficient_stock_is_409_and_explains_itself(client: httpx.Client, shop: Shop) -> None:
    """A refusal by the stock is a problem with what is available, where, and made of what."""
    stocked(shop, 10)
    refused = post(client, "reservations", subject(shop, quantity=11, explain=True))
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert problem["type"] == "urn:holdfast:problem:insufficient-stock"
    assert problem["code"] == "INSUFFICIENT_STOCK"
    assert problem["available"] == 10
    assert {"measure": "pos.inbound", "quantity": 10} in problem["terms"]


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"dimensions": {"siteId": ""}}, 400, "PARTITION_DIMENSION_MISSING"),
        ({"dimensions": {"nosuch": "x"}}, 400, "DIMENSION_UNKNOWN"),
        ({"measure": "iv.nosuch"}, 422, "MEASURE_UNKNOWN"),
        ({"quantity": 0}, 422, "QUANTITY_INVALID"),
        ({"quantity": -1}, 422, "QUANTITY_INVALID"),
        ({"expiresAtMs": 1}, 422, "EXPIRY_INVALID"),
        ({"dimensionDataSource": "nosuch"}, 400, "DATA_SOURCE_UNKNOWN"),
    ],
)
def test_refusals_say_whose_turn_it_is(
    client: httpx.Client, shop: Shop, changes: dict[str, Any], status: int, code: str
) -> None:
    """What the partition refuses has its own status and the code's name."""
    refused = post(client, "reservations", subject(shop, **{"quantity": 1, **changes}))
    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_same_id_with_other_content_is_409(client: httpx.Client, shop: Shop) -> None:
    """An id names one request."""
    stocked(shop, 10)
    request_id = uuid.uuid4().hex
    reserved(client, shop, 1, requestId=request_id)
    other = post(client, "reservations", subject(shop, quantity=2, requestId=request_id))
    assert (other.status_code, other.json()["code"]) == (409, "REQUEST_ID_REUSED")


def test_dry_run_holds_nothing(client: httpx.Client, shop: Shop) -> None:
    """A dry run answers as if, and takes nothing."""
    stocked(shop, 10)
    assert reserved(client, shop, 4, dryRun=True)["available"] == 6
    assert available(client, shop) == 10


def test_availability_explains_and_compares(client: httpx.Client, shop: Shop) -> None:
    """What could be held, the terms it is made of, and whether a quantity could be."""
    stocked(shop, 10)
    reserved(client, shop, 3)
    answer = post(client, "availability", subject(shop, quantity=8)).json()
    assert (answer["available"], answer["sufficient"]) == (7, False)
    assert {"measure": "pos.inbound", "quantity": 10} in answer["terms"]
    assert post(client, "availability", subject(shop, quantity=7)).json()["sufficient"] is True
    missing = post(client, "availability", subject(shop, dimensions={"locationId": ""}))
    assert (missing.status_code, missing.json()["code"]) == (400, "PARTITION_DIMENSION_MISSING")


def test_life_of_a_hold(client: httpx.Client, shop: Shop) -> None:
    """Extended, confirmed, amended, given back in part and whole: each is seen at once."""
    stocked(shop, 10)
    hold_id = reserved(client, shop, 2, expiresInMs=60_000, orderId="SO-1")["holdId"]
    extended = post(client, f"holds/{hold_id}/extend", {"expiresInMs": 600_000})
    assert extended.status_code == 200
    seen = client.get(f"/v1/holds/{hold_id}").json()
    assert seen["expiresAtMs"] == extended.json()["expiresAtMs"]
    assert (seen["orderId"], seen["quantity"], seen["channel"]) == ("SO-1", 2, "tests")
    assert post(client, f"holds/{hold_id}/confirm").status_code == 200
    assert "expiresAtMs" not in client.get(f"/v1/holds/{hold_id}").json()
    assert post(client, f"holds/{hold_id}/amend", {"quantity": 5}).json()["available"] == 5
    too_much = post(client, f"holds/{hold_id}/amend", {"quantity": 11})
    assert (too_much.status_code, too_much.json()["available"]) == (409, 5)
    assert post(client, f"holds/{hold_id}/release", {"quantity": "1.5"}).json()["available"] == 6.5
    assert client.get(f"/v1/holds/{hold_id}").json()["quantity"] == 3.5
    assert post(client, f"holds/{hold_id}/release").json()["quantity"] == 3.5
    assert client.get(f"/v1/holds/{hold_id}").status_code == 404
    assert available(client, shop) == 10


def test_transfer_moves_a_hold(client: httpx.Client, shop: Shop) -> None:
    """A hold moves to another colour of its place, without a gap; elsewhere it cannot go."""
    stocked(shop, 10)
    stocked(shop, 10, colorId="blue")
    hold_id = reserved(client, shop, 2)["holdId"]
    target = {"siteId": "1", "locationId": "11", "colorId": "blue"}
    moved = post(client, f"holds/{hold_id}/transfer", {"targetDimensions": target})
    assert moved.status_code == 200
    seen = client.get(f"/v1/holds/{moved.json()['holdId']}").json()
    assert seen["dimensions"]["colorid"] == "blue"
    assert available(client, shop) == 10
    away = {**target, "siteId": "2", "locationId": "21"}
    refused = post(client, f"holds/{moved.json()['holdId']}/transfer", {"targetDimensions": away})
    assert (refused.status_code, refused.json()["code"]) == (422, "SPANS_PARTITIONS")


def test_release_asked_again_is_answered_the_same(client: httpx.Client, shop: Shop) -> None:
    """A retry of what ended the hold gets the first answer, though the hold is gone."""
    stocked(shop, 10)
    hold_id = reserved(client, shop, 2)["holdId"]
    body = {"requestId": uuid.uuid4().hex}
    first, again = (post(client, f"holds/{hold_id}/release", body) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json()["quantity"] == first.json()["quantity"] == 2
    assert again.json()["replayed"] is True
    gone = post(client, f"holds/{hold_id}/release")
    assert gone.status_code == 404


@pytest.mark.parametrize("action", ["release", "confirm", "extend"])
def test_decision_about_another_hold_is_no_answer(
    client: httpx.Client, shop: Shop, action: str
) -> None:
    """An id that was used for something else is refused, also where the hold itself is gone."""
    stocked(shop, 10)
    used = uuid.uuid4().hex
    reserved(client, shop, 1, requestId=used)
    hold_id = reserved(client, shop, 2)["holdId"]
    assert post(client, f"holds/{hold_id}/release").status_code == 200
    body = {"requestId": used, **({"expiresInMs": 60_000} if action == "extend" else {})}
    refused = post(client, f"holds/{hold_id}/{action}", body)
    assert (refused.status_code, refused.json()["code"]) == (409, "REQUEST_ID_REUSED")


@pytest.mark.parametrize("others", [True, False])
def test_decision_about_another_hold_is_no_answer_to_a_transfer(
    client: httpx.Client, shop: Shop, *, others: bool
) -> None:
    """Also where nothing is left of the reservation, and the view alone knows the id."""
    stocked(shop, 10)
    stocked(shop, 10, colorId="blue")
    used = uuid.uuid4().hex
    colour = "red" if others else "green"
    stocked(shop, 10, colorId=colour)
    reserved(client, shop, 1, requestId=used, dimensions={"colorId": colour})
    hold_id = reserved(client, shop, 2)["holdId"]
    assert post(client, f"holds/{hold_id}/release").status_code == 200
    target = {"siteId": "1", "locationId": "11", "colorId": "blue"}
    body = {"requestId": used, "targetDimensions": target}
    refused = post(client, f"holds/{hold_id}/transfer", body)
    assert refused.status_code == (409 if others else 404), refused.text


def test_transfer_asked_again_is_answered_the_same(client: httpx.Client, shop: Shop) -> None:
    """The hold has another id by now: the first answer names it."""
    stocked(shop, 10)
    stocked(shop, 10, colorId="blue")
    hold_id = reserved(client, shop, 2)["holdId"]
    target = {"siteId": "1", "locationId": "11", "colorId": "blue"}
    body = {"requestId": uuid.uuid4().hex, "targetDimensions": target}
    first, again = (post(client, f"holds/{hold_id}/transfer", body) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json()["holdId"] == first.json()["holdId"] != hold_id
    assert again.json()["replayed"] is True


def test_action_with_its_subject_asks_no_view(client: httpx.Client, shop: Shop) -> None:
    """A caller that says where the hold is gets the partition's own answer: closed, not unknown."""
    stocked(shop, 10)
    hold_id = reserved(client, shop, 2)["holdId"]
    body = {"subject": subject(shop)}
    assert post(client, f"holds/{hold_id}/release", body).status_code == 200
    closed = post(client, f"holds/{hold_id}/release", body)
    assert (closed.status_code, closed.json()["code"]) == (409, "HOLD_CLOSED")
    unknown = post(client, "holds/nosuch-1/release", body)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "HOLD_UNKNOWN")


def test_holds_are_listed_in_pages(client: httpx.Client, shop: Shop) -> None:
    """All holds of a product come once, oldest first, over pages; filters narrow them."""
    stocked(shop, 10)
    ids = [reserved(client, shop, 1, orderId=f"{shop.product}-{n % 2}")["holdId"] for n in range(5)]
    asked = {"organizationId": "usmf", "productId": shop.product, "limit": "2"}
    seen: list[str] = []
    cursor = ""
    for _ in range(20):
        page = client.get("/v1/holds", params={**asked, "cursor": cursor}).json()
        seen += [hold["holdId"] for hold in page["holds"]]
        cursor = page.get("cursor", "")
        if not cursor:
            break
    assert seen == ids
    of_order = client.get("/v1/holds", params={"orderId": f"{shop.product}-1"}).json()["holds"]
    assert [hold["holdId"] for hold in of_order] == [ids[1], ids[3]]
    elsewhere = {**asked, "dimensions[colorId]": "blue"}
    assert client.get("/v1/holds", params=elsewhere).json()["holds"] == []


def test_reservation_id_sums_its_holds(client: httpx.Client, shop: Shop) -> None:
    """The id that reservations of one place share tells what is held there."""
    stocked(shop, 10)
    found = [reserved(client, shop, 1.5) for _ in range(2)]
    assert len({one["reservationId"] for one in found}) == 1
    seen = client.get(f"/v1/reservations/{found[0]['reservationId']}").json()
    assert (seen["reserved"], seen["holds"]) == (3, 2)
    assert client.get("/v1/reservations/nosuch").status_code == 404


def basket(shop: Shop, *lines: tuple[str, Any]) -> dict[str, Any]:
    """Lines at sites, each its own partition key."""
    return {
        "lines": [
            subject(shop, quantity=quantity, dimensions={"siteId": site, "locationId": site + "1"})
            for site, quantity in lines
        ]
    }


def test_basket_over_partitions_holds_all_or_nothing(client: httpx.Client, shop: Shop) -> None:
    """Six places: held together; one of them too much: refused, and all given back."""
    sites = [str(number) for number in range(1, 7)]
    for site in sites:
        stocked(shop, 10, siteId=site, locationId=site + "1")
    body = {**basket(shop, *((site, 2) for site in sites)), "basketId": uuid.uuid4().hex}
    held = post(client, "baskets", body)
    assert (held.status_code, held.json()["code"]) == (200, "ACCEPTED")
    assert [line["quantity"] for line in held.json()["lines"]] == [2] * 6
    again = post(client, "baskets", body).json()
    assert [one["holdId"] for one in again["lines"]] == [
        one["holdId"] for one in held.json()["lines"]
    ]
    refused = post(client, "baskets", basket(shop, ("1", 1), ("2", 9), ("3", 1)))
    assert (refused.status_code, refused.json()["code"]) == (409, "BASKET_REFUSED")
    assert [line["code"] for line in refused.json()["lines"]] == [
        "ACCEPTED",
        "INSUFFICIENT_STOCK",
        "ACCEPTED",
    ]
    params = {"organizationId": "usmf", "productId": shop.product}
    assert len(client.get("/v1/holds", params=params).json()["holds"]) == 6


def test_basket_of_nonsense_is_the_callers_fault(client: httpx.Client, shop: Shop) -> None:
    """A basket with a line that no stock could grant is not 409."""
    body = basket(shop, ("1", 1))
    body["lines"][0]["measure"] = "iv.nosuch"
    assert post(client, "baskets", body).status_code == 422


def test_decisions_by_id_and_the_latest(client: httpx.Client, shop: Shop) -> None:
    """A request's answer can be looked up by its id, also one with a slash, and of /api."""
    stocked(shop, 10)
    request_id = f"a/b {uuid.uuid4().hex}?"
    reserved(client, shop, 1, requestId=request_id)
    seen = client.get(f"/v1/decisions/{quote(request_id, safe='')}").json()
    assert (seen["requestId"], seen["code"], seen["kind"]) == (request_id, "ACCEPTED", "request")
    event = uuid.uuid4().hex
    shop.post("onhand/reserve", shop.reservation(99, event))
    assert client.get(f"/v1/decisions/ohre~{event}").json()["code"] == "INSUFFICIENT_STOCK"
    latest = client.get("/v1/decisions", params={"limit": "10"}).json()["decisions"]
    assert f"ohre~{event}" in [one["requestId"] for one in latest]
    assert client.get("/v1/decisions/nosuch").status_code == 404
    assert client.get("/v1/decisions/").status_code == 400


def failed_offset(client: httpx.Client, erp: ChannelClient, shop: Shop) -> dict[str, Any]:
    """An order that the ERP reserved without a soft reservation before it."""
    item = Item("usmf", shop.product, {"siteid": "1", "locationid": "11", "colorid": "red"})
    status = TransactionStatus(
        transaction_id=shop.product,
        status="RESERVED_PHYSICAL",
        sequence=1,
        quantity=3_000_000,
        order_id=f"{shop.product}-SO",
        auto_offset=True,
    )
    erp.transaction(item, status, {"fno.reservphysical": 3}, source="fno")

    def listed() -> list[dict[str, Any]]:
        params = {"organizationId": "usmf", "limit": "1000"}
        found = client.get("/v1/offset-failures", params=params).json()["failures"]
        return [one for one in found if one["transactionId"] == shop.product]

    return eventually(listed)[0]


def test_failed_offset_is_listed_retried_and_dismissed(
    client: httpx.Client, erp: ChannelClient, shop: Shop
) -> None:
    """A failed offset waits in the list; a retry that finds nothing is 409; a dismissal ends it."""
    found = failed_offset(client, erp, shop)
    path = f"offset-failures/{found['failureId']}"
    assert found["quantity"] == 3
    assert client.get(f"/v1/{path}").json()["orderId"] == f"{shop.product}-SO"
    refused = post(client, f"{path}/retry")
    assert refused.status_code == 409
    assert refused.json()["code"].startswith("OFFSET_")
    body = {"requestId": uuid.uuid4().hex, "actor": "anna"}
    assert post(client, f"{path}/dismiss", body).json()["code"] == "ACCEPTED"
    assert post(client, f"{path}/dismiss", body).json()["code"] == "ACCEPTED"
    assert post(client, f"{path}/dismiss").status_code == 404
    assert client.get(f"/v1/{path}").status_code == 404
