"""A worker as a child process: started by this interpreter, waited for, ended by its pid."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from compose.ports import choose_port
from compose.probes import http_answers

READY_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 10.0
POLL_SECONDS: Final = 0.1
LOG_TAIL_LINES: Final = 20


class WorkerEndedError(Exception):
    """The worker did not get as far as deciding; the text ends with its log."""


class WorkerProcess:
    """One running worker.

    Attributes:
        http_port: where it serves /live, /ready and /metrics.
        log_path: what it says.

    """

    def __init__(self, process: "subprocess.Popen[bytes]", http_port: int, log_path: Path) -> None:
        self._process = process
        self.http_port = http_port
        self.log_path = log_path

    def wait_until_ready(self) -> None:
        """Return when it decides.

        Raises:
            WorkerEndedError: it ended, or is not ready within `READY_SECONDS_MAX`.

        """
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not http_answers(f"http://127.0.0.1:{self.http_port}/ready"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise WorkerEndedError(f"the worker did not start; {self.log_tail()}")
            time.sleep(POLL_SECONDS)

    def wait(self) -> int:
        """Exit code, once it has ended."""
        return self._process.wait()

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


@contextlib.contextmanager
def worker_process(
    *, bootstrap: str, registry_url: str, data_dir: Path, http_port: int | None = None
) -> Iterator[WorkerProcess]:
    """Run a worker over these servers; it is ended when the context is left."""
    http_port = choose_port(http_port)
    log_path = data_dir.with_suffix(".log")
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            _command(
                ("--data-dir", data_dir),
                ("--bootstrap", bootstrap),
                ("--registry-url", registry_url),
                ("--http-port", http_port),
                ("--web-port", choose_port(None)),
            ),
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is the parent's to pass on, once.
        )
    worker = WorkerProcess(process, http_port, log_path)
    try:
        yield worker
    finally:
        worker.stop()


def _command(*options: Sequence[object]) -> list[str]:
    words = [str(word) for option in options for word in option]
    return [sys.executable, "-m", "holdfast", "worker", *words]
