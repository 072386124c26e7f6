"""Recovery: a worker with an empty disk, and a changelog of a million rows.

Time counts from the start of the process to the first answer; the worker's own account of the
restore alone, from its log, stands beside it.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Final

from benchmarks import drain
from benchmarks.broker import Progress
from benchmarks.check import WrongAnswerError
from benchmarks.contestants import Holdfast, Site, take_all
from benchmarks.figures import Run
from benchmarks.ground import Ground
from benchmarks.load import Work, spread
from benchmarks.openloop import OpenLoop
from benchmarks.programs import CpuSampler
from schemas import topics

ROWS: Final = 1_000_000
ANSWER_WITHIN_S: Final = 120.0
METHOD: Final = (
    "worker with an empty disk; seconds = process start to the first answer of a request to every "
    "partition; restore_s = the worker's own account of the restore alone; rate = rows / restore_s"
)


def run(ground: Ground, progress: Progress, *, requests: int, partitions: int) -> Run:
    """Make the rows with real requests, wipe the disk, start, ask."""
    work = spread(requests, partitions)
    probes = _probes(work)
    ours = Holdfast()

    def report(what: str, done: int, of: int) -> None:
        progress(f"recovery: {what}", done, of)

    report("making topics", 0, 1)
    with ground.fresh(partitions) as site:
        ours.prepare(site, work, report)
        records = drain.request_records(site, work)
        drain.preload(site, records, report)
        take_all(site, ours, topics.REQUESTS, work, report)
        shutil.rmtree(ours.disk(site, 1))
        log = site.folder / "worker-1.log"
        log.unlink()
        report("restoring", 0, 1)
        ready_s, cpu_s, memory = _restart(site, ours, probes)
        rows, restore_s = restored(log)
    if requests >= ROWS // 2 > 0 and rows < ROWS:
        raise WrongAnswerError(f"recovery: only {rows} rows came back from {requests} requests")
    return Run(
        contestant=ours.name,
        decisions=rows,
        seconds=round(ready_s, 3),
        decisions_per_s=round(rows / restore_s, 1),
        cpu_us_per_decision=round(cpu_s * 1e6 / rows, 2),
        resident_mib=memory,
        extra={"rows": rows, "restore_s": restore_s, "ready_s": round(ready_s, 3)},
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
    return ready_s, used_s, round(cpu.resident_bytes_max / 2**20, 1)


def restored(log: Path) -> tuple[int, float]:
    """Rows and seconds of the restores that a worker's log (JSON lines) tells of."""
    rows, seconds = 0, 0.0
    for line in log.read_text().splitlines():
        if not line.startswith("{"):
            continue
        entry = json.loads(line)
        if entry.get("event") == "restored":
            rows += entry["rows"]
            seconds += entry["seconds"]
    if not rows:
        raise WrongAnswerError(f"{log.name} tells of no restored rows")
    return rows, round(seconds, 3)
