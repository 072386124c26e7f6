"""Fail-over: one of two workers is killed under a steady load; the other takes over.

The stall is the longest time any request waited for its answer. The part beyond the session timeout
is ours: before that nobody can know that the worker is dead. Without standbys the survivor has
nothing of the other's partitions on its disk, as on a machine of its own: it restores all of them.
"""

import shutil
from pathlib import Path
from typing import Final

from benchmarks import drain, steady, worker_log
from benchmarks.broker import Progress
from benchmarks.contestants import Holdfast, Site
from benchmarks.figures import Extra, Run
from benchmarks.ground import Ground
from benchmarks.load import Work
from benchmarks.openloop import Timing
from benchmarks.programs import wait_until
from benchmarks.steady import ANSWER_WITHIN_S, SESSION_TIMEOUT_MS, Steady

METHOD: Final = (
    "two workers, steady load, kill -9 of one; time from the instant a request was due to its "
    "answer being readable; stall_beyond_session_s = the longest, less the session timeout of 6 s; "
    "without standby the survivor's disk has nothing of the other's partitions, and restored_rows "
    "are the changelog records that it then read; answers replayed"
)


def run(ground: Ground, progress: Progress, load: Steady, *, standby: bool = False) -> Run:
    """Fill the state, then kill one of two workers under load.

    With `standby` each keeps copies of the other's partitions.
    """
    whole = load.whole()
    ours = Holdfast(workers=2, session_timeout_ms=SESSION_TIMEOUT_MS, standby=standby)

    def report(what: str, done: int, of: int) -> None:
        progress(f"failover: {what}", done, of)

    report("making topics", 0, 1)
    with ground.fresh(load.partitions) as site:
        paced = steady.fill(site, ours, whole, load, report)
        report("killing a worker under load", 0, 1)
        timings, restored_rows = _kill_one(site, ours, paced, load.rate, standby=standby)
        drain.checked(site, whole)
    if not standby:
        steady.check_restored(restored_rows, whole, load)
    extra: Extra = {"standby": str(standby).lower(), "restored_rows": restored_rows}
    run = steady.figures(ours.name, timings, load.rate, extra)
    beyond_s = float(run.extra["stall_s"]) - SESSION_TIMEOUT_MS / 1000
    run.extra["stall_beyond_session_s"] = round(beyond_s, 3)
    return run


def _kill_one(
    site: Site, ours: Holdfast, paced: Work, rate: int, *, standby: bool
) -> tuple[list[Timing], int]:
    """Timings of all requests, and the changelog records that the survivor read after the kill."""
    for number in (1, 2):
        ours.log(site, number).unlink()  # It tells of the preparation.
    programs = ours.start(site, paced)
    victim, survivor = programs
    try:
        wait_until(
            lambda: ours.all_ready() and _is_shared(victim.log, survivor.log, paced.partitions),
            within_s=ANSWER_WITHIN_S,
            what="both workers decide",
            alive=programs,
        )
        if not standby:
            forget_others(ours.databases(site, 2), worker_log.deciding(survivor.log))
        before, _ = worker_log.restored(survivor.log)
        timings = steady.send(site, paced, rate, victim.kill, lambda: [survivor])
        after, _ = worker_log.restored(survivor.log)
    finally:
        for program in programs:
            program.stop()
    return timings, after - before


def _is_shared(one: Path, other: Path, partitions: int) -> bool:
    """Whether the two workers decide all partitions, each by one of them."""
    shares = worker_log.deciding(one), worker_log.deciding(other)
    return sorted([*shares[0], *shares[1]]) == list(range(partitions))


def forget_others(databases: Path, own: set[int]) -> None:
    """Delete the databases of all partitions but `own`, which alone are open."""
    kept = {f"stock-{number}.db" for number in own}
    for folder in databases.glob("stock-*.db"):
        if folder.name not in kept:
            shutil.rmtree(folder)
