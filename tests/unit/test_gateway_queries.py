"""What an HTTP query asks of the view, and what is refused before the view is asked.

So also what every request goes through before its turn comes, and what answers for the caller's
own writes: the names of the configuration, and the positions that are remembered.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson
import pytest
from starlette.requests import Request

from holdfast.no_view import NoView
from processor.inventory.configuration import PartitionRule, default
from producers.channel.outcomes import ChannelError
from producers.channel.requests import Item
from producers.gateway.app import create_app
from producers.gateway.call import DISCARDED_BYTES_MAX, admit, read_body
from producers.gateway.places import Places
from producers.gateway.positions import (
    CALLERS_MAX,
    HEADER_POSITIONS_MAX,
    Position,
    Positions,
    from_header,
    header_value,
)
from producers.gateway.problems import Problem
from producers.gateway.settings import GatewaySettings
from producers.gateway.state import Gateway
from producers.security.issuer import ISSUER, LocalIssuer
from producers.security.verify import Verifier
from schemas.partitioning import location_key, partition_of
from schemas.queries import (
    Combinations,
    OnHandPage,
    OnHandQuery,
    OnHandRow,
    ProductPage,
    QueryInvalid,
    ViewUnavailable,
)
from schemas.topics import REQUESTS, TRANSACTIONS

WITHIN_S = 5.0
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
        self.behind: set[int] = set()
        self.calls: list[str] = []
        self.together: asyncio.Barrier | None = None
        self.document: dict[str, Any] = {}

    async def on_hand(self, query: OnHandQuery) -> OnHandPage:
        """Give the page that was put here."""
        self.asked.append(query)
        self.calls.append("on_hand")
        if self.trouble is not None:
            raise self.trouble
        return self.page

    async def reached(self, partition: int, topic: str, offset: int, within_s: float) -> bool:
        """Remember who waits for what."""
        assert within_s <= 60
        self.waited.append((partition, topic, offset))
        if self.together is not None:
            await self.together.wait()
        self.calls.append("reached")
        return self.caught_up and partition not in self.behind

    async def configuration(self) -> dict[str, Any]:
        """What was put here."""
        return self.document


class Writer:
    """Nothing is written here."""

    in_flight = 0
    partitions = 2


class Configurations:
    """Never asked."""


def gateway(folder: Path, view: View, rule: str, **settings: Any) -> Gateway:
    """A gateway of which only queries are used."""
    configuration = msgspec.structs.replace(default(), partition=PartitionRule(rule=rule))
    issuer = LocalIssuer(folder, audience="holdfast")
    return Gateway(
        GatewaySettings(local_keys=folder, **settings),
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


def token_of(built: Gateway, scope: str = "read", environment: str = "default") -> str:
    """A token of the gateway's own provider."""
    assert built.issuer is not None
    return built.issuer.issue("tests", scopes=(scope,), environments=(environment,))


