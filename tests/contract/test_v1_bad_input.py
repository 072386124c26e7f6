"""Bad input at every endpoint of /v1: a clear 4xx, and nothing is written."""

import base64
from typing import Any, Final, NamedTuple

import httpx
import orjson
import pytest

from producers.gateway.v1.table import OPERATIONS
from tests.support.gateway import GatewayProcess

pytestmark = pytest.mark.kafka

SUBJECT: Final = {
    "organizationId": "usmf",
    "productId": "P-bad-input",
    "dimensions": {"siteId": "1", "locationId": "11"},
}
WANTED: Final = {**SUBJECT, "quantity": 1}
GOOD: Final[dict[str, Any]] = {
    "reserve": WANTED,
    "availability": SUBJECT,
    "holdBasket": {"lines": [WANTED]},
    "extendHold": {"subject": SUBJECT, "expiresInMs": 1_000},
    "confirmHold": {"subject": SUBJECT},
    "amendHold": {"subject": SUBJECT, "quantity": 1},
    "transferHold": {"subject": SUBJECT, "targetDimensions": SUBJECT["dimensions"]},
    "releaseHold": {"subject": SUBJECT},
    "retryOffsetFailure": {},
    "dismissOffsetFailure": {},
}


class Endpoint(NamedTuple):
    """A method and path with a body that would be good, and the scope it needs."""

    name: str
    method: str
    path: str
    body: Any
    scope: str


ENDPOINTS: Final = tuple(
    Endpoint(
        one.name,
        one.method,
        one.path.format(hold_id="h-1", request_id="r", failure_id="f", reservation_id="r"),
        GOOD.get(one.name),
        one.scope,
    )
    for one in OPERATIONS
)
WITH_BODY: Final = tuple(one for one in ENDPOINTS if one.body is not None)
READING: Final = tuple(one for one in ENDPOINTS if one.method == "GET")


def name_of(endpoint: Any) -> str:
    """Name of a case."""
    return endpoint.name if isinstance(endpoint, Endpoint) else ""


def ask(client: httpx.Client, endpoint: Endpoint, **more: Any) -> httpx.Response:
    """Ask an endpoint with its good body, unless told otherwise."""
    if "content" not in more and endpoint.body is not None:
        more["content"] = orjson.dumps(endpoint.body)
    return client.request(endpoint.method, endpoint.path, **more)


def is_problem(answer: httpx.Response, status: int) -> bool:
    """Whether it is refused with that status, in the one shape."""
    problem = answer.json()
    return (
        answer.status_code == problem["status"] == status
        and answer.headers["content-type"] == "application/problem+json"
        and bool(problem["detail"])
    )


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name_of)
def test_only_proven_callers_with_the_scope_reach_anything(
    gateway: GatewayProcess, nothing_written: None, endpoint: Endpoint
) -> None:
    """No token, one that ended, is unsigned, lacks the scope or is for elsewhere: 401 or 403."""
    head, body, _ = gateway.token().split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    others = ["reserve", "onhand.write", "read", "admin"]
    others.remove(endpoint.scope)
    refused = {
        "": 401,
        f"{head}.{body}.": 401,
        f"{none}.{body}.": 401,
        gateway.token(lifetime_s=-60): 401,
        gateway.token(environments=["elsewhere"]): 403,
        gateway.token(scopes=others): 403,
    }
    for token, status in refused.items():
        with gateway.client(token) as client:
            assert is_problem(ask(client, endpoint), status), token


MALFORMED: Final = {
    "blank": b"  ",
    "cut": b'{"requestId": "a"',
    "not utf-8": b'{"requestId": "\xff"}',
    "trailing": b"{} {}",
    "a number": b"5",
    "an array": b"[]",
    "null": b"null",
    "deep": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "half a character": b'{"requestId": "\\ud800"}',
    "nan": b'{"quantity": NaN}',
    "infinity": b'{"quantity": -Infinity}',
    "huge": b'{"quantity": 1e400}',
    "twice": b'{"requestId": "a", "requestId": "b"}',
    "unknown": b'{"requestid": "a"}',
    "large": b" " * 10_000_000,
}


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=name_of)
def test_malformed_bodies_are_refused(
    client: httpx.Client, nothing_written: None, endpoint: Endpoint
) -> None:
    """What is not JSON, not an object, ambiguous, unknown or too large is told so."""
    for what, content in MALFORMED.items():
        try:
            answer = ask(client, endpoint, content=content)
        except (httpx.WriteError, httpx.ReadError):
            assert what == "large"  # Answered and closed before all had been sent.
            continue
        assert is_problem(answer, 413 if what == "large" else 400), what


def replaced(value: Any, name: str, wrong: Any) -> Any:
    """The body with a member changed wherever it stands; None when it stands nowhere."""
    if isinstance(value, list):
        return [replaced(one, name, wrong) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        key: wrong if key == name else replaced(inner, name, wrong) for key, inner in value.items()
    }


