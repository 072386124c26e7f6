"""The checker sees what it is there to see: every anomaly in a hand-made history is named."""

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec
import pytest

from schemas import topics
from schemas.codes import Code
from tests.support.checker import Findings, check, unfit
from tests.support.history import History
from tests.support.load import UNIT, Draft, Load
from tests.support.model import Line, Model, Place, lowered, node_of
from tests.support.wire import NAMES, Fields, SourceRecord, UnreadableError, Wire

PARTITIONS: Final = 2
WIRE: Final = Wire(dict(enumerate(NAMES, start=1)))
START_MS: Final = 1_800_000_000_000


def reservation_id(place: Place) -> str:
    """An id for a place, as good as any."""
    return hashlib.sha256(repr(place).encode()).hexdigest()[:20]


class Clerk:
    """Answers by the book, one record after the other: makes an honest history."""

    def __init__(self) -> None:
        self.history = History(
            partitions=PARTITIONS,
            requests=[],
            transactions=[],
            results=[],
            events=[],
            dead_letters=[],
            committed={},
        )
        self.models = [Model({}) for _ in range(PARTITIONS)]
        self.sequences = [0] * PARTITIONS
        self.decided_at: dict[str, int] = {}
        self.clock_ms = START_MS

    def consume(self, draft: Draft) -> list[Fields]:
        """Append a record to its topic and answer it."""
        self.clock_ms += 1
        asked = draft.topic == topics.REQUESTS
        log = self.history.requests if asked else self.history.transactions
        record = self.append(log, draft.topic, draft.partition, draft.key, draft.value)
        self.sequences[draft.partition] += 1
        assert isinstance(self.history.committed, dict)
        self.history.committed[draft.topic, draft.partition] = record.offset + 1
        try:
            fields = WIRE.read(
                draft.value, "ReservationRequest" if asked else "InventoryTransaction"
            )
            if fields.get("action") == "TICK":
                return []
            code = unfit(record, fields, PARTITIONS)
        except UnreadableError as error:
            code = error.code
        if code is not None:
            self.bury(record, code)
            return []
        return [self.answer(record, fields)] if asked else self.happen(record, fields)

    def append(
        self, log: list[SourceRecord], topic: str, partition: int, key: bytes | None, value: bytes
    ) -> SourceRecord:
        """Append to a topic."""
        offset = sum(record.partition == partition for record in log)
        record = SourceRecord(topic, partition, offset, self.clock_ms, key, value)
        log.append(record)
        return record

    def bury(self, record: SourceRecord, code: Code) -> None:
        """Write a dead letter."""
        fields = {
            "code": code,
            "reason": "test",
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp_ms": record.timestamp,
            "key": record.key,
            "value": record.value,
        }
        value = WIRE.write(fields, "DeadLetter")
        self.append(self.history.dead_letters, topics.DEAD_LETTERS, 0, record.key, value)

    def answer(self, record: SourceRecord, request: Fields) -> Fields:
        """Write a result."""
        model = self.models[record.partition]
        sequence = self.sequences[record.partition]
        answer, replayed = model.decide_request(request, sequence)
        decided_at_ms = self.decided_at.setdefault(request["request_id"], self.clock_ms)
        fields = {
            "request_id": request["request_id"],
            "code": answer.code,
            "sequence": sequence,
            "decided_at_ms": decided_at_ms if replayed else self.clock_ms,
            "source_offset": record.offset,
            "replayed": replayed,
            "lines": [self.line(model, line) for line in answer.lines],
        }
        key = request["request_id"].encode()
        value = WIRE.write(fields, "ReservationResult")
        self.append(self.history.results, topics.RESULTS, record.partition, key, value)
        return fields

    def line(self, model: Model, line: Line) -> Fields:
        """An answered line as fields."""
        text = ""
        if line.place is not None:
            text = reservation_id(line.place)
            model.ids[text] = line.place
        invalid = line.invalid_quantity
        return {
            "code": line.code,
            "reservation_id": text,
            "hold_id": f"{text}-{line.hold}" if line.hold is not None else "",
            "quantity": line.quantity,
            "available": line.available,
            "detail": {"invalid_quantity": invalid} if invalid else None,
        }

    def happen(self, record: SourceRecord, event: Fields) -> list[Fields]:
        """Write the events of an inventory transaction."""
        happening = self.models[record.partition].decide_transaction(event)
        first = {"event_type": "TRANSACTION", "code": happening.code}
        status = event["transaction"] or {}
        node = node_of(lowered(event["dimensions"]))
        place = Place(event["organization_id"], event["product_id"], node)
        about = {
            "sequence": self.sequences[record.partition],
            "at_ms": self.clock_ms,
            "source_topic": record.topic,
            "source_offset": record.offset,
            "source_id": event["event_id"],
            "reservation_id": reservation_id(place) if status else "",
        }
        written = [about | first]
        written += [about | dict(follow._asdict()) for follow in happening.follows]
        for fields in written:
            value = WIRE.write(fields, "InventoryEvent")
            key = event["event_id"].encode()
            self.append(self.history.events, topics.EVENTS, record.partition, key, value)
        return written


