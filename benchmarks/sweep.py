"""The sweep: many holds due at one instant, and what those feel who reserve meanwhile.

All holds are made by real requests with the same expiry, well before it. Around that instant other
requests come at a low, fixed rate to every partition; the longest any of them waits is the longest
time for which the sweep kept a partition from deciding.
"""

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks import broker, drain
from benchmarks.broker import Progress
from benchmarks.check import WrongAnswerError
from benchmarks.contestants import Holdfast, Site
from benchmarks.figures import Run, percentiles
from benchmarks.ground import Ground
from benchmarks.load import Work, spread
from benchmarks.openloop import OpenLoop, Timing
from benchmarks.programs import CpuSampler, Program
from schemas import topics
from schemas.messages import LineDetail

PROBES_RATE: Final = 100  # A second, over all partitions.
PROBES_S: Final = 15
LEAD_S: Final = 5  # Probes before the instant: how long they wait without a sweep.
DECIDED_WITHIN_S: Final = 40  # From the first request to the instant, beside a second for 5,000.
ANSWER_WITHIN_S: Final = 60.0
METHOD: Final = (
    "all holds due at one instant; percentiles: from there to the append of HOLD_EXPIRED; "
    f"max_wait_ms: of {PROBES_RATE} requests a second meanwhile, from the instant one was due to "
    "its answer being read; max_wait_before_ms: the same before the instant"
)


class _Seen(NamedTuple):
    """The instant, the answers to the probes around it, and the CPU that the worker used."""

    due_s: float
    timings: list[Timing]
    cpu: CpuSampler


def run(ground: Ground, progress: Progress, *, holds: int, partitions: int) -> Run:
    """Make the holds, wait for the instant under probes, read what the sweep told."""
    contestant = Holdfast()
    work = spread(holds + PROBES_RATE * PROBES_S, partitions)

    def report(what: str, done: int, of: int) -> None:
        progress(f"sweep: {what}", done, of)

    report("making topics", 0, 1)
    with ground.fresh(partitions) as site:
        contestant.prepare(site, work, report)
        programs = contestant.start(site, work)
        try:
            seen = _measure(site, work, holds, programs, report)
        finally:
            for program in programs:
                program.stop()
        expired_ms = _expired_ms(site, partitions)
    if len(expired_ms) != holds:
        raise WrongAnswerError(f"sweep: {len(expired_ms)} of {holds} holds were told as expired")
    return _figures(contestant.name, seen, expired_ms)


def _measure(
    site: Site, work: Work, holds: int, programs: Sequence[Program], report: Progress
) -> _Seen:
    due_s = time.time() + DECIDED_WITHIN_S + holds / 5_000
    detail = LineDetail(expires_at_ms=int(due_s * 1000))
    made = work._replace(asks=work.asks[:holds])
    drain.preload(site, drain.request_records(site, made, detail), report)
    numbers = {ask.request_id.encode(): n for n, ask in enumerate(work.asks[holds:])}
    probes = drain.request_records(site, work._replace(asks=work.asks[holds:]))
    with (
        CpuSampler([program.pid for program in programs]) as cpu,
        broker.GroupProgress(
            site.bootstrap, topics.APP_ID, topics.REQUESTS, work.partitions
        ) as left,
    ):
        left.wait(programs, report, "making the holds")
        loop = OpenLoop(site, work.partitions, PROBES_RATE)
        try:
            rest_s = due_s - LEAD_S - time.time()
            if rest_s < 0:
                raise TimeoutError("the holds came due before all of them were made")
            time.sleep(rest_s)
            timings = loop.run(probes, numbers, lambda: programs, within_s=ANSWER_WITHIN_S)
        finally:
            loop.close()
    return _Seen(due_s, timings, cpu)


def _expired_ms(site: Site, partitions: int) -> list[int]:
    """Append times of the events of expired holds."""
    messages = broker.read_all(site.bootstrap, topics.EVENTS, partitions)
    events = ((site.codec.decode_event(one.value()), one.timestamp()[1]) for one in messages)
    return [at_ms for event, at_ms in events if event.event_type == "HOLD_EXPIRED"]


def _figures(name: str, seen: _Seen, expired_ms: list[int]) -> Run:
    late_ms = [at_ms - seen.due_s * 1000 for at_ms in expired_ms]
    last_s = max(expired_ms) / 1000
    p50, p95, p99 = percentiles(late_ms)
    before = [one.took_ms for one in seen.timings if one.read_s < seen.due_s]
    during = [
        one.took_ms for one in seen.timings if seen.due_s <= one.read_s and one.due_s <= last_s
    ]
    seconds = max(late_ms) / 1000
    used_s = seen.cpu.between_s(seen.due_s * 1000, last_s * 1000)
    return Run(
        contestant=name,
        decisions=len(expired_ms),
        seconds=round(seconds, 3),
        decisions_per_s=round(len(expired_ms) / seconds, 1),
        cpu_us_per_decision=round(used_s * 1e6 / len(expired_ms), 2),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        resident_mib=round(seen.cpu.resident_bytes_max / 2**20, 1),
        extra={
            "first_ms": round(min(late_ms), 1),
            "max_wait_ms": round(max(during, default=0.0), 1),
            "max_wait_before_ms": round(max(before, default=0.0), 1),
        },
    )
