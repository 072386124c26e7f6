"""Crash points."""

import pytest

from processor.engine.faults import crash_points


def test_an_unknown_crash_point_is_refused() -> None:
    """A misspelt crash point would make a fault campaign test nothing."""
    with pytest.raises(ValueError, match="before-comit"):
        crash_points("before-comit", 0)
