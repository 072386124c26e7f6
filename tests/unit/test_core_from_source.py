"""The core again from its sources, as it runs where nothing could be compiled.

A session tests one core: which one is chosen before the first import. So this is a session within
the session.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
CORE: Final = (
    "tests/unit/inventory",
    "tests/property/test_crossing.py",
    "tests/property/test_decisions.py",
)
HUNG_AFTER_S: Final = 800.0


@pytest.mark.timeout(HUNG_AFTER_S + 60)
def test_the_core_decides_the_same_from_its_sources() -> None:
    """All unit and property tests of the core pass with the compiled modules left aside."""
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "--pure", "-n", "0", "--durations=5", *CORE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=HUNG_AFTER_S,
    )
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr[-2_000:]
    assert "core: its sources" in ended.stdout
