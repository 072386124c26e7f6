"""Mixed work: 70 % reserve, 15 % on-hand changes, 10 % offsets by the ERP, 5 % release or extend.

Holds to be offset, released and extended are made before, one for every such record, since a hold
has no id before it was answered. The two source topics are decided side by side, so their order
between each other is open; the load is made such that no outcome depends on it. A worker takes as
much of the one as of the other while it has both, so the shares are those of the whole drain, and
not of its second half.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from benchmarks import broker, drain
from benchmarks.broker import Produced, Progress
from benchmarks.check import WrongAnswerError, once_each, replay
from benchmarks.contestants import Holdfast, Site, take_all
from benchmarks.figures import Run
from benchmarks.ground import Ground
from benchmarks.load import ORGANIZATION, SEED, Leaf, Work, spread
from benchmarks.programs import CpuSampler
from schemas import topics
from schemas.codes import Code
from schemas.limits import QUANTITY_SCALE
from schemas.messages import (
    InventoryEvent,
    InventoryTransaction,
    LineDetail,
    MeasureChange,
    RequestLine,
    ReservationRequest,
    TransactionStatus,
)

SHARES: Final = {
    "RESERVE": 0.70,
    "ON_HAND": 0.15,
    "OFFSET": 0.10,
    "RELEASE": 0.025,
    "EXTEND": 0.025,
}
EXTEND_MS: Final = 3_600_000
METHOD: Final = (
    "as spread, with 70 % RESERVE, 15 % on-hand changes, 10 % offsets of existing holds, 5 % "
    "RELEASE or EXTEND of existing holds, over both source topics; rate and CPU of the whole, from "
    "the first append, since the second half has other shares; every outcome checked"
)
TAKES_A_HOLD: Final = frozenset({"OFFSET", "RELEASE", "EXTEND"})


class Hold(NamedTuple):
    """An answered hold."""

    leaf: Leaf
    pieces: int
    hold_id: str
    reservation_id: str


class Outcome(NamedTuple):
    """How a record ended: the code, and the quantity where one is told, in units of 10^-6.

    Of a request that is what its line reserved or gave back, of an offset what it took.
    """

    code: int
    quantity: int = 0


class Load(NamedTuple):
    """Records of both topics, and how each must end, by its id."""

    requests: list[Produced]
    transactions: list[Produced]
    expected: dict[str, Outcome]


def run(ground: Ground, progress: Progress, *, requests: int, partitions: int) -> Run:
    """Make the holds, preload the mix, drain it, check every outcome."""
    chance = random.Random(SEED)
    kinds = chance.choices(list(SHARES), weights=list(SHARES.values()), k=requests)
    work = spread(sum(kind in TAKES_A_HOLD for kind in kinds), partitions)
    ours = Holdfast()

    def report(what: str, done: int, of: int) -> None:
        progress(f"mixed: {what}", done, of)

    report("making topics", 0, 1)
    with ground.fresh(partitions) as site:
        ours.prepare(site, work, report)
        drain.preload(site, drain.request_records(site, work), report)
        take_all(site, ours, topics.REQUESTS, work, report)
        holds = _holds(site, work)
        load = _load(site, work, kinds, iter(holds), chance)
        drain.preload(site, load.requests, report)
        broker.preload(
            site.bootstrap, topics.TRANSACTIONS, load.transactions, report, "transactions"
        )
        cpu = _drain(site, ours, work, report)
        appended_ms = _outcomes(site, work, load)
    return drain.figures(ours.name, appended_ms, cpu, after=0.0)


def _holds(site: Site, work: Work) -> list[Hold]:
    """The holds that were made, in the order of their requests."""
    replay(work, once_each(work, drain.answers(site, work.partitions)))
    by_id = {}
    for message in broker.read_all(site.bootstrap, topics.RESULTS, work.partitions):
        result = site.codec.decode_result(message.value())
        by_id[result.request_id] = result.lines[0]
    return [
        Hold(
            work.leaves[ask.leaf],
            ask.quantity,
            by_id[ask.request_id].hold_id,
            by_id[ask.request_id].reservation_id,
        )
        for ask in work.asks
    ]


def _load(
    site: Site, work: Work, kinds: list[str], holds: Iterator[Hold], chance: random.Random
) -> Load:
    load = Load([], [], {})
    for number, kind in enumerate(kinds):
        record_id = f"mixed-{number:08}"
        if kind in TAKES_A_HOLD:
            hold = next(holds)
        else:
            hold = Hold(chance.choice(work.leaves), chance.randint(1, 3), "", "")
        load.expected[record_id] = _expected(kind, hold)
        if kind in {"ON_HAND", "OFFSET"}:
            value = site.codec.encode_transaction(_transaction(record_id, kind, hold))
            load.transactions.append(Produced(hold.leaf.key, value, hold.leaf.partition))
        else:
            value = site.codec.encode_request(_request(record_id, kind, hold))
            load.requests.append(Produced(hold.leaf.key, value, hold.leaf.partition))
    return load


def _expected(kind: str, hold: Hold) -> Outcome:
    if kind == "ON_HAND":
        return Outcome(Code.APPLIED)
    code = Code.OFFSET_APPLIED if kind == "OFFSET" else Code.ACCEPTED
    return Outcome(code, hold.pieces * QUANTITY_SCALE)


def _request(record_id: str, kind: str, hold: Hold) -> ReservationRequest:
    quantity = hold.pieces * QUANTITY_SCALE if kind == "RESERVE" else 0
    detail = None
    if kind == "RELEASE":
        detail = LineDetail(hold_id=hold.hold_id)
    if kind == "EXTEND":
        detail = LineDetail(hold_id=hold.hold_id, expires_in_ms=EXTEND_MS)
    line = RequestLine(hold.leaf.product, "", hold.leaf.dimensions, "", quantity, detail=detail)
    return ReservationRequest(record_id, kind, ORGANIZATION, "bench", [line])


def _transaction(record_id: str, kind: str, hold: Hold) -> InventoryTransaction:
    quantity = hold.pieces * QUANTITY_SCALE
    status = None
    if kind == "OFFSET":
        status = TransactionStatus(
            transaction_id=record_id,
            status="RESERVED_PHYSICAL",
            sequence=1,
            quantity=quantity,
            reservation_id=hold.reservation_id,
            hold_id=hold.hold_id,
        )
    measure = "fno.physicalinvent" if kind == "ON_HAND" else "fno.reservphysical"
    return InventoryTransaction(
        event_id=record_id,
        organization_id=ORGANIZATION,
        product_id=hold.leaf.product,
        dimensions=hold.leaf.dimensions,
        source="fno",
        changes=[MeasureChange(measure, quantity)],
        transaction=status,
    )


def _drain(site: Site, ours: Holdfast, work: Work, progress: Progress) -> CpuSampler:
    programs = ours.start(site, work)
    try:
        with CpuSampler([program.pid for program in programs]) as cpu:
            for topic in topics.SOURCES:
                with broker.GroupProgress(
                    site.bootstrap, ours.group, topic, work.partitions
                ) as left:
                    left.wait(programs, progress, f"deciding {topic}")
        return cpu
    finally:
        for program in programs:
            program.stop()


def _outcomes(site: Site, work: Work, load: Load) -> list[int]:
    """Append time of every outcome; WrongAnswerError unless each is there once and as expected."""
    appended_ms: dict[str, int] = {}
    for record_id, outcome, at_ms in _decided(site, work):
        if record_id not in load.expected:
            continue  # Of the preparation.
        if record_id in appended_ms:
            raise WrongAnswerError(f"mixed: {record_id} was decided twice")
        if outcome != load.expected[record_id]:
            raise WrongAnswerError(
                f"mixed: {record_id} ended with {outcome}, expected {load.expected[record_id]}"
            )
        appended_ms[record_id] = at_ms
    if len(appended_ms) != len(load.expected):
        raise WrongAnswerError(
            f"mixed: {len(load.expected) - len(appended_ms)} of {len(load.expected)} undecided"
        )
    return list(appended_ms.values())


def _decided(site: Site, work: Work) -> Iterator[tuple[str, Outcome, int]]:
    """Id, outcome and append time of every decision."""
    for message in broker.read_all(site.bootstrap, topics.RESULTS, work.partitions):
        result = site.codec.decode_result(message.value())
        (line,) = result.lines
        yield result.request_id, Outcome(result.code, line.quantity), message.timestamp()[1]
    read = broker.read_all(site.bootstrap, topics.EVENTS, work.partitions)
    yield from transactions(
        (site.codec.decode_event(one.value()), one.timestamp()[1]) for one in read
    )


def transactions(
    events: Iterable[tuple[InventoryEvent, int]],
) -> list[tuple[str, Outcome, int]]:
    """Id, outcome and append time of every transaction; what it took is told by another event."""
    taken = Counter[str]()
    ended: list[tuple[str, int, int]] = []
    for event, at_ms in events:
        if event.event_type == "OFFSET_APPLIED":
            taken[event.source_id] += event.quantity
        elif event.event_type == "TRANSACTION":
            ended.append((event.source_id, event.code, at_ms))
    return [(one, Outcome(code, taken[one]), at_ms) for one, code, at_ms in ended]
