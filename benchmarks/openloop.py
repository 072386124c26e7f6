"""An open loop: requests sent at fixed instants, whether or not the earlier ones were answered.

Time counts from the instant at which a request was due, not from when it could be sent; so a stall
is felt by every request that was due in it, as its users would. It ends when the result has been
read by a `read_committed` consumer in this process.

This process holds hundreds of thousands of requests, and a full pass of Python's garbage collector
over them stops sender and reader for a third of a second: it would be taken for the contestant's
time. So none is made while the loop runs.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from confluent_kafka import Message, Producer, TopicPartition

from benchmarks import broker
from benchmarks.broker import Produced
from benchmarks.collection import no_collection
from benchmarks.contestants import Site
from benchmarks.programs import Program
from schemas import topics

TURN_S = 0.001  # Of the sender: a sleep for every record would not keep up with the rate.
LINGER_MS = 5  # librdkafka's default; counted. With 1 ms the broker is busy with tiny requests.
READ_MAX = 500  # Records of one read: those that are there when its first is.
READ_WITHIN_S = 0.05  # Then it is looked whether the contestant is alive.
LEAD_S = 0.5  # Between the start of the reader and the first instant.


class Timing(NamedTuple):
    """One answer: number of its request, when that was due, when the answer was readable (s)."""

    number: int
    due_s: float
    read_s: float

    @property
    def took_ms(self) -> float:
        """Milliseconds from due to readable."""
        return (self.read_s - self.due_s) * 1000


class OpenLoop:
    """Sends prepared requests at `rate` a second and reads their answers."""

    def __init__(self, site: Site, partitions: int, rate: int) -> None:
        self._rate = rate
        self._producer = Producer(
            {
                "bootstrap.servers": site.bootstrap,
                "log_level": broker.LOG_ERRORS_ONLY,
                "enable.idempotence": True,
                "linger.ms": LINGER_MS,  # Counted, as every user's is.
            }
        )
        self._reader = broker.reader(site.bootstrap)
        # The end of each partition, asked now: it must not move past results while we get going.
        own = [TopicPartition(topics.RESULTS, number) for number in range(partitions)]
        ends = [broker.end_of(self._reader, one) for one in own]
        self._reader.assign(
            [TopicPartition(topics.RESULTS, number, end) for number, end in enumerate(ends)]
        )

    def close(self) -> None:
        """Close both clients."""
        self._producer.flush(10)
        self._reader.close()

    @no_collection()
    def run(
        self,
        records: Sequence[Produced],
        numbers: dict[bytes, int],
        programs: Callable[[], Sequence[Program]],
        *,
        within_s: float,
    ) -> list[Timing]:
        """Send `records`, without garbage collection; timings in the order of reading.

        Args:
            records: requests in the order of their instants.
            numbers: result key (request id) to index in `records`.
            programs: the processes that must be alive now.
            within_s: longest wait for an answer after the last was read.

        Raises:
            TimeoutError: an answer did not come.

        """
        start_s = time.time() + LEAD_S
        sender = threading.Thread(target=self._send, args=(records, start_s), daemon=True)
        sender.start()
        timings: list[Timing] = []
        read_at_s = time.time()
        while len(timings) < len(records):
            messages = self._read()
            now_s = time.time()
            found = [numbers.get(one.key()) for one in messages if not one.error()]
            read = [number for number in found if number is not None]
            timings += [Timing(number, start_s + number / self._rate, now_s) for number in read]
            if read:
                read_at_s = now_s
            elif now_s - max(read_at_s, start_s) > within_s:
                raise TimeoutError(f"{len(timings)} of {len(records)} answers, no more came")
            else:
                for program in programs():
                    program.check_alive()
        sender.join()
        return timings

    def _read(self) -> list[Message]:
        """What can be read now: waits for the first record, and for no other."""
        messages: list[Message] = self._reader.consume(1, READ_WITHIN_S)
        if messages:
            messages += self._reader.consume(READ_MAX, 0)
        return messages

    def _send(self, records: Sequence[Produced], start_s: float) -> None:
        """Send what is due, a millisecond's worth at a time; what is late counts as late."""
        number = 0
        while number < len(records):
            passed = int((time.time() - start_s) * self._rate)  # Below 0 before the first instant.
            due = min(len(records), max(number, passed + 1))
            for key, value, partition in records[number:due]:
                self._producer.produce(topics.REQUESTS, value, key, partition)
            number = due
            self._producer.poll(0)
            time.sleep(TURN_S)
