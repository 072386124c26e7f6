"""A throw-away stack with a worker: free ports, a temporary folder, gone at the end.

Addresses in the environment are not looked at: the demo plays with stock, and must not do that on
anybody's broker.
"""

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from compose.ports import choose_port
from compose.probes import http_answers
from compose.progress import Progress
from compose.settings import Settings as StackSettings
from compose.stack import Addresses, Stack
from holdfast.commands.topics import ensure_topics
from holdfast.connection import Stop
from producers.settings import Settings

PARTITIONS: Final = 2
WORKER_READY_S: Final = 60.0
WORKER_STOP_S: Final = 10.0
LOG_TAIL_LINES: Final = 20
SERVERS: Final = ("kafka", "registry")
# By this interpreter: it is this very code that runs.
WORKER: Final = (sys.executable, "-m", "holdfast", "worker")


@contextlib.contextmanager
def throw_away(progress: Progress) -> Iterator[Settings]:
    """Servers, topics and one worker of their own; everything is stopped and deleted at the end.

    Raises:
        StackError: a server cannot be had; the message says which and why.
        Stop: the worker ended at once; the message ends with its log.

    """
    home = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    stack = msgspec.structs.replace(StackSettings.from_environment(), home=home, external={})
    try:
        addresses = Stack.up(home, SERVERS, "free", progress, stack)
        settings = _producer_settings(addresses, home)
        progress("topics", f"making them with {PARTITIONS} partitions")
        ensure_topics(addresses, PARTITIONS, Console(stderr=True, quiet=True))
        progress("worker", "starting")
        with _worker(settings, home):
            yield settings
    finally:
        progress("stack", "stopping, and deleting what it kept")
        Stack.down(home, wipe=True)
        shutil.rmtree(home, ignore_errors=True)


def _producer_settings(addresses: Addresses, home: Path) -> Settings:
    assert addresses.kafka_bootstrap is not None
    assert addresses.registry_url is not None
    return Settings(
        bootstrap_servers=addresses.kafka_bootstrap,
        registry_url=addresses.registry_url,
        schema_cache=str(home / "schemas.json"),
    )


@contextlib.contextmanager
def _worker(settings: Settings, home: Path) -> Iterator[None]:
    log_path = home / "worker.log"
    http_port = choose_port(None)
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [
                *WORKER,
                *("--data-dir", str(home / "worker")),
                *("--bootstrap", settings.bootstrap_servers),
                *("--registry-url", settings.registry_url),
                *("--http-port", str(http_port)),
                *("--web-port", str(choose_port(None))),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to pass on, after the last step.
        )
    try:
        _wait_until_ready(process, http_port, log_path)
        yield
        if process.poll() is not None:
            raise Stop(f"the worker ended by itself:\n{log_tail(log_path)}")
    finally:
        process.terminate()
        try:
            process.wait(WORKER_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", http_port: int, log_path: Path) -> None:
    deadline_s = time.monotonic() + WORKER_READY_S
    while not http_answers(f"http://127.0.0.1:{http_port}/ready"):
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise Stop(f"the worker did not start:\n{log_tail(log_path)}")
        time.sleep(0.1)


def log_tail(path: Path) -> str:
    """Last lines of a log."""
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:])
