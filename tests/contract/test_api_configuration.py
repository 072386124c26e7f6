"""configuration and configuration/hardupdate: shown and applied in the original's words."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from holdfast.gateway_wiring import TopicConfigurations
from producers.channel.client import connect_codec
from producers.settings import Settings
from tests.support.eventually import eventually
from tests.support.gateway import BASE, Shop

pytestmark = pytest.mark.kafka


def shown(client: httpx.Client) -> dict[str, Any]:
    """The document in force."""
    return dict(client.get(BASE + "configuration").json())


@pytest.fixture
def restored(client: httpx.Client) -> Iterator[dict[str, Any]]:
    """The document in force, which is in force again afterwards."""
    before = shown(client)
    yield before
    assert client.post(BASE + "configuration/hardupdate", json=before).status_code == 200


def test_document_is_shown_in_the_originals_words(client: httpx.Client) -> None:
    """Sources, formulas, mappings, index sets, keys and the partition rule, in lower case."""
    document = shown(client)
    assert document["environmentId"] == "default"
    sources = document["inventorySystemConfigurations"]
    assert sources["pos"]["physicalMeasures"] == ["inbound", "outbound"]
    assert sources["iv"]["reservMappings"]["softreserved"] == "iv.availabletoreserve"
    formula = sources["iv"]["calculatedMeasures"]["availabletoreserve"]
    assert "pos.inbound" in formula["additionModifiers"]
    assert "iv.softreserved" in formula["subtractionModifiers"]
    assert sources["fno"]["dimensionMappings"]["inventcolorid"] == "colorid"
    assert document["reservConfiguration"]["keys"][:2] == ["siteid", "locationid"]
    partition = document["indexConfiguration"]["partitionKeyAttributes"]
    assert partition == {"setNumber": 0, "keys": ["siteid", "locationid"]}


def test_strict_hierarchy_refuses_a_dimension_that_is_empty(
    client: httpx.Client, shop: Shop, restored: dict[str, Any]
) -> None:
    """With keys (site, location) of version 0 a colour is 400, even an empty one; 1 filters it."""
    predefined = {
        "physicalMeasures": ["@softreserved"],
        "calculatedMeasures": {
            "@available_to_reserve": {
                "additionModifiers": ["iom.onhand"],
                "subtractionModifiers": ["@iv.@softreserved"],
            }
        },
        "reservMappings": {"@softreserved": "@iv.@available_to_reserve"},
    }
    keys = ["siteid", "locationid"]
    shop.post("onhand", shop.subject(quantities={"iom": {"onhand": 10}}))
    for version, status in ((0, 400), (1, 200)):
        document = {
            "inventorySystemConfigurations": {"@iv": predefined},
            "reservConfiguration": {"isReservEnabled": True, "version": version, "keys": keys},
        }
        applied = client.post(BASE + "configuration/hardupdate", json=document)
        assert applied.status_code == 200, applied.text
        assert applied.json()["inForce"] == applied.json()["partitions"]
        body = shop.reservation(1, quantityDataSource="@iv", modifier="@softreserved")
        body["dimensions"]["colorId"] = ""
        said = shop.post("onhand/reserve", body).json()
        assert said["statusCode"] == status, said
        body["dimensions"].pop("colorId")
        plain = shop.post("onhand/reserve", {**body, "id": body["id"] + "-plain"})
        assert plain.json()["statusCode"] == 200
    assert restored["configurationVersion"] < shown(client)["configurationVersion"]


@pytest.mark.parametrize(
    "change",
    [
        {"cachePartitionIdVersion": "byProductId"},
        {"inventorySystemConfigurations": {"iv": {"reservMappings": {"ordered": "iv.nosuch"}}}},
        {
            "inventorySystemConfigurations": {
                "pos": {"calculatedMeasures": {"a": {"additionModifiers": ["pos.nosuch"]}}}
            }
        },
        {"reservConfiguration": {"version": 0, "keys": ["siteid", "locationid", "nosuch"]}},
    ],
)
def test_update_that_would_corrupt_is_refused_with_the_reason(
    client: httpx.Client, shop: Shop, change: dict[str, Any]
) -> None:
    """Another partition rule, unknown measures and dimensions: 422, and the old one stays."""
    shop.post("onhand", shop.change(1))
    before = shown(client)
    body = {"inventorySystemConfigurations": {}, **change}
    answer = client.post(BASE + "configuration/hardupdate", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert shown(client) == before


def test_version_applied_elsewhere_is_taken_over(
    http_stack: Settings, client: httpx.Client, shop: Shop
) -> None:
    """Within seconds a gateway shows and works by a version that somebody else applied."""
    elsewhere = TopicConfigurations(http_stack, connect_codec(http_stack))
    document = elsewhere.current()
    document["data_sources"]["web"] = {
        "physical_measures": ["sold"],
        "dimension_mappings": {"shop": "siteid", "shelf": "locationid"},
    }
    applied = elsewhere.apply(document, "somebody")
    assert applied.in_force == applied.partitions
    eventually(lambda: "web" in shown(client)["inventorySystemConfigurations"])
    body = shop.subject(quantities={"web": {"sold": 1}}, dimensionDataSource="web")
    body["dimensions"] = {"shop": "1", "shelf": "11"}
    assert shop.post("onhand", body).json()["statusCode"] == 200


def wipe(client: httpx.Client) -> None:
    """Leave nothing anywhere, as the original's tests do before they begin."""
    for partition in client.get(BASE + "allpartitionids").json():
        done = client.request("DELETE", BASE + "partitions/cleanupalldata", json=[partition])
        assert done.status_code == 200
    assert client.get(BASE + "allpartitionids").json() == []


def test_partition_rule_changes_where_everything_was_wiped(
    client: httpx.Client, shop: Shop
) -> None:
    """Wiped, a deployment goes to by product and back, as the original's tests ask; else 422."""
    before = shown(client)
    nowhere = Shop(client=client, product=shop.product, dimensions={})
    for rule, without_place in (("ByProductId", 200), (before["cachePartitionIdVersion"], 500)):
        wipe(client)
        document = {**before, "cachePartitionIdVersion": rule}
        assert client.post(BASE + "configuration/hardupdate", json=document).status_code == 200
        assert shown(client)["cachePartitionIdVersion"].lower() == rule.lower()
        shop.post("onhand", shop.change(5))
        nowhere.post("onhand", nowhere.change(5))
        assert shop.post("onhand/reserve", shop.reservation(1)).json()["statusCode"] == 200
        answer = nowhere.post("onhand/reserve", nowhere.reservation(1)).json()
        assert answer["statusCode"] == without_place
        other = "ByLocation" if rule == "ByProductId" else "ByProductId"
        document = {**before, "cachePartitionIdVersion": other}
        assert client.post(BASE + "configuration/hardupdate", json=document).status_code == 422
        assert shown(client)["cachePartitionIdVersion"].lower() == rule.lower()
    wipe(client)
