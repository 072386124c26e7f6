"""What an HTTP query asks of the view, and what is refused before the view is asked."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from holdfast.no_view import NoView
from processor.inventory.configuration import PartitionRule, default
from producers.gateway.app import create_app
from producers.gateway.places import Places
from producers.gateway.positions import Position
from producers.gateway.settings import GatewaySettings
from producers.gateway.state import Gateway
from producers.security.issuer import ISSUER, LocalIssuer
from producers.security.verify import Verifier
from schemas.queries import (
    Combinations,
    OnHandPage,
    OnHandQuery,
    OnHandRow,
    QueryInvalid,
    ViewUnavailable,
)

BASE = "/api/environment/default/"
Ask = Callable[..., Any]


class View(NoView):
    """Remembers what it was asked, and answers as told."""

    def __init__(self) -> None:
        self.asked: list[OnHandQuery] = []
        self.page = OnHandPage([])
        self.trouble: Exception | None = None
        self.waited: list[tuple[int, str, int]] = []
        self.caught_up = True

    async def on_hand(self, query: OnHandQuery) -> OnHandPage:
        """Give the page that was put here."""
        self.asked.append(query)
        if self.trouble is not None:
            raise self.trouble
        return self.page

    async def reached(self, partition: int, topic: str, offset: int, within_s: float) -> bool:
        """Remember who waits for what."""
        assert within_s <= 60
        self.waited.append((partition, topic, offset))
        return self.caught_up


class Writer:
    """Nothing is written here."""

    in_flight = 0


class Configurations:
    """Never asked."""


def gateway(folder: Path, view: View, rule: str) -> Gateway:
    """A gateway of which only queries are used."""
    configuration = msgspec.structs.replace(default(), partition=PartitionRule(rule=rule))
    issuer = LocalIssuer(folder, audience="holdfast")
    return Gateway(
        GatewaySettings(local_keys=folder),
        writer=Writer(),  # type: ignore[arg-type]
        queries=view,
        configurations=Configurations(),  # type: ignore[arg-type]
        document=msgspec.to_builtins(configuration),
        verifier=Verifier(issuer.keys, issuer=ISSUER, audience="holdfast"),
        issuer=issuer,
    )


@pytest.fixture
def view() -> View:
    """The view that is asked."""
    return View()


@pytest.fixture(params=["by-location"])
def built(tmp_path: Path, view: View, request: pytest.FixtureRequest) -> Gateway:
    """A gateway; by location unless a test says otherwise."""
    return gateway(tmp_path, view, request.param)


@pytest.fixture
async def client(built: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Client without a network in between."""
    assert built.issuer is not None
    token = built.issuer.issue("tests", scopes=("read",), environments=("default",))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(built)),
        base_url="http://gateway",
        headers={"Authorization": f"Bearer {token}"},
    ) as client:
        yield client


def index(**filters: Any) -> dict[str, Any]:
    """Body of an index query."""
    return {
        "filters": {"organizationId": ["usmf"], "productId": ["D0002"], **filters},
        "groupByValues": ["ColorId", "sizeId"],
        "returnNegative": True,
    }


async def test_index_query_asks_what_it_says(client: httpx.AsyncClient, view: View) -> None:
    """Filters, groups and flags arrive at the view in lower case, values untouched."""
    body = {**index(SiteId=["1"], LocationId=["11", "12"]), "dimensionDataSource": "FNO"}
    assert (await client.post(BASE + "onhand/indexQuery", json=body)).status_code == 200
    assert view.asked == [
        OnHandQuery(
            organization_ids=("usmf",),
            product_ids=("D0002",),
            filters={"siteid": ("1",), "locationid": ("11", "12")},
            group_by=("colorid", "sizeid"),
            dimension_data_source="fno",
            return_negative=True,
        )
    ]


async def test_a_remembered_question_is_that_of_its_configuration_and_version(
    client: httpx.AsyncClient, view: View, built: Gateway
) -> None:
    """The same body asks the same again; not in 2.0, which pages by URL, nor by other names."""
    body = {**index(), "dimensionDataSource": "fno"}
    for _ in range(2):
        assert (await client.post(BASE + "onhand/indexquery", json=body)).status_code == 200
    assert view.asked[0] == view.asked[1]
    paged = {"Api-Version": "2.0"}
    path = BASE + "onhand/indexquery?pageSize=7"
    assert (await client.post(path, json=body, headers=paged)).status_code == 200
    assert view.asked[2].page_size == 7
    document = dict(built.places.document)
    document["data_sources"] = {
        name: content for name, content in document["data_sources"].items() if name != "fno"
    }
    built.places = Places(document)
    assert (await client.post(BASE + "onhand/indexquery", json=body)).status_code == 400
    assert len(view.asked) == 3


