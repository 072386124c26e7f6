"""Bad input at every endpoint of the original's interface: a clear 4xx, and nothing is written."""

import base64
import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import httpx
import orjson
import pytest

from tests.support.gateway import BASE, ENVIRONMENT, HONEST, GatewayProcess

pytestmark = pytest.mark.kafka

WITHIN_S: Final = 20.0
SCOPES: Final = ("reserve", "onhand.write", "read", "admin")
PLACE: Final = {"siteId": "1", "locationId": "11"}
SUBJECT: Final = {
    "id": "bad-input",
    "organizationId": "usmf",
    "productId": "P-bad-input",
    "dimensions": PLACE,
}
CHANGE: Final = {**SUBJECT, "quantities": {"pos": {"inbound": 1}}}
RESERVE: Final = {**SUBJECT, "quantityDataSource": "iv", "modifier": "softreserved", "quantity": 1}
UNRESERVE: Final = {**SUBJECT, "reservationId": "r", "OffsetQty": 1}
INDEX: Final = {"filters": {"organizationId": ["usmf"], "productId": ["P-bad-input"]}}
EXACT: Final = {
    "filters": {
        **INDEX["filters"],
        "dimensions": ["siteId", "locationId"],
        "values": [["1", "11"]],
    }
}


class Endpoint(NamedTuple):
    """A method and path with a body that would be good, and the scope it needs."""

    method: str
    path: str
    body: Any
    scope: str


WRITES: Final = (
    Endpoint("POST", "onhand", CHANGE, "onhand.write"),
    Endpoint("POST", "onhand/bulk", [CHANGE], "onhand.write"),
    Endpoint("POST", "setonhand/pos/bulk", [CHANGE], "onhand.write"),
    Endpoint("POST", "onhand/reserve", RESERVE, "reserve"),
    Endpoint("POST", "onhand/reserve/bulk", [RESERVE], "reserve"),
    Endpoint("POST", "onhand/unreserve", UNRESERVE, "reserve"),
    Endpoint("POST", "onhand/unreserve/bulk", [UNRESERVE], "reserve"),
)
ENDPOINTS: Final = (
    *WRITES,
    Endpoint("POST", "onhand/indexquery", INDEX, "read"),
    Endpoint("POST", "onhand/exactquery", EXACT, "read"),
    Endpoint("GET", "onhand?organizationId=usmf&productId=P", None, "read"),
    Endpoint("POST", "onhand/reserve/resyncjob", ["iv"], "admin"),
    Endpoint("GET", "getJobProgress?jobId=x", None, "read"),
    Endpoint("GET", "configuration", None, "read"),
    Endpoint("POST", "configuration/hardupdate", {}, "admin"),
    Endpoint("GET", "allpartitionids", None, "admin"),
    Endpoint("DELETE", "partitions/cleanupalldata", ["usmf|1|11"], "admin"),
    Endpoint("DELETE", "cleanupalldata", ["usmf|1|11"], "admin"),
)
WITH_BODY: Final = tuple(endpoint for endpoint in ENDPOINTS if endpoint.body is not None)


def name_of(endpoint: Any) -> str:
    """Name of a case."""
    return f"{endpoint.method} {endpoint.path}" if isinstance(endpoint, Endpoint) else ""


def ask(client: httpx.Client, endpoint: Endpoint, **more: Any) -> httpx.Response:
    """Ask an endpoint with its good body, unless told otherwise."""
    if "content" not in more and endpoint.body is not None:
        more["content"] = orjson.dumps(endpoint.body)
    base = more.pop("base", BASE)
    return client.request(endpoint.method, base + endpoint.path, **more)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name_of)
def test_only_proven_callers_reach_anything(
    gateway: GatewayProcess, nothing_written: None, endpoint: Endpoint
) -> None:
    """No token, one that is ended, unsigned or for an environment elsewhere: 401 or 403."""
    good = gateway.token()
    head, body, _ = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    refused = {
        "": 401,
        "x": 401,
        f"{head}.{body}.": 401,
        f"{none}.{body}.": 401,
        gateway.token(lifetime_s=-60): 401,
        gateway.token(environments=["elsewhere"]): 403,
        gateway.token(scopes=[]): 403,
        gateway.token(scopes=[scope for scope in SCOPES if scope != endpoint.scope]): 403,
    }
    for token, status in refused.items():
        with gateway.client(token) as client:
            answer = ask(client, endpoint)
        assert answer.status_code == status, token
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name_of)
def test_other_schemes_and_double_headers_are_refused(
    gateway: GatewayProcess, nothing_written: None, endpoint: Endpoint
) -> None:
    """Basic credentials, a token in the query, and two Authorization headers get nobody in."""
    token = gateway.token()
    with gateway.client("") as client:
        basic = ask(client, endpoint, headers={"Authorization": "Basic dXNlcjpwYXNz"})
        twice = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")]
        double = ask(client, endpoint, headers=twice)
        mark = "&" if "?" in endpoint.path else "?"
        moved = endpoint._replace(path=f"{endpoint.path}{mark}access_token={token}")
        query = ask(client, moved)
    assert [basic.status_code, double.status_code, query.status_code] == [401, 401, 401]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name_of)
