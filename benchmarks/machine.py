"""The machine a figure was taken on: a figure without it says nothing."""

import os
import platform
from pathlib import Path

import msgspec


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


def _field(path: Path, name: str) -> str:
    """First value of `name : value` in a /proc file, empty when it is not there."""
    for line in path.read_text().splitlines():
        label, _, value = line.partition(":")
        if label.strip() == name:
            return value.strip()
    return ""
