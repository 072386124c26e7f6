"""A worker joins: one decides under a steady load, and a second comes with an empty disk.

What the group's rebalance and the second's restore cost the requests is the longest time any of
them waited for its answer.
"""

from typing import Final

from benchmarks import drain, steady, worker_log
from benchmarks.broker import Progress
from benchmarks.check import WrongAnswerError
from benchmarks.contestants import Holdfast, Site
from benchmarks.figures import Run
from benchmarks.ground import Ground
from benchmarks.load import Work
from benchmarks.openloop import Timing
from benchmarks.programs import wait_until
from benchmarks.steady import ANSWER_WITHIN_S, SESSION_TIMEOUT_MS, Steady

METHOD: Final = (
    "one worker under steady load, a second started with an empty disk; time from the instant a "
    "request was due to its answer being readable; stall_s = the longest; restored_rows = "
    "changelog records that the second read; answers replayed"
)


def run(ground: Ground, progress: Progress, load: Steady) -> Run:
    """Fill the state, then let a second worker join under load."""
    whole = load.whole()
    ours = Holdfast(session_timeout_ms=SESSION_TIMEOUT_MS)

    def report(what: str, done: int, of: int) -> None:
        progress(f"join: {what}", done, of)

    report("making topics", 0, 1)
    with ground.fresh(load.partitions) as site:
        paced = steady.fill(site, ours, whole, load, report)
        report("a second worker joins under load", 0, 1)
        timings, restored_rows = _join(site, ours, paced, load.rate)
        drain.checked(site, whole)
    steady.check_restored(restored_rows, whole, load)
    return steady.figures(ours.name, timings, load.rate, {"restored_rows": restored_rows})


def _join(site: Site, ours: Holdfast, paced: Work, rate: int) -> tuple[list[Timing], int]:
    """Timings of all requests, and the changelog records that the second worker read."""
    programs = [ours.start_worker(site, 1)]
    try:
        wait_until(
            ours.all_ready, within_s=ANSWER_WITHIN_S, what="the first decides", alive=programs
        )
        timings = steady.send(
            site,
            paced,
            rate,
            lambda: programs.append(ours.start_worker(site, 2)),
            lambda: programs,
        )
    finally:
        for program in programs:
            program.stop()
    joined = ours.log(site, 2)
    if not worker_log.deciding(joined):
        raise WrongAnswerError("join: the second worker decided nothing before the load ended")
    restored_rows, _ = worker_log.restored(joined)
    return timings, restored_rows
