"""The page of the producers is true: what it shows runs, against a real stack."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from producers.channel import ChannelClient, Item
from producers.settings import Settings

pytestmark = pytest.mark.kafka

CHECKOUT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(
    r"^```python\n(.*?)^```",
    (CHECKOUT / "producers" / "README.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


def run(code: str, settings: Settings) -> str:
    """Run a block of the page as a program of its own; what it printed."""
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": settings.registry_url,
        "HOLDFAST_SCHEMA_CACHE": settings.schema_cache,
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_client_example_runs(running: Settings, of_its_own: Callable[[str], str]) -> None:
    """The example of the client holds a piece and confirms it, printing no refusal."""
    assert run(of_its_own(BLOCKS[0]), running) == ""


def test_example_with_stock_clients_runs(
    running: Settings, product: str, of_its_own: Callable[[str], str]
) -> None:
    """With a stock Kafka client, Avro and the registry alone, a request gets its answer."""
    code = of_its_own(BLOCKS[1])
    assert [float(word) for word in run(code, running).split()] == [60, 0]
    with ChannelClient(running) as client:
        red = Item("usmf", product, {"siteid": "1", "locationid": "11", "colorid": "red"})
        client.on_hand(red, {"fno.physicalinvent": 10}, source="fno")
    assert [float(word) for word in run(code, running).split()] == [1, 8]


def test_stock_example_uses_nothing_of_ours() -> None:
    """The example for any language imports no module of this repository."""
    imported = re.findall(r"^(?:import|from) (\w+)", BLOCKS[1], re.MULTILINE)
    assert not {"producers", "schemas", "processor", "holdfast"} & set(imported)
