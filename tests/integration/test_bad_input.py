"""Bad input through the real topics and a real worker: refused or buried with a reason, never more.

Whatever comes, the worker goes on, and not one row of stock changes for it.
"""

import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from compose.stack import LocalStack
from schemas import topics
from schemas.codes import Code
from schemas.limits import DIMENSION_VALUE_LENGTH_MAX, QUANTITY_MAX, RECORD_BYTES_MAX
from tests.support.campaign import Plan, prepare
from tests.support.checker import murmur2
from tests.support.eventually import eventually
from tests.support.history import last_rows, read_topic, scan_topic
from tests.support.state import state_of_rows
from tests.support.wire import FRAME, Fields, SourceRecord, Wire
from tests.support.worker_process import WorkerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

PARTITIONS: Final = 4
UNIT: Final = 1_000_000
DECIDED_WITHIN_S: Final = 90.0
HERE: Final = {"siteid": "1", "locationid": "11", "colorid": "red", "sizeid": "small"}
KEY: Final = b"usmf|1|11"
HOME: Final = murmur2(KEY) % PARTITIONS
ANSWERS: Final = {topics.RESULTS: "ReservationResult", topics.EVENTS: "InventoryEvent"}
LONG: Final = "x" * 300_000
DAY_MS: Final = 24 * 3_600_000


