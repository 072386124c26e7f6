"""A program under test: started in its own session, measured by /proc, ended by its pid.

CPU is that of the whole process tree, ended children included: a PostgreSQL backend, a JVM thread
and a Faust worker are counted alike.
"""

import os
import signal
import subprocess
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from benchmarks import settings

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
STOP_WAIT_S = 15.0
LOG_TAIL_LINES = 25


class ProgramEndedError(RuntimeError):
    """The program under test ended by itself; the message carries its log tail."""


class Program:
    """One started process with its log file."""

    def __init__(
        self, name: str, argv: Sequence[str], *, log: Path, overrides: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=settings.environment(overrides),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, also the id of its session."""
        return self._process.pid

    def check_alive(self) -> None:
        """Raise ProgramEndedError when it has ended."""
        code = self._process.poll()
        if code is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
            raise ProgramEndedError(f"{self.name} ended with code {code}:\n{tail}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for the session when it takes longer than STOP_WAIT_S."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL the whole session, as a crash would."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait(STOP_WAIT_S)


def wait_until(
    condition: Callable[[], bool], *, within_s: float, what: str, alive: Sequence[Program] = ()
) -> None:
    """Poll until `condition`; TimeoutError names `what`, ProgramEndedError a program that ended."""
    deadline = time.monotonic() + within_s
    while not condition():
        for program in alive:
            program.check_alive()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.05)


def tree_of(pid: int) -> list[int]:
    """`pid` and its living descendants, by a walk over /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    tree = [pid]
    for member in tree:  # Grows while it is walked, breadth first.
        tree.extend(children.get(member, ()))
    return tree


def cpu_s(tree: Sequence[int]) -> float:
    """CPU seconds, user and system, of a process tree, its ended and reaped children included."""
    ticks = sum(sum(map(int, _stat(member)[11:15])) for member in tree)  # utime to cstime
    return ticks / TICKS_PER_S


def thread_cpu_s(pid: int, name: str) -> float:
    """CPU seconds, user and system, of the threads of a process that are called `name`.

    Linux keeps the first 15 letters of a thread's name.

    Raises:
        LookupError: no thread is called so.

    """
    found = [fields for fields in map(_thread, Path(f"/proc/{pid}/task").iterdir()) if fields]
    ticks = [sum(map(int, fields[12:14])) for fields in found if fields[0] == name]
    if not ticks:
        raise LookupError(f"process {pid} has no thread called {name!r}")
    return sum(ticks) / TICKS_PER_S


def resident_bytes(tree: Sequence[int]) -> int:
    """Resident memory of a process tree; shared pages are counted for each member."""
    return sum(int(fields[21]) for member in tree if (fields := _stat(member))) * PAGE_BYTES


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat after the command name, empty when the process is gone."""
    return _thread(Path(f"/proc/{pid}"))[1:]


def _thread(folder: Path) -> list[str]:
    """Name of a process or thread, and the fields of its `stat` after that; empty when gone."""
    try:
        text = (folder / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    before, _, after = text.rpartition(")")
    return [before.partition("(")[2], *after.split()]


class CpuSampler:
    """CPU of some processes, sampled on a thread, so that any span can be read afterwards."""

    PERIOD_S = 0.05
    SAMPLES_PER_TREE = 20  # A walk over /proc costs milliseconds, and new children are rare.

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._times_ms: list[float] = []
        self._cpu_s: list[float] = []
        self._resident_bytes_max = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True, name="cpu-sampler")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        tree: list[int] = []
        while not self._ended.is_set():
            if len(self._times_ms) % self.SAMPLES_PER_TREE == 0:
                tree = [member for pid in self._pids for member in tree_of(pid)]
                self._resident_bytes_max = max(self._resident_bytes_max, resident_bytes(tree))
            self._times_ms.append(time.time() * 1000)
            self._cpu_s.append(cpu_s(tree))
            self._ended.wait(self.PERIOD_S)

    @property
    def resident_mib_max(self) -> float:
        """Most resident memory of the processes together that was seen."""
        return round(self._resident_bytes_max / 2**20, 1)

    def between_s(self, start_ms: float, end_ms: float) -> float:
        """CPU seconds used between two wall times, interpolated between samples."""
        return self._at(end_ms) - self._at(start_ms)

    def _at(self, at_ms: float) -> float:
        after = bisect_left(self._times_ms, at_ms)
        if after == 0:
            return self._cpu_s[0]
        if after == len(self._times_ms):
            return self._cpu_s[-1]
        before_ms, after_ms = self._times_ms[after - 1], self._times_ms[after]
        share = (at_ms - before_ms) / (after_ms - before_ms)
        return self._cpu_s[after - 1] + share * (self._cpu_s[after] - self._cpu_s[after - 1])
