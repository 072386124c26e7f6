"""Cost of one decision in process, by what it might depend on, and the size of every row.

No broker: the decider is given framed records and its rows go to RocksDB, as in a worker; what is
counted is CPU time of this process, which other programs on the machine disturb little. Each curve
varies one thing and keeps the others; a curve that bends upward names a cost that grows.
"""

import gc
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from benchmarks.broker import Progress
from benchmarks.check import WrongAnswerError
from benchmarks.collection import no_collection
from benchmarks.load import ORGANIZATION
from benchmarks.origin import this_machine
from processor.decider import StockDomain
from processor.engine.ports import Outputs
from processor.engine.records import Record
from processor.engine.rows import PartitionRows
from processor.engine.store import PartitionStore, Position, shared_cache
from processor.inventory.configuration.presets import default
from schemas import partitioning, topics
from schemas.codec import Codec
from schemas.codes import Code
from schemas.limits import QUANTITY_SCALE
from schemas.messages import (
    InventoryTransaction,
    MeasureChange,
    RequestLine,
    ReservationRequest,
)
from schemas.registry import FixedSchemaIds

LEVELS: Final = (1, 2, 3, 4, 5, 6)
LINES: Final = (1, 2, 4, 8, 16, 32, 64)
HOLDS: Final = (0, 100, 1_000, 10_000, 100_000)
PRODUCTS: Final = (1, 100, 1_000, 10_000, 50_000)
DIMENSIONS: Final = ("siteid", "locationid", "colorid", "sizeid", "styleid", "configid", "batchid")
LINES_MEASURED: Final = 12_800  # Of every point, in REPEATS parts.
REPEATS: Final = 4
REMEMBERED: Final = 2_000  # Product-locations whose memory is measured.
BATCH_RECORDS: Final = 400  # Records of one commit.
CACHE_BYTES: Final = 256 * 2**20
CLOCK_BEGIN_MS: Final = 1_795_500_000_000
ROW_KINDS: Final = {"P": "stock leaf or level", "H": "hold", "R": "answer", "X": "expiry index"}
METHOD: Final = (
    "CPU time of one process: decode, decide, encode, rows to RocksDB, without Kafka; "
    f"{LINES_MEASURED:,} requested lines a point, median of {REPEATS} parts, RESERVE with the check"
)


class Point(msgspec.Struct, frozen=True):
    """CPU of one request (us) at one value of what is varied."""

    at: int
    cpu_us: float


class Curve(msgspec.Struct, frozen=True):
    """Points in rising order of what is varied."""

    of: str
    points: list[Point]


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """All curves; `rows`: mean bytes (key and value) of a row by kind; `stored`: of the database.

    `stored_bytes_per_hold` is what RocksDB has on disk for one accepted request of one line, its
    share of stock rows included, after a flush. `remembered_bytes` is the memory of one
    product-location with one stock row and one level that was reserved, as the worker keeps it.
    """

    method: str
    machine: str
    curves: list[Curve]
    rows: dict[str, float]
    stored_bytes_per_hold: float
    remembered_bytes: float


