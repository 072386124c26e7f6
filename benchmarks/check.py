"""A fast wrong answer is no figure: every run's answers are replayed before its figure counts.

The replay knows one counter for each stock leaf and nothing of the contestants' code. It is enough
for loads whose supply and requests are all at the leaf: then the coarser levels never bind.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from benchmarks.load import PIECES, Ask, Work
from schemas.codes import Code
from schemas.limits import QUANTITY_SCALE

PIECES_MAX = max(PIECES)


class NoFigureError(Exception):
    """A run gives no figure; the message says why."""


class WrongAnswerError(NoFigureError):
    """A contestant answered wrongly, twice, or not at all."""


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


class Books(NamedTuple):
    """What a contestant that keeps no order has in the end, by leaf index.

    Attributes:
        reserved: pieces, as its counters say.
        held: pieces of its reservation records together.
        accepted: number of records of requests that were accepted.
        refused: number of records of those that were not.

    """

    reserved: Counter[int]
    held: Counter[int]
    accepted: Counter[int]
    refused: Counter[int]


def totals(work: Work, books: Books, *, as_asked: bool) -> None:
    """For a contestant that keeps no order: nothing lost, doubled, oversold or refused in vain.

    With `as_asked` the contestant was given the very requests of `work`; else it drew leaves and
    pieces for as many of its own.
    """
    records = books.accepted.total() + books.refused.total()
    if records != len(work.asks):
        raise WrongAnswerError(f"{work.name}: {records} answers to {len(work.asks)} requests")
    asked = Counter[int]()
    if as_asked:
        for ask in work.asks:
            asked[ask.leaf] += ask.quantity
    for leaf in {leaf for of in (*books, asked) for leaf in of}:
        if fault := _fault(work.supply, books, leaf, asked[leaf] if as_asked else None):
            raise WrongAnswerError(f"{work.name}: stock key {leaf}: {fault}")


def _fault(supply: int, books: Books, leaf: int, asked: int | None) -> str:
    """What is wrong with one leaf; empty when nothing is. `asked`: pieces, where they are known."""
    reserved, held, accepted, refused = (of[leaf] for of in books)
    if reserved != held:
        return f"counters say {reserved} pieces, records {held}"
    if reserved > supply:
        return f"oversold, {reserved} of {supply}"
    if refused and supply - reserved >= PIECES_MAX:
        return f"{refused} were refused, and {supply - reserved} are free"
    if not accepted <= held <= accepted * PIECES_MAX:
        return f"{held} pieces for {accepted} that were accepted"
    if asked is not None and not refused and held != asked:
        return f"{held} pieces are held of {asked} that all fit"
    return ""
