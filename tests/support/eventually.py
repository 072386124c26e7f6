"""Waiting for a condition, with a bound: no test sleeps and hopes.

A probe returns something true once the condition holds; one that raises AssertionError says no.
When time is up the failure names the last answer that was seen, which is what tells a slow system
from a wrong one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Answer = TypeVar("Answer")

POLL_S = 0.02
WITHIN_S = 60.0  # Costs nothing where the condition comes; a busy machine may need it.


def eventually(
    probe: Callable[[], Answer], *, within_s: float = WITHIN_S, poll_s: float = POLL_S
) -> Answer:
    """Ask until the answer is true, and return it; AssertionError with the last answer if never."""
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            answer = probe()
        except AssertionError as failure:
            said = f"AssertionError: {failure}"
        else:
            if answer:
                return answer
            said = repr(answer)
        _give_up_after(deadline_s, within_s, said)
        time.sleep(poll_s)


async def eventually_async(
    probe: Callable[[], Awaitable[Answer]], *, within_s: float = WITHIN_S, poll_s: float = POLL_S
) -> Answer:
    """Do the same with a probe that is awaited."""
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            answer = await probe()
        except AssertionError as failure:
            said = f"AssertionError: {failure}"
        else:
            if answer:
                return answer
            said = repr(answer)
        _give_up_after(deadline_s, within_s, said)
        await asyncio.sleep(poll_s)


def _give_up_after(deadline_s: float, within_s: float, said: str) -> None:
    if time.monotonic() >= deadline_s:
        raise AssertionError(f"not within {within_s} s; the last answer was {said}")
