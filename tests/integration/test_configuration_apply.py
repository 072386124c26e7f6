"""`holdfast config` against real servers and a real worker."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from holdfast.cli import app
from holdfast.configuration_topic import Applying, history
from holdfast.connection import Stop
from processor.inventory.configuration import Configuration, default, dump
from producers.channel.client import connect_codec
from producers.settings import Settings

pytestmark = pytest.mark.kafka

Run = Callable[..., Any]


@pytest.fixture
def run(running: Settings, tmp_path: Path) -> Run:
    """Run a command in this process, on the running stack."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": running.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": running.registry_url,
        "HOLDFAST_SCHEMA_CACHE": running.schema_cache,
        "HOLDFAST_HOME": str(tmp_path),
    }
    return lambda *arguments: CliRunner().invoke(app, arguments, env=environment)


def written(path: Path, document: Configuration) -> str:
    """Write the document to a file and return its name."""
    path.write_text(dump(document), encoding="utf-8")
    return str(path)


def said(result: Any) -> dict[str, Any]:
    """Last line of standard output, as JSON."""
    return dict(json.loads(result.stdout.strip().splitlines()[-1]))


def test_apply_reaches_every_partition_and_only_forward(
    running: Settings, run: Run, tmp_path: Path
) -> None:
    """A version is answered by every partition, is listed and shown; an older one is refused."""
    versions = history(running)
    newest = versions[-1].version if versions else 0
    # Only the comment changes: other tests share this worker.
    document = msgspec.structs.replace(default(), version=newest + 1_000, comment="a test's")
    file = written(tmp_path / "first.yaml", document)

    applied = run("config", "apply", file, "--json", "--actor", "tester")
    assert applied.exit_code == 0, applied.output
    answer = said(applied)
    assert answer["in_force"] == answer["partitions"] > 1
    assert (answer["refused"], answer["silent"]) == ({}, [])

    shown = run("config", "show", "--json")
    assert msgspec.json.decode(shown.stdout, type=Configuration) == document
    listed = json.loads(run("config", "history", "--json").stdout)
    assert (listed[-1]["version"], listed[-1]["comment"]) == (document.version, "a test's")

    older = msgspec.structs.replace(document, version=document.version - 1)
    refused = run("config", "apply", written(tmp_path / "older.yaml", older))
    assert refused.exit_code == 1
    assert f"set version: {document.version + 1}" in refused.output

    again = run("config", "apply", file, "--json")
    assert again.exit_code == 0, again.output
    assert said(again)["in_force"] == answer["partitions"]


def test_what_would_corrupt_is_not_written(running: Settings, run: Run, tmp_path: Path) -> None:
    """A document that renames a stored measure never reaches the topic."""
    before = len(history(running))
    sources = {name: one for name, one in default().data_sources.items() if name != "iom"}
    document = msgspec.structs.replace(default(), data_sources=sources)
    result = run("config", "apply", written(tmp_path / "bad.yaml", document), "--next")
    assert result.exit_code == 1
    assert "data_sources.iom" in result.output
    assert "would corrupt" in result.output
    assert len(history(running)) == before


def test_who_applies_at_the_same_time_is_fenced(running: Settings) -> None:
    """Of two that apply at once the first can no longer write, and leaves nothing behind."""
    codec = connect_codec(running)
    before = [one.version for one in history(running)]
    first = Applying(running, codec)
    Applying(running, codec)
    version = (before[-1] if before else 0) + 1
    with pytest.raises(Stop, match="Nothing was written"):
        first.write(msgspec.structs.replace(default(), version=version), "")
    assert [one.version for one in history(running)] == before
