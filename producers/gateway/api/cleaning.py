"""onhand/reserve/resyncjob, getJobProgress, allpartitionids, partitions/cleanupalldata.

Nothing is deleted behind the topics' back: holds are released and quantities counted to nought by
records like any other, so that every reader, the audit and a replay see them. A job's id says what
it is; its progress can be asked of any gateway.
"""

import base64
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, Final

import msgspec
from starlette.responses import Response

from producers.gateway import consistency, fields, strict_json
from producers.gateway.api import writes
from producers.gateway.api.administration import answer
from producers.gateway.api.records import NAME_LENGTH_MAX
from producers.gateway.call import Call
from producers.gateway.places import BASE_DIMENSIONS
from producers.gateway.problems import Problem, bad, unavailable
from producers.gateway.writer import Sending
from schemas.codes import GRANTED, Code
from schemas.limits import CHANGES_MAX
from schemas.messages import (
    InventoryEvent,
    InventoryTransaction,
    LineDetail,
    MeasureChange,
    RequestLine,
    ReservationRequest,
    ReservationResult,
)
from schemas.partitioning import partition_of
from schemas.queries import (
    HOLDS_PAGE_MAX,
    HoldQuery,
    HoldView,
    OnHandQuery,
    OnHandRow,
    QueryInvalid,
)

AT_ONCE: Final = 512
SLACK_MS: Final = 1_000  # Clocks of broker and gateway differ; a hold this young counts as older.
IDS_MAX: Final = 10_000
PARTITION_ID_LENGTH_MAX: Final = 512
JOB_ID_LENGTH_MAX: Final = 2_048
JOBS_MAX: Final = 1_000
_COUNTED: Final = frozenset({Code.APPLIED, Code.DUPLICATE})
_GONE: Final = frozenset({Code.HOLD_CLOSED, Code.HOLD_EXPIRED})


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a job is; its id is this, written down."""

    environment: str
    sources: tuple[str, ...]
    started_ms: int

    def concerns(self, hold: HoldView) -> bool:
        """Whether the job releases the hold."""
        mine = not self.sources or hold.measure.partition(".")[0] in self.sources
        return mine and hold.created_at_ms <= self.started_ms + SLACK_MS

    @property
    def id(self) -> str:
        """Id of the job."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).rstrip(b"=").decode()


class Progress(msgspec.Struct, kw_only=True):
    """How far a job is, where it runs."""

    released: int = 0
    failed: str = ""
    ended: bool = False


async def clean_up(call: Call) -> Response:
    """POST onhand/reserve/resyncjob: release what is reserved under data sources; none: all."""
    value = call.json()
    if not isinstance(value, list):
        raise bad("an array of data sources is expected; an empty one means all")
    sources = tuple(
        fields.checked_text(one, "a data source", NAME_LENGTH_MAX).lower() for one in value
    )
    for source in sources:
        if source not in call.gateway.places.sources:
            raise bad(f"no data source {source!r}")
    await consistency.settle(call)
    job = Job(environment=call.environment, sources=sources, started_ms=int(time.time() * 1000))
    progress = Progress()
    jobs = call.gateway.jobs
    jobs[job.id] = progress
    while len(jobs) > JOBS_MAX:
        jobs.pop(next(iter(jobs)))
    call.gateway.start(_run(call, job, progress))
    return answer(
        {"jobId": job.id, "processingStatus": "success", "message": "", "statusCode": 200}
    )


async def _run(call: Call, job: Job, progress: Progress) -> None:
    try:
        await _release(call, job.concerns, job.started_ms, progress)
    except Exception as error:  # noqa: BLE001 - the job's end is told, whatever it was
        progress.failed = str(error) or type(error).__name__
    finally:
        progress.ended = True


async def job_progress(call: Call) -> Response:
    """GET getJobProgress?jobId=."""
    given = {name.lower(): value for name, value in call.request.query_params.multi_items()}
    job_id = fields.text(given, "jobId", JOB_ID_LENGTH_MAX)
    try:
        padded = job_id + "=" * (-len(job_id) % 4)
        job = msgspec.json.decode(base64.b64decode(padded, b"-_", validate=True), type=Job)
    except (ValueError, msgspec.DecodeError) as error:
        raise Problem(404, "unknown-job", "there is no such job") from error
    if job.environment != call.environment:
        raise Problem(404, "unknown-job", "there is no such job")
    progress = call.gateway.jobs.get(job_id)
    body = _told(progress) if progress is not None else await _looked_up(call, job)
    return answer({"jobId": job_id, **body, "statusCode": 200})


