"""What a worker's own log (JSON lines) tells: which partitions it decides, what it restored."""

import json
from pathlib import Path
from typing import Any


def deciding(log: Path) -> set[int]:
    """The partitions that the worker decides, by its last word on that."""
    told = _entries(log, "deciding")
    return set(told[-1]["partitions"]) if told else set()


def restored(log: Path) -> tuple[int, float]:
    """Changelog records read by all restores so far, and the seconds they took."""
    told = _entries(log, "restored")
    return sum(one["rows"] for one in told), round(sum(one["seconds"] for one in told), 3)


def _entries(log: Path, event: str) -> list[dict[str, Any]]:
    """Entries of one event; a last line that is not ended is still being written."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return [entry for entry in told if entry.get("event") == event]
