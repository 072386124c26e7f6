"""The link without a broker: batches are taken, refused, answered and given up record by record."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, Final

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from producers.channel.link import Forbidden, Link, Parcel, Slot
from producers.channel.outcomes import (
    ChannelError,
    InFlightError,
    RecordTooLargeError,
    Undecided,
    Unknown,
)
from producers.settings import Settings
from schemas import limits, topics
from schemas.codec import Codec
from schemas.messages import (
    DeadLetter,
    InventoryEvent,
    ReservationResult,
)
from schemas.registry import FixedSchemaIds
from tests.support.eventually import eventually
from tests.support.records import on_hand_change, reservation

pytestmark = pytest.mark.timeout(10)  # A deadline that is not taken off is looked at for ever.

CODEC: Final = Codec(FixedSchemaIds())
KEY: Final = b"usmf|1|11"
FULL: Final = KafkaError(KafkaError._QUEUE_FULL)
NOT_ALLOWED: Final = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)


WITHIN_S: Final = 5.0


class Queue:
    """Stands for the producer: keeps what is queued, refuses values that it is told to.

    Attributes:
        refusal: what it says of those.
        meanwhile: called before a record is queued or refused.

    """

    def __init__(self) -> None:
        self.queued: list[bytes] = []
        self.partitions: list[int] = []
        self.headers: list[Any] = []
        self.calls = 0
        self.full: set[bytes] = set()
        self.refusal = FULL
        self.fails = False
        self.meanwhile: Callable[[], object] = int

    def produce_batch(self, _topic: str, messages: list[dict[str, Any]], partition: int) -> int:
        """As confluent-kafka: the number queued, an error in each message that was not."""
        self.calls += 1
        self.meanwhile()
        if self.fails:
            raise BufferError("broken")
        for message in messages:
            if message["value"] in self.full:
                message["_error"] = self.refusal
            else:
                self.queued.append(message["value"])
                self.partitions.append(partition)
        return sum("_error" not in message for message in messages)

    def produce(self, _topic: str, **message: Any) -> None:
        """As confluent-kafka: one message, or an error."""
        self.meanwhile()
        if message["value"] in self.full:
            raise BufferError("full") if self.refusal is FULL else KafkaException(self.refusal)
        self.queued.append(message["value"])
        self.partitions.append(message["partition"])
        self.headers.append(message["headers"])

    def poll(self, _timeout_s: float) -> int:
        """Nothing is reported."""
        return 0

    def flush(self, _timeout_s: float) -> int:
        """Everything was confirmed."""
        return 0

    def close(self) -> None:
        """Let go."""


class Readable:
    """Stands for the consumer: messages that are there, and places that are read.

    Attributes:
        refuses: topics whose end the broker does not tell.

    """

    def __init__(self) -> None:
        self.there: list[Any] = []
        self.assigned: list[tuple[str, int, int]] = []
        self.refuses: set[str] = set()

    def poll(self, _timeout_s: float) -> Any:
        """The next message."""
        return self.there.pop(0) if self.there else None

    def consume(self, _most: int, _timeout_s: float) -> list[Any]:
        """All the others."""
        found, self.there = self.there, []
        return found

    def get_watermark_offsets(self, place: TopicPartition, **_within: float) -> tuple[int, int]:
        """Every partition ends at 40."""
        if place.topic in self.refuses:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return 3, 40

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        """Remember them."""
        self.assigned += [(one.topic, one.partition, one.offset) for one in places]

    def close(self) -> None:
        """Let go."""


class Read:
    """Stands for a message that was read, or reported by the producer."""

    def __init__(
        self, topic: str, partition: int, value: bytes, key: str = "", headers: Any = None
    ) -> None:
        self._content = topic, partition, value, key.encode(), headers

    def error(self) -> None:
        """It is none."""

    def topic(self) -> str:
        """Where it was read."""
        return self._content[0]

    def partition(self) -> int:
        """Where it was read."""
        return self._content[1]

    def offset(self) -> int:
        """Where it was read."""
        return 7

    def value(self) -> bytes:
        """Its bytes."""
        return self._content[2]

    def key(self) -> bytes:
        """Id of the record that it answers."""
        return self._content[3]

    def headers(self) -> Any:
        """What a reply topic's messages have."""
        return self._content[4]