async def test_get_asks_the_same(client: httpx.AsyncClient, view: View) -> None:
    """GET onhand by query string is the index query."""
    query = (
        "organizationId=usmf&productId=D0002&siteId=1&locationId=11,12"
        "&groupBy=ColorId,sizeId&returnNegative=true"
    )
    assert (await client.get(f"{BASE}onhand?{query}")).status_code == 200
    await client.post(BASE + "onhand/indexquery", json=index(siteId=["1"], locationId=["11", "12"]))
    assert view.asked[0] == view.asked[1]


async def test_exact_query_asks_combinations(client: httpx.AsyncClient, view: View) -> None:
    """An exact query names its tuples; in 2.0 by `keys`, the organization among them."""
    values = [["1", "11", "red"], ["1", "12", ""]]
    filters = {"organizationId": ["usmf"], "productId": ["D0002"], "values": values}
    filters["dimensions"] = ["siteId", "locationId", "ColorId"]
    body = {"filters": filters, "groupByValues": ["sizeId"]}
    assert (await client.post(BASE + "onhand/exactquery", json=body)).status_code == 200
    names = ("siteid", "locationid", "colorid")
    assert view.asked[0].combinations == Combinations(names, (("1", "11", "red"), ("1", "12", "")))
    assert view.asked[0].group_by == ("sizeid",)
    keyed = {
        "keys": ["organizationId", "siteId", "locationId"],
        "values": [["usmf", "1", "11"], ["dat", "1", "11"]],
    }
    answer = await client.post(
        BASE + "onhand/exactquery", json={"filters": keyed}, headers={"Api-Version": "2.0"}
    )
    assert answer.json() == {"Value": [], "nextLink": ""}
    assert view.asked[1].organization_ids == ("usmf", "dat")


async def test_answer_has_the_documented_shape(client: httpx.AsyncClient, view: View) -> None:
    """Rows of product, dimensions and quantities by source; numbers exact, tenths too."""
    row = OnHandRow(
        "usmf", "D0002", {"colorid": "red"}, {"iv": {"softreserved": 1_500_000}, "pos": {"a": -1}}
    )
    view.page = OnHandPage([row])
    answer = await client.post(BASE + "onhand/indexquery", json=index())
    assert answer.text == (
        '[{"productId":"D0002","dimensions":{"colorid":"red"},'
        '"quantities":{"iv":{"softreserved":1.5},"pos":{"a":-0.000001}}}]'
    )


async def test_pages_are_linked(client: httpx.AsyncClient, view: View) -> None:
    """In 2.0 a page links the next one, and the last has an empty link."""
    view.page = OnHandPage([], has_more=True)
    answer = await client.post(
        BASE + "onhand/indexquery?pageNumber=2&pageSize=10",
        json=index(),
        headers={"Api-Version": "2.0"},
    )
    assert (view.asked[0].page_number, view.asked[0].page_size) == (2, 10)
    link = httpx.URL(answer.json()["nextLink"])
    assert dict(link.params) == {"pageNumber": "3", "pageSize": "10"}
    view.page = OnHandPage([])
    last = await client.post(str(link), json=index(), headers={"Api-Version": "2.0"})
    assert last.json()["nextLink"] == ""


WRONG: list[tuple[str, Any]] = [
    ("no filters", {}),
    ("filters a list", {"filters": []}),
    ("no organization", {"filters": {"productId": ["D0002"]}}),
    ("two organizations in 1.0", {"filters": {"organizationId": ["a", "b"], "productId": ["x"]}}),
    ("neither product nor place", {"filters": {"organizationId": "usmf"}}),
    ("site without warehouse", {"filters": {"organizationId": "usmf", "siteId": ["1"]}}),
    ("product a number", index(productId=[5])),
    ("product with a control character", index(productId=["a\u0000b"])),
    ("5001 products", index(productId=[str(n) for n in range(5_001)])),
    ("too many sites times locations", index(siteId=["1"] * 101, locationId=["1"] * 100)),
    ("negative not a flag", {**index(), "returnNegative": "yes"}),
    ("groups not texts", {**index(), "groupByValues": [["a"]]}),
    ("unknown data source", {**index(), "dimensionDataSource": "nosuch"}),
    ("atp", {**index(), "QueryATP": True}),
]


@pytest.mark.parametrize(("_what", "body"), WRONG, ids=[what for what, _ in WRONG])
async def test_wrong_index_queries_are_400(
    client: httpx.AsyncClient, view: View, _what: str, body: Any
) -> None:
    """A query that is wrong or too wide is 400 with a reason, and the view is not asked."""
    answer = await client.post(BASE + "onhand/indexquery", json=body)
    assert answer.status_code == 400
    assert answer.json()["detail"]
    assert view.asked == []


