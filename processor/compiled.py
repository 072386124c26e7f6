"""Which modules are compiled, and whether the compiled ones may be used.

mypyc makes extension modules of the same sources that run without it. The rule: compiled code never
speaks for a source that has changed since. The build leaves a manifest with a digest of every
source; where one differs, or there is no manifest, `choose` makes Python pass the extension modules
by and read the sources.

Measured, one decision of `spread` in process: about 60 us of CPU from source, 20 compiled.
"""

import json
import sys
from hashlib import sha256
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path
from typing import Final

# What a decision passes through; the rest is not worth the time to build.
SOURCES: Final = (
    "decider.py",
    "engine/records.py",
    "engine/rows.py",
    "engine/store.py",
    *(
        f"inventory/{name}.py"
        for name in (
            "crossing",
            "expiry",
            "explain",
            "holds",
            "identity",
            "lines",
            "offset_failures",
            "offsets",
            "plain",
            "reconfigure",
            "requests",
            "rows",
            "rules",
            "shrink",
            "state",
            "stock",
            "transactions",
        )
    ),
)
# Have a pure twin beside them, not of themselves.
BY_CYTHON: Final = ("engine/_producing.pyx", "inventory/_plain_rows.pyx")
MANIFEST: Final = "compiled.json"
BUILT: Final = (*SOURCES, *BY_CYTHON)
_ROOM: Final = Path(__file__).parent


def digests(room: Path = _ROOM) -> dict[str, str]:
    """Digest of every source that is compiled."""
    return {name: sha256((room / name).read_bytes()).hexdigest() for name in BUILT}


def is_current(room: Path = _ROOM) -> bool:
    """Whether extension modules of exactly these sources were built for this Python."""
    try:
        manifest = json.loads((room / MANIFEST).read_text())
        return bool(manifest == {"python": sys.implementation.cache_tag, **digests(room)})
    except (OSError, ValueError):
        return False


def write_manifest(room: Path) -> None:
    """Say, after a build, what it was made of (sources of this folder, extensions in `room`)."""
    manifest = {"python": sys.implementation.cache_tag, **digests()}
    (room / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def pass_by() -> None:
    """From here on, import the sources even where there are extension modules."""
    for name in BUILT:
        folder = str((_ROOM / name).parent)
        sys.path_importer_cache[folder] = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES))


def choose() -> bool:
    """Decide, once and before anything of this room is imported; tells whether it is compiled."""
    if is_current():
        return True
    pass_by()
    return False