def test_unknown_environment_is_refused(
    gateway: GatewayProcess, nothing_written: None, endpoint: Endpoint
) -> None:
    """An environment that is not here is 404 for who has a part in it, 403 for others."""
    token = gateway.token(environments=["elsewhere", ENVIRONMENT])
    with gateway.client(token) as client:
        assert ask(client, endpoint, base="/api/environment/elsewhere/").status_code == 404
        assert ask(client, endpoint, base="/api/environment/nowhere/").status_code == 403
        assert ask(client, endpoint, base=f"/api/environment/{HONEST}/").status_code == 403


MALFORMED: Final = {
    "empty": b"",
    "blank": b"  ",
    "cut": b'{"id": "a"',
    "not utf-8": b'{"id": "\xff"}',
    "utf-16": '{"id": "a"}'.encode("utf-16"),
    "trailing": b"{} {}",
    "single quotes": b"{'id': 'a'}",
    "a number": b"5",
    "a text": b'"x"',
    "null": b"null",
    "deep": b"[" * 100_000,
    "deep object": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "half a character": b'{"id": "\\ud800"}',
    "nan": b'{"quantity": NaN}',
    "infinity": b'{"quantity": -Infinity}',
    "long number": b'{"quantity": ' + b"9" * 5_000 + b"}",
}


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=name_of)
def test_malformed_bodies_are_400(
    client: httpx.Client, nothing_written: None, endpoint: Endpoint
) -> None:
    """What is not JSON, or not of the expected kind, is 400 with a reason."""
    for what, content in MALFORMED.items():
        answer = ask(client, endpoint, content=content)
        assert answer.status_code == 400, what
        assert answer.json()["detail"], what


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=name_of)
def test_large_bodies_are_413(
    client: httpx.Client, nothing_written: None, endpoint: Endpoint
) -> None:
    """10 MB are refused, whether their length is told or they come in pieces."""

    def pieces() -> Iterator[bytes]:
        for _ in range(160):
            yield b" " * 65_536

    for content in (b" " * 10_000_000, pieces()):
        answer = ask(client, endpoint, content=content)
        assert answer.status_code == 413


def test_refusal_before_the_body_reaches_a_client_that_is_still_sending(
    gateway: GatewayProcess, nothing_written: None
) -> None:
    """A client that sends all of 10 MB before it reads is told why, not cut off: 413, 401, 404."""
    for path, token, status in (
        (BASE + "onhand", gateway.token(), b"413"),
        (BASE + "onhand", "nosuch", b"401"),
        ("/api/environment/nosuch/onhand", gateway.token(environments=["nosuch"]), b"404"),
        ("/token", gateway.token(), b"413"),
    ):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        head += "Content-Length: 10000000\r\n\r\n"
        with socket.create_connection(("127.0.0.1", gateway.port), WITHIN_S) as connection:
            connection.sendall(head.encode() + b" " * 10_000_000)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 " + status), path


def changed(endpoint: Endpoint, **members: Any) -> bytes:
    """The endpoint's good body with members changed; in a bulk, after a good record."""
    if isinstance(endpoint.body, list):
        good = endpoint.body[0]
        return orjson.dumps([{**good, "id": "bad-input-good"}, {**good, **members}])
    return orjson.dumps({**endpoint.body, **members})


