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
    "request was due to its answer being readable; stall_s = the longest, kept_stall_s = the "
    "longest at a partition that the first kept; restored_rows = changelog records that the second "
    "read; answers replayed"
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
        timings = _join(site, ours, paced, load.rate)
        drain.checked(site, whole)
        kept = worker_log.deciding(ours.log(site, 1))
        moved = worker_log.deciding(ours.log(site, 2))
        restored_rows, _ = worker_log.restored(ours.log(site, 2))
    if not kept or not moved:
        raise WrongAnswerError(f"join: the first decides {kept} in the end, the second {moved}")
    steady.check_restored(restored_rows, whole, load)
    run = steady.figures(ours.name, timings, load.rate, {"restored_rows": restored_rows})
    of_kept = [one for one in timings if _partition(paced, one) in kept]
    run.extra["kept_stall_s"] = steady.stall_s(of_kept, load.rate)
    return run


def _join(site: Site, ours: Holdfast, paced: Work, rate: int) -> list[Timing]:
    """Timings of all requests."""
    programs = [ours.start_worker(site, 1)]
    try:
        wait_until(
            ours.all_ready, within_s=ANSWER_WITHIN_S, what="the first decides", alive=programs
        )
        return steady.send(
            site,
            paced,
            rate,
            lambda: programs.append(ours.start_worker(site, 2)),
            lambda: programs,
        )
    finally:
        for program in programs:
            program.stop()


def _partition(paced: Work, timing: Timing) -> int:
    return paced.leaves[paced.asks[timing.number].leaf].partition
