"""Recovery: a worker with an empty disk, and a changelog of more than a million records.

Time counts from the start of the process to the first answer; the worker's own account of the
restore alone, from its log, stands beside it.
"""

import shutil
import time
from typing import Final

from benchmarks import drain, worker_log
from benchmarks.broker import Progress
from benchmarks.check import WrongAnswerError
from benchmarks.contestants import Holdfast, Site, take_all
from benchmarks.figures import Run
from benchmarks.ground import Ground
from benchmarks.load import Work, spread
from benchmarks.openloop import OpenLoop
from benchmarks.programs import CpuSampler
from benchmarks.steady import RECORDS_PER_REQUEST
from schemas import topics

ANSWER_WITHIN_S: Final = 120.0
METHOD: Final = (
    "worker with an empty disk; seconds = process start to the first answer of a request to every "
    "partition; restore_s = the worker's own account of the restore alone; rate = changelog "
    "records / restore_s; answers replayed"
)


def run(ground: Ground, progress: Progress, *, requests: int, partitions: int) -> Run:
    """Make the changelog with real requests, wipe the disk, start, ask."""
    work = spread(requests, partitions)
    probes = _probes(work)
    ours = Holdfast()

    def report(what: str, done: int, of: int) -> None:
        progress(f"recovery: {what}", done, of)

    report("making topics", 0, 1)
    with ground.fresh(partitions) as site:
        ours.prepare(site, work, report)
        drain.preload(site, drain.request_records(site, work), report)
        take_all(site, ours, topics.REQUESTS, work, report)
        shutil.rmtree(ours.disk(site, 1))
        ours.log(site, 1).unlink()
        report("restoring", 0, 1)
        ready_s, cpu_s, memory = _restart(site, ours, probes)
        records, restore_s = worker_log.restored(ours.log(site, 1))
        drain.checked(site, work._replace(asks=[*work.asks, *probes.asks]))
    if records < requests * RECORDS_PER_REQUEST:
        raise WrongAnswerError(f"recovery: {requests} requests came back as {records} records")
    return Run(
        contestant=ours.name,
        decisions=records,
        seconds=round(ready_s, 3),
        decisions_per_s=round(records / restore_s, 1),
        cpu_us_per_decision=round(cpu_s * 1e6 / records, 2),
        resident_mib=memory,
        extra={"records": records, "restore_s": restore_s, "ready_s": round(ready_s, 3)},
    )


def _probes(work: Work) -> Work:
    """One request to each partition."""
    first = {leaf.partition: number for number, leaf in enumerate(work.leaves)}
    asks = [
        work.asks[0]._replace(request_id=f"probe-{partition}", leaf=number, quantity=1)
        for partition, number in first.items()
    ]
    return work._replace(asks=asks)


def _restart(site: Site, ours: Holdfast, probes: Work) -> tuple[float, float, float]:
    """Seconds to the last probe's answer, CPU seconds until then, MiB resident."""
    records = drain.request_records(site, probes)
    numbers = {ask.request_id.encode(): number for number, ask in enumerate(probes.asks)}
    loop = OpenLoop(site, probes.partitions, rate=1_000)
    started_s = time.time()
    program = ours.start_worker(site, 1)
    try:
        with CpuSampler([program.pid]) as cpu:
            timings = loop.run(records, numbers, lambda: [program], within_s=ANSWER_WITHIN_S)
    finally:
        program.stop()
        loop.close()
    ready_s = max(timing.read_s for timing in timings) - started_s
    used_s = cpu.between_s(started_s * 1000, (started_s + ready_s) * 1000)
    return ready_s, used_s, cpu.resident_mib_max
