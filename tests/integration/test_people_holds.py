"""Commands on one hold, on a real stack: extend, confirm, amend, transfer."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from holdfast.cli import app
from producers.settings import Settings

pytestmark = pytest.mark.kafka

PLACE = ("--org", "usmf", "--site", "1", "--warehouse", "11", "--color", "red", "--size", "small")
Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(running: Settings, tmp_path: Path) -> Run:
    """Run a command with --json; gives its exit code and what it said."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": running.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": running.registry_url,
        "HOLDFAST_SCHEMA_CACHE": running.schema_cache,
        "HOLDFAST_HOME": str(tmp_path),
    }

    def invoke(*words: str) -> tuple[int, dict[str, Any]]:
        result = CliRunner().invoke(app, [*words, *PLACE, "--json"], env=environment)
        assert result.stdout, result.output
        return result.exit_code, dict(json.loads(result.stdout.strip().splitlines()[-1]))

    return invoke


def test_one_hold_is_extended_confirmed_amended_and_moved(run: Run) -> None:
    """Each command names the hold, exits 0 and says what is held and left now."""
    product = f"P-{uuid.uuid4().hex[:8]}"
    run("onhand", product, "10")
    _, held = run("reserve", product, "2", "--expires-in", "10m")
    hold = held["lines"][0]["hold_id"]
    code, extended = run("extend", product, hold, "--expires-in", "1d")
    assert code == 0
    assert extended["lines"][0]["hold_id"] == hold
    assert run("confirm", product, hold)[0] == 0
    code, amended = run("amend", product, hold, "7.5")
    assert code == 0
    assert (amended["lines"][0]["quantity"], amended["lines"][0]["available"]) == ("7.5", "2.5")
    code, refused = run("transfer", product, hold, "--to", "colorid=blue")
    assert (code, refused["lines"][0]["outcome"]) == (1, "INSUFFICIENT_STOCK")


def test_a_hold_moves_to_another_colour(run: Run) -> None:
    """What --to does not name stays; the hold gets another id, the old one is closed."""
    product = f"P-{uuid.uuid4().hex[:8]}"
    run("onhand", product, "3")
    _, held = run("reserve", product, "3")
    hold = held["lines"][0]["hold_id"]
    code, _ = run("onhand", product, "3", "-d", "colorid=blue")
    assert code == 0
    code, moved = run("transfer", product, hold, "--to", "colorid=blue", "--quantity", "1")
    assert code == 0, moved
    assert moved["lines"][0]["hold_id"] not in ("", hold)
    assert (moved["lines"][0]["quantity"], moved["lines"][0]["available"]) == ("1", "2")
    assert run("amend", product, moved["lines"][0]["hold_id"], "1", "-d", "colorid=blue")[0] == 0
    code, gone = run("confirm", product, hold)
    assert (code, gone["lines"][0]["outcome"]) == (1, "HOLD_CLOSED")
