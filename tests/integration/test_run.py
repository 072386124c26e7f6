"""`make run`: all comes up, the lines it prints work as they stand, Ctrl-C ends it all."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.stack import Stack
from tests.support.eventually import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]

README = Path(__file__).resolve().parents[2] / "README.md"
UP_WITHIN_S = 150.0
END_WITHIN_S = 60.0
ADDRESSES = ("KAFKA_BOOTSTRAP_SERVERS", "SCHEMA_REGISTRY_URL", "REDIS_URL", "POSTGRES_DSN")


class Running:
    """One `holdfast run` with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log_path = home / "run.log"
        kept = {name: value for name, value in os.environ.items() if name not in ADDRESSES}
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "holdfast", "run", "--partitions", "2"],
                env={**kept, "HOLDFAST_HOME": str(home / "stack")},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self) -> str:
        """What it has printed so far."""
        return self.log_path.read_text(errors="replace")

    def is_up(self) -> bool:
        """Whether it has told what to try."""
        if self.process.poll() is not None:
            raise RuntimeError(f"it ended:\n{self.said()}")
        return "holdfast watch" in self.said()

    def lines_to_try(self) -> list[str]:
        """The lines for another terminal, the token first."""
        return re.findall(r"^  ((?:TOKEN=|curl ).*)$", self.said(), re.MULTILINE)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Everything, up; ended whatever the tests do. The last of them ends it."""
    home = tmp_path_factory.mktemp("run")
    run = Running(home)
    try:
        eventually(run.is_up, within_s=UP_WITHIN_S)
        yield run
    finally:
        run.process.send_signal(signal.SIGTERM)
        try:
            run.process.wait(END_WITHIN_S)
        finally:
            Stack.down(home / "stack")


def bash(lines: list[str]) -> str:
    """What these lines print in a shell."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_printed_lines_work(running: Running) -> None:
    """Stock in, one reserved, and the query sees both."""
    token, stock, reserve, query = running.lines_to_try()
    assert json.loads(bash([token, stock]))["processingStatus"] == "success"
    reserved = json.loads(bash([token, reserve]))
    assert reserved["processingStatus"] == "success"
    assert reserved["reservationId"]
    (row,) = json.loads(bash([token, query]))
    assert row["quantities"]["pos"]["inbound"] == 10
    assert row["quantities"]["iv"]["softreserved"] == 1
    assert row["quantities"]["iv"]["availabletoreserve"] == 9


def test_the_lines_of_the_readme_work(running: Running) -> None:
    """Reserve, query, show and release over HTTP, as the first screen of the README has it."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    (block,) = [found for found in blocks if "GATEWAY=" in found]
    block = block.replace(":8080", f":{_gateway_port(running)}")
    block = block.replace(".venv/bin/holdfast", f"{sys.executable} -m holdfast")
    said = bash([f"export HOLDFAST_HOME={running.home / 'stack'}", block])
    stock, reserved, left, released = map(json.loads, said.strip().splitlines())
    assert stock["processingStatus"] == "success"
    assert reserved["processingStatus"] == "success"
    (row,) = left
    assert row["quantities"]["iv"]["availabletoreserve"] == 9
    assert released["code"] == "ACCEPTED", released


def test_a_service_that_dies_is_started_again(running: Running) -> None:
    """A killed gateway comes back behind the same address, and says why in the console."""
    (pid,) = _pids(f"-m holdfast gateway --port {_gateway_port(running)}")
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: "the gateway ended with -9" in running.said())
    token, stock, *_ = running.lines_to_try()
    again = "curl --retry 30 --retry-connrefused --retry-delay 1"
    answer = bash([token, stock.replace("curl", again, 1)])
    assert json.loads(answer)["processingStatus"] == "success"


def test_ctrl_c_ends_everything(running: Running) -> None:
    """No process of it is left."""
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(END_WITHIN_S) == 0, running.said()
    assert str(running.home) not in _command_lines()


def _gateway_port(running: Running) -> str:
    found = re.search(r"Gateway +http://127.0.0.1:(\d+)", running.said())
    assert found is not None
    return found[1]


def _processes() -> dict[int, str]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
            except OSError:
                continue  # It has ended meanwhile.
            found[int(folder.name)] = words.decode(errors="replace")
    return found


def _command_lines() -> str:
    own = os.getpid()
    return "\n".join(words for pid, words in _processes().items() if pid != own)


def _pids(words: str) -> list[int]:
    return [pid for pid, found in _processes().items() if words in found]