WRONG_MEMBERS: Final[tuple[dict[str, Any], ...]] = (
    {"id": None},
    {"id": ""},
    {"id": 7},
    {"id": "x" * 200},
    {"id": "a\nb"},
    {"id": "a\u0000b"},
    {"id": "EVAL\r\nFLUSHALL"},
    {"organizationId": None},
    {"organizationId": ["usmf"]},
    {"organizationId": "x" * 65},
    {"productId": None},
    {"productId": {"a": 1}},
    {"productId": "\u001b[2J"},
    {"dimensions": []},
    {"dimensions": "siteId"},
    {"dimensions": {**PLACE, "colorId": 5}},
    {"dimensions": {**PLACE, "colorId": None}},
    {"dimensions": {**PLACE, "colorId": "x" * 65}},
    {"dimensions": {**PLACE, "colorId": "\u0007"}},
    {"dimensions": {f"extended{number}": "x" for number in range(34)}},
    {"dimensionDataSource": 5},
)


@pytest.mark.parametrize("endpoint", WRITES, ids=name_of)
def test_wrong_members_are_400_and_a_bulk_is_refused_whole(
    client: httpx.Client, nothing_written: None, endpoint: Endpoint
) -> None:
    """Missing, mistyped, overlong, control-ridden members: 400; the good record stays unsent."""
    for members in WRONG_MEMBERS:
        answer = ask(client, endpoint, content=changed(endpoint, **members))
        assert answer.status_code == 400, members


@pytest.mark.parametrize("endpoint", WRITES, ids=name_of)
def test_required_members_that_are_not_there_are_400(
    client: httpx.Client, nothing_written: None, endpoint: Endpoint
) -> None:
    """Every member that the document requires is required; an on-hand change may lie nowhere."""
    body = endpoint.body[0] if isinstance(endpoint.body, list) else endpoint.body
    optional = {"dimensions"} if endpoint.scope == "onhand.write" else set()
    for name in set(body) - optional:
        for left in (
            {key: value for key, value in body.items() if key != name},
            {**body, name: None},
        ):
            content = orjson.dumps([left] if isinstance(endpoint.body, list) else left)
            assert ask(client, endpoint, content=content).status_code == 400, name


QUANTITIES: Final = (
    "null",
    "true",
    '"NaN"',
    '"Infinity"',
    '"ten"',
    '""',
    '"1_000"',
    '"\uff11\uff10"',
    '" 1"',
    "1e400",
    "-1e400",
    "1e999999999999",
    "1e18",
    "1000000000000",
    "0.0000001",
    '"0.0000001"',
    '"1e-7"',
    "[1]",
    "{}",
    '"' + "1" * 500 + '"',
)


@pytest.mark.parametrize("endpoint", WRITES, ids=name_of)
def test_quantities_that_are_none_are_400(
    client: httpx.Client, nothing_written: None, endpoint: Endpoint
) -> None:
    """NaN, infinity, 1e400, seven decimals, texts that are no number: 400, never a guess."""
    mark = 987_654
    good = endpoint.body[0] if isinstance(endpoint.body, list) else endpoint.body
    text = json.dumps(good).replace('"inbound": 1', f'"inbound": {mark}')
    text = text.replace('"quantity": 1', f'"quantity": {mark}')
    text = text.replace('"OffsetQty": 1', f'"OffsetQty": {mark}')
    assert str(mark) in text
    for quantity in QUANTITIES:
        body = text.replace(str(mark), quantity)
        content = f"[{body}]" if isinstance(endpoint.body, list) else body
        answer = ask(client, endpoint, content=content.encode())
        assert answer.status_code == 400, quantity


@pytest.mark.parametrize("endpoint", WRITES, ids=name_of)
def test_names_there_twice_are_400(
    client: httpx.Client, nothing_written: None, endpoint: Endpoint
) -> None:
    """Duplicate members are refused, at any depth, and also when they differ in case alone."""
    text = orjson.dumps(endpoint.body).decode()
    for once, twice in (
        ('"id":"bad-input"', '"id":"bad-input","id":"other"'),
        ('"id":"bad-input"', '"id":"bad-input","ID":"other"'),
        ('"siteId":"1"', '"siteId":"1","siteid":"2"'),
    ):
        assert once in text
        assert ask(client, endpoint, content=text.replace(once, twice).encode()).status_code == 400


@pytest.mark.parametrize("endpoint", [e for e in WRITES if isinstance(e.body, list)], ids=name_of)
def test_bulk_of_none_or_513_is_400(
    client: httpx.Client, nothing_written: None, endpoint: Endpoint
) -> None:
    """A bulk has 1 to 512 records."""
    many = [{**endpoint.body[0], "id": f"bad-{number}"} for number in range(513)]
    for body in ([], many, {"0": endpoint.body[0]}, [None], [[]]):
        assert ask(client, endpoint, content=orjson.dumps(body)).status_code == 400


