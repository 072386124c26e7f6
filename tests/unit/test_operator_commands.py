"""What the people's commands need to know, and how they say what keeps a program from starting."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from compose.ports import LOOPBACK
from holdfast.cli import app
from holdfast.commands import audit as audit_command
from holdfast.connection import Stop, find_settings
from processor import worker
from processor.engine.app import _instance_name
from processor.engine.faults import Fault
from processor.inventory.audit import Drift
from processor.probes import NotListening as ProbesNotListening, serve_probes
from processor.settings import from_environment
from producers.listen import NotListening, listener
from producers.scm import metrics
from producers.scm.health import Health
from schemas.access import WRITE

runner = CliRunner()


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No stack runs here, and the environment names no server."""
    monkeypatch.setenv("HOLDFAST_HOME", str(tmp_path))
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("text", ["inf", "1e400d", "1e30d", "nan", "soon", "5w"])
def test_a_duration_that_no_record_can_say_is_refused_in_words(text: str) -> None:
    """Before anybody is asked: no stack is known here."""
    place = ["--org", "usmf", "--site", "1", "--warehouse", "11"]
    told = runner.invoke(app, ["reserve", "D0002", "1", *place, "--expires-in", text])
    assert told.exit_code == 2, told.output
    assert f"'{text}' is not a duration" in told.output


def test_a_command_needs_only_the_servers_that_it_asks() -> None:
    """A broker for `topics check`, a registry for `schemas check`; both are missed by name."""
    assert find_settings("broker:9092", needs="broker").bootstrap_servers == "broker:9092"
    assert find_settings(None, "http://registry", needs="registry").registry_url == (
        "http://registry"
    )
    with pytest.raises(Stop, match="bootstrap_servers"):
        find_settings(None, "http://registry", needs="broker")
    with pytest.raises(Stop, match="registry_url"):
        find_settings("broker:9092")


def test_an_address_that_is_taken_is_said() -> None:
    """By the gateway's and the webhook's listener, and by the probes of all programs."""
    with listener(LOOPBACK, 0, backlog=1) as taken:
        port = taken.getsockname()[1]
        words = f"{LOOPBACK}:{port}: Address already in use"
        with pytest.raises(NotListening, match=words):
            listener(LOOPBACK, port, backlog=1)
        with pytest.raises(NotListening, match=words):
            Health(port)
        with pytest.raises(ProbesNotListening, match=words):
            serve_probes(port, lambda: True)


def test_a_connector_of_any_kind_says_that_its_source_is_up() -> None:
    """A webhook and a file, too: an alert on 0 would never end."""
    metrics.SOURCE_UP.set(0)
    Health(0).set_ready()
    assert metrics.SOURCE_UP._value.get() == 1


