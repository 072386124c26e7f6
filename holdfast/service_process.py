"""Worker, view, gateway or connector as a child process of this interpreter.

The rule: it is started in a session of its own, waited for until it says that it is ready, and
ended by its pid; what it says goes to a log that errors quote.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from compose.ports import choose_port
from compose.probes import http_answers

READY_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 10.0
POLL_SECONDS: Final = 0.1
LOG_TAIL_LINES: Final = 20


class ServiceEndedError(Exception):
    """The service did not get as far as being ready; the text ends with its log."""


class Service:
    """One running service.

    Attributes:
        name: what messages call it.
        ready_url: answers 200 once it does its work.
        log_path: what it says.

    """

    def __init__(
        self, name: str, process: "subprocess.Popen[bytes]", ready_url: str, log_path: Path
    ) -> None:
        self._process = process
        self.name = name
        self.ready_url = ready_url
        self.log_path = log_path

    def wait_until_ready(self) -> None:
        """Return when it does its work.

        Raises:
            ServiceEndedError: it ended, or is not ready within `READY_SECONDS_MAX`.

        """
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not http_answers(self.ready_url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServiceEndedError(f"the {self.name} did not start; {self.log_tail()}")
            time.sleep(POLL_SECONDS)

    @property
    def http_port(self) -> int:
        """Where it says whether it is ready, and its metrics are."""
        port = urlsplit(self.ready_url).port
        assert port is not None
        return port

    @property
    def exit_code(self) -> int | None:
        """Exit code, None while it runs."""
        return self._process.poll()

    def log_tail(self) -> str:
        """The end of its log, with its path."""
        lines = self.log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"its log, {self.log_path}, ends:", *lines])

    def stop(self) -> None:
        """Ask it to hand over and end; past the bound, end it."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start_service(
    name: str,
    words: Sequence[object],
    *,
    ready_url: str,
    log_path: Path,
    environment: Mapping[str, str] | None = None,
) -> Service:
    """Start `holdfast` with these words."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "holdfast", *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is the parent's to pass on, once.
        )
    return Service(name, process, ready_url, log_path)


def start_worker(*, bootstrap: str, registry_url: str, data_dir: Path, http_port: int) -> Service:
    """Start a worker over these servers."""
    words: list[object] = ["worker", "--data-dir", data_dir, "--bootstrap", bootstrap]
    words += ["--registry-url", registry_url, "--http-port", http_port]
    ready_url = f"http://127.0.0.1:{http_port}/ready"
    return start_service(
        "worker", words, ready_url=ready_url, log_path=data_dir.with_suffix(".log")
    )


@contextlib.contextmanager
def worker_process(*, bootstrap: str, registry_url: str, data_dir: Path) -> Iterator[Service]:
    """Run a worker over these servers; it is ended when the context is left."""
    worker = start_worker(
        bootstrap=bootstrap,
        registry_url=registry_url,
        data_dir=data_dir,
        http_port=choose_port(None),
    )
    try:
        yield worker
    finally:
        worker.stop()