def tick(partition: int) -> Draft:
    """A record that lets time pass."""
    fields = {"request_id": "t", "action": "TICK", "organization_id": "", "lines": []}
    value = WIRE.write(fields, "ReservationRequest")
    return Draft(topics.REQUESTS, partition, b"tick", value)


@pytest.fixture(scope="module")
def honest() -> History:
    """A history of some records of every kind, answered by the book."""
    clerk = Clerk()
    load = Load(seed=7, partitions=PARTITIONS, products=4, wire=WIRE)
    for draft in load.opening():
        clerk.consume(draft)
    for number in range(1_500):
        draft = load.draw()
        answers = clerk.consume(draft)
        if draft.topic == topics.REQUESTS and answers:
            load.learn(answers[0])
        if number % 25 == 0:
            clerk.consume(tick(number // 25 % PARTITIONS))
    return clerk.history


def test_honest_history_is_clean(honest: History) -> None:
    """A history answered by the book is clean, and every kind of record took part."""
    findings = check(honest, WIRE)
    assert findings.clean, findings.examples
    assert findings.longest_stall_s == 0
    for kind in ("granted", "refused", "replayed", "offsets", "dead_letters", "ticks"):
        assert getattr(findings, kind) > 0, kind


def changed_result(honest: History, change: Callable[[Fields], Fields | None]) -> History:
    """The history with the first result changed for which `change` gives another one."""
    results = list(honest.results)
    for index, record in enumerate(results):
        fields = change(WIRE.read(record.value, "ReservationResult"))
        if fields is not None:
            results[index] = record._replace(value=WIRE.write(fields, "ReservationResult"))
            return msgspec.structs.replace(honest, results=results)
    raise AssertionError("no such result")


def is_granted(fields: Fields) -> bool:
    """Whether a result is a first, full grant."""
    return fields["code"] == Code.ACCEPTED and not fields["replayed"]


def check_changed(honest: History, change: Callable[[Fields], Fields | None]) -> Findings:
    """Findings over a history with one result changed."""
    findings = check(changed_result(honest, change), WIRE)
    assert not findings.clean
    return findings


def test_lost_answer_is_seen(honest: History) -> None:
    """A request whose result is missing is lost, and its number belongs to no record."""
    findings = check(msgspec.structs.replace(honest, results=honest.results[1:]), WIRE)
    assert (findings.lost, findings.doubled) == (1, 0)
    assert findings.answered_once == findings.requests + findings.transactions - 1
    assert findings.misnumbered > 0


def test_doubled_answer_is_seen(honest: History) -> None:
    """A result written twice, byte for byte, is doubled."""
    results = [*honest.results, honest.results[10]]
    findings = check(msgspec.structs.replace(honest, results=results), WIRE)
    assert findings.doubled == 1
    assert not findings.clean


def test_lost_and_doubled_events_are_seen(honest: History) -> None:
    """A TRANSACTION event that is missing or there twice counts as a lost or doubled answer."""
    lost = check(msgspec.structs.replace(honest, events=honest.events[1:]), WIRE)
    assert lost.lost == 1
    doubled = check(
        msgspec.structs.replace(honest, events=[honest.events[0], *honest.events]), WIRE
    )
    assert doubled.doubled == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("quantity", 7 * UNIT), ("available", 123 * UNIT), ("code", 2), ("hold_id", "x-1")],
)
def test_wrong_line_is_seen(honest: History, name: str, value: object) -> None:
    """A line with another quantity, availability, code or hold than the model's is wrong."""

    def change(fields: Fields) -> Fields | None:
        if not is_granted(fields):
            return None
        return {**fields, "lines": [{**fields["lines"][0], name: value}]}

    assert check_changed(honest, change).wrong > 0


def test_refusal_that_should_have_been_granted_is_seen(honest: History) -> None:
    """A grant turned into a refusal is wrong."""

    def change(fields: Fields) -> Fields | None:
        if not is_granted(fields):
            return None
        line = {**fields["lines"][0], "code": Code.INSUFFICIENT_STOCK, "quantity": 0}
        return {**fields, "code": Code.INSUFFICIENT_STOCK, "lines": [line]}

    assert check_changed(honest, change).wrong > 0


