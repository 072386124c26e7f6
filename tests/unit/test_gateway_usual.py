"""Usual reservations are read by a compiled decoder: alike, or left to the strict way."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, strategies as st

from processor.inventory.configuration import default
from producers.gateway import strict_json
from producers.gateway.api import answers, records, usual
from producers.gateway.places import Places
from producers.gateway.problems import Problem
from schemas.codes import Code
from schemas.messages import ReservationResult, ResultLine

PLACES = Places(msgspec.to_builtins(default()))
PLAIN: dict[str, Any] = {
    "id": "a-1",
    "organizationId": "usmf",
    "productId": "P",
    "dimensions": {"siteId": "1", "locationId": "11", "colorId": "réd"},
    "quantityDataSource": "iv",
    "modifier": "softReserved",
    "quantity": 2,
}
PLAIN_TEXT = orjson.dumps(PLAIN).decode()


def strictly(body: bytes) -> Any:
    """What the strict way makes of a body: the reservation, or the refusal's words."""
    try:
        return repr(records.reserving(strict_json.parse(body), PLACES, "shop"))
    except Problem as problem:
        return problem


def quickly(body: bytes) -> str | None:
    """What the compiled decoder makes of it; None if it leaves it to the strict way."""
    found = usual.reservation(body)
    ready = None if found is None else records.usual_reserving(found, PLACES, "shop")
    return None if ready is None else repr(ready)


WORDS = st.text('ab1 é"\\\x00Ω', max_size=5)
NAMES = st.sampled_from(["siteId", "SITEID", "locationId", "locationid", "colorId", "ColorId"])
VALUES = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | WORDS
MEMBERS = st.sampled_from(
    [*PLAIN, "ID", "productid", "ifCheckAvailForReserv", "dimensionDataSource", "quantities", "x"]
)


@given(
    st.dictionaries(MEMBERS, VALUES | st.just("fno") | st.just(2), max_size=3),
    st.dictionaries(NAMES, WORDS | st.integers(1, 2).map(str), max_size=4),
)
def test_what_is_read_quickly_is_what_the_strict_way_reads(
    change: dict[str, Any], dimensions: dict[str, str]
) -> None:
    """Whatever members are changed: the same reservation, or it is left to the strict way."""
    body = msgspec.json.encode({**PLAIN, "dimensions": dimensions, **change})
    found = quickly(body)
    assert found is None or found == strictly(body)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"ifCheckAvailForReserv": False, "quantity": -1},
        {"dimensionDataSource": "Fno", "dimensions": {"InventSiteId": "1"}},
        {"dimensions": {}},
        {"quantityDataSource": "fno", "modifier": "softreserved"},
    ],
)
def test_usual_reservations_are_read_quickly(members: dict[str, Any]) -> None:
    """The common form is not left to the strict way, nor one with the rare members."""
    body = msgspec.json.encode({**PLAIN, **members})
    assert quickly(body) == strictly(body)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"id":', '"id":"b","id":'),
        ('"siteId":', '"siteId":"2","siteId":'),
        ('"siteId":', '"SITEID":"2","siteId":'),
        ('"quantity":2', '"quantity":1,"quantity":2'),
        ('"quantity":2', '"quantity":1,"\\u0071uantity":2'),
        ('"quantity":2', '"quantity":0.99999999999999999999'),
        ('"quantity":2', '"quantity":1e400'),
        ('"quantity":2', '"quantity":NaN'),
        ('"quantity":2', '"quantity":1000000000000'),
        ('"quantity":2', '"quantity":"2"'),
        ('"a-1"', '"a\u0000"'),
        ('"a-1"', '""'),
        ('"iv"', '""'),
        ('"iv"', '"i\tv"'),
        ('"iv"', f'"{"v" * 66}"'),
        ('"réd"', f'"{"v" * 65}"'),
        ("}", "}}"),
    ],
)
def test_whatever_may_be_wrong_is_left_to_the_strict_way(old: str, new: str) -> None:
    """Names there twice, odd numbers and odd texts are never decided by the compiled decoder."""
    body = PLAIN_TEXT.replace(old, new, 1).encode()
    assert old in PLAIN_TEXT
    assert quickly(body) is None


def test_bulk_is_read_quickly_only_as_a_whole() -> None:
    """One record that is not usual leaves all of them to the strict way."""
    assert usual.reservations(f"[{PLAIN_TEXT},{PLAIN_TEXT}]".encode()) is not None
    twice = PLAIN_TEXT.replace('"id":', '"id":"b","id":')
    assert usual.reservations(f"[{PLAIN_TEXT},{twice}]".encode()) is None
    assert usual.reservations(PLAIN_TEXT.encode()) is None


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_left(body: bytes) -> None:
    """Whatever the bytes: never an exception."""
    assert usual.reservation(body) is None
    assert usual.reservations(body) in (None, [])


@pytest.mark.parametrize(
    ("code", "line_code", "hold_id"),
    [
        (Code.ACCEPTED, Code.ACCEPTED, "r-1"),
        (Code.ACCEPTED, Code.ACCEPTED, ""),
        (Code.PARTIAL, Code.PARTIAL, "r-1"),
        (Code.INSUFFICIENT_STOCK, Code.INSUFFICIENT_STOCK, ""),
    ],
)
def test_an_accepted_reservation_is_answered_as_all_are(
    monkeypatch: pytest.MonkeyPatch, code: Code, line_code: Code, hold_id: str
) -> None:
    """The answer that is written down at once has the members of the general one, in its order."""
    line = ResultLine(int(line_code), "r", hold_id, 1_000_000, 2_500_000)
    result = ReservationResult("ohre~a", int(code), 1, 1, 7, False, [line])
    quick = answers.reserve_answer("a", result)
    monkeypatch.setattr(answers, "_accepted", lambda *_: None)
    assert orjson.dumps(quick) == orjson.dumps(answers.reserve_answer("a", result))


def test_an_answer_says_how_long_it_is() -> None:
    """In bytes, whatever its letters; and its other headers stand beside."""
    answer = answers.Json({"message": "né Ω"}, 202, {"Location": "/v1/decisions/a"})
    assert bytes(answer.body) == '{"message":"né Ω"}'.encode()
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["location"] == "/v1/decisions/a"
    assert answer.status_code == 202
