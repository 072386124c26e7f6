"""The original's writing paths, case by case: what it documents and what its own tests show."""

import uuid
from typing import Any

import httpx
import pytest

from tests.support.gateway import HONEST, Shop

pytestmark = pytest.mark.kafka


def test_change_is_counted_and_named_as_asked(shop: Shop) -> None:
    """A delta is counted; its answer carries the id and says success, with 200 twice."""
    answer = shop.post("onhand", shop.change(10, "chg-81-" + shop.product))
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "chg-81-" + shop.product,
        "processingStatus": "success",
        "message": "",
        "statusCode": 200,
    }
    assert shop.available() == 10


def test_same_change_again_is_counted_once(shop: Shop) -> None:
    """A resubmission after a failure of the service is not counted twice."""
    body = shop.change(10)
    first, again = shop.post("onhand", body), shop.post("onhand", body)
    assert [first.json()["statusCode"], again.json()["statusCode"]] == [200, 200]
    assert shop.available() == 10


def test_numbers_may_be_texts_and_are_exact(shop: Shop) -> None:
    """A quantity may be a JSON text; a tenth is a tenth."""
    for quantity in ("10", "0.1", 0.2, 1e0):
        assert shop.post("onhand", shop.change(quantity)).json()["statusCode"] == 200
    refused = shop.post("onhand/reserve", shop.reservation(99))
    assert '"available":11.3' in refused.text


def test_names_are_case_insensitive(shop: Shop) -> None:
    """Paths, members, dimensions and measures may be written in any case."""
    body = {
        "ID": uuid.uuid4().hex,
        "OrganizationID": "usmf",
        "ProductID": shop.product,
        "Dimensions": {"SITEID": "1", "LocationID": "11", "colorid": "red"},
        "Quantities": {"POS": {"Inbound": 5}},
    }
    assert shop.post("OnHand", body).json()["statusCode"] == 200
    asked = shop.reservation(5, quantityDataSource="IV", modifier="SoftReserved")
    assert shop.post("onhand/Reserve", asked).json()["processingStatus"] == "success"


def test_dimensions_of_a_data_source_are_mapped(shop: Shop) -> None:
    """With `dimensionDataSource` a request may use that source's names, or the base names."""
    own = {"InventSiteId": "1", "InventLocationId": "11", "InventColorId": "red"}
    body = shop.change(5, dimensionDataSource="fno", dimensions=own)
    assert shop.post("onhand", body).json()["statusCode"] == 200
    assert shop.available() == 5
    without = shop.post("onhand", shop.change(5, dimensions=own)).json()
    assert (without["statusCode"], without["processingStatus"]) == (400, "failure")


def test_bulk_answers_each_record(shop: Shop) -> None:
    """A bulk's answer is an array in the order of its records, each with its own outcome."""
    good, wrong = shop.change(3), shop.change(3)
    wrong["quantities"] = {"pos": {"nosuch": 1}}
    answer = shop.post("onhand/bulk", [good, wrong, good])
    assert answer.status_code == 200
    assert [one["id"] for one in answer.json()] == [good["id"], wrong["id"], good["id"]]
    assert [one["statusCode"] for one in answer.json()] == [200, 400, 200]
    assert shop.available() == 3


def test_count_replaces_and_an_older_one_loses(shop: Shop) -> None:
    """Setonhand overwrites the measures it names; a count of an earlier time changes nothing."""
    shop.post("onhand", shop.change(10))
    late = shop.change(7, modifiedDateTimeUTC="2026-01-02T00:00:00Z")
    early = shop.change(99, modifiedDateTimeUTC="2026-01-01T00:00:00")
    assert shop.post("setonhand/pos/bulk", [late]).json()[0]["statusCode"] == 200
    assert shop.available() == 7
    assert shop.post("setOnHand/POS/bulk", [early]).json()[0]["processingStatus"] == "success"
    assert shop.available() == 7


