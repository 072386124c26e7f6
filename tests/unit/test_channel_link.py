"""The link without a broker: batches are taken, refused, answered and given up record by record."""

from collections.abc import Mapping
from typing import Any, Final

import pytest
from confluent_kafka import KafkaError

from producers.channel.link import Link, Parcel, Slot
from producers.channel.outcomes import (
    ChannelError,
    InFlightError,
    RecordTooLargeError,
    Unknown,
)
from producers.settings import Settings
from schemas import limits, topics
from schemas.codec import Codec
from schemas.messages import RequestLine, ReservationRequest, ReservationResult
from schemas.registry import FixedSchemaIds

CODEC: Final = Codec(FixedSchemaIds())
KEY: Final = b"usmf|1|11"


class Queue:
    """Stands for the producer: keeps what is queued, refuses keys that it is told to."""

    def __init__(self) -> None:
        self.queued: list[bytes] = []
        self.calls = 0
        self.full: set[bytes] = set()
        self.fails = False

    def produce_batch(self, _topic: str, messages: list[dict[str, Any]], _partition: int) -> int:
        """As confluent-kafka: the number queued, an error in each message that was not."""
        self.calls += 1
        if self.fails:
            raise BufferError("broken")
        for message in messages:
            if message["value"] in self.full:
                message["_error"] = KafkaError(KafkaError._QUEUE_FULL)
            else:
                self.queued.append(message["value"])
        return sum("_error" not in message for message in messages)

    def produce(self, _topic: str, **message: Any) -> None:
        """As confluent-kafka: one message, or an error."""
        if message["value"] in self.full:
            raise BufferError("full")
        self.queued.append(message["value"])


class Answered:
    """Stands for a message of reservation-results."""

    def __init__(self, slot: Slot, code: int = 0) -> None:
        self._slot = slot
        self._value = CODEC.encode_result(
            ReservationResult(slot.request_id, code, 1, 1, 7, False, [])
        )

    def error(self) -> None:
        """It is none."""

    def topic(self) -> str:
        """Where it was read."""
        return topics.RESULTS

    def partition(self) -> int:
        """Its partition."""
        return self._slot.partition

    def key(self) -> bytes:
        """The request id."""
        return self._slot.request_id.encode()

    def value(self) -> bytes:
        """The result."""
        return self._value


class Confirmed:
    """Stands for the broker's word on a record."""

    def __init__(self, parcel: Parcel) -> None:
        self._parcel = parcel

    def topic(self) -> str:
        """Of the record."""
        return self._parcel.slot.topic

    def partition(self) -> int:
        """Of the record."""
        return self._parcel.slot.partition

    def value(self) -> bytes:
        """Of the record."""
        return self._parcel.value


class Bench:
    """A link over such a queue, and what it delivered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told = 0
        self.queue = Queue()
        monkeypatch.setattr("producers.channel.link.Producer", lambda _: self.queue)
        monkeypatch.setattr("producers.channel.link.Consumer", lambda _: None)
        settings = Settings(bootstrap_servers="127.0.0.1:1", registry_url="http://127.0.0.1:1")
        self.link = Link(settings, CODEC, delivered=self._tell)
        self.link._listening.update((topics.RESULTS, partition) for partition in range(2))
        self.outcomes: list[tuple[int, object]] = []

    def _tell(self) -> None:
        self.told += 1

    def parcel(self, number: int, request_id: str, *, quantity: int = 1) -> Parcel:
        """A record for partition `number` modulo 2."""
        line = RequestLine("P", "", {"siteid": "1"}, "iv.softreserved", quantity)
        record = ReservationRequest(request_id, "RESERVE", "usmf", "web", [line])
        slot = Slot(topics.REQUESTS, number % 2, request_id)
        return Parcel(slot, KEY, CODEC.encode_request(record), self._deliver, number)

    def _deliver(self, number: int, outcome: object) -> None:
        self.outcomes.append((number, outcome))

    def send(self, *parcels: Parcel, timeout_ms: int = 60_000) -> Mapping[int, Exception]:
        """Send them as one batch."""
        return self.link.send_many(parcels, timeout_ms=timeout_ms)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A link that has sent nothing."""
    return Bench(monkeypatch)


