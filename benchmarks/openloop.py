"""An open loop: requests sent at fixed instants, whether or not the earlier ones were answered.

Time counts from the instant at which a request was due, not from when it could be sent; so a stall
is felt by every request that was due in it, as its users would. It ends when the result has been
read by a `read_committed` consumer in this process.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from confluent_kafka import Producer, TopicPartition

from benchmarks import broker
from benchmarks.broker import Produced
from benchmarks.contestants import Site
from benchmarks.programs import Program
from schemas import topics

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
                "linger.ms": 0,  # Waiting would be counted.
            }
        )
        self._reader = broker.reader(site.bootstrap)
        # The end of each partition, asked now: it must not move past results while we get going.
        ends = [
            self._reader.get_watermark_offsets(TopicPartition(topics.RESULTS, number), timeout=30)
            for number in range(partitions)
        ]
        self._reader.assign(
            [TopicPartition(topics.RESULTS, number, end) for number, (_, end) in enumerate(ends)]
        )

    def close(self) -> None:
        """Close both clients."""
        self._producer.flush(10)
        self._reader.close()

    def run(
        self,
        records: Sequence[Produced],
        numbers: dict[bytes, int],
        programs: Callable[[], Sequence[Program]],
        *,
        within_s: float,
    ) -> list[Timing]:
        """Send `records`; timings in the order of reading.

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
            message = self._reader.poll(0.2)
            now_s = time.time()
            if message is None:
                for program in programs():
                    program.check_alive()
                if now_s - max(read_at_s, start_s) > within_s:
                    raise TimeoutError(f"{len(timings)} of {len(records)} answers, no more came")
                continue
            number = None if message.error() else numbers.get(message.key())
            if number is not None:
                timings.append(Timing(number, start_s + number / self._rate, now_s))
                read_at_s = now_s
        sender.join()
        return timings

    def _send(self, records: Sequence[Produced], start_s: float) -> None:
        """Send each at its instant; a late one at once."""
        for number, (key, value, partition) in enumerate(records):
            wait_s = start_s + number / self._rate - time.time()
            if wait_s > 0:
                self._producer.poll(0)
                time.sleep(wait_s)
            self._producer.produce(topics.REQUESTS, value, key, partition)