class Station:
    """A broker, a worker, and what was sent to it and answered."""

    def __init__(self, bootstrap: str, wire: Wire) -> None:
        self.bootstrap = bootstrap
        self.wire = wire
        self.producer = Producer(
            {"bootstrap.servers": bootstrap, "message.max.bytes": 4 * RECORD_BYTES_MAX}
        )
        self.reader = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "bad-input",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        answers = [(name, part) for name in ANSWERS for part in range(PARTITIONS)]
        buried = [(topics.DEAD_LETTERS, 0)]
        self.reader.assign([TopicPartition(name, part, 0) for name, part in answers + buried])
        self.told: dict[tuple[str, int, int], list[tuple[str, Fields]]] = {}
        self.count = 0

    def listen(self) -> None:
        """Take in what was written meanwhile, by the record it is about."""
        for message in self.reader.consume(1_000, 0.05):
            assert message.error() is None, message.error()
            fields = self.wire.read(message.value(), ANSWERS.get(message.topic(), "DeadLetter"))
            if message.topic() == topics.DEAD_LETTERS:
                place = (fields["topic"], fields["partition"], fields["offset"])
            elif message.topic() == topics.RESULTS:
                place = (topics.REQUESTS, message.partition(), fields["source_offset"])
            else:
                place = (topics.TRANSACTIONS, message.partition(), fields["source_offset"])
            self.told.setdefault(place, []).append((message.topic(), fields))

    def send(
        self,
        value: bytes | None,
        topic: str = topics.REQUESTS,
        *,
        key: bytes | None = KEY,
        partition: int = HOME,
        timestamp_ms: int = 0,
    ) -> SourceRecord:
        """Send one record and wait until it has been decided; where it lies."""
        placed: list[Any] = []

        def delivered(error: Any, message: Any) -> None:
            placed.append(error or message)

        self.producer.produce(
            topic, value, key, partition, on_delivery=delivered, timestamp=timestamp_ms
        )
        self.producer.flush(30)
        offset = placed[0].offset()

        def answered() -> bool:
            self.listen()
            return (topic, partition, offset) in self.told

        eventually(answered, within_s=DECIDED_WITHIN_S)
        return SourceRecord(topic, partition, offset, 0, key, value)

    def request(self, *, line: Fields | None = None, **other: object) -> bytes:
        """A good request to reserve one piece, but for what is given."""
        self.count += 1
        good = {"product_id": "D0002", "dimensions": HERE, "quantity": UNIT}
        fields: Fields = {
            "request_id": f"bad-{self.count}",
            "action": "RESERVE",
            "organization_id": "usmf",
            "lines": [{**good, **(line or {})}],
            **other,
        }
        return self.wire.write(fields, "ReservationRequest")

    def receipt(self, quantity: int, **other: object) -> bytes:
        """A good receipt, but for what is given."""
        self.count += 1
        fields: Fields = {
            "event_id": f"event-{self.count}",
            "organization_id": "usmf",
            "product_id": "D0002",
            "dimensions": HERE,
            "source": "fno",
            "changes": [{"measure": "fno.physicalinvent", "quantity": quantity}],
            **other,
        }
        return self.wire.write(fields, "InventoryTransaction")

    def answer(self, to: SourceRecord) -> tuple[str, Fields]:
        """The topic and fields of the one thing that was written about a record."""
        (told,) = self.told[to.topic, to.partition, to.offset]
        return told

    def codes(self, to: SourceRecord) -> tuple[str, list[int]]:
        """Whether a record was answered or buried, and with which code."""
        topic, fields = self.answer(to)
        if topic != topics.DEAD_LETTERS:
            return "answered", [fields["code"]]
        assert fields["reason"]
        if to.value is not None and len(to.value) <= RECORD_BYTES_MAX:
            assert (fields["key"], fields["value"]) == (to.key, to.value)
        return "buried", [fields["code"]]

    def stock(self) -> dict[tuple[Any, ...], Any]:
        """Measures, reserved totals and holds in the changelog of the home partition."""
        rows, _ = last_rows(scan_topic(self.bootstrap, topics.CHANGELOG))
        state = state_of_rows(rows.get(HOME, {}))
        return {key: at for key, at in state.items() if key[0] in {"measure", "reserved", "hold"}}


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """A worker with ten pieces in stock; it must be the same process in the end."""
    directory = tmp_path_factory.mktemp("bad-input")
    with LocalStack(directory / "servers", ("kafka", "registry")) as servers:
        bootstrap, registry_url = servers.addresses.kafka_bootstrap, servers.addresses.registry_url
        assert bootstrap is not None
        assert registry_url is not None
        wire = prepare(bootstrap, registry_url, Plan(partitions=PARTITIONS))
        argv = [sys.executable, "-m", "holdfast", "worker", "--data-dir", str(directory / "worker")]
        addresses = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap, "SCHEMA_REGISTRY_URL": registry_url}
        worker = WorkerProcess("worker", argv, directory / "worker", addresses)
        worker.start()
        try:
            station = Station(bootstrap, wire)
            station.send(station.receipt(10 * UNIT), topics.TRANSACTIONS)
            before = station.stock()
            yield station
            station.listen()
            assert all(len(told) == 1 for told in station.told.values()), "answered twice"
            assert worker.alive, worker.log_tail()
            assert station.stock() == before
        finally:
            worker.kill()


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, Code.RECORD_EMPTY),
        (b"", Code.RECORD_EMPTY),
        (b'{"request_id": "json"}', Code.RECORD_NOT_AVRO),
        (b"\0", Code.RECORD_NOT_AVRO),
        (FRAME.pack(0, 999_999) + b"\2a", Code.SCHEMA_UNKNOWN),
        (b"\0" * RECORD_BYTES_MAX + b"\0", Code.RECORD_TOO_LARGE),
    ],
)
def test_bytes_that_are_no_record_are_buried(
    station: Station, value: bytes | None, code: Code
) -> None:
    """No value, not Avro, an unknown schema id, too many bytes: a dead letter with the reason."""
    assert station.codes(station.send(value)) == ("buried", [code])
    assert station.codes(station.send(value, topics.TRANSACTIONS)) == ("buried", [code])


def test_truncated_and_overlong_records_are_buried(station: Station) -> None:
    """A record cut short anywhere, or with bytes behind it, is not read as something else."""
    good = station.request()
    for value in (good[:7], good[:-1], good + b"\0"):
        assert station.codes(station.send(value)) == ("buried", [Code.RECORD_NOT_AVRO])


def test_records_of_the_wrong_type_are_buried(station: Station) -> None:
    """A request among the inventory transactions, and the other way round, is buried."""
    asked = station.send(station.request(), topics.TRANSACTIONS)
    told = station.send(station.receipt(UNIT), topics.REQUESTS)
    assert station.codes(asked) == ("buried", [Code.SCHEMA_UNEXPECTED])
    assert station.codes(told) == ("buried", [Code.SCHEMA_UNEXPECTED])


