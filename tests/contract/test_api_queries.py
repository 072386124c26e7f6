"""The original's reading paths against the real view, with the numbers it documents."""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from producers.channel import ChannelClient, Item
from producers.settings import Settings
from tests.support.eventually import eventually
from tests.support.gateway import BASE, GatewayProcess, Shop

pytestmark = pytest.mark.kafka


@pytest.fixture
def erp(http_stack: Settings) -> Iterator[ChannelClient]:
    """Who may change the ERP's own measures."""
    with ChannelClient(http_stack, "erp") as client:
        yield client


def at(shop: Shop, quantity: int, **dimensions: str) -> dict[str, Any]:
    """On-hand change at other dimension values than the shop's own."""
    body = shop.change(quantity)
    body["dimensions"] = {"siteId": "1", "locationId": "11", **dimensions}
    return body


def query(shop: Shop, *group_by: str, **more: Any) -> httpx.Response:
    """Index query of the shop's product."""
    filters = {"organizationId": ["usmf"], "productId": [shop.product], **more.pop("filters", {})}
    body = {"filters": filters, "groupByValues": list(group_by), "returnNegative": True, **more}
    return shop.post("onhand/indexquery", body)


def by(rows: list[dict[str, Any]], *names: str) -> dict[tuple[str, ...], Any]:
    """pos.inbound by dimension values."""
    return {
        tuple(row["dimensions"][name] for name in names): row["quantities"]["pos"]["inbound"]
        for row in rows
    }


@pytest.fixture
def catalogue(shop: Shop) -> Shop:
    """The documented rows: seven colours, sizes and styles, 28 pieces in all."""
    rows = [
        ("Black", "Small", "Wide", 1),
        ("Black", "Small", "Regular", 2),
        ("Black", "Large", "Wide", 3),
        ("Black", "Large", "Regular", 4),
        ("Red", "Small", "Wide", 5),
        ("Red", "Small", "Regular", 6),
        ("Red", "Large", "Regular", 7),
    ]
    bodies = [
        at(shop, quantity, colorId=color, sizeId=size, styleId=style)
        for color, size, style, quantity in rows
    ]
    assert {one["statusCode"] for one in shop.post("onhand/bulk", bodies).json()} == {200}
    return shop


def test_groups_of_the_documented_rows(catalogue: Shop) -> None:
    """No group: 28. By colour 10 and 18. By colour and size 3, 7, 11, 7."""
    assert by(query(catalogue).json()) == {(): 28}
    colors = query(catalogue, "ColorId").json()
    assert by(colors, "colorid") == {("Black",): 10, ("Red",): 18}
    sizes = by(query(catalogue, "colorId", "SizeID").json(), "colorid", "sizeid")
    assert sizes == {
        ("Black", "Small"): 3,
        ("Black", "Large"): 7,
        ("Red", "Small"): 11,
        ("Red", "Large"): 7,
    }


def test_stock_without_site_and_warehouse_is_kept_and_promised_to_nobody(shop: Shop) -> None:
    """By location it is posted as in the original, counted by product, and reserved nowhere."""
    shop.post("onhand", shop.change(10))
    body = shop.change(5)
    body["dimensions"] = {"colorId": "red"}
    assert shop.post("onhand", body).json()["statusCode"] == 200
    assert shop.post("onhand", body).json()["statusCode"] == 200, "the same id once more"
    assert by(query(shop).json()) == {(): 15}
    found = query(shop, "siteId", "locationId").json()
    here, nowhere = sorted(found, key=lambda one: -one["quantities"]["pos"]["inbound"])
    assert here["dimensions"] == {"siteid": "1", "locationid": "11"}
    assert not any(nowhere["dimensions"].values())
    said = shop.post("onhand/reserve", shop.reservation(11)).json()
    assert (said["statusCode"], said["available"]) == (500, 10)


def test_filters_and_get_say_the_same(catalogue: Shop) -> None:
    """A filter narrows; GET by query string answers the same array."""
    place = {"siteId": ["1"], "locationId": ["11"], "ColorId": ["Red"]}
    posted = query(catalogue, "sizeId", filters=place).json()
    assert by(posted, "sizeid") == {("Small",): 11, ("Large",): 7}
    parameters = (
        f"organizationId=usmf&productId={catalogue.product}&siteId=1&locationId=11"
        "&colorId=Red&groupBy=sizeId&returnNegative=true"
    )
    assert catalogue.client.get(f"{BASE}onhand?{parameters}").json() == posted


