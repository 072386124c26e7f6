"""The engine's decisions and the independent model agree, batch by batch, restart after restart."""

import random
from collections.abc import Sequence
from typing import Final

import msgspec
import pytest

from processor.decider import StockDomain
from processor.engine.ports import Outputs
from processor.engine.records import Record
from schemas import topics
from schemas.codec import Codec
from schemas.registry import FixedSchemaIds
from tests.support.checker import check
from tests.support.history import History
from tests.support.load import Draft, Load
from tests.support.rows import DictRows
from tests.support.wire import NAMES, SourceRecord, Wire

PARTITIONS: Final = 2
RECORDS: Final = 4_000
BATCH_MAX: Final = 60
START_MS: Final = 1_800_000_000_000


class Ledger:
    """One partition decided in process: rows in a dict, a restart now and then."""

    def __init__(self, partition: int, domain: StockDomain) -> None:
        self.partition = partition
        self.domain = domain
        self.outputs = Outputs(domain.output_topics)
        self.rows = DictRows()
        self.checkpoint: bytes | None = None
        self.decider = domain.open(partition, PARTITIONS, self.rows, None)
        self.log: dict[str, list[SourceRecord]] = {topic: [] for topic in topics.SOURCES}

    def append(self, draft: Draft, timestamp_ms: int) -> SourceRecord:
        """Append a record to its topic."""
        log = self.log[draft.topic]
        record = SourceRecord(
            draft.topic, draft.partition, len(log), timestamp_ms, draft.key, draft.value
        )
        log.append(record)
        return record

    def decide(self, batch: list[SourceRecord]) -> None:
        """Decide a batch of one topic and commit it."""
        self.decider.decide([Record(**record._asdict()) for record in batch], self.outputs)
        self.checkpoint = self.decider.checkpoint()
        self.decider.committed()

    def watermark(self) -> bytes:
        """The row that the engine would write beside the domain's own."""
        offsets = {topic: len(log) for topic, log in self.log.items()}
        return msgspec.msgpack.encode([1, offsets, self.checkpoint])

    def restart(self) -> None:
        """Forget everything but the rows that a changelog would bring back."""
        kept = {
            key: value
            for key, value in self.rows.rows.items()
            if key[0] not in self.domain.local_kinds
        }
        derived = [index for key, value in kept.items() for index in self.domain.derive(key, value)]
        self.rows = DictRows(kept | dict(derived))
        self.decider = self.domain.open(self.partition, PARTITIONS, self.rows, self.checkpoint)


def written(ledgers: Sequence[Ledger], topic: str) -> list[SourceRecord]:
    """What was written to an output topic."""
    records: list[SourceRecord] = []
    for ledger in ledgers:
        partition = 0 if topic == topics.DEAD_LETTERS else ledger.partition
        for key, value in ledger.outputs.messages[topic]:
            records.append(SourceRecord(topic, partition, len(records), START_MS, key, value))
    return records


def run(seed: int, *, restarts: bool) -> tuple[History, Wire]:
    """Decide some thousand records of every kind; the history they leave."""
    domain = StockDomain(Codec(FixedSchemaIds()))
    ids = FixedSchemaIds()
    wire = Wire({ids.id_of(name): name for name in NAMES})
    ledgers = [Ledger(partition, domain) for partition in range(PARTITIONS)]
    load = Load(seed, PARTITIONS, 4, wire)
    draw = random.Random(seed)  # noqa: S311 - repeatable, on purpose
    opening = list(load.opening())
    clock_ms = START_MS
    pending: dict[tuple[int, str], list[SourceRecord]] = {}
    for number in range(len(opening) + RECORDS):
        draft = opening[number] if number < len(opening) else load.draw()
        clock_ms += draw.randrange(-2, 5)
        ledger = ledgers[draft.partition]
        batch = pending.setdefault((draft.partition, draft.topic), [])
        batch.append(ledger.append(draft, clock_ms))
        if len(batch) >= draw.randrange(1, BATCH_MAX):
            seen = len(ledger.outputs.messages[topics.RESULTS])
            ledger.decide(batch)
            batch.clear()
            for _, value in ledger.outputs.messages[topics.RESULTS][seen:]:
                load.learn(wire.read(value, "ReservationResult"))
            if restarts and draw.random() < 0.2:
                ledger.restart()
    for (partition, _), batch in pending.items():
        if batch:
            ledgers[partition].decide(batch)
    return history_of(ledgers, domain), wire


def history_of(ledgers: Sequence[Ledger], domain: StockDomain) -> History:
    """The topics as they would be."""
    return History(
        partitions=PARTITIONS,
        requests=[record for ledger in ledgers for record in ledger.log[topics.REQUESTS]],
        transactions=[record for ledger in ledgers for record in ledger.log[topics.TRANSACTIONS]],
        results=written(ledgers, topics.RESULTS),
        events=written(ledgers, topics.EVENTS),
        dead_letters=written(ledgers, topics.DEAD_LETTERS),
        rows={
            ledger.partition: {
                key: value
                for key, value in ledger.rows.rows.items()
                if key[0] not in domain.local_kinds
            }
            | {b"W": ledger.watermark()}
            for ledger in ledgers
        },
        committed={
            (topic, ledger.partition): len(ledger.log[topic])
            for ledger in ledgers
            for topic in topics.SOURCES
        },
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_decisions_agree_with_the_model(seed: int) -> None:
    """Thousands of records of every kind, in batches of any size: every answer and row agree."""
    findings = check(*run(seed, restarts=False))
    assert findings.clean, findings.examples
    assert findings.granted > 100
    assert findings.offsets > 10


@pytest.mark.parametrize("seed", [3, 4])
def test_restarts_change_no_decision(seed: int) -> None:
    """A decider that forgets all but its changelog rows again and again decides the same."""
    findings = check(*run(seed, restarts=True))
    assert findings.clean, findings.examples


def test_rows_that_are_not_what_was_answered_are_seen() -> None:
    """A row too many, one too few, one that differs, an old watermark: each is a difference."""
    history, wire = run(5, restarts=False)
    assert history.rows is not None
    rows = history.rows[0]
    hold = next(key for key in rows if key[:1] == b"H")
    leaf = next(key for key in rows if key[:1] == b"P" and key[13:14] == b"L")
    ledger = next(key for key in rows if key[:1] == b"T")
    other_leaf = next(value for key, value in rows.items() if key[13:14] == b"L" and key != leaf)
    for changed in (
        {key: value for key, value in rows.items() if key != hold},
        {key: value for key, value in rows.items() if key != ledger},
        rows | {leaf: other_leaf},
        rows | {b"R" + b"never-asked": next(rows[key] for key in rows if key[:1] == b"R")},
        rows | {b"W": msgspec.msgpack.encode([1, {topics.REQUESTS: 3}, b""])},
    ):
        tampered = msgspec.structs.replace(history, rows={**history.rows, 0: changed})
        findings = check(tampered, wire)
        assert findings.state_differences > 0
        assert not findings.clean
