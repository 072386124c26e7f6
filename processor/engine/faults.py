"""Ending the process, on purpose: fail-stop, and named crash points for the fault campaign.

An honest crash loses nothing; a swallowed error loses stock. So a fault in the engine is never
handled: the process ends before anything else can be committed, and the supervisor starts it again.
"""

import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn

import structlog

EXIT_FAULT: Final = 70  # EX_SOFTWARE: the supervisor should start the worker again.
EXIT_CRASH_POINT: Final = 137  # As after kill -9.
CRASH_POINTS: Final = (
    "before-produce",
    "after-produce",
    "before-commit",
    "after-commit",
    "before-store",
    "after-store",
)

log = structlog.get_logger(__name__)


class Fault(Exception):
    """A broken invariant or an error that leaves the outcome unknown: the process must end."""


def fail_stop(reason: str, error: BaseException | None = None) -> NoReturn:
    """End the process at once, without the clean-up that could commit something."""
    log.critical("fail-stop", reason=reason, error=repr(error), exc_info=error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_FAULT)


def crash_points(crash_at: str | None, after_batches: int) -> Callable[[str], None]:
    """Build the function the commit cycle calls at every named point.

    Args:
        crash_at: one of `CRASH_POINTS`, or None for never.
        after_batches: let that many batches pass the point first.

    Raises:
        ValueError: `crash_at` is not a crash point.

    """
    if crash_at is None:
        return _pass
    if crash_at not in CRASH_POINTS:
        raise ValueError(f"no crash point {crash_at!r}; known: {', '.join(CRASH_POINTS)}")
    passed = 0

    def reach(point: str) -> None:
        nonlocal passed
        if point != crash_at:
            return
        passed += 1
        if passed > after_batches:
            os._exit(EXIT_CRASH_POINT)

    return reach


def _pass(_point: str) -> None:
    return None


def refuse_optimised_python() -> None:
    """Refuse `python -O`: it drops the assertions that state what must be true.

    Raises:
        Fault: assertions are switched off.

    """
    if not __debug__:
        raise Fault("python -O drops assertions; start the worker without it")