def test_misplaced_records_are_buried(station: Station) -> None:
    """Without a key, with another key than the body's, in another partition: never applied."""
    for topic, value in (
        (topics.REQUESTS, station.request()),
        (topics.TRANSACTIONS, station.receipt(UNIT)),
    ):
        keyless = station.send(value, topic, key=None)
        other_key = station.send(value, topic, key=b"usmf|2|21")
        elsewhere = station.send(value, topic, partition=(HOME + 1) % PARTITIONS)
        assert station.codes(keyless) == ("buried", [Code.KEY_MISSING])
        assert station.codes(other_key) == ("buried", [Code.KEY_MISMATCH])
        assert station.codes(elsewhere) == ("buried", [Code.PARTITION_MISMATCH])


def test_what_a_sender_aborted_is_not_decided(station: Station) -> None:
    """A request and a receipt of a transaction that was given up: as if they had not been sent."""
    sender = Producer({"bootstrap.servers": station.bootstrap, "transactional.id": "gave-up"})
    sender.init_transactions(DECIDED_WITHIN_S)
    sender.begin_transaction()
    given_up: list[tuple[str, int, int]] = []

    def delivered(_: Any, message: Any) -> None:
        given_up.append((message.topic(), message.partition(), message.offset()))

    sender.produce(topics.REQUESTS, station.request(), KEY, HOME, on_delivery=delivered)
    sender.produce(topics.TRANSACTIONS, station.receipt(UNIT), KEY, HOME, on_delivery=delivered)
    sender.flush(DECIDED_WITHIN_S)
    sender.abort_transaction()
    behind = [
        station.send(station.request(line={"quantity": 11 * UNIT})),
        station.send(b"", topics.TRANSACTIONS),
    ]
    assert station.codes(behind[0]) == ("answered", [Code.INSUFFICIENT_STOCK])
    lie = {(sent.topic, sent.partition): sent.offset for sent in behind}
    assert len(given_up) == len(lie)
    for topic, partition, offset in given_up:
        assert 0 <= offset < lie[topic, partition]
        assert (topic, partition, offset) not in station.told


def test_numbers_that_are_no_decimals_are_buried(station: Station) -> None:
    """A quantity of hundreds of digits is no decimal(18,6): the record does not decode."""
    for quantity in (10**300, -(10**300)):
        asked = station.send(station.request(line={"quantity": quantity}))
        assert station.codes(asked) == ("buried", [Code.RECORD_NOT_AVRO])


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ({"quantity": 0}, Code.QUANTITY_INVALID),
        ({"quantity": -UNIT}, Code.QUANTITY_INVALID),
        ({"quantity": QUANTITY_MAX + 1}, Code.QUANTITY_OUT_OF_RANGE),
        ({"quantity": -QUANTITY_MAX - 1, "check_availability": False}, Code.QUANTITY_OUT_OF_RANGE),
        ({"dimensions": {**HERE, "flavour": "sweet"}}, Code.DIMENSION_UNKNOWN),
        (
            {"dimensions": {**HERE, "sizeid": "s" * (DIMENSION_VALUE_LENGTH_MAX + 1)}},
            Code.DIMENSION_VALUE_INVALID,
        ),
        ({"dimensions": {**HERE, "sizeid": "a\x00b"}}, Code.DIMENSION_VALUE_INVALID),
        ({"dimensions": {"siteid": "1"}}, Code.PARTITION_DIMENSION_MISSING),
        ({"dimensions": {**HERE, "colorid": ""}}, Code.LEVEL_NOT_RESERVABLE),
        ({"product_id": ""}, Code.PRODUCT_INVALID),
        ({"product_id": LONG[:200_000]}, Code.PRODUCT_INVALID),
        ({"measure": "iv.nothing"}, Code.MEASURE_UNKNOWN),
        ({"dimension_data_source": "nobody"}, Code.DATA_SOURCE_UNKNOWN),
    ],
)
def test_bad_lines_are_refused(station: Station, line: Fields, code: Code) -> None:
    """A line whose values make no sense is refused, with the code that says why."""
    assert station.codes(station.send(station.request(line=line))) == ("answered", [code])