def test_a_batch_is_queued_in_one_call_a_partition(bench: Bench) -> None:
    """Six records of two partitions are two calls, and every answer reaches its own number."""
    parcels = [bench.parcel(number, f"r-{number}") for number in range(6)]
    assert bench.send(*parcels) == {}
    assert bench.queue.calls == 2
    assert sorted(bench.queue.queued) == sorted(parcel.value for parcel in parcels)
    bench.link._take_in([Answered(parcel.slot) for parcel in reversed(parcels)])
    assert [number for number, _ in bench.outcomes] == [5, 4, 3, 2, 1, 0]
    for number, outcome in bench.outcomes:
        assert isinstance(outcome, ReservationResult)
        assert outcome.request_id == f"r-{number}"
    assert bench.link.in_flight == 0


def test_an_answer_counts_once_and_for_its_own_partition(bench: Bench) -> None:
    """The same id elsewhere, and the same answer again, deliver nothing."""
    parcel = bench.parcel(0, "r")
    bench.send(parcel)
    elsewhere = Answered(Slot(topics.REQUESTS, 1, "r"))
    bench.link._take_in([elsewhere, Answered(parcel.slot), Answered(parcel.slot)])
    assert len(bench.outcomes) == 1


def test_the_same_record_twice_in_a_batch_is_sent_once(bench: Bench) -> None:
    """Both are told the one outcome."""
    parcels = [bench.parcel(number, "r") for number in (0, 2)]
    assert bench.send(*parcels) == {}
    assert len(bench.queue.queued) == 1
    bench.link._take_in([Answered(parcels[0].slot)])
    assert [number for number, _ in bench.outcomes] == [0, 2]


def test_a_batch_is_refused_record_by_record(bench: Bench) -> None:
    """Other content under one id, and a record that is too large, stop none of the others."""
    huge = bench.parcel(4, "huge")
    huge.value = b"x" * (limits.RECORD_BYTES_MAX + 1)
    other = bench.parcel(2, "r", quantity=2)
    refused = bench.send(bench.parcel(0, "r"), other, huge, bench.parcel(6, "s"))
    assert {index: type(error) for index, error in refused.items()} == {
        1: InFlightError,
        2: RecordTooLargeError,
    }
    assert len(bench.queue.queued) == bench.link.in_flight == 2


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


def test_a_batch_whose_call_fails_is_unknown(bench: Bench) -> None:
    """The library does not say what it had queued: nobody is told that nothing was sent."""
    bench.queue.fails = True
    parcels = [bench.parcel(0, "r"), bench.parcel(2, "s")]
    assert bench.send(*parcels) == {}
    assert [type(outcome) for _, outcome in bench.outcomes] == [Unknown, Unknown]
    assert bench.link.unsettled(topics.REQUESTS, "s") is not None


def test_every_record_of_a_batch_ends_at_its_deadline(bench: Bench) -> None:
    """Those that were answered, and are sent again, are left alone; the others end, once."""
    parcels = [bench.parcel(number, f"r-{number}") for number in range(3)]
    bench.send(*parcels, timeout_ms=0)
    bench.link._take_in([Answered(parcels[1].slot)])
    bench.send(bench.parcel(1, "r-1"))
    bench.link._look_at_deadlines()
    bench.link._look_at_deadlines()
    kinds = {number: type(outcome) for number, outcome in bench.outcomes}
    assert kinds == {0: Unknown, 1: ReservationResult, 2: Unknown}
    assert len(bench.outcomes) == 3
    assert bench.link.in_flight == 1


def test_a_record_that_the_broker_does_not_confirm_is_unknown(bench: Bench) -> None:
    """The report names the record by its bytes; a report without an error says nothing."""
    parcels = [bench.parcel(0, "r"), bench.parcel(2, "s")]
    bench.send(*parcels)
    bench.link._on_delivery(None, Confirmed(parcels[0]))
    refusal = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    bench.link._on_delivery(refusal, Confirmed(parcels[1]))
    ((number, outcome),) = bench.outcomes
    assert number == 2
    assert isinstance(outcome, Unknown)
    assert "did not confirm" in outcome.reason


def test_who_waits_for_many_is_told_when_the_link_ends(bench: Bench) -> None:
    """All outcomes are delivered before the word that they are there."""
    bench.send(bench.parcel(0, "r"), bench.parcel(1, "s"))
    told = bench.told
    bench.link._fail_all("the end")
    bench.link._tell()
    assert len(bench.outcomes) == 2
    assert bench.told == told + 1
