"""Latency in an open loop: until an answer is readable `read_committed`, at a fixed rate.

Told twice: from the instant at which a request was due, as its sender feels it, with all that the
load generator's own producer adds; and from its append to the topic, which is ours alone.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks import broker, drain
from benchmarks.broker import Produced, Progress
from benchmarks.contestants import KafkaContestant, Site
from benchmarks.figures import Run, percentiles
from benchmarks.ground import Ground
from benchmarks.load import Work, spread
from benchmarks.openloop import OpenLoop, Timing
from benchmarks.programs import CpuSampler, Program
from schemas import topics

PROBES: Final = 200  # Sent first and waited for: the loop begins when the contestant answers.
# Sent at the same rate, answered and checked, but not counted: for its first seconds of a load the
# broker takes two or three times the CPU that it takes later. What it left undone is waited for.
# At high rates that takes fewer seconds.
WARM_UP_S_MAX: Final = 15
WARM_UP_S_MIN: Final = 8
WARM_UP_REQUESTS: Final = 75_000
ANSWER_WITHIN_S: Final = 60.0
METHOD: Final = (
    "open loop at a fixed rate; time from the instant a request was due to its answer being read "
    "by a read_committed consumer, whose process collects no garbage meanwhile; append_p50_ms and "
    "append_p99_ms: from its append to the topic (LogAppendTime) instead; "
    f"{WARM_UP_S_MIN} to {WARM_UP_S_MAX} s at the same rate before "
    f"it ({WARM_UP_REQUESTS:,} requests, if they take so long) are not counted; answers replayed"
)


def warm_up_s(rate: int) -> int:
    """Seconds of load that are not counted, at `rate` a second."""
    return min(WARM_UP_S_MAX, max(WARM_UP_S_MIN, WARM_UP_REQUESTS // rate))


def run(
    ground: Ground,
    contestant: KafkaContestant,
    progress: Progress,
    *,
    rate: int,
    seconds: int,
    partitions: int,
) -> Run:
    """One contestant at one rate in fresh topics."""
    work = spread(PROBES + rate * (warm_up_s(rate) + seconds), partitions)

    def report(what: str, done: int, of: int) -> None:
        progress(f"{contestant.name}: {what}", done, of)

    report("making topics", 0, 1)
    with ground.fresh(partitions) as site:
        contestant.prepare(site, work, report)
        records = drain.request_records(site, work)
        report(f"{rate} requests/s for {warm_up_s(rate) + seconds} s", 0, 1)
        programs = contestant.start(site, work)
        try:
            counted, cpu = _measure(site, work, records, rate, programs)
        finally:
            for program in programs:
                program.stop()
        drain.checked(site, work)
        appended_ms = _appended_ms(site, records, partitions)
    return _figures(contestant.name, counted, appended_ms[-len(counted) :], cpu, rate)


def _measure(
    site: Site, work: Work, records: Sequence[Produced], rate: int, programs: list[Program]
) -> tuple[list[Timing], CpuSampler]:
    loop = OpenLoop(site, work.partitions, rate)
    try:
        with CpuSampler([program.pid for program in programs]) as cpu:
            *_, timings = stages(loop, work, records, rate, programs)
    finally:
        loop.close()
    return timings, cpu


def stages(
    loop: OpenLoop,
    work: Work,
    records: Sequence[Produced],
    rate: int,
    programs: Sequence[Program],
) -> Iterator[list[Timing]]:
    """Send probes, warm-up and what counts; timings of each, once all of it is answered.

    `records`: the asks of `work`, as `drain.request_records` gives them.
    """
    warm = PROBES + rate * warm_up_s(rate)
    for first, last in ((0, PROBES), (PROBES, warm), (warm, len(records))):
        numbers = {ask.request_id.encode(): at for at, ask in enumerate(work.asks[first:last])}
        sent = records[first:last]
        yield loop.run(sent, numbers, lambda: programs, within_s=ANSWER_WITHIN_S)


def _appended_ms(site: Site, records: Sequence[Produced], partitions: int) -> list[int]:
    """When each record was appended, by the broker's clock; there are ticks among them."""
    numbers = {record.value: number for number, record in enumerate(records)}
    appended_ms = [0] * len(records)
    for message in broker.read_all(site.bootstrap, topics.REQUESTS, partitions):
        number = numbers.get(message.value())
        if number is not None:
            appended_ms[number] = message.timestamp()[1]
    return appended_ms


def _figures(
    name: str, counted: list[Timing], appended_ms: Sequence[int], cpu: CpuSampler, rate: int
) -> Run:
    first_s = min(timing.due_s for timing in counted)
    last_s = max(timing.read_s for timing in counted)
    p50, p95, p99 = percentiles([timing.took_ms for timing in counted])
    own_ms = [timing.read_s * 1000 - appended_ms[timing.number] for timing in counted]
    append_p50, append_p95, append_p99 = percentiles(own_ms)
    used_s = cpu.between_s(first_s * 1000, last_s * 1000)
    return Run(
        contestant=name,
        decisions=len(counted),
        seconds=round(last_s - first_s, 3),
        decisions_per_s=round(len(counted) / (last_s - first_s), 1),
        cpu_us_per_decision=round(used_s * 1e6 / len(counted), 2),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        resident_mib=cpu.resident_mib_max,
        extra={
            "rate": rate,
            "append_p50_ms": append_p50,
            "append_p95_ms": append_p95,
            "append_p99_ms": append_p99,
            "max_ms": round(max(timing.took_ms for timing in counted), 3),
        },
    )