def test_answer_not_remembered_is_seen(honest: History) -> None:
    """A repeat that is answered as if it were new is wrong."""

    def change(fields: Fields) -> Fields | None:
        return {**fields, "replayed": False} if fields["replayed"] else None

    assert check_changed(honest, change).wrong > 0


def test_clock_that_runs_ahead_is_seen(honest: History) -> None:
    """A decision dated with a time no record had is wrong."""

    def change(fields: Fields) -> Fields | None:
        if not is_granted(fields):
            return None
        return {**fields, "decided_at_ms": fields["decided_at_ms"] + 60_000}

    assert check_changed(honest, change).wrong > 0


def test_sequence_gap_and_repeat_are_seen(honest: History) -> None:
    """A result with the number of the one before it leaves a gap and gives a number twice."""

    def change(fields: Fields) -> Fields | None:
        return {**fields, "sequence": fields["sequence"] - 1} if fields["sequence"] > 90 else None

    assert check_changed(honest, change).misnumbered > 0


def test_oversold_grant_is_seen(honest: History) -> None:
    """A refusal for lack of stock turned into a grant is oversold, and wrong besides."""
    buried = {WIRE.read(letter.value, "DeadLetter")["value"] for letter in honest.dead_letters}
    requests = {
        record.offset: WIRE.read(record.value, "ReservationRequest")
        for record in honest.requests
        if record.partition == 0 and record.value not in buried
    }

    def change(fields: Fields) -> Fields | None:
        if fields["code"] != Code.INSUFFICIENT_STOCK or fields["replayed"]:
            return None
        request = requests.get(fields["source_offset"])
        if request is None or request["request_id"] != fields["request_id"]:
            return None
        line = {
            **fields["lines"][0],
            "code": Code.ACCEPTED,
            "quantity": request["lines"][0]["quantity"],
        }
        return {**fields, "code": Code.ACCEPTED, "lines": [line]}

    findings = check_changed(honest, change)
    assert findings.oversold > 0
    assert findings.wrong > 0


def test_record_of_an_aborted_transaction_is_seen(honest: History) -> None:
    """If an aborted batch were visible, its results would stand beside those of its repetition."""
    aborted = [record for record in honest.results if record.partition == 0][-40:]
    results = [
        record
        for record in honest.results
        for _ in range(2 if any(record is other for other in aborted) else 1)
    ]
    findings = check(msgspec.structs.replace(honest, results=results), WIRE)
    assert findings.doubled == 40


def test_zombie_answer_is_seen(honest: History) -> None:
    """A second, different answer to an answered request is doubled, whatever it says."""
    record = honest.results[100]
    fields = WIRE.read(record.value, "ReservationResult")
    late = {**fields, "sequence": fields["sequence"] + 1, "code": Code.INSUFFICIENT_STOCK}
    stale = record._replace(value=WIRE.write(late, "ReservationResult"))
    findings = check(msgspec.structs.replace(honest, results=[*honest.results, stale]), WIRE)
    assert findings.doubled == 1


def test_answer_to_nothing_is_seen(honest: History) -> None:
    """A result for an offset that holds no record is wrong."""

    def change(fields: Fields) -> Fields | None:
        return {**fields, "source_offset": 999_999}

    findings = check_changed(honest, change)
    assert findings.wrong > 0
    assert findings.lost == 1


def test_missing_dead_letter_is_seen(honest: History) -> None:
    """A record nobody can read that left no dead letter is lost."""
    letters = honest.dead_letters[1:]
    assert check(msgspec.structs.replace(honest, dead_letters=letters), WIRE).lost == 1


def test_offset_left_behind_is_seen(honest: History) -> None:
    """A partition whose committed offset is not behind its last answered record is reported."""
    committed = {**honest.committed, (topics.REQUESTS, 0): 5}
    findings = check(msgspec.structs.replace(honest, committed=committed), WIRE)
    assert findings.not_committed == 1
    assert not findings.clean


def test_stall_is_measured(honest: History) -> None:
    """A request answered nine seconds late is a stall of nine seconds, an idle hour is none."""
    last = honest.results[-1]
    late = last._replace(timestamp=last.timestamp + 9_000)
    results = [*honest.results[:-1], late]
    findings = check(msgspec.structs.replace(honest, results=results), WIRE)
    assert 8.9 < findings.longest_stall_s < 9.1