def test_exact_query_takes_tuples_not_products_of_lists(catalogue: Shop) -> None:
    """Only the named combinations are answered, grouped by their dimensions."""
    filters = {
        "organizationId": ["usmf"],
        "productId": [catalogue.product],
        "dimensions": ["siteId", "locationId", "colorId", "sizeId"],
        "values": [["1", "11", "Red", "Small"], ["1", "11", "Black", "Large"]],
    }
    body = {"filters": filters, "groupByValues": [], "returnNegative": True}
    rows = catalogue.post("onhand/exactQuery", body).json()
    assert by(rows, "colorid", "sizeid") == {("Red", "Small"): 11, ("Black", "Large"): 7}
    assert set(rows[0]["dimensions"]) == {"siteid", "locationid", "colorid", "sizeid"}


def test_names_come_back_in_lower_case_with_calculated_measures(shop: Shop) -> None:
    """Reserving raises iv.softreserved and lowers iv.availabletoreserve by as much."""
    shop.post("onhand", shop.change(10))
    shop.post("onhand/reserve", shop.reservation("2.5"))
    (row,) = query(shop, "ColorID").json()
    assert row["productId"] == shop.product
    assert row["dimensions"] == {"colorid": "red"}
    assert row["quantities"]["iv"]["softreserved"] == 2.5
    assert row["quantities"]["iv"]["availabletoreserve"] == 7.5
    assert row["quantities"]["pos"]["inbound"] == 10


def test_negative_is_returned_only_when_asked(shop: Shop) -> None:
    """Oversold to -90: told with returnNegative, left out without."""
    shop.post("onhand", shop.change(10))
    shop.post("onhand/reserve", shop.reservation(100, ifCheckAvailForReserv=False))
    (row,) = query(shop, returnNegative=True).json()
    assert row["quantities"]["iv"]["availabletoreserve"] == -90
    rows = query(shop, returnNegative=False).json()
    assert all("availabletoreserve" not in one["quantities"].get("iv", {}) for one in rows)


def test_query_sees_the_callers_writes(shop: Shop) -> None:
    """Twenty times in a row a query right after a write shows it."""
    for count in range(1, 21):
        shop.post("onhand", shop.change(1))
        answer = query(shop)
        assert answer.headers["Holdfast-Consistency"] == "read-your-writes"
        assert by(answer.json()) == {(): count}


def test_another_caller_can_carry_the_position(gateway: GatewayProcess, shop: Shop) -> None:
    """Who is told the position of a write sees it, whoever wrote."""
    position = shop.post("onhand", shop.change(3)).headers["Holdfast-Position"]
    body = {"filters": {"organizationId": "usmf", "productId": shop.product}}
    with gateway.client(gateway.token(client_id="another")) as client:
        headers = {"Holdfast-Position": position}
        answer = client.post(BASE + "onhand/indexquery", json=body, headers=headers)
    assert answer.headers["Holdfast-Consistency"] == "read-your-writes"
    assert by(answer.json()) == {(): 3}


def test_version_2_pages_by_warehouse(client: httpx.Client) -> None:
    """2.0 answers several organizations in pages of warehouses, linked until the last."""
    product = f"P-{uuid.uuid4().hex[:10]}"
    for organization in ("usmf", "dat"):
        for warehouse in ("11", "12", "13"):
            shop = Shop(client=client, product=product)
            body = at(shop, 1, locationId=warehouse)
            assert shop.post("onhand", {**body, "organizationId": organization}).status_code == 200
    body = {
        "filters": {"organizationId": ["usmf", "dat"], "productId": [product]},
        "groupByValues": ["siteId", "locationId"],
        "returnNegative": True,
    }
    link = BASE + "onhand/indexquery?pageNumber=1&pageSize=2"
    seen: list[tuple[str, str]] = []
    pages = 0
    while link:
        answer = client.post(link, json=body, headers={"Api-Version": "2.0"}).json()
        seen += [(r["organizationId"], r["dimensions"]["locationid"]) for r in answer["Value"]]
        link, pages = answer["nextLink"], pages + 1
        assert pages <= 6
    assert sorted(seen) == [(o, w) for o in ("dat", "usmf") for w in ("11", "12", "13")]
    assert pages > 1


def test_unknown_dimension_is_400(shop: Shop) -> None:
    """A name that is no dimension is told, in groups and in filters."""
    assert query(shop, "nosuch").status_code == 400
    assert query(shop, filters={"nosuch": ["1"]}).status_code == 400


