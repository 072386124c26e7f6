"""A worker that answers as a test tells it to: late, twice, never, or with a dead letter.

For tests of clients alone. It decides nothing and keeps nothing.
"""

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from schemas import topics
from schemas.codec import Codec
from schemas.codes import Code
from schemas.messages import (
    DeadLetter,
    InventoryEvent,
    ReservationRequest,
    ReservationResult,
    ResultLine,
)

PARTITIONS: Final = 4
WAIT_S: Final = 0.05
Script = Callable[["ScriptedWorker", ReservationRequest, Message], None]


def create_topics(bootstrap: str) -> None:
    """Make the topics that a client needs, as they are declared."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [
        NewTopic(topic.name, PARTITIONS if topic.co_partitioned else 1, 1, config=topic.config())
        for topic in topics.TOPICS.values()
        if topic.schema is not None
    ]
    for made in admin.create_topics(wanted).values():
        made.result(30)


class ScriptedWorker:
    """Reads both source topics from now on and lets `script` answer requests."""

    def __init__(self, bootstrap: str, codec: Codec, script: Script) -> None:
        self.codec = codec
        self.script = script
        self.seen: list[ReservationRequest] = []
        self.fault: BaseException | None = None
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "scripted",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
            }
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        places = [
            TopicPartition(topic, number)
            for topic in topics.SOURCES
            for number in range(PARTITIONS)
        ]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=10)[1]
        self._consumer.assign(places)
        self._thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join(10)
        self._producer.flush(10)
        self._consumer.close()
        assert self.fault is None, self.fault

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                message = self._consumer.poll(WAIT_S)
                if message is not None and message.error() is None:
                    self._answer(message)
        except BaseException as fault:  # noqa: BLE001 - shown by the test's own thread
            self.fault = fault

    def _answer(self, message: Message) -> None:
        if message.topic() == topics.TRANSACTIONS:
            self._tell(message)
            return
        asked = self.codec.decode_request(message.value())
        self.seen.append(asked)
        self.script(self, asked, message)

    def result(
        self,
        asked: ReservationRequest,
        message: Message,
        code: Code = Code.ACCEPTED,
        *,
        available: int = 0,
        replayed: bool = False,
    ) -> None:
        """Produce a result for a request."""
        lines = [
            ResultLine(code, "reservation", f"hold-{index}", line.quantity, available)
            for index, line in enumerate(asked.lines)
        ]
        answer = ReservationResult(
            asked.request_id, code, len(self.seen), 1, message.offset(), replayed, lines
        )
        self._send(
            topics.RESULTS, asked.request_id, self.codec.encode_result(answer), message.partition()
        )

    def dead_letter(self, message: Message, code: Code) -> None:
        """Set a record aside, as the engine does."""
        letter = DeadLetter(
            code=code,
            reason=code.name,
            topic=message.topic(),
            partition=message.partition(),
            offset=message.offset(),
            timestamp_ms=1,
            key=message.key(),
            value=message.value(),
        )
        self._send(topics.DEAD_LETTERS, "", self.codec.encode_dead_letter(letter), 0)

    def _tell(self, message: Message) -> None:
        told = self.codec.decode_transaction(message.value())
        types: Sequence[str] = ("TRANSACTION", "OFFSET_APPLIED")
        for event_type in types:
            event = InventoryEvent(
                event_type=event_type,
                code=Code.APPLIED,
                sequence=1,
                at_ms=1,
                source_topic=topics.TRANSACTIONS,
                source_offset=message.offset(),
                source_id=told.event_id,
                product_id=told.product_id,
            )
            value = self.codec.encode_event(event)
            self._send(topics.EVENTS, told.event_id, value, message.partition())

    def _send(self, topic: str, key: str, value: bytes, partition: int) -> None:
        self._producer.produce(topic, key=key.encode(), value=value, partition=partition)
        self._producer.poll(0)
