"""A worker as an operating system process that can be killed, stopped, continued and restarted."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from tests.support.eventually import eventually

CHECKOUT: Final = Path(__file__).resolve().parents[2]
EXIT_WITHIN_S: Final = 60.0


class WorkerProcess:
    """One worker and its data directory; every start is a new process in its own session."""

    def __init__(
        self, name: str, argv: Sequence[str], directory: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.directory = directory
        self.environment = dict(environment)
        self.log_path = directory.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None
        self.wanted = False  # A supervisor starts it again when it ends by itself.
        self._log: IO[bytes] | None = None

    def start_to_crash(self, point: str, after_batches: int) -> None:
        """Start it to end at a named point of the commit cycle; nobody starts it again."""
        self.wanted = False
        self.start(HOLDFAST_CRASH_AT=point, HOLDFAST_CRASH_AFTER=str(after_batches))

    def start(self, **environment: str) -> None:
        """Start it; `environment` is added for this start alone."""
        assert not self.alive, f"{self.name} runs already"
        self._close_log()
        self._log = self.log_path.open("ab")
        self.process = subprocess.Popen(
            self.argv,
            cwd=CHECKOUT,
            env={**os.environ, **self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        """Whether the process runs (or is stopped by a signal)."""
        return self.process is not None and self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the last process ended: negative for a signal; None while it runs."""
        return None if self.process is None else self.process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it is alive."""
        if self.process is not None and self.alive:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, and wait until it has gone."""
        self.send(signal.SIGKILL)
        self.wait_exit()

    def stop(self) -> float:
        """Ask it to stop; the seconds it took. Killed when it takes too long."""
        asked = time.monotonic()
        self.send(signal.SIGTERM)
        try:
            self.wait_exit()
        except AssertionError:
            self.kill()
            raise
        return time.monotonic() - asked

    def wait_exit(self, within_s: float = EXIT_WITHIN_S) -> int:
        """Wait for its end; the exit code."""
        eventually(lambda: not self.alive, within_s=within_s)
        self._close_log()
        code = self.exit_code
        assert code is not None
        return code

    def wipe(self) -> None:
        """Delete its disk."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def copy_disk(self, to: Path) -> None:
        """Copy its disk, to be restored later."""
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.directory, to)

    def restore_disk(self, copy: Path) -> None:
        """Put an old copy of its disk in place."""
        self.wipe()
        shutil.copytree(copy, self.directory)

    def log_tail(self, lines: int = 40) -> str:
        """The end of its log."""
        if not self.log_path.exists():
            return ""
        text = self.log_path.read_text("utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