def test_query_without_product_needs_site_and_warehouse(client: httpx.Client) -> None:
    """All products of a warehouse are answered; of a site alone they are refused."""
    warehouse = uuid.uuid4().hex[:8]
    place = {"siteId": "1", "locationId": warehouse}
    for number in range(3):
        shop = Shop(client=client, product=f"{warehouse}-{number}", dimensions=place)
        shop.post("onhand", shop.change(number + 1))
    filters = {"organizationId": "usmf", "siteId": "1", "locationId": warehouse}
    answer = client.post(BASE + "onhand/indexquery", json={"filters": filters})
    assert sorted(row["productId"] for row in answer.json()) == [
        f"{warehouse}-{number}" for number in range(3)
    ]
    filters.pop("locationId")
    assert client.post(BASE + "onhand/indexquery", json={"filters": filters}).status_code == 400


def test_clean_up_job_releases_what_is_reserved(client: httpx.Client) -> None:
    """The job gives all holds of a data source back, and its progress can be asked."""
    shop = Shop(client=client, product=f"P-{uuid.uuid4().hex[:10]}")
    shop.post("onhand", shop.change(10))
    for _ in range(3):
        shop.post("onhand/reserve", shop.reservation(2))
    assert shop.available() == 4
    for sources, after in ((["pos"], 4), (["iv"], 10)):
        started = shop.post("onhand/reserve/resyncjob", sources)
        assert started.status_code == 200
        job_id = started.json()["jobId"]

        def completed(job: str = job_id) -> bool:
            told = client.get(f"{BASE}getJobProgress?jobId={job}").json()
            assert told["status"] in {"running", "completed"}, told
            return bool(told["status"] == "completed")

        eventually(completed)
        assert shop.available() == after
    assert client.get(f"{BASE}getJobProgress?jobId=nosuch").status_code == 404
    assert shop.post("onhand/reserve/resyncjob", ["nosuch"]).status_code == 400


def test_wiping_a_partition_leaves_nothing_there(client: httpx.Client, erp: ChannelClient) -> None:
    """Afterwards nothing is held and nothing on hand there, the ERP's own neither; others stay."""
    path = BASE + "partitions/cleanupalldata"
    shops: dict[str, Shop] = {}
    while len(shops) < 2:  # One warehouse in each of the two partitions.
        dimensions = {"siteId": "1", "locationId": uuid.uuid4().hex[:8]}
        shop = Shop(client=client, product=f"P-{uuid.uuid4().hex[:8]}", dimensions=dimensions)
        told = shop.post("onhand", shop.change(10))
        shops[told.headers["Holdfast-Position"].split("/")[1]] = shop
    for shop in shops.values():
        erp.on_hand(
            Item("usmf", shop.product, shop.dimensions), {"fno.physicalinvent": 5}, source="fno"
        )
        shop.post("onhand/reserve", shop.reservation(4))
    assert client.get(BASE + "allpartitionids").json() == ["0", "1"]
    wiped = client.request("DELETE", path, json=["0"])
    assert wiped.status_code == 200
    assert wiped.json()["releasedHolds"] >= 1
    assert [shops[number].available() for number in ("0", "1")] == [0, 11]
    (row,) = query(shops["0"]).json()
    assert {q for part in row["quantities"].values() for q in part.values()} == {0}
    assert client.request("DELETE", path, json=["7"]).status_code == 404


def test_partitions_that_were_wiped_are_not_listed(client: httpx.Client) -> None:
    """The original's tests clean up as each begins and ends: afterwards no partition is listed.

    They name the ids one by one or all at once, by either path, and none once there is none.
    """
    shop = Shop(client=client, product=f"P-{uuid.uuid4().hex[:8]}")
    for path in ("partitions/cleanupalldata", "cleanupalldata"):
        shop.post("onhand", shop.change(-3))
        shop.post("onhand/reserve", shop.reservation(4, ifCheckAvailForReserv=False))
        listed = client.get(BASE + "allpartitionids").json()
        assert listed
        assert client.request("DELETE", BASE + path, json=listed).status_code == 200
        assert client.get(BASE + "allpartitionids").json() == []
        assert client.request("DELETE", BASE + path, json=[]).status_code == 200
    shop.post("onhand", shop.change(1))
    assert len(client.get(BASE + "allpartitionids").json()) == 1
