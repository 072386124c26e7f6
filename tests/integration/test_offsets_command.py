"""`holdfast offsets`: the list of failed offsets on a real stack with a real worker."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from holdfast.cli import app
from producers.channel import ChannelClient, Item
from producers.settings import Settings
from schemas.codes import Code
from schemas.messages import TransactionStatus

pytestmark = pytest.mark.kafka

Run = Callable[..., Any]
PLACE = {"siteid": "1", "locationid": "11", "colorid": "red", "sizeid": "small"}


@pytest.fixture
def run(running: Settings, tmp_path: Path) -> Run:
    """Run `holdfast offsets` in this process, on that stack."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": running.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": running.registry_url,
        "HOLDFAST_SCHEMA_CACHE": running.schema_cache,
        "HOLDFAST_HOME": str(tmp_path),
    }
    return lambda *arguments: CliRunner().invoke(app, ["offsets", *arguments], env=environment)


@pytest.fixture
def item() -> Item:
    """A product nobody else uses."""
    return Item("usmf", f"P-{uuid.uuid4().hex[:8]}", PLACE)


def fail_offset(client: ChannelClient, item: Item, transaction: str, order: str) -> None:
    """Let an offset fail: nothing is reserved."""
    status = TransactionStatus(
        transaction_id=transaction,
        status="PICKED",
        sequence=1,
        quantity=4_000_000,
        order_id=order,
        auto_offset=True,
    )
    told = client.transaction(item, status, {"fno.physicalinvent": 10}, source="fno")
    assert told.code == Code.OFFSET_NOTHING_RESERVED


def listed(run: Run, item: Item) -> list[dict[str, Any]]:
    """The entries of a product."""
    result = run("failed", "--product", item.product_id, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_failed_offset_is_listed_retried_and_gone(
    run: Run, running: Settings, item: Item
) -> None:
    """Refused while nothing is reserved; done once it is; then off the list."""
    with ChannelClient(running) as client:
        fail_offset(client, item, f"T-{item.product_id}", "SO-1")
        (entry,) = listed(run, item)
        assert (entry["outcome"], entry["quantity"]) == ("OFFSET_NOTHING_RESERVED", "4")
        assert (entry["order_id"], entry["dimensions"]) == ("SO-1", PLACE)
        refused = run("retry", entry["failure_id"])
        assert refused.exit_code == 1, refused.output
        assert "OFFSET_NOTHING_RESERVED" in refused.stdout
        assert listed(run, item)[0]["tries"] == 2
        client.reserve(item, 4)
        done = run("retry", entry["failure_id"], "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["outcome"] == "ACCEPTED"
    assert listed(run, item) == []


def test_all_entries_of_an_order_are_dismissed(run: Run, running: Settings, item: Item) -> None:
    """--all with --order takes off what that order left, and nothing else."""
    order = f"SO-{item.product_id}"
    with ChannelClient(running) as client:
        for number in range(3):
            fail_offset(client, item, f"T{number}-{item.product_id}", order)
        fail_offset(client, item, f"T9-{item.product_id}", "SO-other")
    done = run("dismiss", "--all", "--order", order, "--actor", "anna")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("done") == 3
    assert [entry["order_id"] for entry in listed(run, item)] == ["SO-other"]
    text = run("failed", "--product", item.product_id)
    assert "order SO-other" in text.stdout


def test_an_unknown_entry_is_said_before_anything_is_asked(run: Run) -> None:
    """An id that is not in the list, and no id at all, are refused with what to do."""
    unknown = run("retry", "no-such-entry")
    assert (unknown.exit_code, "no-such-entry" in unknown.output) == (2, True)
    nothing = run("dismiss")
    assert (nothing.exit_code, "--all" in nothing.output) == (2, True)