class Bench:
    """One partition of the processor without Kafka; every record goes through a whole batch."""

    def __init__(self, folder: Path, *, levels: int = 3) -> None:
        configuration = default()
        hierarchy = tuple(DIMENSIONS[: levels + 1])
        reservation = msgspec.structs.replace(configuration.reservation, dimensions=hierarchy)
        configuration = msgspec.structs.replace(configuration, reservation=reservation)
        self._codec = Codec(FixedSchemaIds())
        self._domain = StockDomain(self._codec, configuration)
        self._folder = folder / "rows"
        self._store = PartitionStore(
            self._folder,
            cache=shared_cache(CACHE_BYTES),
            topic_id="bench",
            derive=self._domain.derive,
            indexed_kinds=self._domain.indexed_kinds,
        )
        self._rows = PartitionRows(self._store, self._domain.group_length)
        self._decider = self._domain.open(0, 1, self._rows, None)
        self._offset = 0
        self._answers: list[bytes | None] = []  # The last one of each batch, to be checked.
        self.row_bytes: Counter[str] = Counter()
        self.row_counts: Counter[str] = Counter()

    def supply(self, products: int) -> None:
        """Bring a million pieces of every product in."""
        changes = [MeasureChange("fno.physicalinvent", 1_000_000 * QUANTITY_SCALE)]
        self._decide(
            topics.TRANSACTIONS,
            [
                self._codec.encode_transaction(
                    InventoryTransaction(
                        event_id=f"supply-{number}",
                        organization_id=ORGANIZATION,
                        product_id=f"D{number:05}",
                        dimensions=_place(),
                        source="fno",
                        changes=changes,
                    )
                )
                for number in range(products)
            ],
        )

    def reserve(self, requests: int, *, lines: int = 1, products: int = 1) -> float:
        """Decide requests of `lines` lines over `products` in turn; CPU us of one request."""
        place = _place()
        wanted = iter(range(self._offset, self._offset + requests * lines))
        values = [
            self._codec.encode_request(
                ReservationRequest(
                    f"request-{self._offset + number}",
                    "RESERVE",
                    ORGANIZATION,
                    "bench",
                    [
                        RequestLine(f"D{next(wanted) % products:05}", "", place, "", QUANTITY_SCALE)
                        for _ in range(lines)
                    ],
                    None,
                )
            )
            for number in range(requests)
        ]
        spent_s = self._decide(topics.REQUESTS, values)
        self._check()
        return spent_s * 1e6 / requests

    def _check(self) -> None:
        """A refusal costs less than a hold: what was measured must have been granted."""
        for answer in self._answers:
            result = self._codec.decode_result(answer)
            if result.code != Code.ACCEPTED:
                raise WrongAnswerError(f"cost: {result.request_id} ended with {result.code}")
        self._answers.clear()

    def _decide(self, topic: str, values: Sequence[bytes]) -> float:
        """Decide and store; CPU seconds, garbage collection off as in a worker."""
        key = partitioning.location_key(ORGANIZATION, "siteid-1", "locationid-1")
        records = [
            Record(topic, 0, number, CLOCK_BEGIN_MS + number // 100, key=key, value=value)
            for number, value in enumerate(values, self._offset)
        ]
        self._offset += len(records)
        gc.collect()
        with no_collection():
            began_s = time.process_time()
            for start in range(0, len(records), BATCH_RECORDS):
                self._batch(records[start : start + BATCH_RECORDS])
            return time.process_time() - began_s

    def _batch(self, records: Sequence[Record]) -> None:
        outputs = Outputs(self._domain.output_topics)
        self._decider.decide(records, outputs)
        self._answers += [value for _, value in outputs.messages[topics.RESULTS][-1:]]
        self._decider.checkpoint()
        changes = self._rows.seal()
        self._store.apply(changes, Position(self._offset, 0, "bench"))
        self._rows.settle()
        self._decider.committed()
        for row_key, value in changes.items():
            if value is not None:
                kind = chr(row_key[0])
                self.row_counts[kind] += 1
                self.row_bytes[kind] += len(row_key) + len(value)

    def close(self) -> int:
        """Flush and close; bytes on disk."""
        self._store.close()
        return sum(path.stat().st_size for path in self._folder.iterdir() if path.suffix == ".sst")


def run(
    progress: Progress,
    *,
    lines_measured: int = LINES_MEASURED,
    holds_max: int = HOLDS[-1],
    products_max: int = PRODUCTS[-1],
) -> Costs:
    """Every curve (holds and products up to a largest value), and the bytes of the rows."""
    holds = [one for one in HOLDS if one <= holds_max]
    products = [one for one in PRODUCTS if one <= products_max]
    shapes: list[tuple[str, Sequence[int], Callable[[Path, int, int], float]]] = [
        ("levels", LEVELS, _by_levels),
        ("lines", LINES, _by_lines),
        ("holds", holds, _by_holds),
        ("products", products, _by_products),
    ]
    # What was there before is not looked at again by each collection: in a process that has loaded
    # much, that took longer than what is measured.
    gc.collect()
    gc.freeze()
    curves = []
    for of, values, measure in shapes:
        points = []
        for number, at in enumerate(values):
            progress(f"cost by {of}", number, len(values))
            with tempfile.TemporaryDirectory(prefix="holdfast-cost-") as folder:
                points.append(Point(at, round(measure(Path(folder), at, lines_measured), 2)))
        curves.append(Curve(of, points))
    with tempfile.TemporaryDirectory(prefix="holdfast-cost-") as folder:
        rows, stored = _sizes(Path(folder), lines_measured)
    with tempfile.TemporaryDirectory(prefix="holdfast-cost-") as folder:
        remembered = _remembered(Path(folder))
    gc.unfreeze()
    return Costs(
        method=METHOD,
        machine=str(this_machine()),
        curves=curves,
        rows=rows,
        stored_bytes_per_hold=stored,
        remembered_bytes=remembered,
    )


def _place() -> dict[str, str]:
    return {name: f"{name}-1" for name in DIMENSIONS}


def _middle(bench: Bench, requests: int, *, lines: int = 1, products: int = 1) -> float:
    """Median over REPEATS parts of the requests."""
    part = max(1, requests // REPEATS)
    return median(bench.reserve(part, lines=lines, products=products) for _ in range(REPEATS))


def _by_levels(folder: Path, levels: int, lines: int) -> float:
    bench = Bench(folder, levels=levels)
    bench.supply(100)
    return _middle(bench, lines, products=100)


def _by_lines(folder: Path, lines: int, measured: int) -> float:
    bench = Bench(folder)
    bench.supply(100)
    return _middle(bench, measured // lines, lines=lines, products=100)


def _by_holds(folder: Path, holds: int, lines: int) -> float:
    """One stock key with so many live holds already."""
    bench = Bench(folder)
    bench.supply(1)
    if holds:
        bench.reserve(holds)
    return _middle(bench, lines)


def _by_products(folder: Path, products: int, lines: int) -> float:
    bench = Bench(folder)
    bench.supply(products)
    return _middle(bench, lines, products=products)


def _sizes(folder: Path, lines: int) -> tuple[dict[str, float], float]:
    bench = Bench(folder)
    bench.supply(1_000)
    bench.reserve(lines, products=1_000)
    rows = {
        name: round(bench.row_bytes[kind] / bench.row_counts[kind], 1)
        for kind, name in ROW_KINDS.items()
        if bench.row_counts[kind]
    }
    return rows, round(bench.close() / lines, 1)


def _remembered(folder: Path) -> float:
    """Of what Python allocates; RocksDB's own memory is bounded by settings."""
    bench = Bench(folder)
    tracemalloc.start()
    try:
        bench.supply(REMEMBERED)
        bench.reserve(REMEMBERED, products=REMEMBERED)
        gc.collect()
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        bench.close()
    return round(held_bytes / REMEMBERED, 1)