WRONG: Final[tuple[tuple[str, Any], ...]] = (
    *(("organizationId", wrong) for wrong in (None, "", 5, ["usmf"], "x" * 65, "a\nb", "a\u0000")),
    *(("productId", wrong) for wrong in (None, "", {"a": 1}, "x" * 129, "\u001b[2J", "a\u007f")),
    *(("dimensions", wrong) for wrong in (None, [], "siteId", {"siteId": 5}, {"siteId": None})),
    ("dimensions", {"siteId": "x" * 65}),
    ("dimensions", {"siteId": "\r\nFLUSHALL"}),
    ("dimensions", {"siteId": "1", "SITEID": "2"}),
    ("dimensions", {f"extended{number}": "x" for number in range(34)}),
    *(("quantity", wrong) for wrong in ("ten", "", "NaN", "1_000", " 1", "\uff11", True, [1], {})),
    *(("quantity", wrong) for wrong in (0.0000001, "0.0000001", 10**12, "1e18", "1" * 500)),
    *(("lines", wrong) for wrong in ([], {}, None, [None], [[]], [WANTED] * 513)),
    *(("expiresInMs", wrong) for wrong in (0, -1, 1.5, "1000", True, 10**18)),
)
MORE: Final[tuple[dict[str, Any], ...]] = (
    {"requestId": ""},
    {"requestId": "x" * 129},
    {"requestId": "a\nb"},
    {"requestId": 7},
    {"requestId": None},
    {"actor": "x" * 129},
    {"actor": 1},
    {"nosuch": 1},
)


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=name_of)
def test_wrong_members_are_400(
    client: httpx.Client, nothing_written: None, endpoint: Endpoint
) -> None:
    """Missing, mistyped, overlong, control-ridden and unknown members, wherever they stand."""
    for name, wrong in WRONG:
        body = replaced(endpoint.body, name, wrong)
        if body != endpoint.body:
            assert is_problem(ask(client, endpoint, content=orjson.dumps(body)), 400), (name, wrong)
    for members in MORE:
        content = orjson.dumps({**endpoint.body, **members})
        assert is_problem(ask(client, endpoint, content=content), 400), members


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("reserve", {**WANTED, "expiresInMs": 1_000, "expiresAtMs": 2_000}),
        ("extendHold", {"subject": SUBJECT}),
        ("extendHold", {"subject": SUBJECT, "expiresInMs": 1, "expiresAtMs": 1}),
        ("holdBasket", {"lines": [{**WANTED, "quantity": 0}]}),
        ("holdBasket", {"lines": [{**WANTED, "quantity": -1}]}),
        ("holdBasket", {"lines": [WANTED], "basketId": "x" * 128}),
        ("holdBasket", {"lines": [WANTED], "holdMs": 0}),
    ],
)
def test_members_that_contradict_are_400(
    client: httpx.Client, nothing_written: None, name: str, body: dict[str, Any]
) -> None:
    """Two expiries, none where one is needed, a basket of nothing."""
    (endpoint,) = (one for one in WITH_BODY if one.name == name)
    assert is_problem(ask(client, endpoint, content=orjson.dumps(body)), 400)


@pytest.mark.parametrize("name", ["amendHold", "releaseHold", "transferHold"])
def test_nought_is_not_all(client: httpx.Client, nothing_written: None, name: str) -> None:
    """A quantity of nought or less that was written down does not mean all of a hold."""
    (endpoint,) = (one for one in WITH_BODY if one.name == name)
    for quantity in (0, "0", -1):
        content = orjson.dumps({**endpoint.body, "quantity": quantity})
        assert is_problem(ask(client, endpoint, content=content), 422)


PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "listHolds": (
        "nosuch=1",
        "limit=0",
        "limit=1001",
        "limit=ten",
        "limit=1&limit=2",
        "organizationId=" + "x" * 65,
        "productId=P",
        "cursor=nosuch",
        "cursor=%00",
        "orderId=a%0Ab",
        "expiresFromMs=-1",
        "expiresFromMs=1.5",
        "dimensions=siteId",
        "dimensions[siteId]=" + "x" * 65,
        "dimensions[siteId]=1&dimensions[SITEID]=2",
        "dimensions[nosuch]=1",
    ),
    "recentDecisions": ("nosuch=1", "limit=0", "limit=1001", "partition=-1", "partition=x"),
    "listOffsetFailures": ("nosuch=1", "limit=0", "cursor=nosuch", "organizationId=%1b"),
    "streamEvents": ("nosuch=1", "siteId=" + "x" * 65, "lastEventId=x", "productId=%00"),
}


@pytest.mark.parametrize("endpoint", READING, ids=name_of)
def test_wrong_parameters_are_400(
    client: httpx.Client, nothing_written: None, endpoint: Endpoint
) -> None:
    """Unknown, doubled, mistyped and unbounded parameters are told so."""
    for query in PARAMETERS.get(endpoint.name, ("nosuch=1",)):
        answer = client.get(f"{endpoint.path}?{query}")
        assert is_problem(answer, 400), query


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if "h-1" in e.path or "/f" in e.path])
def test_ids_that_are_none_are_told(
    client: httpx.Client, nothing_written: None, endpoint: Endpoint
) -> None:
    """Control characters and overlong ids in a path are 400; other systems' words are 404."""
    bare = endpoint._replace(body=None)
    content = (
        b""
        if endpoint.body is None
        else orjson.dumps(
            {name: value for name, value in endpoint.body.items() if name != "subject"}
        )
    )
    for wrong, status in (
        ("%00", 400),
        ("a%0d%0ab", 400),
        ("x" * 129, 400),
        ("'; DROP TABLE holds;--", 404),
        ("*3", 404),
        ("{a}*[?]", 404),
    ):
        path = endpoint.path.replace("/h-1", f"/{wrong}").replace("/f", f"/{wrong}", 1)
        if "offset-failures" in endpoint.path:
            path = endpoint.path.replace("failures/f", f"failures/{wrong}")
        answer = ask(client, bare._replace(path=path.replace("?", "%3F")), content=content)
        assert is_problem(answer, status), wrong


def test_unknown_paths_and_methods_are_told(client: httpx.Client, nothing_written: None) -> None:
    """A path that is not there is 404, a method that a path does not take 405 with Allow."""
    assert is_problem(client.get("/v1/nosuch"), 404)
    assert is_problem(client.post("/v1/holds/h-1/nosuch", content=b"{}"), 404)
    wrong = client.put("/v1/reservations", content=b"{}")
    assert is_problem(wrong, 405)
    assert wrong.headers["Allow"] == "POST"