def _told(progress: Progress) -> dict[str, Any]:
    if progress.failed:
        return {"status": "failed", "processed": progress.released, "message": progress.failed}
    status = "completed" if progress.ended else "running"
    return {"status": status, "processed": progress.released, "message": ""}


async def _looked_up(call: Call, job: Job) -> dict[str, Any]:
    """Progress of a job that runs, or ran, elsewhere: by what it has left to do."""
    async for hold in _holds(call):
        if job.concerns(hold):
            message = "something is left to release; if it stays so, ask for the job again"
            return {"status": "running", "message": message}
    return {"status": "completed", "message": ""}


async def partition_ids(call: Call) -> Response:
    """GET allpartitionids: those where something is on hand or held; none after a wipe."""
    await consistency.settle(call)
    known = await call.gateway.queries.partitions()
    found: set[str] = set()
    async for row in _stock(call):
        if len(found) == len(known):
            break
        if any(quantity for _, quantity in _measured(call, row)):
            found.add(str(_partition(call, row)))
    return answer([one for one in known if one in found])


async def wipe(call: Call) -> Response:
    """DELETE partitions/cleanupalldata: nothing is held and nothing on hand there afterwards."""
    if not call.gateway.settings.wipe_allowed:
        raise Problem(403, "wiping-not-allowed", "this environment does not allow wiping")
    given = call.json()
    values = [] if given == [] else strict_json.records_of(given, IDS_MAX)
    wanted = {fields.checked_text(one, "a partition id", PARTITION_ID_LENGTH_MAX) for one in values}
    await consistency.settle(call)
    unknown = sorted(wanted - set(await call.gateway.queries.partitions()))
    if unknown:
        raise Problem(404, "unknown-partition", f"there is no partition {unknown[0][:100]!r}")
    now_ms = int(time.time() * 1000)
    numbers = frozenset(int(one) for one in wanted)
    progress = Progress()
    await _release(call, lambda hold: _partition(call, hold) in numbers, now_ms, progress)
    counted = await _count_to_nought(call, numbers, now_ms)
    body = {"releasedHolds": progress.released, "clearedRows": counted}
    return answer({**body, "processingStatus": "success", "message": "", "statusCode": 200})


def _partition(call: Call, row: HoldView | OnHandRow) -> int:
    """Partition that a hold or stock row lies in."""
    gateway = call.gateway
    key = gateway.places.key(row.organization_id, row.product_id, row.dimensions)
    return partition_of(key, gateway.writer.partitions)


async def _holds(call: Call) -> AsyncIterator[HoldView]:
    cursor = ""
    while True:
        page = await call.gateway.queries.holds(HoldQuery(cursor=cursor, limit=HOLDS_PAGE_MAX))
        for hold in page.holds:
            yield hold
        cursor = page.cursor
        if not cursor:
            return


async def _release(
    call: Call, concerns: Callable[[HoldView], bool], stamp_ms: int, progress: Progress
) -> None:
    waiting: list[Sending] = []
    async for hold in _holds(call):
        if concerns(hold):
            waiting.append(_releasing(call, hold, stamp_ms))
        if len(waiting) == AT_ONCE:
            progress.released += await _done(call, waiting)
            waiting = []
    progress.released += await _done(call, waiting)


def _releasing(call: Call, hold: HoldView, stamp_ms: int) -> Sending:
    line = RequestLine(
        hold.product_id,
        "",
        hold.dimensions,
        hold.measure,
        0,
        True,
        LineDetail(hold_id=hold.hold_id),
    )
    request_id = f"clean~{stamp_ms}~{hold.hold_id}"
    record = ReservationRequest(request_id, "RELEASE", hold.organization_id, call.channel, [line])
    key = call.gateway.places.key(hold.organization_id, hold.product_id, hold.dimensions)
    return Sending(record, key)


