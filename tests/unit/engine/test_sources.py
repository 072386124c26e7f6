"""How source partitions are read, with brokers that are told what to answer."""

import asyncio
import struct
from typing import Any, cast

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka import KafkaError
from faust.types import TP

from processor.engine import sources
from processor.engine.brokers import Brokers, Unreachable
from processor.engine.faults import Fault
from processor.engine.sources import SourceReader

A, B, C = TP("requests", 0), TP("requests", 1), TP("events", 0)
PRODUCER = 77


def batch(offset: int, *values: str, producer: int = -1) -> bytes:
    """Records with these values from `offset` on; of a transaction, if a producer is named."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=0,
        is_transactional=producer >= 0,
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=999_999,
    )
    for at, value in enumerate(values):
        builder.append(at, timestamp=7, key=b"k", value=value.encode(), headers=[])
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, offset)  # Not under the checksum.
    return bytes(made)


class Told:
    """Stands in for `Brokers`: partition 0 is led by broker 0, partition 1 by broker 1.

    `answers`: broker to what its next answers say, partition to (code, bytes) with what was
    aborted, or an exception. A broker without a next answer takes for ever.
    """

    def __init__(self) -> None:
        self.answers: dict[int, list[Any]] = {}
        self.asked: list[dict[TP, int]] = []
        self.without_leader: set[TP] = set()
        self.looks = 0

    async def connect(self, _topics: set[str]) -> None:
        """Nothing is connected."""

    def leader(self, topic: str, partition: int) -> int | None:
        """A broker for each number."""
        return None if TP(topic, partition) in self.without_leader else partition

    async def look_again(self) -> None:
        """Count it."""
        self.looks += 1

    async def ask(self, node: int | None, request: Any) -> Any:
        """Answer as told."""
        assert node is not None
        self.asked.append(
            {
                TP(topic, number): offset
                for topic, partitions in request.topics
                for number, _, offset, _, _ in partitions
            }
        )
        if not self.answers.get(node):
            await asyncio.Event().wait()
        answer = self.answers[node].pop(0)
        if isinstance(answer, Exception):
            raise answer
        topics = [
            (tp.topic, [(tp.partition, code, 0, 0, 0, aborted, -1, data)])
            for tp, (code, data, aborted) in answer.items()
        ]
        return request.RESPONSE_TYPE(0, 0, 0, topics)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Brokers, and no pause before they are asked again."""
    monkeypatch.setattr(sources, "RETRY_SECONDS", 0.0)
    return Told()


def polls(told: Told, times: int, *partitions: TP) -> list[dict[TP, list[str]]]:
    """Values of so many polls, from offset 10 of each partition on."""

    async def poll() -> list[dict[TP, list[str]]]:
        reader = SourceReader(cast("Brokers", told), dict.fromkeys(partitions, 10))
        try:
            async with asyncio.timeout(10):
                found = [await reader.poll() for _ in range(times)]
        finally:
            reader.close()
        return [
            {tp: [(record.value or b"").decode() for record in there] for tp, there in one.items()}
            for one in found
        ]

    return asyncio.run(poll())


def well(tp: TP, data: bytes, aborted: Any = ()) -> dict[TP, Any]:
    """An answer with records of one partition."""
    return {tp: (0, data, list(aborted))}


def refused(tp: TP, code: int) -> dict[TP, Any]:
    """An answer with an error code for one partition."""
    return {tp: (code, b"", None)}


def test_reads_on_behind_what_was_handed_out(told: Told) -> None:
    """The next request is for what follows, and names what was read last: all have their turns."""
    told.answers = {0: [well(A, batch(10, "a", "b")), well(C, batch(10, "c"))]}
    assert polls(told, 2, A, C) == [{A: ["a", "b"]}, {C: ["c"]}]
    assert told.asked[1] == {C: 10, A: 12}
    assert told.looks == 0
    assert list(told.asked[1]) == [C, A]


def test_a_batch_that_began_before_the_position(told: Told) -> None:
    """A broker answers with whole batches: what is before the position was handed out already."""
    told.answers = {0: [well(A, batch(8, "old", "old too", "new"))]}
    assert polls(told, 1, A) == [{A: ["new"]}]


def test_what_was_aborted_is_passed_over(told: Told) -> None:
    """Its records are not handed out, and are not asked for again."""
    data = batch(10, "never was", producer=PRODUCER) + batch(11, "is")
    told.answers = {
        0: [
            well(A, data, [(PRODUCER, 10)]),
            well(A, batch(12, "nor this", producer=PRODUCER), [(PRODUCER, 12)]),
            well(A, batch(13, "last")),
        ]
    }
    assert polls(told, 3, A) == [{A: ["is"]}, {}, {A: ["last"]}]
    assert [asked[A] for asked in told.asked] == [10, 12, 13]


def test_a_slow_broker_does_not_hold_up_the_others(told: Told) -> None:
    """What one broker answers is handed out; the other is asked once and waited for."""
    told.answers = {0: [well(A, batch(10, "a")), well(A, batch(11, "b"))]}
    assert polls(told, 2, A, B) == [{A: ["a"]}, {A: ["b"]}]
    assert sum(B in asked for asked in told.asked) == 1


def test_a_partition_without_a_leader_does_not_hold_up_the_others(told: Told) -> None:
    """Its leader is looked for, and the others are read."""
    told.without_leader = {B}
    told.answers = {0: [well(A, batch(10, "a")), well(A, batch(11, "b"))]}
    assert polls(told, 2, A, B) == [{A: ["a"]}, {A: ["b"]}]
    assert told.looks == 2


@pytest.mark.parametrize(
    "first",
    [
        refused(A, KafkaError.NOT_LEADER_FOR_PARTITION),
        refused(A, KafkaError.UNKNOWN_TOPIC_OR_PART),
        refused(A, KafkaError.OFFSET_NOT_AVAILABLE),
        Unreachable("broker 0 is away"),
    ],
)
def test_is_asked_again(told: Told, first: Any) -> None:
    """Where a leader moved or is away: from the same offset, once it is known who leads."""
    told.answers = {0: [first, well(A, batch(10, "a"))]}
    assert polls(told, 2, A) == [{}, {A: ["a"]}]
    assert [asked[A] for asked in told.asked] == [10, 10]
    assert told.looks == 1


def test_nobody_leads(told: Told) -> None:
    """Nothing is read, and nothing breaks."""
    told.without_leader = {A}
    assert polls(told, 2, A) == [{}, {}]
    assert told.asked == []


def test_what_is_well_is_handed_out_beside_what_is_not(told: Told) -> None:
    """One answer with records of a partition and an error of the next."""
    told.answers = {
        0: [
            well(A, batch(10, "a")) | refused(C, KafkaError.NOT_LEADER_FOR_PARTITION),
            well(C, batch(10, "c")),
        ]
    }
    assert polls(told, 2, A, C) == [{A: ["a"]}, {C: ["c"]}]


def broken(data: bytes) -> bytes:
    """With one bit of the last record turned."""
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (refused(A, KafkaError.OFFSET_OUT_OF_RANGE), "offset 10 was deleted by retention"),
        (refused(A, KafkaError.TOPIC_AUTHORIZATION_FAILED), "docs/security.md"),
        (refused(A, KafkaError.INVALID_MSG), "cannot be read"),
        (well(A, broken(batch(10, "a"))), "damaged"),
    ],
)
def test_asking_again_would_not_help(told: Told, answer: Any, says: str) -> None:
    """The worker ends, and says why: what it does not see may be a reservation."""
    told.answers = {0: [answer]}
    with pytest.raises(Fault, match=says):
        polls(told, 1, A)