def test_reservation_answers_as_documented(shop: Shop) -> None:
    """Success carries the reservation id, the prefixed event id, status, message and code."""
    shop.post("onhand", shop.change(10))
    body = shop.reservation(4)
    answer = shop.post("onhand/reserve", body)
    said = answer.json()
    assert answer.status_code == 200
    assert said["id"] == "ohre~" + body["id"]
    assert said["reservationId"]
    assert {k: said[k] for k in ("processingStatus", "message", "statusCode")} == {
        "processingStatus": "success",
        "message": "",
        "statusCode": 200,
    }
    assert shop.available() == 6


def test_reservation_id_is_that_of_product_and_dimensions(shop: Shop) -> None:
    """Two orders of the same product and dimensions share the id; another colour has its own."""
    shop.post("onhand", shop.change(10))
    ids = [
        shop.post("onhand/reserve", shop.reservation(1)).json()["reservationId"] for _ in range(2)
    ]
    other = shop.reservation(1, ifCheckAvailForReserv=False)
    other["dimensions"]["colorId"] = "blue"
    assert ids[0] == ids[1]
    assert shop.post("onhand/reserve", other).json()["reservationId"] != ids[0]


@pytest.mark.parametrize(
    ("quantity", "check", "code", "after"),
    [(100, True, 500, 10), (100, False, 200, -90), (-100, True, 500, 10)],
)
def test_observed_outcomes(shop: Shop, quantity: int, check: bool, code: int, after: int) -> None:
    """On-hand 10: 100 checked is 500, unchecked oversells; a negative one, checked, is 500."""
    shop.post("onhand", shop.change(10))
    body = shop.reservation(quantity, ifCheckAvailForReserv=check)
    answer = shop.post("onhand/reserve", body)
    assert answer.status_code == 200
    assert answer.json()["statusCode"] == code
    assert shop.available() == after


def test_negative_unchecked_gives_back(shop: Shop) -> None:
    """-100 unchecked after +100 unchecked: back to 10."""
    shop.post("onhand", shop.change(10))
    shop.post("onhand/reserve", shop.reservation(100, ifCheckAvailForReserv=False))
    back = shop.post("onhand/reserve", shop.reservation(-100, ifCheckAvailForReserv=False)).json()
    assert (back["statusCode"], back["processingStatus"]) == (200, "success")
    assert shop.available() == 10


def test_insufficient_stock_says_what_there_is(shop: Shop) -> None:
    """A refusal is the original's 500 in the body, and tells what is available."""
    shop.post("onhand", shop.change(10))
    said = shop.post("onhand/reserve", shop.reservation(11)).json()
    assert (said["statusCode"], said["processingStatus"]) == (500, "failure")
    assert said["available"] == 10
    assert said["message"]


def test_partition_dimensions_are_needed(shop: Shop) -> None:
    """By location, a reservation without site and warehouse is 500 in the body."""
    for dimensions in ({}, {"siteId": "1"}, {"siteId": "", "locationId": ""}):
        said = shop.post("onhand/reserve", shop.reservation(1, dimensions=dimensions)).json()
        assert (said["statusCode"], said["processingStatus"]) == (500, "failure")


def test_unconfigured_dimension_is_filtered(shop: Shop) -> None:
    """A dimension that is not reserved by is ignored where the configuration filters."""
    shop.post("onhand", shop.change(10))
    body = shop.reservation(1)
    body["dimensions"]["batchId"] = "B-7"
    assert shop.post("onhand/reserve", body).json()["statusCode"] == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"quantityDataSource": "fno", "modifier": "softreserved"}, 400),
        ({"quantityDataSource": "fno", "modifier": "physicalinvent"}, 400),
        ({"quantityDataSource": "iv", "modifier": "nosuch"}, 400),
        ({"quantityDataSource": "pos", "modifier": "inbound"}, 400),
        ({"dimensionDataSource": "nosuch"}, 400),
        ({"quantity": 0}, 400),
    ],
)
def test_caller_faults_are_400(shop: Shop, change: dict[str, Any], code: int) -> None:
    """What the caller got wrong is 400 on the wire and in the body, and reserves nothing."""
    shop.post("onhand", shop.change(10))
    answer = shop.post("onhand/reserve", {**shop.reservation(1), **change})
    assert answer.status_code == code
    assert answer.json()["statusCode"] == code
    assert shop.available() == 10


