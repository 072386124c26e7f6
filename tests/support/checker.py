"""The checker: was every record answered exactly once, and rightly? Judged from the topics alone.

It pairs every source record with what was written for it, puts the records into the order in which
they were decided, replays them through the independent model, and compares. It shares no code with
`processor` and names each anomaly: lost, doubled, wrong, oversold, misnumbered, a state that is not
what the answers say, an offset that is not at the end.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from schemas import topics
from schemas.codes import GRANTED, Code
from schemas.limits import RECORD_BYTES_MAX
from tests.support.history import History
from tests.support.model import (
    Answer,
    Counted,
    Follow,
    Happening,
    Line,
    Model,
    Place,
    Shelves,
    apply_changes,
    lowered,
    node_of,
    shelf_of,
)
from tests.support.order import put_in_order
from tests.support.state import differences, watermark_offsets
from tests.support.wire import Fields, SourceRecord, UnreadableError, Wire

EXAMPLES_MAX: Final = 20
SCHEMA_OF: Final = {
    topics.REQUESTS: "ReservationRequest",
    topics.TRANSACTIONS: "InventoryTransaction",
}
# Others, such as a warning that supply ran short, follow from what is judged here.
JUDGED: Final = frozenset({"TRANSACTION", "OFFSET_APPLIED", "OFFSET_FAILED", "OFFSET_REVERTED"})
TOLD: Final = ("sequence", "at_ms", "source_id")
SUPPLIED: Final = frozenset(
    {
        Code.APPLIED,
        Code.OFFSET_APPLIED,
        Code.OFFSET_PARTIAL,
        Code.OFFSET_NOTHING_RESERVED,
        Code.OFFSET_WRONG_RESERVATION,
        Code.OFFSET_WRONG_DIMENSIONS,
        Code.OFFSET_REVERTED,
    }
)


class Findings(msgspec.Struct, kw_only=True):
    """What the checker found; every count from `lost` to `not_committed` must be 0.

    Attributes:
        requests: records of reservation-requests that ask something.
        transactions: records of inventory-transactions.
        answered_once: of both, those with exactly one answer or dead letter.
        lost: no answer at all.
        doubled: answers too many.
        wrong: answers the model does not agree with, and answers to nothing.
        oversold: grants with a check that exceeded what was there, by the grants themselves.
        misnumbered: sequences given twice, left out or out of order.
        state_differences: rows of the changelog that are not what the model holds.
        not_committed: partitions whose committed offset is not behind the last answered record.
        replayed: repeats that got the first answer again.
        granted: reservations accepted.
        hidden: records of aborted transactions, which no reader sees.
        longest_stall_s: longest time a partition wrote no result while a request was waiting.
        longest_stall_began_ms: when it began, broker time in milliseconds since 1970 UTC.

    """

    requests: int = 0
    transactions: int = 0
    answered_once: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    oversold: int = 0
    misnumbered: int = 0
    state_differences: int = 0
    not_committed: int = 0
    dead_letters: int = 0
    replayed: int = 0
    granted: int = 0
    refused: int = 0
    offsets: int = 0
    ticks: int = 0
    hidden: int = 0
    longest_stall_s: float = 0.0
    longest_stall_began_ms: int = 0
    examples: list[str] = []

    @property
    def clean(self) -> bool:
        """Nothing lost, doubled, wrong, oversold; numbers, rows and offsets as they must be."""
        return self.answered_once == self.requests + self.transactions and not any(
            (
                self.lost,
                self.doubled,
                self.wrong,
                self.oversold,
                self.misnumbered,
                self.state_differences,
                self.not_committed,
            )
        )

    def note(self, kind: str, text: str) -> None:
        """Count one anomaly; the first ones are kept in words."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{kind}: {text}")


def name_of(record: SourceRecord) -> str:
    """Where a record stands."""
    return f"{record.topic}[{record.partition}]@{record.offset}"


