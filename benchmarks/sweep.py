"""The sweep: how late holds expire one by one, and what those feel who reserve in a burst of them.

All holds are made by real requests, well before they come due: some evenly over a while, which is
what a shop sees, then many at one instant. Around that instant other requests come at a low, fixed
rate to every partition; the longest any of them waits is the longest time for which the sweep kept
a partition from deciding.
"""

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from benchmarks import broker, drain
from benchmarks.broker import Produced, Progress
from benchmarks.check import WrongAnswerError
from benchmarks.contestants import Holdfast, Site
from benchmarks.figures import Run, percentiles
from benchmarks.ground import Ground
from benchmarks.load import Work, spread
from benchmarks.openloop import OpenLoop, Timing
from benchmarks.programs import CpuSampler, Program
from schemas import topics
from schemas.messages import LineDetail

EVEN_RATE: Final = 500  # Holds that come due a second, over all partitions, before the burst.
EVEN_S: Final = 20
EVEN: Final = EVEN_RATE * EVEN_S
PAUSE_S: Final = 2  # Between the last of them and the burst.
PROBES_RATE: Final = 100  # A second, over all partitions.
PROBES_S: Final = 15
LEAD_S: Final = 5  # Probes before the instant: how long they wait without a sweep.
DECIDED_WITHIN_S: Final = (
    40 + EVEN_S
)  # From the first request to the instant, beside a second for 5,000.
ANSWER_WITHIN_S: Final = 60.0
METHOD: Final = (
    f"{EVEN} holds due evenly over {EVEN_S} s: even_p99_ms, from due to append of HOLD_EXPIRED; "
    "then all others due at one instant: percentiles, from there to it; "
    f"max_wait_ms: of {PROBES_RATE} requests a second meanwhile, from the instant one was due to "
    "its answer being read; max_wait_before_ms: the same before the instant"
)


class _Expired(NamedTuple):
    """One hold that expired: when it was due, and when that was told."""

    due_ms: int
    told_ms: int


class _Seen(NamedTuple):
    """The instant, the answers to the probes around it, and the CPU that the worker used."""

    due_s: float
    timings: list[Timing]
    cpu: CpuSampler


def run(ground: Ground, progress: Progress, *, holds: int, partitions: int) -> Run:
    """Make the holds, wait for the instant under probes, read what the sweep told."""
    contestant = Holdfast()
    work = spread(EVEN + holds + PROBES_RATE * PROBES_S, partitions)

    def report(what: str, done: int, of: int) -> None:
        progress(f"sweep: {what}", done, of)

    report("making topics", 0, 1)
    with ground.fresh(partitions) as site:
        contestant.prepare(site, work, report)
        programs = contestant.start(site, work)
        try:
            seen = _measure(site, work, EVEN + holds, programs, report)
        finally:
            for program in programs:
                program.stop()
        expired = _expired(site, partitions)
    if len(expired) != EVEN + holds:
        raise WrongAnswerError(
            f"sweep: of {EVEN + holds} holds {len(expired)} were told as expired"
        )
    return _figures(contestant.name, seen, expired)


def _measure(
    site: Site, work: Work, holds: int, programs: Sequence[Program], report: Progress
) -> _Seen:
    due_s = time.time() + DECIDED_WITHIN_S + holds / 5_000
    drain.preload(site, _requests(site, work._replace(asks=work.asks[:holds]), due_s), report)
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
            if time.time() > due_s - PAUSE_S - EVEN_S:
                raise TimeoutError("the holds came due before all of them were made")
            time.sleep(due_s - LEAD_S - time.time())
            timings = loop.run(probes, numbers, lambda: programs, within_s=ANSWER_WITHIN_S)
        finally:
            loop.close()
    return _Seen(due_s, timings, cpu)


def _requests(site: Site, work: Work, due_s: float) -> list[Produced]:
    """The first of the holds due evenly, the last of these a while before the others' instant."""
    records = []
    for number, ask in enumerate(work.asks[:EVEN]):
        before_s = PAUSE_S + (EVEN - number) / EVEN_RATE
        detail = LineDetail(expires_at_ms=int((due_s - before_s) * 1000))
        records += drain.request_records(site, work._replace(asks=[ask]), detail)
    detail = LineDetail(expires_at_ms=int(due_s * 1000))
    return records + drain.request_records(site, work._replace(asks=work.asks[EVEN:]), detail)


def _expired(site: Site, partitions: int) -> list[_Expired]:
    """What the events tell of expired holds; their text says when they were due."""
    expired = []
    for message in broker.read_all(site.bootstrap, topics.EVENTS, partitions):
        event = site.codec.decode_event(message.value())
        if event.event_type == "HOLD_EXPIRED":
            due_ms = int(event.message.rpartition(" ")[2])
            expired.append(_Expired(due_ms, message.timestamp()[1]))
    return expired


def _figures(name: str, seen: _Seen, expired: list[_Expired]) -> Run:
    due_ms = int(seen.due_s * 1000)
    late_ms = [one.told_ms - due_ms for one in expired if one.due_ms == due_ms]
    even_ms = [one.told_ms - one.due_ms for one in expired if one.due_ms != due_ms]
    last_s = (due_ms + max(late_ms)) / 1000
    p50, p95, p99 = percentiles(late_ms)
    before = [one.took_ms for one in seen.timings if one.read_s < seen.due_s]
    during = [
        one.took_ms for one in seen.timings if seen.due_s <= one.read_s and one.due_s <= last_s
    ]
    seconds = max(late_ms) / 1000
    used_s = seen.cpu.between_s(due_ms, last_s * 1000)
    return Run(
        contestant=name,
        decisions=len(late_ms),
        seconds=round(seconds, 3),
        decisions_per_s=round(len(late_ms) / seconds, 1),
        cpu_us_per_decision=round(used_s * 1e6 / len(late_ms), 2),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        resident_mib=seen.cpu.resident_mib_max,
        extra={
            "even_p99_ms": percentiles(even_ms)[2],
            "first_ms": round(min(late_ms), 1),
            "max_wait_ms": round(max(during, default=0.0), 1),
            "max_wait_before_ms": round(max(before, default=0.0), 1),
        },
    )
