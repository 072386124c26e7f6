"""One server as a local process: start, stop, and the faults a test wants.

The process runs in a session of its own, so a Ctrl-C in the terminal does not reach it. What was
started is written to `server.json` beside its log; a process is only ever signalled when its id,
its start time and the boot of the machine all agree with that record, so a recycled id is left
alone.
"""

import os
import pwd
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

import msgspec

from compose import probes
from compose.errors import PORT_TAKEN, ServerFailedError

START_WITHIN_S = 120.0  # Seconds on an idle machine; a loaded one takes its time.
STOP_WITHIN_S = 20.0
GONE_WITHIN_S = 10.0  # After SIGKILL; longer means the kernel holds it.
POLL_S = 0.03
LOG_BYTES_MAX = 10 * 1024 * 1024  # A longer log is set aside at the next start.
LOG_TAIL_LINES = 25


_children: dict[int, subprocess.Popen[bytes]] = {}
"""Servers started by this process and not yet reaped, by process id. A server may outlive the
object that started it, and may be stopped through another one."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """All it takes to start one server again, as data: another process can pick it up.

    `address` is what clients are given, `port` what the probe asks, both on 127.0.0.1. `ready_line`
    must stand in the log before the probe is asked. `user` is the account the process runs under,
    when not ours. `directory` holds the log, the record and the data; `elsewhere` is the folder of
    the data when it cannot be there.
    """

    name: str
    argv: tuple[str, ...]
    directory: str
    address: str
    port: int
    probe: probes.Probe
    ready_line: str | None = None
    user: str | None = None
    stop_signal: int = signal.SIGTERM
    elsewhere: str | None = None


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a started process. `log_offset` is where this run's log begins, in bytes."""

    launch: Launch
    pid: int
    start_ticks: int
    boot_id: str
    log_offset: int


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when there is none, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets, which may itself hold blanks and brackets.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