class Trouble(Read):
    """Stands for an error that comes as a message."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__(topics.RESULTS, 0, b"")
        self._error = error

    def error(self) -> Any:
        """What is wrong."""
        return self._error


def answered(slot: Slot) -> Read:
    """The answer to a request."""
    result = ReservationResult(slot.request_id, 0, 1, 1, 7, False, [])
    return Read(topics.RESULTS, slot.partition, CODEC.encode_result(result), slot.request_id)


def confirmed(parcel: Parcel) -> Read:
    """The broker's word on a record."""
    return Read(parcel.slot.topic, parcel.slot.partition, parcel.value)


def set_aside(parcel: Parcel, value: bytes | None = None) -> Read:
    """The dead letter of a record, or of another one in its place."""
    letter = DeadLetter(
        code=203,
        reason="astray",
        topic=parcel.slot.topic,
        partition=parcel.slot.partition,
        offset=5,
        timestamp_ms=1,
        key=parcel.key,
        value=value or parcel.value,
    )
    return Read(topics.DEAD_LETTERS, 0, CODEC.encode_dead_letter(letter))


class Bench:
    """A link over such clients, and what it delivered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told = 0
        self.now_s = 100.0
        self.queue = Queue()
        self.readable = Readable()
        monkeypatch.setattr("producers.channel.link.Producer", lambda _: self.queue)
        monkeypatch.setattr("producers.channel.link.Consumer", lambda _: self.readable)
        clock = SimpleNamespace(monotonic=lambda: self.now_s)
        monkeypatch.setattr("producers.channel.link.time", clock)
        settings = Settings(bootstrap_servers="127.0.0.1:1", registry_url="http://127.0.0.1:1")
        self.link = Link(settings, CODEC, delivered=self._tell)
        self.outcomes: list[tuple[int, object]] = []

    def _tell(self) -> None:
        self.told += 1

    def parcel(self, number: int, request_id: str, *, quantity: int = 1) -> Parcel:
        """A record for partition `number` modulo 2."""
        record = reservation(request_id, quantity)
        slot = Slot(topics.REQUESTS, number % 2, request_id)
        return Parcel(slot, KEY, CODEC.encode_request(record), self.deliver, number)

    def change(self, number: int, event_id: str) -> Parcel:
        """An on-hand change for partition `number` modulo 2."""
        record = on_hand_change(event_id)
        slot = Slot(topics.TRANSACTIONS, number % 2, event_id)
        return Parcel(slot, KEY, CODEC.encode_transaction(record), self.deliver, number)

    def deliver(self, number: int, outcome: object) -> None:
        """Remember an outcome."""
        self.outcomes.append((number, outcome))

    def send(self, *parcels: Parcel, timeout_ms: int = 60_000) -> Mapping[int, Exception]:
        """Send them as one batch."""
        return self.link.send_many(parcels, timeout_ms=timeout_ms)

    def read(self, *messages: Read) -> None:
        """Have the link read these."""
        self.link._take_in(messages)

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and the link look at its deadlines."""
        self.now_s += seconds
        self.link._look_at_deadlines()

    def kinds(self) -> dict[int, type]:
        """What was delivered, by number; once each."""
        kinds = {number: type(outcome) for number, outcome in self.outcomes}
        assert len(kinds) == len(self.outcomes)
        return kinds

    def reason(self) -> str:
        """Of the one outcome that was delivered."""
        ((_, outcome),) = self.outcomes
        return str(getattr(outcome, "reason", ""))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A link that has sent nothing."""
    return Bench(monkeypatch)


def test_a_batch_is_queued_in_one_call_a_partition(bench: Bench) -> None:
    """Six records of two partitions are two calls, and every answer reaches its own number."""
    parcels = [bench.parcel(number, f"r-{number}") for number in range(6)]
    assert bench.send(*parcels) == {}
    assert bench.queue.calls == 2
    assert bench.queue.partitions == [0, 0, 0, 1, 1, 1]
    assert bench.queue.queued == [parcels[number].value for number in (0, 2, 4, 1, 3, 5)]
    bench.read(*(answered(parcel.slot) for parcel in reversed(parcels)))
    assert [number for number, _ in bench.outcomes] == [5, 4, 3, 2, 1, 0]
    for number, outcome in bench.outcomes:
        assert isinstance(outcome, ReservationResult)
        assert outcome.request_id == f"r-{number}"
    assert bench.link.in_flight == 0


def test_a_single_record_goes_to_its_partition(bench: Bench) -> None:
    """It is no batch, and the partition is not left to the library."""
    bench.send(bench.parcel(1, "r"))
    assert (bench.queue.calls, bench.queue.partitions) == (0, [1])


def test_an_answer_counts_once_and_for_its_own_partition(bench: Bench) -> None:
    """The same id elsewhere, and the same answer again, deliver nothing."""
    parcel = bench.parcel(0, "r")
    bench.send(parcel)
    elsewhere = answered(Slot(topics.REQUESTS, 1, "r"))
    bench.read(elsewhere, answered(parcel.slot), answered(parcel.slot))
    assert bench.kinds() == {0: ReservationResult}


def test_an_on_hand_change_is_answered_by_its_transaction(bench: Bench) -> None:
    """Not by what else happened under its id, nor by an event of the other topic."""
    parcel = bench.change(1, "e")
    bench.send(parcel)

    def event(event_type: str, topic: str) -> Read:
        told = InventoryEvent(
            event_type=event_type,
            code=0,
            sequence=1,
            at_ms=1,
            source_topic=topic,
            source_offset=9,
            source_id="e",
        )
        return Read(topics.EVENTS, 1, CODEC.encode_event(told), "e")

    bench.read(event("HOLD_EXPIRED", topics.TRANSACTIONS), event("TRANSACTION", topics.REQUESTS))
    assert bench.outcomes == []
    bench.read(event("TRANSACTION", topics.TRANSACTIONS))
    assert bench.kinds() == {1: InventoryEvent}


def test_the_same_record_twice_in_a_batch_is_sent_once(bench: Bench) -> None:
    """All are told the one outcome, however many there are, and whoever of them went away."""
    parcels = [bench.parcel(number, "r") for number in (0, 2, 4, 6)]

    def gone(number: int, _outcome: object) -> None:
        raise RuntimeError(number)

    parcels[1].deliver = gone
    assert bench.send(*parcels) == {}
    assert len(bench.queue.queued) == 1
    bench.read(answered(parcels[0].slot))
    assert [number for number, _ in bench.outcomes] == [0, 4, 6]


def test_a_batch_is_refused_record_by_record(bench: Bench) -> None:
    """Other content under one id, and a record that is too large, stop none of the others."""
    huge, largest = bench.parcel(4, "huge"), bench.parcel(8, "largest")
    huge.value = b"x" * (limits.RECORD_BYTES_MAX + 1)
    largest.value = huge.value[1:]
    other = bench.parcel(2, "r", quantity=2)
    refused = bench.send(bench.parcel(0, "r"), other, huge, bench.parcel(6, "s"), largest)
    assert {index: type(error) for index, error in refused.items()} == {
        1: InFlightError,
        2: RecordTooLargeError,
    }
    assert len(bench.queue.queued) == bench.link.in_flight == 3


@pytest.mark.parametrize("others", [0, 2])
def test_a_record_that_is_not_queued_can_be_sent_again(bench: Bench, others: int) -> None:
    """A full queue refuses a record for certain: it is not under way, alone or in a batch."""
    parcel = bench.parcel(0, "r")
    rest = [bench.parcel(2 * number, f"s-{number}") for number in range(1, others + 1)]
    bench.queue.full = {parcel.value}
    refused = bench.send(parcel, *rest)
    assert {index: type(error) for index, error in refused.items()} == {0: ChannelError}
    assert bench.link.in_flight == others
    bench.queue.full = set()
    assert bench.send(parcel) == {}
    assert bench.queue.queued[-1] == parcel.value
    assert bench.outcomes == []


def test_who_joined_a_record_that_is_not_queued_is_told_so(bench: Bench) -> None:
    """Once each: those of the batch by the refusal, another sender by its outcome and a word."""
    own = [bench.parcel(0, "r"), bench.parcel(2, "r")]
    bench.queue.full = {own[0].value}
    bench.queue.meanwhile = lambda: bench.link.send_many((bench.parcel(4, "r"),), timeout_ms=60_000)
    assert bench.send(*own).keys() == {0, 1}
    assert bench.kinds() == {4: Unknown}
    assert "not sent" in bench.reason()
    assert bench.told == 1


def test_one_record_that_is_not_taken_is_an_exception(bench: Bench) -> None:
    """Who sends one by itself is not left to wait for it."""
    parcel = bench.parcel(0, "r")
    bench.queue.full = {parcel.value}
    with pytest.raises(ChannelError, match="not sent"):
        bench.link.send(parcel.slot, KEY, parcel.value, print, timeout_ms=1)


def test_a_batch_whose_call_fails_is_unknown(bench: Bench) -> None:
    """The library does not say what it had queued: nobody is told that nothing was sent."""
    bench.queue.fails = True
    assert bench.send(bench.parcel(0, "r"), bench.parcel(2, "s")) == {}
    assert bench.kinds() == {0: Unknown, 2: Unknown}
    assert bench.link.unsettled(topics.REQUESTS, "s") is not None


def test_a_partition_whose_answers_cannot_be_read_gets_no_record(bench: Bench) -> None:
    """It is refused; the others are sent, and where it can be read it is sent the next time."""
    bench.readable.refuses = {topics.EVENTS}
    parcels = [bench.parcel(0, "r"), bench.change(2, "e"), bench.parcel(4, "s")]
    refused = bench.send(*parcels)
    assert {index: type(error) for index, error in refused.items()} == {1: ChannelError}
    assert bench.queue.queued == [parcels[0].value, parcels[2].value]
    bench.readable.refuses = set()
    assert bench.send(parcels[1]) == {}
    assert (topics.EVENTS, 0, 40) in bench.readable.assigned


def test_answers_are_read_from_the_end_before_the_first_record(bench: Bench) -> None:
    """Once a partition: no answer is missed, and none of the past is read."""
    bench.queue.meanwhile = lambda: bench.readable.assigned.append(("sent", 0, 0))
    for request_id in ("r", "s"):
        bench.send(bench.parcel(1, request_id))
    assert bench.readable.assigned == [(topics.RESULTS, 1, 40), ("sent", 0, 0), ("sent", 0, 0)]


def test_the_thread_says_whether_a_partition_is_read(bench: Bench) -> None:
    """Who asks it for one is told that it is, or why it is not; those behind are not left out."""
    asked: list[Future[None]] = [Future(), Future()]
    bench.readable.refuses = {topics.EVENTS}
    for topic, one in zip((topics.EVENTS, topics.RESULTS), asked, strict=True):
        bench.link._places_asked.put((topic, 0, one))
    bench.link._assign_asked()
    assert isinstance(asked[0].exception(0), ChannelError)
    assert asked[1].result(0) is None


def test_a_partition_that_was_waited_for_in_vain_is_assigned_once(bench: Bench) -> None:
    """Who gave up waiting asks again: the thread has read it meanwhile, and says so."""
    asked: list[Future[None]] = [Future(), Future()]
    for one in asked:
        bench.link._places_asked.put((topics.RESULTS, 0, one))
    bench.link._assign_asked()
    assert [one.result(0) for one in asked] == [None, None]
    assert bench.readable.assigned == [(topics.RESULTS, 0, 40)]


def test_every_record_of_a_batch_ends_at_its_deadline(bench: Bench) -> None:
    """Those that were answered, and are sent again, are left alone; the others end, once."""
    parcels = [bench.parcel(number, f"r-{number}") for number in range(3)]
    bench.send(*parcels, timeout_ms=2_000)
    bench.read(answered(parcels[1].slot))
    bench.send(bench.parcel(1, "r-1"))
    bench.pass_by(1.9)
    assert bench.kinds() == {1: ReservationResult}
    bench.pass_by(0.1)
    bench.pass_by(1.0)
    assert bench.kinds() == {0: Unknown, 1: ReservationResult, 2: Unknown}
    assert bench.link.in_flight == 1


def test_deadlines_end_in_their_order_and_not_one_a_look(bench: Bench) -> None:
    """A batch with less time ends first, whenever it was sent; what is due ends at once."""
    for number, timeout_ms in enumerate((3_000, 1_000, 2_000, 1_000)):
        bench.send(bench.parcel(number, f"r-{number}"), timeout_ms=timeout_ms)
    bench.pass_by(1.0)
    assert bench.kinds() == {1: Unknown, 3: Unknown}
    bench.pass_by(2.0)
    assert bench.kinds() == dict.fromkeys(range(4), Unknown)


def test_an_unknown_record_is_the_same_request_and_no_other(bench: Bench) -> None:
    """Other content under its id is refused; its own bytes are sent again, and answered once."""
    parcel = bench.parcel(0, "r")
    bench.send(parcel, timeout_ms=0)
    bench.pass_by(0)
    other = bench.send(bench.parcel(2, "r", quantity=2))
    assert [type(error) for error in other.values()] == [InFlightError]
    assert bench.send(bench.parcel(4, "r")) == {}
    assert bench.queue.queued == [parcel.value] * 2
    bench.read(answered(parcel.slot))
    assert bench.kinds() == {0: Unknown, 4: ReservationResult}
    assert bench.link.unsettled(topics.REQUESTS, "r") is None


def test_an_outcome_that_comes_late_is_kept(bench: Bench) -> None:
    """By the topic and id of the record, with its bytes; a dead letter is one too."""
    parcels = [bench.parcel(0, "r"), bench.change(1, "r")]
    bench.send(*parcels, timeout_ms=0)
    bench.pass_by(0)
    bench.read(answered(parcels[0].slot), set_aside(parcels[1]))
    for parcel, kind in zip(parcels, (ReservationResult, Undecided), strict=True):
        found = bench.link.unsettled(parcel.slot.topic, "r")
        assert found is not None
        assert found[0] == parcel.slot
        assert (found[1].key, found[1].value) == (KEY, parcel.value)
        assert isinstance(found[1].outcome, kind)
    assert bench.link.unsettled(topics.TRANSACTIONS, "s") is None


def test_unknown_records_are_kept_up_to_a_number(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest goes first."""
    monkeypatch.setattr("producers.channel.link.UNSETTLED_MAX", 2)
    bench.send(*(bench.parcel(number, f"r-{number}") for number in range(4)), timeout_ms=0)
    bench.pass_by(0)
    kept = [bench.link.unsettled(topics.REQUESTS, f"r-{number}") for number in range(4)]
    assert [found is not None for found in kept] == [False, False, True, True]


