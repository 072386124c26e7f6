"""A backlog drained: all requests are in the topic before the first decision.

The rate is that of the second half of the backlog: from the append at which half was answered to
the last, by the broker's own clock. So neither start-up nor a warm-up counts. A percentile is the
time from the first append until that share of the backlog was answered: what a burst waits.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from benchmarks import backlog, broker, check
from benchmarks.broker import Produced, Progress
from benchmarks.check import Answer
from benchmarks.contestants import KafkaContestant, Site, take_all
from benchmarks.figures import Extra, Run
from benchmarks.ground import Ground
from benchmarks.load import ORGANIZATION, Work
from benchmarks.programs import CpuSampler
from schemas import topics
from schemas.limits import QUANTITY_SCALE
from schemas.messages import LineDetail, RequestLine, ReservationRequest

METHOD: Final = (
    "all requests preloaded; rate and CPU of the second half: results / time from the append at "
    "which half was answered to the last (broker's LogAppendTime), CPU of the deciding process "
    "tree over that span; whole_per_s and whole_cpu_us from the first append; percentiles = time "
    "from the first append until that share was answered; answers replayed"
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


def checked(site: Site, work: Work) -> tuple[dict[str, Answer], int]:
    """Answers by request id and how many were accepted; WrongAnswerError if any is wrong."""
    by_id = check.once_each(work, answers(site, work.partitions))
    return by_id, check.replay(work, by_id)


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
        extra: Extra = {}
        if already:
            preload(here, records[:already], report)
            making_mib = take_all(here, contestant, topics.REQUESTS, work, report)
            extra = {"already": already, "resident_making_mib": making_mib}
        preload(here, records[already:], report)
        del records
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
        by_id, accepted = checked(here, work)
    measured = [by_id[ask.request_id].appended_ms for ask in work.asks[already:]]
    return figures(contestant.name, measured, cpu, extra={"accepted": accepted, **extra})


def figures(
    name: str,
    appended_ms: Sequence[int],
    cpu: CpuSampler,
    *,
    extra: Extra | None = None,
    after: float = 0.5,
) -> Run:
    """Figures of a drained backlog from the append times of its results; see `backlog.figures`."""
    first_ms = min(appended_ms)
    waited_ms = [at_ms - first_ms for at_ms in appended_ms]
    run = backlog.figures(name, appended_ms, waited_ms, cpu, extra=extra, after=after)
    return msgspec.structs.replace(run, resident_mib=cpu.resident_mib_max)
