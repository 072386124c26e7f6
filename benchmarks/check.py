"""A fast wrong answer is no figure: every run's answers are replayed before its figure counts.

The replay knows one counter for each stock leaf and nothing of the contestants' code. It is enough
for loads whose supply and requests are all at the leaf: then the coarser levels never bind.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from benchmarks.load import Ask, Work
from schemas.codes import Code
from schemas.limits import QUANTITY_SCALE


class WrongAnswerError(Exception):
    """A contestant answered wrongly, twice, or not at all: its run gives no figure."""


class Answer(NamedTuple):
    """One answer: quantities in units of 10^-6, append time of the result."""

    request_id: str
    code: int
    granted: int
    available: int
    appended_ms: int


def once_each(work: Work, answers: Iterable[Answer]) -> dict[str, Answer]:
    """Answers by request id; WrongAnswerError unless every request has exactly one."""
    by_id: dict[str, Answer] = {}
    for answer in answers:
        if answer.request_id in by_id:
            raise WrongAnswerError(f"{work.name}: {answer.request_id} was answered twice")
        by_id[answer.request_id] = answer
    asked = {ask.request_id for ask in work.asks}
    if strangers := by_id.keys() - asked:
        raise WrongAnswerError(f"{work.name}: {len(strangers)} answers to nobody's request")
    if lost := asked - by_id.keys():
        raise WrongAnswerError(f"{work.name}: {len(lost)} of {len(asked)} requests unanswered")
    return by_id


def replay(work: Work, by_id: Mapping[str, Answer]) -> int:
    """Number accepted; WrongAnswerError at the first answer that differs from the replay.

    Requests of one leaf are in one partition and were produced in the order of `work.asks`, so that
    is the order of their decisions.
    """
    free = [work.supply * QUANTITY_SCALE] * len(work.leaves)
    accepted = 0
    for ask in work.asks:
        expected = _expected(ask, free)
        answer = by_id[ask.request_id]
        if (answer.code, answer.granted, answer.available) != expected:
            raise WrongAnswerError(
                f"{work.name}: {ask.request_id} for {work.leaves[ask.leaf]} was answered {answer}, "
                f"expected code, granted, available = {expected}"
            )
        accepted += answer.code == Code.ACCEPTED
    return accepted


def _expected(ask: Ask, free: list[int]) -> tuple[int, int, int]:
    quantity = ask.quantity * QUANTITY_SCALE
    if quantity > free[ask.leaf]:
        return Code.INSUFFICIENT_STOCK, 0, free[ask.leaf]
    free[ask.leaf] -= quantity
    return Code.ACCEPTED, quantity, free[ask.leaf]


def totals(work: Work, *, reserved: Mapping[int, int], held: int, records: int) -> None:
    """For a contestant that keeps no order: nothing lost, doubled, oversold or refused in vain.

    Args:
        work: the load.
        reserved: leaf index to pieces reserved, as the contestant's counters say in the end.
        held: pieces of all its reservation records together.
        records: reservation records, or answers.

    """
    if records != len(work.asks):
        raise WrongAnswerError(f"{work.name}: {records} answers to {len(work.asks)} requests")
    if sum(reserved.values()) != held:
        raise WrongAnswerError(
            f"{work.name}: counters say {sum(reserved.values())} pieces, records {held}"
        )
    oversold = [leaf for leaf, pieces in reserved.items() if pieces > work.supply]
    if oversold:
        raise WrongAnswerError(f"{work.name}: {len(oversold)} stock keys oversold")
    if held < len(work.asks) and work.supply >= 3 * len(work.asks):  # Of three pieces at most.
        raise WrongAnswerError(f"{work.name}: {held} pieces for {len(work.asks)} that all fit")