def test_a_record_that_was_set_aside_is_undecided(bench: Bench) -> None:
    """By its own bytes: another record under the same id there says nothing of it."""
    parcel = bench.parcel(1, "r")
    bench.send(parcel)
    bench.read(set_aside(parcel, bench.parcel(1, "r", quantity=2).value))
    assert bench.outcomes == []
    bench.read(set_aside(parcel))
    assert bench.kinds() == {1: Undecided}
    assert "astray" in bench.reason()


def test_a_record_that_the_broker_does_not_confirm_is_unknown(bench: Bench) -> None:
    """The report names the record by its bytes; a report without an error says nothing."""
    parcels = [bench.parcel(0, "r"), bench.parcel(1, "s")]
    bench.send(*parcels)
    bench.link._on_delivery(None, confirmed(parcels[0]))
    bench.link._on_delivery(KafkaError(KafkaError._MSG_TIMED_OUT), confirmed(parcels[1]))
    assert bench.kinds() == {1: Unknown}
    assert "did not confirm" in bench.reason()


def test_a_record_that_may_not_be_written_was_not(bench: Bench) -> None:
    """The broker refused it before it was appended: that is said, with topic and page."""
    bench.send(bench.parcel(1, "r"))
    bench.link._on_delivery(NOT_ALLOWED, confirmed(bench.parcel(1, "r")))
    assert bench.kinds() == {1: Forbidden}
    assert bench.reason().startswith("not sent: topic reservation-requests: ")
    assert bench.reason().endswith("(see docs/security.md)")


