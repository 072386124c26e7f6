"""Fencing metadata and crash points."""

import pytest

from processor.engine.faults import crash_points
from processor.engine.membership import Membership, check_layout


@pytest.mark.parametrize("instance_id", [None, "worker-1"])
def test_our_group_metadata_is_what_librdkafka_serialises(instance_id: str | None) -> None:
    """The layout fencing relies on is the one of the installed library."""
    check_layout(instance_id)


def test_generation_is_part_of_the_metadata() -> None:
    """Two generations of one member differ, so that the broker can refuse the older."""
    older = Membership("g", "m", 4, None).metadata()
    newer = Membership("g", "m", 5, None).metadata()
    assert older != newer


def test_an_unknown_crash_point_is_refused() -> None:
    """A misspelt crash point would make a fault campaign test nothing."""
    with pytest.raises(ValueError, match="before-comit"):
        crash_points("before-comit", 0)