def test_every_line_of_a_workers_log_is_json_where_json_is_asked_for() -> None:
    """Also those of the libraries."""
    program = (
        "import logging, structlog; from processor.worker import configure_logging;"
        "configure_logging('json'); structlog.get_logger().info('ready', partitions=4);"
        "logging.getLogger('aiokafka').warning('no broker %s', 'b1')"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    own, other = map(json.loads, told.stderr.splitlines())
    assert (own["event"], own["partitions"]) == ("ready", 4)
    assert (other["event"], other["logger"], other["level"]) == (
        "no broker b1",
        "aiokafka",
        "warning",
    )
    assert own["timestamp"]
    assert other["timestamp"]


@pytest.mark.parametrize("program", ["worker", "gateway", "view run", "connector run"])
def test_another_log_format_than_there_is_is_refused(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt one would be taken for the console's."""
    monkeypatch.setenv("HOLDFAST_LOG_FORMAT", "JSON")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "broker:9092")
    monkeypatch.setenv("SCHEMA_REGISTRY_URL", "http://registry")
    monkeypatch.setenv("REDIS_URL", "redis://cache")
    monkeypatch.setenv("HOLDFAST_DATA_DIR", "/nowhere")
    source = ["--file", "moves.csv"] if program == "connector run" else []
    found = runner.invoke(app, [*program.split(), *source])
    assert found.exit_code == 2
    assert "log_format" in found.stderr


def drift(kind: Any, place: str) -> Drift:
    """A finding of the audit."""
    return Drift(
        kind=kind, organization_id="usmf", product_id="A", place=place, expected=1, found=2
    )


def test_an_audit_lists_contradictions_first_and_all_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind many levels that are merely short, the one that is wrong would not be seen."""
    short = [drift("short", f"level {number}") for number in range(audit_command.SHOWN_MAX)]
    monkeypatch.setattr(
        audit_command, "_audit", lambda _: ([*short, drift("level-total", "the wrong one")], 9)
    )
    found = runner.invoke(app, ["audit", "--bootstrap", "broker:9092"])
    assert found.exit_code == 1
    lines = found.stdout.splitlines()
    assert lines[0].startswith("level-total: the wrong one")
    assert lines[-2:] == [
        "and 1 more: --all lists them",
        "9 rows: 1 drifts, 50 levels short of supply",
    ]
    found = runner.invoke(app, ["audit", "--bootstrap", "broker:9092", "--all", "--json"])
    assert len(found.stdout.splitlines()) == audit_command.SHOWN_MAX + 2
    assert json.loads(found.stdout.splitlines()[-1])["drifts"] == 1


def test_an_audit_without_a_broker_ends_as_other_commands_do() -> None:
    """Exit code 2, and what to do."""
    found = runner.invoke(app, ["audit"])
    assert found.exit_code == 2
    assert "make run" in found.stderr


def test_the_saved_table_as_json() -> None:
    """Every figure with floor, goal and what was seen."""
    found = runner.invoke(app, ["bench", "table", "--saved", "--json"])
    (line,) = found.stdout.splitlines()
    figures = json.loads(line)["figures"]
    assert {"figure", "floor", "goal", "seen", "verdict"} <= set(figures[0])


def test_a_token_comes_from_the_identity_provider_that_the_gateway_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder may be named; where another provider is set, there is none to give one."""
    monkeypatch.setenv("HOLDFAST_TOKEN_LOCAL_KEYS", str(tmp_path / "keys"))
    assert runner.invoke(app, ["token"]).exit_code == 0
    assert any((tmp_path / "keys").iterdir())
    monkeypatch.delenv("HOLDFAST_TOKEN_LOCAL_KEYS")
    monkeypatch.setenv("HOLDFAST_TOKEN_ISSUER", "https://login.example")
    found = runner.invoke(app, ["token"])
    assert found.exit_code == 2
    assert "HOLDFAST_TOKEN_JWKS_URL" in found.stderr


def test_a_worker_asks_for_its_right_to_every_reply_topic(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Refused at the first reply, it would end at that record again and again."""
    asked: dict[str, Any] = {}
    application = SimpleNamespace(changelog="changelog")
    monkeypatch.setattr(worker, "refusal", lambda _: "")
    monkeypatch.setattr(worker, "create_app", lambda *_: application)
    monkeypatch.setattr(
        worker, "lacking", lambda _, **words: asked.update(words) or "Write on topic replies"
    )
    settings = from_environment(
        {"data_dir": tmp_path, "bootstrap_servers": "b:1", "reply_topics": "replies,others"},
        environment={"SCHEMA_REGISTRY_URL": "http://registry"},
    )
    with pytest.raises(Fault, match="Write on topic replies"):
        worker.run(settings, cast("Any", None))
    assert asked["of_topics"]["replies"] == asked["of_topics"]["others"] == WRITE


def test_a_data_directory_has_one_name_for_life(tmp_path: Path) -> None:
    """Also where a crash left an empty file: two workers of one name would end each other."""
    (tmp_path / "instance-id").write_text("")
    settings: Any = SimpleNamespace(data_dir=tmp_path)
    name = _instance_name(settings)
    assert name
    assert _instance_name(settings) == name
    assert [path.name for path in tmp_path.iterdir()] == ["instance-id"]