@pytest.mark.parametrize("others", [0, 1])
def test_the_library_that_knows_a_right_is_missing_says_so_too(bench: Bench, others: int) -> None:
    """It does not queue the record then; in a batch as alone, topic and page are named."""
    parcels = [bench.parcel(2 * number, f"r-{number}") for number in range(others + 1)]
    bench.queue.full, bench.queue.refusal = {parcels[0].value}, NOT_ALLOWED
    refused = bench.send(*parcels)
    assert list(refused) == [0]
    assert str(refused[0]).startswith("not sent: topic reservation-requests: ")
    assert str(refused[0]).endswith("(see docs/security.md)")


def test_answers_that_may_not_be_read_are_the_trouble(bench: Bench) -> None:
    """The record was written and may be decided: unknown, and its reason names what is missing."""
    bench.send(bench.parcel(0, "r"), timeout_ms=1_000)
    bench.read(Trouble(NOT_ALLOWED))
    bench.pass_by(1.0)
    assert bench.kinds() == {0: Unknown}
    assert "last trouble: topic reservation-results: " in bench.reason()
    assert bench.reason().endswith("(see docs/security.md)")


def test_an_answer_that_cannot_be_read_stops_no_other(bench: Bench) -> None:
    """The next one is delivered; who got none is told what the trouble was, while it lasts."""
    parcels = [bench.parcel(number, f"r-{number}") for number in range(3)]
    bench.send(*parcels, timeout_ms=1_000)
    unreadable = Read(topics.RESULTS, 0, b"\x00?", "r-0")
    bench.read(Trouble(NOT_ALLOWED), unreadable, answered(parcels[1].slot), unreadable)
    bench.pass_by(1.0)
    assert bench.kinds() == {0: Unknown, 1: ReservationResult, 2: Unknown}
    assert all(
        "cannot be read" in getattr(one, "reason", "cannot be read") for _, one in bench.outcomes
    )


