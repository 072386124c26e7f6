"""One worker made of several processes: a Python process decides on one core, a machine has more.

The rule: the processes share nothing but their parent. Each is a member of the group of its own,
with a data directory and ports of its own; one that ends by itself ends them all, gracefully, and
what started this worker starts it again.
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from processor.settings import WorkerSettings

PROCESSES_MAX: Final = 64  # Of one worker: past the cores of a machine they only share them.
POLL_SECONDS: Final = 0.2
STOP_SECONDS_MAX: Final = 15.0
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


def options_of(number: int, given: Mapping[str, object], settings: "WorkerSettings") -> list[str]:
    """Options of one process: those that were given, but for what must be its own.

    `number` counts from 0; ports follow each other, the directory and the instance id carry it.
    These come from the settings: the environment may have said them, and is the processes' too.
    """
    own: dict[str, object] = {**given, "data_dir": settings.data_dir / f"process-{number + 1}"}
    if settings.http_port:
        own["http_port"] = settings.http_port + number
    if settings.group_instance_id:
        own["group_instance_id"] = f"{settings.group_instance_id}-{number + 1}"
    names = {"bootstrap_servers": "bootstrap"}
    flags = ["--standby"] if own.pop("standby", None) else []
    return flags + [
        word
        for name, value in own.items()
        if value is not None
        for word in (f"--{names.get(name, name).replace('_', '-')}", str(value))
    ]


def run_processes(commands: Sequence[Sequence[str]]) -> int:
    """Run all until a signal or until one ends; returns the exit code of the first that ended."""
    with _signalled() as asked:
        processes = [subprocess.Popen([*_python(), *command]) for command in commands]
        try:
            code = _wait(processes, asked)
        finally:
            _stop(processes)
    return code


def _python() -> list[str]:
    return [sys.executable, "-m", "holdfast", "worker"]


@contextlib.contextmanager
def _signalled() -> Iterator[Callable[[], bool]]:
    """Within, a signal to end is remembered; the caller asks for it."""
    received: list[int] = []

    def receive(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, receive) for number in _ENDING}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence["subprocess.Popen[bytes]"], asked: Callable[[], bool]) -> int:
    while not asked():
        for process in processes:
            code = process.poll()
            if code is not None:
                return code
        time.sleep(POLL_SECONDS)
    return 0


def _stop(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + STOP_SECONDS_MAX
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