@pytest.fixture
async def client(built: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Client without a network in between."""
    token = token_of(built)
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
    assert view.asked[0] is view.asked[1]
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


async def test_questions_that_are_remembered_are_bounded(
    client: httpx.AsyncClient, built: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In number, and in the length of their bodies."""
    monkeypatch.setattr("producers.gateway.api.queries.QUESTIONS_MAX", 2)
    for number in range(5):
        body = index(productId=[f"P-{number}"])
        assert (await client.post(BASE + "onhand/indexquery", json=body)).status_code == 200
        assert 1 <= len(built.places.questions) <= 2
    built.places.questions.clear()
    long = index(productId=[f"P-{number}" for number in range(200)])
    assert (await client.post(BASE + "onhand/indexquery", json=long)).status_code == 200
    assert built.places.questions == {}


async def test_names_of_the_configuration_are_renewed_where_it_is_newer(
    built: Gateway, view: View
) -> None:
    """A view that is behind takes nothing back, and what is the same keeps its questions."""
    before = built.places
    view.document = dict(before.document)
    await built.renew_configuration(from_view=True)
    assert built.places is before
    view.document = {**before.document, "version": before.version + 1}
    await built.renew_configuration(from_view=True)
    newer = built.places
    assert newer.version == before.version + 1
    view.document = dict(before.document)
    await built.renew_configuration(from_view=True)
    assert built.places is newer


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


@pytest.mark.parametrize("name", ["pageNumber", "PageNumber", "PAGENUMBER"])
async def test_pages_are_linked(name: str, client: httpx.AsyncClient, view: View) -> None:
    """In 2.0 a page links the next one, however its number is spelt; the last has none."""
    view.page = OnHandPage([], has_more=True)
    answer = await client.post(
        BASE + f"onhand/indexquery?{name}=2&pageSize=10",
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
    view.trouble = ChannelError("no broker")
    assert (await client.post(BASE + "onhand/indexquery", json=index())).status_code == 503
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


async def test_all_of_the_callers_writes_are_waited_for_at_once(
    client: httpx.AsyncClient, view: View, built: Gateway
) -> None:
    """Side by side, before the view is asked; one that is behind makes the answer eventual."""
    writes = [Position(REQUESTS, partition, 5) for partition in range(2)]
    built.positions.wrote("tests", writes)
    view.together, view.behind = asyncio.Barrier(2), {1}
    async with asyncio.timeout(WITHIN_S):
        answer = await client.post(BASE + "onhand/indexquery", json=index())
    assert view.calls == ["reached", "reached", "on_hand"]
    assert answer.headers["Holdfast-Consistency"] == "eventual"
    assert sorted(view.waited) == [(0, REQUESTS, 5), (1, REQUESTS, 5)]
    assert built.metrics.registry.get_sample_value("holdfast_gateway_stale_queries_total") == 1
    assert built.positions.of("tests") == [writes[1]]


async def test_a_consistency_that_nobody_knows_is_400(
    client: httpx.AsyncClient, view: View
) -> None:
    """It is not taken for one of those that there are."""
    headers = {"Holdfast-Consistency": "strong"}
    answer = await client.post(BASE + "onhand/indexquery", json=index(), headers=headers)
    assert answer.status_code == 400
    assert view.asked == []


def test_the_first_write_of_a_partition_is_remembered() -> None:
    """Offset 0 is one; and the same partition of another topic is another place."""
    positions = Positions()
    first, other = Position(TRANSACTIONS, 0, 0), Position(REQUESTS, 0, 0)
    positions.wrote("a", [first, other])
    assert positions.of("a") == [first, other]
    positions.seen("a", other)
    assert positions.of("a") == [first]
    positions.seen("a", first)
    assert not positions._callers


def test_positions_are_bounded_in_partitions_and_by_who_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a caller the oldest partition goes; of callers the one that wrote least lately."""
    monkeypatch.setattr("producers.gateway.positions.PARTITIONS_A_CALLER_MAX", 2)
    positions = Positions()
    writes = [Position(REQUESTS, partition, 1) for partition in range(3)]
    for write in writes:
        positions.wrote("busy", [write])
    assert positions.of("busy") == writes[1:]
    for number in range(CALLERS_MAX):
        positions.wrote(f"caller-{number}", writes[:1])
        positions.wrote("busy", writes[:1])
    assert positions.of("busy") == [writes[2], writes[0]]
    assert positions.of("caller-0") == []
    assert len(positions._callers) == CALLERS_MAX


def test_positions_in_a_header_are_bounded() -> None:
    """As many as are written are read, and no more of either."""
    many = [Position(REQUESTS, partition, 1) for partition in range(HEADER_POSITIONS_MAX + 1)]
    assert from_header(header_value(many)) == many[:-1]
    with pytest.raises(ValueError, match="too many"):
        from_header(", ".join(map(str, many)))


def document_of(**changes: Any) -> dict[str, Any]:
    """The default configuration, changed."""
    document: dict[str, Any] = msgspec.to_builtins(default())
    return {**document, **changes}


def test_a_data_sources_own_names_are_those_of_any_case() -> None:
    """A mapping that was written down in capitals leads to the same key; base names win."""
    document = document_of()
    sources = document["data_sources"]
    sources["fno"] = {**sources["fno"], "dimension_mappings": {"InventSITE": "SiteId"}}
    places = Places(document)
    assert places.key("usmf", "P", {"inventsite": "1", "locationid": "11"}, "fno") == b"usmf|1|11"
    both = {"siteid": "1", "inventsite": "2"}
    assert places.key("usmf", "P", both, "fno") == b"usmf|1|"
    item = Item("usmf", "P", {"InventSite": "1", "LocationId": "11"}, "FNO")
    assert places.key_of(item) == b"usmf|1|11"


def test_a_protected_data_source_is_its_senders() -> None:
    """The ERP's is, unless the configuration says who may tell of it; the first speaks for it."""
    places = Places(document_of(protected_sources=None))
    assert places.protected == {"fno"}
    assert (places.sender_of("fno"), places.sender_of("pos")) == ("fno", "api")
    places = Places(document_of(protected_sources={"pos": ["till", "api"], "iv": ["erp"]}))
    assert places.protected == {"iv"}
    assert (places.sender_of("fno"), places.sender_of("pos")) == ("api", "till")


@pytest.mark.parametrize(
    ("granted", "asked", "status"),
    [
        (("read", "default"), "default", 200),
        (("read", "default"), "other", 403),
        (("read", "other"), "default", 403),
        (("read", "other"), "other", 404),
        (("write", "default"), "default", 403),
    ],
)
async def test_a_token_is_for_its_environment_and_scope(
    client: httpx.AsyncClient, built: Gateway, granted: tuple[str, str], asked: str, status: int
) -> None:
    """Who has no part in an environment does not learn whether there is one."""
    path = f"/api/environment/{asked}/onhand/indexquery"
    headers = {"Authorization": f"Bearer {token_of(built, *granted)}"}
    assert (await client.post(path, json=index(), headers=headers)).status_code == status


async def test_a_client_that_asks_too_often_is_told_when_to_ask_again(
    tmp_path: Path, view: View
) -> None:
    """429 with whole seconds, at least one; and a request of two tokens is of nobody."""
    built = gateway(tmp_path, view, "by-location", rate_per_s=100.0, burst=1)
    token = {"Authorization": f"Bearer {token_of(built)}"}
    transport = httpx.ASGITransport(create_app(built))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        twice = [*token.items(), *token.items()]
        path = BASE + "onhand/indexquery"
        assert (await client.post(path, json=index(), headers=twice)).status_code == 401
        built.limit._clock = lambda: 1.0
        statuses = [await client.post(path, json=index(), headers=token) for _ in range(2)]
        assert [answer.status_code for answer in statuses] == [200, 429]
        assert statuses[1].headers["Retry-After"] == "1"
    assert len(view.asked) == 1


class Sender:
    """Sends a body in parts of one size, for as long as it is read."""

    def __init__(self, size: int, parts: int, *, goes: bool = False) -> None:
        self._size, self._left, self._goes = size, parts, goes
        self.sent = 0

    async def __call__(self) -> dict[str, Any]:
        """The next part."""
        if self._goes:
            return {"type": "http.disconnect"}
        assert self._left, "more is read than was sent"
        self._left -= 1
        self.sent += self._size
        assert self.sent <= 2 * DISCARDED_BYTES_MAX, "all of it is read"
        return {
            "type": "http.request",
            "body": b"x" * self._size,
            "more_body": bool(self._left),
        }

    def request(self, *headers: tuple[bytes, bytes]) -> Request:
        """The request that it is the body of."""
        scope = {
            "type": "http",
            "method": "POST",
            "path": BASE + "onhand/indexquery",
            "headers": list(headers),
            "query_string": b"",
            "path_params": {"environment_id": "default", "rest": "onhand/indexquery"},
            "client": None,
        }
        return Request(scope, self)


async def test_a_body_is_read_up_to_its_bound() -> None:
    """In any number of parts; one byte more is 413, and who sends may end, or need not begin."""
    assert await read_body(Sender(5, 2).request(), 10) == b"x" * 10
    assert await read_body(Sender(10, 1).request(), 10) == b"x" * 10
    for sender, headers in [
        (Sender(11, 3), ()),
        (Sender(4, 5), ()),
        (Sender(4, 5), ((b"content-length", b"20"),)),
    ]:
        with pytest.raises(Problem) as refused:
            await read_body(sender.request(*headers), 10)
        assert refused.value.status == 413
        assert not sender._left
    waiting = Sender(20, 1)
    asking = waiting.request((b"content-length", b"20"), (b"expect", b"100-continue"))
    with pytest.raises(Problem):
        await read_body(asking, 10)
    assert waiting.sent == 0


async def test_a_refused_request_is_read_on_within_a_bound(built: Gateway) -> None:
    """Its sender is answered while it sends; one that never ends is not listened to for ever."""
    sender = Sender(1_000, 3)
    with pytest.raises(Problem) as refused:
        await admit(built, sender.request(), "read")
    assert (refused.value.status, sender.sent) == (401, 3_000)
    endless = Sender(1_048_576, 10**9)
    with pytest.raises(Problem):
        await admit(built, endless.request(), "read")
    assert endless.sent == DISCARDED_BYTES_MAX


async def test_a_body_that_was_read_is_not_waited_for(built: Gateway, view: View) -> None:
    """A request that came straight brings its body; one whose caller goes away is 400."""
    original = create_app(built).original
    proof = (b"authorization", f"Bearer {token_of(built)}".encode())
    gone = Sender(1, 1, goes=True)
    body = orjson.dumps(index())
    assert (await original(gone.request(proof), body)).status_code == 200
    assert view.asked[0].product_ids == ("D0002",)
    assert (await original(gone.request(proof))).status_code == 400


class Wide(View):
    """Tells of no more than two products at once; of one there is too much at any rate.

    Attributes:
        told: products whose rows were told.

    """

    def __init__(self) -> None:
        super().__init__()
        self.products_known = [f"P-{number}" for number in range(7)]
        self.too_much = ""
        self.told: list[str] = []

    async def partitions(self) -> list[str]:
        """One more than has stock: all must be looked at."""
        return ["0", "1", "2"]

    async def products(self, cursor: str = "") -> ProductPage:
        """All at once."""
        assert not cursor
        return ProductPage([("usmf", product) for product in self.products_known])

    async def on_hand(self, query: OnHandQuery) -> OnHandPage:
        """A row of each product, where they are few enough."""
        if len(query.product_ids) > 2 or self.too_much in query.product_ids:
            raise QueryInvalid("more than two: ask for fewer products")
        self.told += query.product_ids
        quantities = {"pos": {"inbound": 1}}
        return OnHandPage(
            [OnHandRow("usmf", one, HERE, quantities) for one in query.product_ids], has_more=False
        )


HERE = {"siteid": "1", "locationid": "11"}


@pytest.mark.parametrize("too_much", ["", "P-3"])
async def test_all_stock_is_looked_at_in_parts_that_fit(tmp_path: Path, too_much: str) -> None:
    """Each product once, however few a question may name; one that is too much alone is 400."""
    view = Wide()
    view.too_much = too_much
    built = gateway(tmp_path, view, "by-location")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(built)), base_url="http://gateway"
    ) as client:
        headers = {"Authorization": f"Bearer {token_of(built, 'admin')}"}
        answer = await client.get(BASE + "allpartitionids", headers=headers)
    assert answer.status_code == (400 if too_much else 200)
    if not too_much:
        here = partition_of(location_key("usmf", "1", "11"), Writer.partitions)
        assert answer.json() == [str(here)]
        assert view.told == view.products_known
