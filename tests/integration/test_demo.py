"""The demo as a new user runs it: nothing is running, and nothing is left behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.demo.scenarios import SCENARIOS

pytestmark = pytest.mark.kafka

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(240)
def test_demo_plays_every_scenario_from_nothing() -> None:
    """Without a stack the demo starts its own, plays all, prints the tables and one JSON line."""
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "demo", "--json"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    assert summary["ok"]
    assert summary["different"] == 0
    assert [one["scenario"] for one in summary["scenarios"]] == list(SCENARIOS)
    assert all(
        len(one["steps"]) == len(SCENARIOS[one["scenario"]].steps) for one in summary["scenarios"]
    )
    assert "worked-example" in done.stderr


def test_scenarios_are_listed() -> None:
    """--list names every scenario and starts nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", "demo", "--list"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(SCENARIOS)