def test_erp_measures_are_read_only(shop: Shop) -> None:
    """Nobody changes or counts fno by this interface."""
    body = shop.subject(quantities={"fno": {"physicalinvent": 5}})
    assert shop.post("onhand", body).json()["statusCode"] == 400
    assert shop.post("setonhand/fno/bulk", [body]).json()[0]["statusCode"] == 400
    reserved = shop.subject(quantities={"iv": {"softreserved": 5}})
    assert shop.post("onhand", reserved).json()["statusCode"] == 400
    assert shop.available() == 0


def test_nested_quantities_reserve_too(shop: Shop) -> None:
    """The schema's other form of a reservation's quantity is taken."""
    shop.post("onhand", shop.change(10))
    body = shop.subject(quantities={"iv": {"softreserved": 3}})
    assert shop.post("onhand/reserve", body).json()["statusCode"] == 200
    assert shop.available() == 7


def test_same_reservation_again_is_the_first_answer(shop: Shop) -> None:
    """A retry gets the first answer, also of a refusal, in any order of members and in a bulk."""
    shop.post("onhand", shop.change(10))
    body = shop.reservation(6)
    first = shop.post("onhand/reserve", body).json()
    shuffled = dict(reversed(body.items()))
    shuffled["dimensions"] = dict(reversed(body["dimensions"].items()))
    assert shop.post("onhand/reserve", shuffled).json() == first
    assert shop.post("onhand/reserve/bulk", [body]).json() == [first]
    refused = shop.reservation(6)
    no = shop.post("onhand/reserve", refused).json()
    shop.post("onhand", shop.change(100))
    assert shop.post("onhand/reserve", refused).json() == no
    assert shop.available() == 104


def test_id_with_other_content_is_refused(shop: Shop) -> None:
    """An id names one request: with other content it is 409, and nothing happens."""
    shop.post("onhand", shop.change(10))
    shop.post("onhand/reserve", shop.reservation(1, "same-" + shop.product))
    other = shop.post("onhand/reserve", shop.reservation(2, "same-" + shop.product))
    assert other.status_code == 409
    assert shop.available() == 9


def test_bulk_reserves_each_for_itself(shop: Shop) -> None:
    """One record that is refused does not undo the others."""
    shop.post("onhand", shop.change(10))
    bodies = [shop.reservation(quantity) for quantity in (4, 7, 6)]
    answers = shop.post("onhand/reserve/bulk", bodies).json()
    assert [one["statusCode"] for one in answers] == [200, 500, 200]
    assert [one["id"] for one in answers] == ["ohre~" + body["id"] for body in bodies]
    assert shop.available() == 0


def test_bulk_takes_512_and_no_more(shop: Shop) -> None:
    """512 records are decided; 513 are refused whole."""
    bodies = [shop.reservation(1, ifCheckAvailForReserv=False) for _ in range(513)]
    refused = shop.post("onhand/reserve/bulk", bodies)
    assert refused.status_code == 400
    assert shop.available() == 0
    answers = shop.post("onhand/reserve/bulk", bodies[:512]).json()
    assert {one["statusCode"] for one in answers} == {200}
    assert shop.available() == -512


@pytest.mark.parametrize(
    ("held", "asked", "status", "invalid"),
    [(10, 12, "partialSuccess", 2), (100, 10, "success", 0), (5, 5, "success", 0)],
)
def test_unreserve(shop: Shop, held: int, asked: int, status: str, invalid: int) -> None:
    """What exceeds the reserved quantity is reported, and nothing goes below zero."""
    shop.post("onhand", shop.change(held))
    reservation = shop.post("onhand/reserve", shop.reservation(held)).json()["reservationId"]
    body = shop.reversal(asked, reservation)
    answer = shop.post("onhand/unreserve", body)
    assert answer.status_code == 200
    assert answer.json() == {
        "reservationId": reservation,
        "id": "ohoe~" + body["id"],
        "totalInvalidOffsetQtyByReservId": invalid,
        "processingStatus": status,
        "message": "",
        "statusCode": 200,
    }
    assert shop.available() == asked - invalid
    assert shop.post("onhand/unreserve", body).json() == answer.json()


