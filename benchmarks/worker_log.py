"""What a worker's own log (JSON lines) tells: which partitions it decides, what it restored."""

import json
from pathlib import Path
from typing import Any


def deciding(log: Path) -> set[int]:
    """The partitions that the worker decides: those it began with last, and what it added since."""
    own: set[int] = set()
    for entry in _entries(log, "deciding", "deciding more"):
        partitions = set(entry["partitions"])
        own = partitions if entry["event"] == "deciding" else own | partitions
    return own


def restored(log: Path) -> tuple[int, float]:
    """Changelog records read by all restores so far, and the seconds they took."""
    told = _entries(log, "restored")
    return sum(one["rows"] for one in told), round(sum(one["seconds"] for one in told), 3)


def _entries(log: Path, *events: str) -> list[dict[str, Any]]:
    """Entries of some events; a last line that is not ended is still being written."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return [entry for entry in told if entry.get("event") in events]