def murmur2(data: bytes) -> int:
    """Hash of a key, as Kafka's default partitioner computes it (31 bits)."""
    mix = 0x5BD1E995
    value = (0x9747B28C ^ len(data)) & 0xFFFFFFFF
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * mix & 0xFFFFFFFF
        word = (word ^ word >> 24) * mix & 0xFFFFFFFF
        value = (value * mix & 0xFFFFFFFF) ^ word
    if data[whole:]:
        value = (value ^ int.from_bytes(data[whole:], "little")) * mix & 0xFFFFFFFF
    value = (value ^ value >> 13) * mix & 0xFFFFFFFF
    return (value ^ value >> 15) & 0x7FFFFFFF


def unfit(record: SourceRecord, fields: Fields, partitions: int) -> Code | None:
    """Why a readable record must go to the dead letters, or None."""
    if record.key is None:
        return Code.KEY_MISSING
    bodies = fields.get("lines", [fields])
    for body in bodies[:1]:
        node = node_of(lowered(body["dimensions"]))[:2]
        key = "|".join((fields["organization_id"], *node)).encode()
        if len(node) == 2 and key != record.key:
            return Code.KEY_MISMATCH
    if murmur2(record.key) % partitions != record.partition:
        return Code.PARTITION_MISMATCH
    return None