def test_trouble_that_is_over_is_not_told(bench: Bench) -> None:
    """After an answer that could be read, silence has another cause."""
    answered_, silent = bench.parcel(0, "r"), bench.parcel(2, "s")
    bench.send(answered_, silent, timeout_ms=1_000)
    bench.read(Trouble(KafkaError(KafkaError._TRANSPORT)), answered(answered_.slot))
    bench.outcomes.clear()
    bench.pass_by(1.0)
    assert bench.reason() == "no answer within the time given"


def test_only_a_fatal_error_ends_the_link(bench: Bench) -> None:
    """From then on every record of a batch is refused, and none is queued; it says why."""
    bench.link._on_error(KafkaError(KafkaError._TRANSPORT))
    assert bench.link.ended == ""
    assert bench.send(bench.parcel(0, "r")) == {}
    bench.link._on_error(KafkaError(KafkaError._FATAL, "fenced", fatal=True))
    refused = bench.send(bench.parcel(0, "s"), bench.parcel(1, "t"))
    assert [str(refused[index]) for index in range(2)] == ["Kafka: fenced"] * 2
    assert bench.link.ended == "Kafka: fenced"
    assert len(bench.queue.queued) == bench.link.in_flight == 1


def test_a_turn_takes_in_all_that_is_there_and_says_so_once(bench: Bench) -> None:
    """All outcomes are delivered before the word that they are there; who fails at it is let be."""
    parcels = [bench.parcel(number, f"r-{number}") for number in range(3)]
    bench.send(*parcels)
    bench.readable.there = [answered(parcel.slot) for parcel in parcels]
    counted: list[int] = []

    def told() -> None:
        counted.append(len(bench.outcomes))
        raise RuntimeError("the loop is closed")

    bench.link._delivered = told
    bench.link._turn()
    assert counted == [3]