@pytest.mark.parametrize("endpoint", WRITES, ids=name_of)
def test_control_sequences_of_other_systems_are_only_text(
    client: httpx.Client, endpoint: Endpoint
) -> None:
    """SQL and Redis in an id are a text like any other: answered, and never a fault of ours."""
    for text in ("'; DROP TABLE holds; --", "*3\\r\\n$3\\r\\nSET", "{a}*[?]", "%00", "../../etc"):
        answer = ask(client, endpoint, content=changed(endpoint, id=text, productId=text))
        assert answer.status_code in {200, 400, 409}
        assert "internal" not in answer.text


def test_unknown_paths_and_methods_are_told(client: httpx.Client, nothing_written: None) -> None:
    """A path that is not there is 404, a method that a path does not take 405 with Allow."""
    assert client.post(BASE + "onhand/nosuch", content=b"{}").status_code == 404
    assert client.post(BASE + "setonhand//bulk", content=b"[]").status_code == 404
    assert client.post(BASE + "setonhand/a/b/bulk", content=b"[]").status_code == 404
    wrong = client.put(BASE + "onhand", content=b"{}")
    assert wrong.status_code == 405
    assert wrong.headers["Allow"] == "GET, POST"
    assert client.get(BASE + "onhand", headers={"Api-Version": "3.0"}).status_code == 400
    assert client.get("/api/environment/").status_code == 404


def raw(gateway: GatewayProcess, *lines: str, body: bytes = b"") -> bytes:
    """Answer to a request written by hand, head and all, until the server closes or is silent."""
    head = ("\r\n".join([*lines, f"Authorization: Bearer {gateway.token()}"]) + "\r\n\r\n").encode()
    with socket.create_connection(("127.0.0.1", gateway.port), WITHIN_S) as connection:
        connection.sendall(head + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    return answer


def still_serves(gateway: GatewayProcess) -> bool:
    """Whether it answers others: no answer was a closed connection, not the end of it."""
    return httpx.get(f"{gateway.url}/health/ping", timeout=WITHIN_S).status_code == 200


def test_smuggled_requests_do_not_get_through(
    gateway: GatewayProcess, nothing_written: None
) -> None:
    """Two lengths, a length beside chunks, and a folded header are refused with the connection."""
    hidden = f"POST {BASE}onhand HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    start = (f"POST {BASE}onhand HTTP/1.1", "Host: gateway")
    chunks = b"0\r\n\r\n" + hidden
    for lines, body in (
        ((*start, "Content-Length: 5", "Content-Length: 6"), b"{}{}{}"),
        ((*start, f"Content-Length: {len(chunks)}", "Transfer-Encoding: chunked"), chunks),
        ((*start, "Transfer-Encoding: xchunked"), chunks),
        ((*start, "Content-Length: -5"), b"{}"),
        ((*start, "Content Length: 5"), b"{}"),
    ):
        answer = raw(gateway, *lines, body=body)
        assert answer.count(b"HTTP/1.1 ") <= 1, lines
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), lines
        assert still_serves(gateway), lines


@pytest.mark.parametrize("start", ["GET /", "GET /health/ping HTTP/1.1\r\nHost: x\r\nX: "])
def test_head_that_does_not_end_is_refused(gateway: GatewayProcess, start: str) -> None:
    """Whoever sends a path or a header for ever is refused with 400 before 2 MB, unproven."""
    with socket.create_connection(("127.0.0.1", gateway.port), WITHIN_S) as connection:
        connection.sendall(start.encode())
        answer = b""
        for _ in range(32):
            try:
                connection.sendall(b"a" * 65_536)
            except (BrokenPipeError, ConnectionResetError):
                break
        with contextlib.suppress(ConnectionResetError):  # It closes while we send.
            connection.settimeout(WITHIN_S)
            answer = connection.recv(65_536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 "), answer[:60]
    assert still_serves(gateway)


def test_long_head_that_ends_is_served(gateway: GatewayProcess, client: httpx.Client) -> None:
    """Many headers of some length, and many requests in one write, are no such head."""
    assert client.get(BASE + "configuration", headers={"X": "a" * 60_000}).status_code == 200
    ping = b"GET /health/ping HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = b""
    with socket.create_connection(("127.0.0.1", gateway.port), WITHIN_S) as connection:
        for _ in range(10):
            connection.sendall(ping * 500)
            while answer.count(b"HTTP/1.1 ") < 500:
                answer += connection.recv(1_048_576)
            assert answer.count(b"HTTP/1.1 200 OK") == 500
            answer = b""
