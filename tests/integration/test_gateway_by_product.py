"""The gateway where the partition is that of the product: the original's matrix, other column."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from compose.stack import LocalStack
from holdfast.cli import app
from holdfast.commands.topics import ensure_topics
from holdfast.service_process import worker_process
from processor.inventory.configuration import PartitionRule, default, dump
from producers.settings import Settings
from tests.support.gateway import Shop, gateway_process, view_process

pytestmark = pytest.mark.kafka


def by_product(settings: Settings, folder: Path) -> None:
    """Put the rule to work, before anything is there."""
    document = msgspec.structs.replace(
        default(), version=2, partition=PartitionRule(rule="by-product")
    )
    file = folder / "by-product.yaml"
    file.write_text(dump(document))
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": settings.registry_url,
        "HOLDFAST_SCHEMA_CACHE": settings.schema_cache,
        "HOLDFAST_HOME": str(folder),
    }
    words = ["migrate", str(file), "--partitions", "2", "--yes"]
    moved = CliRunner().invoke(app, words, env=environment)
    assert moved.exit_code == 0, moved.output


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Client of a gateway over a stack that partitions by product."""
    folder = tmp_path_factory.mktemp("by-product")
    with LocalStack(folder / "stack", servers=("kafka", "registry", "redis")) as stack:
        places = stack.addresses
        assert places.kafka_bootstrap is not None
        assert places.registry_url is not None
        assert places.redis_url is not None
        settings = Settings(
            bootstrap_servers=places.kafka_bootstrap,
            registry_url=places.registry_url,
            schema_cache=str(folder / "schemas.json"),
        )
        ensure_topics(places, 2, Console(quiet=True))

        def working() -> Any:
            return worker_process(
                bootstrap=settings.bootstrap_servers,
                registry_url=settings.registry_url,
                data_dir=folder / "worker",
            )

        with working() as worker:  # There must be a group before it can be seen to be empty.
            worker.wait_until_ready()
        by_product(settings, folder)
        with (
            working() as worker,
            view_process(settings, places.redis_url, folder / "view"),
            gateway_process(
                settings, folder / "gateway", {"REDIS_URL": places.redis_url}
            ) as gateway,
            gateway.client() as client,
        ):
            worker.wait_until_ready()
            yield client


@pytest.fixture
def shop(client: httpx.Client) -> Shop:
    """A product nobody else uses, in no warehouse."""
    return Shop(client=client, product=f"P-{uuid.uuid4().hex[:10]}", dimensions={})


def test_stock_and_reservations_need_no_place(shop: Shop) -> None:
    """Posted without site and warehouse, reserved without them: 200, and counted together."""
    elsewhere = shop.change(4)
    elsewhere["dimensions"] = {"siteId": "1", "locationId": "11"}
    assert shop.post("onhand", shop.change(6)).json()["statusCode"] == 200
    assert shop.post("onhand", elsewhere).json()["statusCode"] == 200
    body = shop.reservation(10)
    assert shop.post("onhand/reserve", body).json()["statusCode"] == 200
    assert shop.post("onhand/reserve", shop.reservation(1)).json()["statusCode"] == 500
    assert shop.available() == 0


def test_queries_need_a_product_and_no_place(shop: Shop) -> None:
    """By product alone all places are added up; without a product both queries are refused."""
    for warehouse in ("11", "12"):
        body = shop.change(5)
        body["dimensions"] = {"siteId": "1", "locationId": warehouse}
        shop.post("onhand", body)
    subject: dict[str, Any] = {"organizationId": "usmf", "productId": shop.product}
    rows = shop.post("onhand/indexquery", {"filters": subject}).json()
    assert rows[0]["quantities"]["pos"]["inbound"] == 10
    tuples = {"dimensions": ["locationId"], "values": [["12"]]}
    nowhere = {"dimensions": [], "values": [[]]}
    everywhere = shop.post("onhand/exactquery", {"filters": {**subject, **nowhere}}).json()
    assert everywhere[0]["quantities"]["pos"]["inbound"] == 10
    exact = shop.post("onhand/exactquery", {"filters": {**subject, **tuples}}).json()
    assert exact[0]["dimensions"] == {"locationid": "12"}
    assert exact[0]["quantities"]["pos"]["inbound"] == 5
    place = {"organizationId": "usmf", "siteId": "1", "locationId": "11"}
    assert shop.post("onhand/indexquery", {"filters": place}).status_code == 400
    nameless = {"organizationId": "usmf", **tuples}
    assert shop.post("onhand/exactquery", {"filters": nameless}).status_code == 400


def test_configuration_says_so(client: httpx.Client) -> None:
    """The document shows the rule by the original's name."""
    shown = client.get("/api/environment/default/configuration").json()
    assert shown["cachePartitionIdVersion"] == "byProductId"
    assert shown["partitionConfiguration"]["useProductId"] is True
