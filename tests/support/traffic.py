"""The two ends of the campaign's traffic: a feeder that produces, a reader that counts answers.

Each is a thread of its own with a client of its own; the campaign tells the feeder how much to
send, and waits on the reader's count, never on time.
"""

import sys
import threading
import time
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from schemas import topics
from tests.support.load import Draft, Load
from tests.support.wire import Wire

SLICE: Final = 50  # Records between two looks at the clock.
LEARN_EVERY: Final = 4  # Results read closely: enough to name holds, cheap enough to keep up.
DELIVERED_WITHIN_S: Final = 120.0
QUIET: Final = {"log_level": 2}  # The broker is restarted on purpose: no lines about that.


class Feeder(threading.Thread):
    """Sends what it is told to send, at a pace; a delivery that fails fails the campaign."""

    def __init__(self, bootstrap: str, load: Load, rate_per_s: float) -> None:
        super().__init__(name="feeder", daemon=True)
        self.load = load
        self.rate_per_s = rate_per_s
        self.requests = 0
        self.answerable = 0
        self.failure: str | None = None
        self.ordered = 0
        self._changed = threading.Condition()
        self._closing = False
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,  # No doubles or reordering of our own making.
                "linger.ms": 5,
                **QUIET,
                "delivery.timeout.ms": int(DELIVERED_WITHIN_S * 1000),
                "queue.buffering.max.messages": 1_000_000,
            }
        )

    def order(self, requests: int) -> None:
        """Send so many requests more, and the ERP events that come with them."""
        with self._changed:
            self.ordered += requests
            self._changed.notify()

    @property
    def idle(self) -> bool:
        """Whether everything ordered so far has been sent."""
        return self.requests >= self.ordered

    def promised(self) -> int:
        """Answers that will come of what was sent and ordered, at the least."""
        return self.answerable if self.idle else sys.maxsize

    def close(self) -> None:
        """Send what was ordered, wait for delivery, end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self.join()
        left = self._producer.flush(DELIVERED_WITHIN_S)
        if left or self.failure:
            raise RuntimeError(f"{left} records were not delivered: {self.failure}")

    def send(self, draft: Draft) -> None:
        """Produce one record."""
        self._producer.produce(
            draft.topic,
            key=draft.key,
            value=draft.value,
            partition=draft.partition,
            on_delivery=self._delivered,
        )
        if draft.topic == topics.REQUESTS:
            self.requests += 1
            self.answerable += draft.readable

    def abandon(self) -> None:
        """End without sending the rest."""
        self.ordered = 0
        self._closing = True
        self._producer.purge()

    def flush(self) -> None:
        """Wait until everything sent so far has been delivered."""
        self._producer.flush(DELIVERED_WITHIN_S)

    def run(self) -> None:
        """Send slices until closed."""
        while self._wait_for_order():
            started = time.monotonic()
            for _ in range(SLICE):
                self.send(self.load.draw())
            self._producer.poll(0)
            ahead_s = started + SLICE / self.rate_per_s - time.monotonic()
            if ahead_s > 0:
                self._producer.poll(ahead_s)

    def _wait_for_order(self) -> bool:
        with self._changed:
            while self.requests >= self.ordered and not self._closing:
                self._changed.wait(1.0)
                self._producer.poll(0)
            return self.requests < self.ordered

    def _delivered(self, error: object, _message: Message) -> None:
        if error is not None:
            self.failure = str(error)


class Reader(threading.Thread):
    """Counts committed results and tells the load what was granted."""

    def __init__(self, bootstrap: str, partitions: int, load: Load, wire: Wire) -> None:
        super().__init__(name="reader", daemon=True)
        self.count = 0
        self._load = load
        self._wire = wire
        self._closing = threading.Event()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "campaign-reader",  # Never committed: assigned by hand.
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                **QUIET,
            }
        )
        self._consumer.assign(
            [TopicPartition(topics.RESULTS, part, OFFSET_BEGINNING) for part in range(partitions)]
        )

    def run(self) -> None:
        """Count until closed."""
        while not self._closing.is_set():
            for message in self._consumer.consume(num_messages=2_000, timeout=0.1):
                if message.error() is not None:
                    continue  # A broker that is away: the client comes back by itself.
                self.count += 1
                if self.count % LEARN_EVERY == 0:
                    self._load.learn(self._wire.read(message.value(), "ReservationResult"))
        self._consumer.close()

    def close(self) -> None:
        """End."""
        self._closing.set()
        if self.is_alive():
            self.join()
