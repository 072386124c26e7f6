"""A state that took many requests, and a steady load on it under which something happens.

A wait counts from the instant at which a request was due to its answer being readable, so that
whatever stops the workers is felt by every request that was due meanwhile.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from benchmarks import drain
from benchmarks.broker import Progress
from benchmarks.check import WrongAnswerError
from benchmarks.contestants import Holdfast, Site, take_all
from benchmarks.figures import Extra, Run, percentiles
from benchmarks.load import Work, spread
from benchmarks.openloop import LEAD_S, OpenLoop, Timing
from benchmarks.programs import Program
from schemas import topics

SESSION_TIMEOUT_MS: Final = 6_000
HAPPENS_AFTER_S: Final = 8.0  # The rebalance of the workers' own start is over by then.
ANSWER_WITHIN_S: Final = 120.0
RATE_MAX: Final = 2_000  # What must be caught up with afterwards is not the question.
SECONDS_MIN: Final = 30  # Before it happens, the session timeout, and the time after.
RECORDS_PER_REQUEST: Final = 2  # At least: an accepted one leaves its hold and its answer.


class Steady(NamedTuple):
    """`requests` that are decided before, then `rate` a second for so many `seconds`."""

    requests: int
    rate: int
    seconds: int
    partitions: int

    def whole(self) -> Work:
        """All requests: those of the state first."""
        return spread(self.requests + self.rate * self.seconds, self.partitions)


def fill(site: Site, ours: Holdfast, whole: Work, load: Steady, progress: Progress) -> Work:
    """Let the workers decide the state and end; returns what is left to be sent."""
    state = whole._replace(asks=whole.asks[: load.requests])
    ours.prepare(site, whole, progress)
    drain.preload(site, drain.request_records(site, state), progress)
    take_all(site, ours, topics.REQUESTS, state, progress)
    return whole._replace(asks=whole.asks[load.requests :])


def send(
    site: Site,
    paced: Work,
    rate: int,
    happens: Callable[[], object],
    alive: Callable[[], Sequence[Program]],
) -> list[Timing]:
    """Send `paced`; `happens` is called on a thread HAPPENS_AFTER_S after the first instant."""
    records = drain.request_records(site, paced)
    numbers = {ask.request_id.encode(): number for number, ask in enumerate(paced.asks)}
    timer = threading.Timer(LEAD_S + HAPPENS_AFTER_S, happens)
    loop = OpenLoop(site, paced.partitions, rate)
    try:
        timer.start()
        return loop.run(records, numbers, alive, within_s=ANSWER_WITHIN_S)
    finally:
        timer.cancel()
        timer.join()
        loop.close()


def check_restored(records: int, whole: Work, load: Steady) -> None:
    """WrongAnswerError when fewer were restored than one of two workers has in any case.

    Its share of the partitions is half, or nearly; a quarter of all that the changelog then has at
    the least, which is a record of each stock key and those of each request until it happened.
    """
    requests = load.requests + int(load.rate * HAPPENS_AFTER_S)
    expected = (len(whole.leaves) + requests * RECORDS_PER_REQUEST) // 4
    if records < expected:
        raise WrongAnswerError(
            f"{records} changelog records were restored, and a share of the state is {expected} "
            "at least: some of it was there before"
        )


def figures(name: str, timings: Sequence[Timing], rate: int, extra: Extra) -> Run:
    """Figures from a second before it happened."""
    counted = _counted(timings, rate)
    p50, p95, p99 = percentiles([one.took_ms for one in counted])
    seconds = max(one.read_s for one in counted) - min(one.due_s for one in counted)
    return Run(
        contestant=name,
        decisions=len(counted),
        seconds=round(seconds, 3),
        decisions_per_s=round(len(counted) / seconds, 1),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        extra={"rate": rate, "stall_s": stall_s(counted, rate), **extra},
    )


def stall_s(timings: Sequence[Timing], rate: int) -> float:
    """The longest that a request waited, from a second before it happened."""
    return round(max(one.took_ms for one in _counted(timings, rate)) / 1000, 3)


def _counted(timings: Sequence[Timing], rate: int) -> list[Timing]:
    return [one for one in timings if one.number >= rate * (HAPPENS_AFTER_S - 1)]