async def _products(call: Call) -> AsyncIterator[tuple[str, tuple[str, ...]]]:
    """Every product, some at once, by organization; some of them twice."""
    cursor = ""
    while True:
        page = await call.gateway.queries.products(cursor)
        by_organization: dict[str, list[str]] = {}
        for organization_id, product_id in page.products:
            by_organization.setdefault(organization_id, []).append(product_id)
        for organization_id, products in by_organization.items():
            yield organization_id, tuple(products)
        cursor = page.cursor
        if not cursor:
            return


async def _stock(call: Call) -> AsyncIterator[OnHandRow]:
    """Every stock row, some of them twice."""
    async for organization_id, products in _products(call):
        async for row in _stock_of(call, organization_id, products):
            yield row


async def _stock_of(
    call: Call, organization_id: str, products: tuple[str, ...]
) -> AsyncIterator[OnHandRow]:
    """Their stock rows, asked for in halves where they are more than one question may read.

    Raises:
        QueryInvalid: one product alone has more.

    """
    query = OnHandQuery(
        organization_ids=(organization_id,), product_ids=products, group_by=BASE_DIMENSIONS
    )
    try:
        rows = (await call.gateway.queries.on_hand(query)).rows
    except QueryInvalid:
        middle = len(products) // 2
        if not middle:
            raise
        for half in (products[:middle], products[middle:]):
            async for row in _stock_of(call, organization_id, half):
                yield row
    else:
        for row in rows:
            yield row


def _measured(call: Call, row: OnHandRow) -> Iterator[tuple[str, int]]:
    """What a row holds of each physical measure, as `source.measure`; what is reserved too."""
    measures = call.gateway.places.measures
    for source, quantities in row.quantities.items():
        for measure, quantity in quantities.items():
            name = f"{source}.{measure}"
            if name in measures:
                yield name, quantity


async def _count_to_nought(call: Call, numbers: frozenset[int], stamp_ms: int) -> int:
    cleared = 0
    counts: list[Sending] = []
    async for row in _stock(call):
        if _partition(call, row) not in numbers:
            continue
        of_row = _counts(call, row, stamp_ms)
        counts += of_row
        cleared += bool(of_row)
        if len(counts) >= AT_ONCE:
            await _done(call, counts)
            counts = []
    await _done(call, counts)
    return cleared


def _counts(call: Call, row: OnHandRow, stamp_ms: int) -> list[Sending]:
    """Counts of nought, one per data source: each is told by whom it belongs to."""
    places = call.gateway.places
    words = (row.organization_id, row.product_id, sorted(row.dimensions.items()))
    stamp = f"clean~{stamp_ms}~{blake2b(msgspec.json.encode(words), digest_size=12).hexdigest()}"
    dimensions = {name: value for name, value in row.dimensions.items() if value}
    sendings: list[Sending] = []
    by_source: dict[str, list[MeasureChange]] = {}
    for name, quantity in _measured(call, row):
        if quantity and name not in places.reserved_measures:
            by_source.setdefault(name.partition(".")[0], []).append(MeasureChange(name, 0))
    for source, changes in by_source.items():
        for start in range(0, len(changes), CHANGES_MAX):
            record = InventoryTransaction(
                event_id=f"{stamp}~{source}~{start}",
                organization_id=row.organization_id,
                product_id=row.product_id,
                dimensions=dimensions,
                source=places.sender_of(source),
                mode="SET",
                changes=changes[start : start + CHANGES_MAX],
            )
            key = places.key(row.organization_id, row.product_id, dimensions)
            sendings.append(Sending(record, key))
    return sendings


async def _done(call: Call, sendings: Sequence[Sending]) -> int:
    """Send, and insist that each was done (or had been done already)."""
    if not sendings:
        return 0
    done = 0
    for told in await writes.send(call, sendings):
        outcome = told.outcome
        if isinstance(outcome, ReservationResult) and outcome.code in GRANTED:
            done += 1
        elif isinstance(outcome, ReservationResult) and all(
            line.code in _GONE for line in outcome.lines
        ):
            continue
        elif not (isinstance(outcome, InventoryEvent) and outcome.code in _COUNTED):
            raise unavailable(f"not all of it is done, ask again: {outcome}")
    return done