def test_a_thread_that_ends_leaves_nobody_waiting(bench: Bench) -> None:
    """Those under way are told why, with the word that they are; those who come are refused."""
    bench.send(bench.parcel(0, "r"), bench.parcel(1, "s"))
    bench.readable.poll = lambda _: object()  # type: ignore[method-assign]
    bench.link._run()
    assert bench.kinds() == {0: Unknown, 1: Unknown}
    assert bench.told == 1
    refused = bench.send(bench.parcel(2, "t"))
    assert "thread ended" in str(refused[0])
    assert "thread ended" in bench.link.ended


@pytest.mark.parametrize("in_time", [True, False])
def test_closing_waits_for_what_is_under_way(bench: Bench, in_time: bool) -> None:
    """An answer ends the wait at once; without one, those who wait are told at its end."""
    parcel = bench.parcel(0, "r")
    bench.send(parcel)
    closing = threading.Thread(
        target=bench.link.close, args=(60.0 if in_time else 0.0,), daemon=True
    )
    closing.start()
    eventually(lambda: bench.link._closed, within_s=WITHIN_S)
    assert isinstance(bench.send(bench.parcel(2, "s")).get(0), ChannelError)
    if in_time:
        bench.read(answered(parcel.slot))
    closing.join(WITHIN_S)
    assert not closing.is_alive()
    assert bench.kinds() == {0: ReservationResult if in_time else Unknown}
    assert bench.told == 1


