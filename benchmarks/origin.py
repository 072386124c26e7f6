"""Where a figure comes from, without which it says nothing: the machine, the commit, the minute."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

CHECKOUT: Final = Path(__file__).resolve().parent.parent
WRITTEN: Final = (":!benchmarks/results", ":!README.md")  # By the benchmarks themselves.
GIT_WITHIN_S: Final = 30.0


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Processor model, cores this process may use, memory in GiB, kernel and Python."""

    cpu: str
    cores: int
    memory_gib: float
    system: str
    python: str

    def __str__(self) -> str:
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gib:.0f} GiB, {self.system}, "
            f"Python {self.python}; broker on the same machine"
        )


def this_machine() -> Machine:
    """Read the machine from /proc."""
    return Machine(
        cpu=_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=int(_field(Path("/proc/meminfo"), "MemTotal").split()[0]) / 2**20,
        system=f"{platform.system()} {platform.release().split('-')[0]}",
        python=platform.python_version(),
    )


class Origin(NamedTuple):
    """Machine, commit and time (UTC, to the minute) of a comparison."""

    machine: str
    commit: str
    taken_at: str


def here_and_now() -> Origin:
    """The origin of what begins now."""
    taken_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")
    return Origin(str(this_machine()), commit(CHECKOUT), taken_at)


def commit(checkout: Path) -> str:
    """Short name of the commit, "+" behind it where tracked files differ; empty: no checkout."""
    if not (checkout / ".git").exists():
        return ""  # An installed package may lie within some other checkout.
    name = _git(checkout, "rev-parse", "--short", "HEAD")
    changed = _git(checkout, "status", "--porcelain", "-uno", "--", ".", *WRITTEN)
    return f"{name}+" if changed else name


def _git(checkout: Path, *words: str) -> str:
    """What git says; empty where there is none, or nothing is committed."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(checkout), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=GIT_WITHIN_S,
        )
    except FileNotFoundError:
        return ""
    return "" if answer.returncode else answer.stdout.strip()


def _field(path: Path, name: str) -> str:
    """First value of `name : value` in a /proc file, empty when it is not there."""
    for line in path.read_text().splitlines():
        label, _, value = line.partition(":")
        if label.strip() == name:
            return value.strip()
    return ""
