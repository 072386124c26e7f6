"""The page of the producers is true: what it shows runs, against a real stack."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_client_example_runs(running: Settings) -> None:
    """The example of the client holds a piece and confirms it, printing no refusal."""
    assert run(BLOCKS[0], running) == ""


def test_example_with_stock_clients_runs(running: Settings) -> None:
    """With a stock Kafka client, Avro and the registry alone, a request gets its answer."""
    code, available = run(BLOCKS[1], running).split()
    assert int(code) in {1, 60}
    assert float(available) == int(float(available))


def test_stock_example_uses_nothing_of_ours() -> None:
    """The example for any language imports no module of this repository."""
    imported = re.findall(r"^(?:import|from) (\w+)", BLOCKS[1], re.MULTILINE)
    assert not {"producers", "schemas", "processor", "holdfast"} & set(imported)