def test_unreserve_of_another_id_or_place_changes_nothing(shop: Shop) -> None:
    """A wrong reservation id, or other dimensions, has no effect: all of it is invalid."""
    shop.post("onhand", shop.change(10))
    reservation = shop.post("onhand/reserve", shop.reservation(10)).json()["reservationId"]
    elsewhere = shop.reversal(5, reservation)
    elsewhere["dimensions"]["colorId"] = "blue"
    for body in (shop.reversal(5, "nosuch"), elsewhere):
        said = shop.post("onhand/unreserve", body).json()
        assert said["processingStatus"] == "failure"
        assert said["totalInvalidOffsetQtyByReservId"] == 5
    assert shop.available() == 0


def test_unreserve_bulk_and_ids_apart(shop: Shop) -> None:
    """A reservation and its reversal may carry the same event id; a bulk reverses each."""
    shop.post("onhand", shop.change(10))
    event = uuid.uuid4().hex
    reservation = shop.post("onhand/reserve", shop.reservation(10, event)).json()["reservationId"]
    bodies = [shop.reversal(4, reservation, event), shop.reversal(7, reservation)]
    answers = shop.post("onhand/unreserve/bulk", bodies).json()
    assert [one["totalInvalidOffsetQtyByReservId"] for one in answers] == [0, 1]
    assert shop.available() == 10


def test_honest_style_says_it_in_http(client: httpx.Client, shop: Shop) -> None:
    """In an honest environment a refusal is a problem with its own status, and explains itself."""
    honest = Shop(client=client, product=shop.product, base=f"/api/environment/{HONEST}/")
    honest.post("onhand", honest.change(10))
    refused = honest.post("onhand/reserve", honest.reservation(11))
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:holdfast:problem:insufficient-stock"
    assert refused.json()["available"] == 10
    assert honest.post("onhand/reserve", honest.reservation(-1)).status_code == 422
    missing = honest.post("onhand/reserve", honest.reservation(1, dimensions={}))
    assert missing.status_code == 400
    assert honest.post("onhand/reserve", honest.reservation(10)).status_code == 200
    unknown = honest.post("onhand/unreserve", honest.reversal(1, "nosuch"))
    assert unknown.status_code == 404


def test_honest_style_says_no_500_in_the_body_either(client: httpx.Client, shop: Shop) -> None:
    """A refusal's `statusCode` is the honest status, alone and in a bulk; a success stays 200."""
    honest = Shop(client=client, product=shop.product, base=f"/api/environment/{HONEST}/")
    honest.post("onhand", honest.change(10))
    bodies = [
        honest.reservation(11),
        honest.reservation(1, dimensions={}),
        honest.reservation(-1),
        honest.reservation(1, quantityDataSource="fno"),
        honest.reservation(1),
    ]
    expected = [409, 400, 422, 403, 200]
    listed = honest.post("onhand/reserve/bulk", bodies)
    assert listed.status_code == 200
    assert [one["statusCode"] for one in listed.json()] == expected
    for body, status in zip(bodies, expected, strict=True):
        alone = honest.post("onhand/reserve", {**body, "id": uuid.uuid4().hex})
        assert [alone.status_code, alone.json()["statusCode"]] == [status, status]


def test_refused_reservation_has_the_members_of_an_answered_one(shop: Shop) -> None:
    """Refused before it is sent, a reservation still answers an id and an empty reservation id."""
    body = shop.reservation(1, quantityDataSource="fno")
    alone = shop.post("onhand/reserve", body).json()
    (listed,) = shop.post("onhand/reserve/bulk", [body]).json()
    for answer in (alone, listed):
        assert answer["reservationId"] == ""
        assert answer["id"] == "ohre~" + body["id"]
        assert answer["statusCode"] == 400
    change = shop.change(1) | {"quantities": {"fno": {"physicalinvent": 1}}}
    assert "reservationId" not in shop.post("onhand", change).json()


def test_answer_says_where_the_write_lies(shop: Shop) -> None:
    """The position of a write is told, so that a query of another gateway can wait for it."""
    position = shop.post("onhand", shop.change(1)).headers["Holdfast-Position"]
    topic, partition, offset = position.split("/")
    assert topic == "inventory-transactions"
    assert int(partition) >= 0
    assert int(offset) >= 0