class PartitionCheck:
    """The check of one partition."""

    def __init__(self, history: History, partition: int, wire: Wire, findings: Findings) -> None:
        self.history = history
        self.partition = partition
        self.wire = wire
        self.findings = findings
        self.ids: dict[str, Place] = {}
        self.id_of: dict[Place, str] = {}
        self.model = Model(self.ids)
        self.booked: Shelves = {}  # stock as the answers say, whatever the model thinks
        self.booked_counts: dict[Counted, int] = {}
        self.fields: dict[tuple[str, int], Fields] = {}
        self.results: dict[int, list[tuple[SourceRecord, Fields]]] = {}
        self.events: dict[int, list[Fields]] = {}
        self.dead: dict[tuple[str, int], list[Fields]] = {}
        self.first_decided_at: dict[str, int] = {}
        self.clock_ms = 0
        self.unanswered_ms: set[int] = set()  # append times of ticks and dead letters

    def own(self, records: list[SourceRecord]) -> list[SourceRecord]:
        """The records of this partition."""
        return [record for record in records if record.partition == self.partition]

    def collect(self) -> None:
        """Read what was written, by the source record it belongs to."""
        for record in self.own(self.history.results):
            fields = self.wire.read(record.value, "ReservationResult")
            self.results.setdefault(fields["source_offset"], []).append((record, fields))
            if record.key != fields["request_id"].encode():
                self.findings.note("wrong", f"{name_of(record)} has key {record.key!r}")
        for record in self.own(self.history.events):
            fields = self.wire.read(record.value, "InventoryEvent")
            if fields["event_type"] not in JUDGED:
                continue
            if fields["source_topic"] == topics.TRANSACTIONS:
                self.events.setdefault(fields["source_offset"], []).append(fields)
            else:
                self.findings.note("wrong", f"{name_of(record)}: an event nothing caused")
        for record in self.history.dead_letters:
            fields = self.wire.read(record.value, "DeadLetter")
            if fields["partition"] == self.partition:
                self.dead.setdefault((fields["topic"], fields["offset"]), []).append(fields)

    def run(self) -> None:
        """Check everything."""
        self.collect()
        sources = self.own(self.history.requests) + self.own(self.history.transactions)
        consumed = [record for record in sources if self.pair(record)]
        self.find_invented({(record.topic, record.offset) for record in sources})
        numbered = {
            (topics.REQUESTS, offset): answers[0][1]["sequence"]
            for offset, answers in self.results.items()
        } | {
            (topics.TRANSACTIONS, offset): events[0]["sequence"]
            for offset, events in self.events.items()
        }
        order = put_in_order(consumed, numbered, SCHEMA_OF)
        for fault in order.faults:
            self.findings.note("misnumbered", f"partition {self.partition}: {fault}")
        self.replay(order.by_sequence)
        self.check_rows()
        self.check_offsets(sources)
        self.measure_stalls()

    def pair(self, record: SourceRecord) -> bool:
        """Count what one source record was answered with; False if it was not consumed."""
        position = (record.topic, record.offset)
        expected = self.read_source(record)
        letters = self.dead.get(position, [])
        answers = len(letters) + (
            len(self.results.get(record.offset, ()))
            if record.topic == topics.REQUESTS
            else self.count_transaction_events(record.offset)
        )
        if self.fields.get(position, {}).get("action") == "TICK":
            self.findings.ticks += 1
            if answers:
                self.findings.note("wrong", f"{name_of(record)} is a tick and was answered")
            return record.offset < self.committed(record.topic)
        if record.topic == topics.REQUESTS:
            self.findings.requests += 1
        else:
            self.findings.transactions += 1
        if answers == 0:
            self.findings.note("lost", name_of(record))
            return False
        if answers > 1:
            self.findings.note("doubled", f"{name_of(record)} has {answers} answers")
        else:
            self.findings.answered_once += 1
        self.check_letters(record, letters, expected)
        return True

    def count_transaction_events(self, offset: int) -> int:
        """Answers to an inventory transaction: its TRANSACTION events."""
        events = self.events.get(offset, ())
        return sum(event["event_type"] == "TRANSACTION" for event in events)

    def committed(self, topic: str) -> int:
        """Offset behind the last consumed record."""
        return self.history.committed.get((topic, self.partition), 0)

    def read_source(self, record: SourceRecord) -> Code | None:
        """Read a source record; the reason for which it must be a dead letter, or None."""
        try:
            schema = SCHEMA_OF[record.topic]
            fields = self.wire.read(record.value, schema, RECORD_BYTES_MAX)
        except UnreadableError as error:
            return error.code
        self.fields[record.topic, record.offset] = fields
        if fields.get("action") == "TICK":
            return None
        return unfit(record, fields, self.history.partitions)

    def check_letters(
        self, record: SourceRecord, letters: list[Fields], expected: Code | None
    ) -> None:
        """Compare a record's dead letter with the one it must have, or must not have."""
        self.findings.dead_letters += len(letters)
        actual = letters[0]["code"] if letters else None
        if actual != expected:
            self.findings.note("wrong", f"{name_of(record)}: dead letter {actual}, not {expected}")
        elif letters and (letters[0]["key"], letters[0]["value"]) != (record.key, record.value):
            self.findings.note("wrong", f"{name_of(record)}: its dead letter has other bytes")

    def find_invented(self, known: set[tuple[str, int]]) -> None:
        """Report answers to records that are not there."""
        answered = (
            {(topics.REQUESTS, offset) for offset in self.results}
            | {(topics.TRANSACTIONS, offset) for offset in self.events}
            | set(self.dead)
        )
        for topic, offset in answered - known:
            self.findings.note("wrong", f"an answer to {topic}[{self.partition}]@{offset}")

    def replay(self, by_sequence: Mapping[int, SourceRecord]) -> None:
        """Decide everything again, in the same order, and compare."""
        decided = [(sequence, by_sequence[sequence]) for sequence in sorted(by_sequence)]
        self.unanswered_ms = {
            record.timestamp for _, record in decided if not self.is_answered(record)
        }
        for sequence, record in decided:
            if not self.is_answered(record):
                continue
            fields = self.fields[record.topic, record.offset]
            if record.topic == topics.TRANSACTIONS:
                self.compare_events(record, fields, sequence)
            else:
                self.compare_result(record, fields, sequence)

    def is_answered(self, record: SourceRecord) -> bool:
        """Whether a record was decided and answered: neither a tick nor a dead letter."""
        position = (record.topic, record.offset)
        fields = self.fields.get(position)
        return fields is not None and position not in self.dead and fields.get("action") != "TICK"

    def check_clock(self, record: SourceRecord, told_ms: int) -> bool:
        """Whether a decision's time is the partition's clock, which it then becomes.

        A tick or dead letter may have moved the clock on; where between two decisions of the
        other topic it was read cannot be told from the topics, so its time is allowed too.
        """
        expected_ms = max(self.clock_ms, record.timestamp)
        right = told_ms == expected_ms or (told_ms > expected_ms and told_ms in self.unanswered_ms)
        self.clock_ms = max(expected_ms, told_ms)
        return right

    def compare_result(self, record: SourceRecord, request: Fields, sequence: int) -> None:
        """Compare a request's result with the model's answer."""
        result = self.results[record.offset][0][1]
        self.learn(request, result)
        expected, replayed = self.model.decide_request(request, sequence)
        differences = [
            f"{name} {result[name]}, not {value}"
            for name, value in (
                ("request_id", request["request_id"]),
                ("code", expected.code),
                ("sequence", sequence),
                ("replayed", replayed),
            )
            if result[name] != value
        ]
        differences += self.different_lines(expected, result["lines"])
        told_ms = result["decided_at_ms"]
        if replayed:
            self.clock_ms = max(self.clock_ms, record.timestamp)
            if told_ms != self.first_decided_at[request["request_id"]]:
                differences.append(f"decided_at_ms {told_ms} is not the first answer's")
        elif not self.check_clock(record, told_ms):
            differences.append(f"decided_at_ms {told_ms} is not the clock {self.clock_ms}")
        self.first_decided_at.setdefault(request["request_id"], told_ms)
        if differences:
            self.findings.note("wrong", f"{name_of(record)}: {'; '.join(differences)}")
        self.findings.replayed += replayed
        if not replayed:
            self.book(request, result)

    def learn(self, request: Fields, result: Fields) -> None:
        """Learn which place a reservation id stands for; two places or two ids are an anomaly."""
        for line, answer in zip(request["lines"], result["lines"], strict=False):
            text = answer["reservation_id"]
            if not text or answer["code"] not in GRANTED:
                continue
            place = Place(
                request["organization_id"],
                line["product_id"],
                node_of(lowered(line["dimensions"])),
            )
            known = self.ids.setdefault(text, place), self.id_of.setdefault(place, text)
            if known != (place, text):
                self.findings.note("wrong", f"reservation id {text} is not {place}'s alone")

    def different_lines(self, expected: Answer, lines: list[Fields]) -> list[str]:
        """Differences between expected and actual lines; a refused request need not list them."""
        if not expected.lines:
            return [] if all(line["code"] not in GRANTED for line in lines) else ["granted lines"]
        if len(lines) != len(expected.lines):
            return [f"{len(lines)} lines, not {len(expected.lines)}"]
        differences: list[str] = []
        for wanted, actual in zip(expected.lines, lines, strict=True):
            shown = self.shown(wanted)
            seen = {name: actual.get(name) for name in shown}
            seen["invalid_quantity"] = (actual["detail"] or {}).get("invalid_quantity", 0)
            differences += [
                f"{name} {seen[name]}, not {value}"
                for name, value in shown.items()
                if seen[name] != value
            ]
        return differences

    def shown(self, line: Line) -> Fields:
        """An expected line as the fields of a result line."""
        shown: dict[str, Any] = {
            "code": line.code,
            "quantity": line.quantity,
            "available": line.available,
            "invalid_quantity": line.invalid_quantity,
        }
        if line.place is not None and line.hold is not None:
            shown["reservation_id"] = self.id_of.get(line.place, "")
            shown["hold_id"] = f"{shown['reservation_id']}-{line.hold}"
        return shown

    def book(self, request: Fields, result: Fields) -> None:
        """Book what was granted, as it was granted, and see whether it was there."""
        if result["code"] not in GRANTED:
            self.findings.refused += 1
            return
        self.findings.granted += 1
        for line, answer in zip(request["lines"], result["lines"], strict=False):
            node = node_of(lowered(line["dimensions"]))
            place = Place(request["organization_id"], line["product_id"], node)
            shelf = shelf_of(self.booked, place)
            if request["action"] != "RESERVE" or line["quantity"] < 0:
                shelf.take(node, answer["quantity"])
                continue
            shelf.hold(node, result["sequence"], answer["quantity"])
            if line["check_availability"] and shelf.available(node) < 0:
                short = -shelf.available(node)
                self.findings.note("oversold", f"{request['request_id']}: {short} too many")

    def compare_events(self, record: SourceRecord, fields: Fields, sequence: int) -> None:
        """Compare an inventory transaction's events with the model's."""
        events = self.events[record.offset]
        expected = self.model.decide_transaction(fields)
        first = events[0]
        seen = Happening(
            first["code"],
            tuple(
                Follow(
                    event["event_type"],
                    event["code"],
                    event["quantity"],
                    event["invalid_quantity"],
                )
                for event in events[1:]
            ),
        )
        differences = [] if seen == expected else [f"{seen}, not {expected}"]
        about = ("TRANSACTION", sequence, first["at_ms"], fields["event_id"])
        for name, event in zip(("TRANSACTION", *("",) * len(events)), events, strict=False):
            told = (name and event["event_type"], *(event[part] for part in TOLD))
            if told != (name, *about[1:]):
                differences.append(f"{told}, not {about}")
        if not self.check_clock(record, first["at_ms"]):
            differences.append(f"at_ms {first['at_ms']} is not the clock {self.clock_ms}")
        if differences:
            self.findings.note("wrong", f"{name_of(record)}: {'; '.join(differences)}")
        self.findings.offsets += len(expected.follows)
        if first["code"] in SUPPLIED:
            apply_changes(self.booked, self.booked_counts, fields)
        for event in events[1:]:
            self.book_offset(event)

    def book_offset(self, event: Fields) -> None:
        """Book what an event says was taken from the holds."""
        place = self.ids.get(event["reservation_id"])
        if event["quantity"] and place is not None:
            shelf_of(self.booked, place).take(place.node, event["quantity"])

    def check_rows(self) -> None:
        """Whether the changelog holds the model's stock, holds and remembered ids."""
        if self.history.rows is None:
            return
        rows = self.history.rows.get(self.partition, {})
        for difference in differences(rows, self.model, self.id_of):
            self.findings.note("state_differences", difference)
        watermark = watermark_offsets(rows)
        for topic in SCHEMA_OF:
            if watermark.get(topic, 0) != self.committed(topic):
                text = f"watermark {watermark}, committed {self.committed(topic)} of {topic}"
                self.findings.note("state_differences", f"partition {self.partition}: {text}")

    def check_offsets(self, sources: list[SourceRecord]) -> None:
        """Whether the committed offset is behind every record but ticks, and not past the end."""
        for topic in SCHEMA_OF:
            offsets = [
                record.offset
                for record in sources
                if record.topic == topic
                and self.fields.get((topic, record.offset), {}).get("action") != "TICK"
            ]
            if offsets and self.committed(topic) <= max(offsets):
                place = f"{topic}[{self.partition}]"
                self.findings.note("not_committed", f"{place} at {self.committed(topic)}")

    def measure_stalls(self) -> None:
        """Find the longest time in which no result was written although a request waited."""
        written_ms = 0
        for record in self.own(self.history.requests):
            for result, _ in self.results.get(record.offset, ())[:1]:
                stall_ms = result.timestamp - max(written_ms, record.timestamp)
                written_ms = max(written_ms, result.timestamp)
                if stall_ms / 1000 > self.findings.longest_stall_s:
                    self.findings.longest_stall_s = stall_ms / 1000
                    self.findings.longest_stall_began_ms = result.timestamp - stall_ms


def check(history: History, wire: Wire) -> Findings:
    """Judge a run by its history."""
    findings = Findings(hidden=history.hidden)
    for partition in range(history.partitions):
        PartitionCheck(history, partition, wire, findings).run()
    return findings