def test_bad_requests_are_refused(station: Station) -> None:
    """A request that makes no sense as a whole is refused, with the code that says why."""
    for other, code in (
        ({"request_id": ""}, Code.REQUEST_ID_INVALID),
        ({"request_id": "a\nb"}, Code.REQUEST_ID_INVALID),
        ({"request_id": LONG[:100_000]}, Code.REQUEST_ID_INVALID),
        ({"lines": []}, Code.NO_LINES),
        ({"channel": LONG[:1_000]}, Code.TEXT_INVALID),
    ):
        answered = station.codes(station.send(station.request(**other)))
        assert answered == ("answered", [code]), code


def test_strings_of_300_kilobytes_are_buried(station: Station) -> None:
    """A record with a huge string is past the limit of a record: buried, as far as it fits."""
    asked = station.send(station.request(channel=LONG))
    told = station.send(station.receipt(UNIT, event_id=LONG), topics.TRANSACTIONS)
    assert station.codes(asked) == ("buried", [Code.RECORD_TOO_LARGE])
    assert station.codes(told) == ("buried", [Code.RECORD_TOO_LARGE])


@pytest.mark.parametrize(
    ("other", "code"),
    [
        ({"event_id": ""}, Code.REQUEST_ID_INVALID),
        ({"source": "pos"}, Code.DATA_SOURCE_PROTECTED),
        ({"changes": [{"measure": "fno.nothing", "quantity": UNIT}]}, Code.MEASURE_UNKNOWN),
        ({"changes": [{"measure": "iv.softreserved", "quantity": UNIT}]}, Code.MEASURE_RESERVED),
        (
            {"changes": [{"measure": "fno.physicalinvent", "quantity": QUANTITY_MAX + 1}]},
            Code.QUANTITY_OUT_OF_RANGE,
        ),
        (
            {"changes": [{"measure": "fno.physicalinvent", "quantity": UNIT}] * 65},
            Code.TOO_MANY_CHANGES,
        ),
        ({"dimensions": {**HERE, "flavour": "sweet"}}, Code.DIMENSION_UNKNOWN),
    ],
)
def test_bad_inventory_transactions_are_refused(
    station: Station, other: Fields, code: Code
) -> None:
    """An inventory transaction that may not be applied changes nothing and says why."""
    told = station.send(station.receipt(UNIT, **other), topics.TRANSACTIONS)
    assert station.codes(told) == ("answered", [code])


def test_timestamps_of_senders_do_not_count(station: Station) -> None:
    """A record dated 1970 or in a hundred years is decided at the broker's time of its arrival."""
    too_much = {"quantity": 1_000 * UNIT}
    for timestamp_ms in (1, 36_500 * DAY_MS * 2):
        asked = station.send(station.request(line=too_much), timestamp_ms=timestamp_ms)
        _, result = station.answer(asked)
        (appended_ms,) = [
            record.timestamp
            for record in read_topic(station.bootstrap, topics.REQUESTS)
            if (record.partition, record.offset) == (asked.partition, asked.offset)
        ]
        assert result["decided_at_ms"] == appended_ms
        assert abs(appended_ms - timestamp_ms) > DAY_MS
        assert result["code"] == Code.INSUFFICIENT_STOCK


def test_the_next_good_request_is_answered_as_if_nothing_had_been(station: Station) -> None:
    """After all that, the ten pieces are still there: one is reserved and given back."""
    asked = station.send(station.request())
    _, result = station.answer(asked)
    assert result["code"] == Code.ACCEPTED
    line = result["lines"][0]
    assert (line["quantity"], line["available"]) == (UNIT, 9 * UNIT)
    release = {"quantity": 0, "detail": {"hold_id": line["hold_id"]}}
    back = station.send(station.request(action="RELEASE", line=release))
    assert station.codes(back) == ("answered", [Code.ACCEPTED])
