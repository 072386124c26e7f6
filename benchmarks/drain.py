"""A backlog drained: all requests are in the topic before the first decision.

The rate is what was answered after the first append of results, over the time from that append to
the last, by the broker's own clock. So neither start-up nor the first batch counts. A percentile is
the time from the first append until that share of the backlog was answered: what a burst waits.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks import broker, check
from benchmarks.broker import Produced, Progress
from benchmarks.check import Answer
from benchmarks.contestants import KafkaContestant, Site, take_all
from benchmarks.figures import Extra, Run, percentiles
from benchmarks.ground import Ground
from benchmarks.load import ORGANIZATION, Work
from benchmarks.programs import CpuSampler
from schemas import topics
from schemas.limits import QUANTITY_SCALE
from schemas.messages import LineDetail, RequestLine, ReservationRequest

METHOD: Final = (
    "all requests preloaded; rate = results after the first append / time from first to last "
    "append (broker's LogAppendTime); percentiles = time from the first append until that share "
    "was answered; CPU of the deciding process tree over that span; answers replayed"
)


def request_records(site: Site, work: Work, detail: LineDetail | None = None) -> list[Produced]:
    """The asks as framed Avro, with their keys and partitions; `detail` is that of every line."""
    records = []
    for ask in work.asks:
        leaf = work.leaves[ask.leaf]
        line = RequestLine(
            product_id=leaf.product,
            dimension_data_source="",
            dimensions=leaf.dimensions,
            measure="",
            quantity=ask.quantity * QUANTITY_SCALE,
            detail=detail,
        )
        request = ReservationRequest(ask.request_id, "RESERVE", ORGANIZATION, "bench", [line])
        records.append(Produced(leaf.key, site.codec.encode_request(request), leaf.partition))
    return records


def preload(site: Site, records: Sequence[Produced], progress: Progress) -> None:
    """Write requests to their topic."""
    broker.preload(site.bootstrap, topics.REQUESTS, records, progress, "requests")


def answers(site: Site, partitions: int) -> Iterator[Answer]:
    """Every committed result."""
    for message in broker.read_all(site.bootstrap, topics.RESULTS, partitions):
        result = site.codec.decode_result(message.value())
        line = result.lines[0]
        yield Answer(
            result.request_id, line.code, line.quantity, line.available, message.timestamp()[1]
        )


def run(
    ground: Ground,
    contestant: KafkaContestant,
    work: Work,
    progress: Progress,
    *,
    already: int = 0,
) -> Run:
    """One contestant drains one backlog in fresh topics.

    The first `already` asks are decided before, by a process that ends: only the rest is measured.
    """
    work = work._replace(asks=work.asks[: already + contestant.requests_max])

    def report(what: str, done: int, of: int) -> None:
        progress(f"{contestant.name}: {what}", done, of)

    report("making topics", 0, 1)
    with ground.fresh(work.partitions) as here:
        contestant.prepare(here, work, report)
        records = request_records(here, work)
        if already:
            preload(here, records[:already], report)
            take_all(here, contestant, topics.REQUESTS, work, report)
        preload(here, records[already:], report)
        del records
        extra: Extra = {"already": already}
        if already:
            extra["compacted_s"] = ground.settle(report)
        programs = contestant.start(here, work)
        try:
            with (
                CpuSampler([program.pid for program in programs]) as cpu,
                broker.GroupProgress(
                    here.bootstrap, contestant.group, topics.REQUESTS, work.partitions
                ) as left,
            ):
                left.wait(programs, report, "deciding")
        finally:
            for program in programs:
                program.stop()
        report("checking the answers", 0, 1)
        by_id = check.once_each(work, answers(here, work.partitions))
        accepted = check.replay(work, by_id)
    measured = [by_id[ask.request_id].appended_ms for ask in work.asks[already:]]
    return figures(contestant.name, measured, cpu, {"accepted": accepted, **extra})


def figures(name: str, appended_ms: list[int], cpu: CpuSampler, extra: Extra) -> Run:
    """Figures of a drained backlog from the append times of its results."""
    first, last = min(appended_ms), max(appended_ms)
    counted = sum(1 for at_ms in appended_ms if at_ms > first)
    seconds = (last - first) / 1000
    p50, p95, p99 = percentiles([at_ms - first for at_ms in appended_ms])
    return Run(
        contestant=name,
        decisions=len(appended_ms),
        seconds=seconds,
        decisions_per_s=round(counted / seconds, 1) if seconds else 0.0,
        cpu_us_per_decision=round(cpu.between_s(first, last) * 1e6 / max(1, counted), 2),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        resident_mib=round(cpu.resident_bytes_max / 2**20, 1),
        extra=extra,
    )
