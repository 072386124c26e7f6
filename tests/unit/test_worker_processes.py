"""A worker of several processes: what each of them is started with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from holdfast.cli import app
from holdfast.commands import worker

ENVIRONMENT = {
    "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "SCHEMA_REGISTRY_URL": "http://127.0.0.1:2",
    "HOLDFAST_HTTP_PORT": "9000",
    "HOLDFAST_GROUP_INSTANCE_ID": "north",
}


@pytest.mark.parametrize("by_option", [True, False])
def test_no_two_processes_share_ports_directory_or_instance_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_option: bool
) -> None:
    """Whether these came by option or by environment, which the processes inherit."""
    started: list[Sequence[str]] = []

    def run_processes(commands: Sequence[Sequence[str]]) -> int:
        started.extend(commands)
        return 0

    monkeypatch.setattr(worker, "run_processes", run_processes)
    options: list[Any] = ["--data-dir", str(tmp_path), "--processes", "2"]
    environment = dict(ENVIRONMENT)
    if by_option:
        for name in ("HTTP_PORT", "GROUP_INSTANCE_ID"):
            value = environment.pop(f"HOLDFAST_{name}")
            options += [f"--{name.lower().replace('_', '-')}", value]
    answer = CliRunner().invoke(app, ["worker", *options], env=environment)
    assert answer.exit_code == 0, answer.output
    told = [dict(zip(one[::2], one[1::2], strict=True)) for one in started]
    assert [one["--http-port"] for one in told] == ["9000", "9001"]
    assert [one["--group-instance-id"] for one in told] == ["north-1", "north-2"]
    assert [one["--data-dir"] for one in told] == [
        str(tmp_path / "process-1"),
        str(tmp_path / "process-2"),
    ]