REPLY: Final = ("shop-replies", 3)


def reply(bench: Bench, slot: Slot, *, client_id: bytes = b"") -> Read:
    """An answer on a reply topic, as the worker copies it."""
    result = ReservationResult(slot.request_id, 0, 1, 1, 7, False, [])
    correlation = (client_id or bench.link._client_id) + slot.partition.to_bytes(4, "big")
    headers = [("kafka_correlationId", correlation)]
    return Read(*REPLY, CODEC.encode_result(result), slot.request_id, headers)


def test_answers_on_a_reply_topic_are_asked_for_and_told_apart(bench: Bench) -> None:
    """By headers: another client's are left, and one id in two partitions is two requests."""
    bench.link._reply_place = REPLY
    parcels = [bench.parcel(number, "r") for number in range(2)]
    bench.send(*parcels)
    assert bench.readable.assigned == [(*REPLY, 40)]
    for partition in range(2):
        assert dict(bench.queue.headers[partition]) == {
            "kafka_replyTopic": b"shop-replies",
            "kafka_replyPartition": b"\0\0\0\3",
            "kafka_correlationId": bench.link._client_id + bytes((0, 0, 0, partition)),
        }
    other = reply(bench, parcels[0].slot, client_id=b"x" * 16)
    bench.read(other, Read(*REPLY, other.value(), "r"))
    assert bench.outcomes == []
    bench.read(reply(bench, parcels[1].slot))
    assert bench.kinds() == {1: ReservationResult}
