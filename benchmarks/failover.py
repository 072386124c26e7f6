"""Fail-over: one of two workers is killed under a steady load; the other takes over.

The stall is the longest time any request waited for its answer, counted from its due instant. The
part beyond the session timeout is ours: before that nobody can know that the worker is dead.
"""

import threading
from typing import Final

from benchmarks import check, drain
from benchmarks.broker import Progress
from benchmarks.contestants import Holdfast, Site, take_all
from benchmarks.figures import Run, percentiles
from benchmarks.ground import Ground
from benchmarks.load import Work, spread
from benchmarks.openloop import LEAD_S, OpenLoop, Timing
from benchmarks.programs import wait_until
from schemas import topics

SESSION_TIMEOUT_MS: Final = 6_000
KILL_AFTER_S: Final = 8.0  # The rebalance of the second worker's start is over by then.
ANSWER_WITHIN_S: Final = 120.0
RATE_MAX: Final = 2_000  # What the survivor must catch up with is not the question here.
SECONDS_MIN: Final = 30  # Before the kill, the session timeout, and the time after.
METHOD: Final = (
    "two workers, steady load, kill -9 of one; time from the instant a request was due to its "
    "answer being readable; stall_beyond_session_s = the longest, less the session timeout of 6 s; "
    "answers replayed"
)


def run(
    ground: Ground,
    progress: Progress,
    *,
    requests: int,
    rate: int,
    seconds: int,
    partitions: int,
    standby: bool = False,
) -> Run:
    """Fill the state with `requests`, then kill one of two workers under `rate`.

    With `standby` each keeps copies of the other's partitions.
    """
    whole = spread(requests + rate * seconds, partitions)
    state = whole._replace(asks=whole.asks[:requests])
    paced = whole._replace(asks=whole.asks[requests:])
    ours = Holdfast(workers=2, session_timeout_ms=SESSION_TIMEOUT_MS, standby=standby)

    def report(what: str, done: int, of: int) -> None:
        progress(f"failover: {what}", done, of)

    report("making topics", 0, 1)
    with ground.fresh(partitions) as site:
        ours.prepare(site, whole, report)
        records = drain.request_records(site, state)
        drain.preload(site, records, report)
        take_all(site, ours, topics.REQUESTS, state, report)
        report("killing a worker under load", 0, 1)
        timings = _kill_one(site, ours, paced, rate)
        answers = check.once_each(whole, drain.answers(site, partitions))
        check.replay(whole, answers)
    return _figures(ours.name, timings, rate, standby=standby)


def _kill_one(site: Site, ours: Holdfast, paced: Work, rate: int) -> list[Timing]:
    records = drain.request_records(site, paced)
    numbers = {ask.request_id.encode(): number for number, ask in enumerate(paced.asks)}
    programs = ours.start(site, paced)
    victim, survivor = programs
    timer = threading.Timer(LEAD_S + KILL_AFTER_S, victim.kill)
    loop = OpenLoop(site, paced.partitions, rate)
    try:
        wait_until(
            ours.all_ready, within_s=ANSWER_WITHIN_S, what="both workers ready", alive=programs
        )
        timer.start()
        return loop.run(records, numbers, lambda: [survivor], within_s=ANSWER_WITHIN_S)
    finally:
        timer.cancel()
        for program in programs:
            program.stop()
        loop.close()


def _figures(name: str, timings: list[Timing], rate: int, *, standby: bool) -> Run:
    timings = [timing for timing in timings if timing.number >= rate * (KILL_AFTER_S - 1)]
    p50, p95, p99 = percentiles([timing.took_ms for timing in timings])
    stall_s = max(timing.took_ms for timing in timings) / 1000
    first_s = min(timing.due_s for timing in timings)
    seconds = max(timing.read_s for timing in timings) - first_s
    return Run(
        contestant=name,
        decisions=len(timings),
        seconds=round(seconds, 3),
        decisions_per_s=round(len(timings) / seconds, 1),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        extra={
            "rate": rate,
            "standby": str(standby).lower(),
            "stall_s": round(stall_s, 3),
            "stall_beyond_session_s": round(stall_s - SESSION_TIMEOUT_MS / 1000, 3),
        },
    )