class LocalServer:
    """One server process and the verbs for it. Not safe to drive from two threads at once."""

    def __init__(self, launch: Launch, running: Running | None = None) -> None:
        self.launch = launch
        self.abandon = threading.Event()
        """Set from another thread to give up waiting for readiness."""
        self._running = running
        self._exit_code: int | None = None

    @classmethod
    def attach(cls, directory: Path) -> Self | None:
        """Return the server recorded in this directory, running or not; None without a record."""
        try:
            record = (directory / "server.json").read_bytes()
        except FileNotFoundError:
            return None
        running = msgspec.json.decode(record, type=Running)
        return cls(running.launch, running)

    @property
    def name(self) -> str:
        """The server's name in the stack, such as `kafka`."""
        return self.launch.name

    @property
    def address(self) -> str:
        """What clients are given."""
        return self.launch.address

    @property
    def pid(self) -> int | None:
        """The process id, or None when the process is not alive or not ours."""
        running = self._running
        if running is None or running.boot_id != _boot_id():
            return None
        if _start_ticks(running.pid) == running.start_ticks:
            return running.pid
        # Reaped, so not left as a zombie. Its main thread went first: the others, of which Java has
        # many, may take a moment more, and until then it cannot be waited for.
        child = _children.pop(running.pid, None)
        if child is not None:
            self._exit_code = child.wait(GONE_WITHIN_S)
        return None

    @property
    def alive(self) -> bool:
        """Whether the process exists (a paused one does)."""
        return self.pid is not None

    @property
    def log_path(self) -> Path:
        """Its standard output and error, of this run and earlier ones."""
        return Path(self.launch.directory) / f"{self.launch.name}.log"

    def log(self) -> str:
        """Return the log of the latest run."""
        offset = self._running.log_offset if self._running else 0
        try:
            with self.log_path.open("rb") as stream:
                stream.seek(offset)
                return stream.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """Return the last lines of the latest run, without the inner ones of Java's traces."""
        telling = [line for line in self.log().splitlines() if not line.startswith("\tat ")]
        return "\n".join(telling[-lines:])

    def answers(self) -> bool:
        """Whether the process is alive and does its work."""
        return self.alive and probes.answers(self.launch.probe, self.launch.port)

    def start(self, *, within_s: float = START_WITHIN_S) -> None:
        """Start the process and wait until it answers. Does nothing when it is alive.

        Raises ServerFailedError, and leaves no process, when it ends or stays silent.
        """
        if self.alive:
            return
        self._spawn()
        try:
            self.wait_ready(within_s=within_s)
        except BaseException:
            self.kill()
            raise

    def wait_ready(self, *, within_s: float = START_WITHIN_S) -> None:
        """Wait until the server answers; raises ServerFailedError when it ends or time is up."""
        line = self.launch.ready_line
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            if not self.alive:
                raise self._failed(f"the process ended ({self._exit()})")
            if (line is None or line in self.log()) and self.answers():
                return
            if self.abandon.wait(POLL_S):
                raise self._failed("the start was given up")
        raise self._failed(f"it did not answer on port {self.launch.port} within {within_s:.0f} s")

    def stop(self, *, within_s: float = STOP_WITHIN_S) -> None:
        """Ask the process to end, and end it when it does not. Nothing when it is not alive."""
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, self.launch.stop_signal)
        os.kill(pid, signal.SIGCONT)  # A paused process does not see the other signal.
        if not self._wait_gone(within_s):
            self.kill()

    def kill(self) -> None:
        """SIGKILL, as a crash would. Returns when the process is gone."""
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL)
        if not self._wait_gone(GONE_WITHIN_S):
            raise TimeoutError(f"{self.name} (pid {pid}) survived SIGKILL for {GONE_WITHIN_S} s")

    def pause(self) -> None:
        """SIGSTOP: alive, connected, and silent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after `pause`."""
        self._signal(signal.SIGCONT)

    def restart(self, *, within_s: float = START_WITHIN_S) -> None:
        """Stop and start with the same data and ports. After a `kill` it just starts."""
        self.stop()
        self.start(within_s=within_s)

    def delete(self) -> None:
        """Stop the process, and delete its data, log and record."""
        self.stop()
        for folder in (self.launch.elsewhere, self.launch.directory):
            if folder is not None and Path(folder).exists():
                shutil.rmtree(folder)

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is None:
            raise ProcessLookupError(f"{self.name} is not running")
        os.kill(pid, number)

    def _spawn(self) -> None:
        directory = Path(self.launch.directory)
        directory.mkdir(parents=True, exist_ok=True)
        log = self.log_path
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        user, group = _account(self.launch.user)
        with log.open("ab") as stream:
            offset = stream.tell()
            child = subprocess.Popen(
                self.launch.argv,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd="/",  # Not the caller's folder: the process may outlive it.
                start_new_session=True,
                user=user,
                group=group,
                extra_groups=[] if user is not None else None,
            )
        _children[child.pid] = child
        running = Running(
            launch=self.launch,
            pid=child.pid,
            start_ticks=_start_ticks(child.pid) or 0,
            boot_id=_boot_id(),
            log_offset=offset,
        )
        self._running = running
        record = directory / "server.json"
        record.with_suffix(".new").write_bytes(msgspec.json.encode(running))
        record.with_suffix(".new").replace(record)

    def _wait_gone(self, within_s: float) -> bool:
        deadline_s = time.monotonic() + within_s
        while time.monotonic() < deadline_s:
            if not self.alive:
                return True
            time.sleep(POLL_S)
        return not self.alive

    def _exit(self) -> str:
        code = self._exit_code
        if code is None:
            return "exit code unknown"
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _failed(self, what: str) -> ServerFailedError:
        log = self.log()
        reason, remedy = explain(log)
        return ServerFailedError(
            self.name,
            f"{what}{f': {reason}' if reason else ''}",
            remedy,
            str(self.log_path),
            self.log_tail() or "(empty)",
        )


def _account(user: str | None) -> tuple[int | None, int | None]:
    """User and group id of the account to run under; None and None for our own."""
    if user is None:
        return None, None
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


_EXPLANATIONS = (
    (
        ("Address already in use", "BindException", "already bound"),
        PORT_TAKEN,
        "run the command again: another port is chosen",
    ),
    (
        ("No space left on device",),
        "the disk is full",
        "free some space, or set HOLDFAST_HOME to a folder on another disk",
    ),
    (
        ("Cannot allocate memory", "OutOfMemoryError", "insufficient memory"),
        "not enough memory",
        "end other programs; the whole stack needs about 1.5 GB",
    ),
    (
        ("UnsupportedClassVersionError",),
        "this Java is too old",
        "install Java 17 or newer: apt-get install openjdk-17-jre-headless",
    ),
    (
        ("doesn't match stored", "InconsistentClusterIdException", "database file is corrupt"),
        "its data belongs to another installation or is damaged",
        "`holdfast stack down --wipe` deletes the data of this stack",
    ),
    (
        ("Database may be already in use", "lock file", "Failed to acquire lock"),
        "another process holds its data",
        "`holdfast stack status` shows what runs in this home; stop that first",
    ),
    (
        ("ConfigException", "Bad directive", "FATAL CONFIG FILE ERROR", "unrecognized"),
        "its configuration was refused",
        "the log names the setting; the file is in the same folder as the log",
    ),
)


def explain(log: str) -> tuple[str, str]:
    """Reason and remedy for the known ways in which a server fails, read off its log."""
    for marks, reason, remedy in _EXPLANATIONS:
        if any(mark in log for mark in marks):
            return reason, remedy
    return "", "read the log below; `holdfast stack status` shows what else runs"