@pytest.mark.parametrize(
    "filters",
    [
        {"dimensions": ["siteId"], "values": [["1"]]},
        {"dimensions": [], "values": [[]]},
        {"dimensions": ["siteId", "siteid"], "values": [["1", "1"]]},
        {"dimensions": ["siteId", "locationId"], "values": [["1"]]},
        {"dimensions": ["siteId", "locationId"], "values": []},
        {"dimensions": ["siteId", "locationId"], "values": "1"},
        {"dimensions": ["siteId", "locationId"], "values": [[1, 2]]},
        {"dimensions": ["siteId", "locationId"], "values": [["1", "\n"]]},
        {"dimensions": ["siteId", "locationId"], "values": [["1", "1"]] * 10_001},
    ],
)
async def test_wrong_exact_queries_are_400(
    client: httpx.AsyncClient, view: View, filters: dict[str, Any]
) -> None:
    """By location an exact query needs site and warehouse, and tuples as wide as their names."""
    body = {"filters": {"organizationId": "usmf", "productId": "D0002", **filters}}
    assert (await client.post(BASE + "onhand/exactquery", json=body)).status_code == 400
    assert view.asked == []


@pytest.mark.parametrize("built", ["by-product"], indirect=True)
async def test_by_product_needs_a_product_and_no_place(
    client: httpx.AsyncClient, view: View
) -> None:
    """By product, queries name a product; site and warehouse are ordinary dimensions."""
    place = {"organizationId": "usmf", "siteId": ["1"], "locationId": ["11"]}
    no = await client.post(BASE + "onhand/indexquery", json={"filters": place})
    assert no.status_code == 400
    exact = {"dimensions": ["colorId"], "values": [["red"]], "organizationId": "usmf"}
    without = await client.post(BASE + "onhand/exactquery", json={"filters": exact})
    assert without.status_code == 400
    named = {"filters": {**exact, "productId": "D0002"}}
    assert (await client.post(BASE + "onhand/exactquery", json=named)).status_code == 200


@pytest.mark.parametrize("built", ["by-product"], indirect=True)
async def test_by_product_an_exact_query_may_name_no_dimension(
    client: httpx.AsyncClient, view: View
) -> None:
    """By product, one empty combination of no dimension is all of it, as the original tests it."""
    subject = {"organizationId": ["usmf"], "productId": ["D0002"]}
    body = {"filters": {**subject, "dimensions": [], "values": [[]]}}
    assert (await client.post(BASE + "onhand/exactquery", json=body)).status_code == 200
    assert view.asked[-1].product_ids == ("D0002",)
    assert view.asked[-1].combinations is None
    for wrong in ([["1"]], [], None):
        body = {"filters": {**subject, "dimensions": [], "values": wrong}}
        assert (await client.post(BASE + "onhand/exactquery", json=body)).status_code == 400


async def test_view_that_cannot_answer_is_503(client: httpx.AsyncClient, view: View) -> None:
    """A view that is being rebuilt is 503 with Retry-After; a question it refuses is 400."""
    view.trouble = ViewUnavailable("rebuilding")
    answer = await client.post(BASE + "onhand/indexquery", json=index())
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    view.trouble = QueryInvalid("dimension nosuch")
    assert (await client.post(BASE + "onhand/indexquery", json=index())).status_code == 400


async def test_query_waits_for_the_callers_writes(
    client: httpx.AsyncClient, view: View, built: Gateway
) -> None:
    """The caller's own writes are waited for, once; another's are not; the header opts out."""
    write = Position("reservation-requests", 3, 17)
    built.positions.wrote("tests", [write])
    built.positions.wrote("another", [Position("reservation-requests", 4, 1)])
    opted = await client.post(
        BASE + "onhand/indexquery", json=index(), headers={"Holdfast-Consistency": "eventual"}
    )
    assert view.waited == []
    assert opted.headers["Holdfast-Consistency"] == "eventual"
    for _ in range(2):
        answer = await client.post(BASE + "onhand/indexquery", json=index())
        assert answer.headers["Holdfast-Consistency"] == "read-your-writes"
    assert view.waited == [(3, "reservation-requests", 17)]


async def test_carried_position_is_waited_for(client: httpx.AsyncClient, view: View) -> None:
    """A write through another gateway is waited for by its position; late is said, not hidden."""
    view.caught_up = False
    headers = {"Holdfast-Position": "inventory-transactions/1/5, inventory-transactions/1/9"}
    answer = await client.post(BASE + "onhand/indexquery", json=index(), headers=headers)
    assert view.waited == [(1, "inventory-transactions", 9)]
    assert answer.status_code == 200
    assert answer.headers["Holdfast-Consistency"] == "eventual"
    for wrong in ("x", "stock/1/2", "reservation-requests/-1/2", "reservation-requests/1/²"):
        refused = await client.post(
            BASE + "onhand/indexquery", json=index(), headers={"Holdfast-Position": wrong.encode()}
        )
        assert refused.status_code == 400
