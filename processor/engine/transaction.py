"""One Kafka transaction per batch: rows, outputs and offsets become visible together or not.

One transactional producer per worker, fenced by the group's generation (KIP-447): the generation
sent with the offsets is the one under which the batch was fetched, captured with the batch. Read
again at commit time, a zombie's stale batch would carry a fresh generation and pass.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from processor.engine.faults import Fault
from processor.engine.ports import Outputs
from processor.engine.producing import ANY_PARTITION, batches_of, check
from processor.engine.rows import Changes
from schemas.limits import MESSAGE_BYTES_MAX

# librdkafka's default of 100 ms makes every small transaction take 100 ms: CONCURRENT_TRANSACTIONS,
# answered while the markers of the previous one are being written, is retried at this pace.
RETRY_BACKOFF_MS: Final = 1
# The markers of a transaction are written after its commit was answered. Who begins the next one
# sooner is told CONCURRENT_TRANSACTIONS, and librdkafka tries again 20 ms later whatever it is set
# to. With this pause the slowest tenth of small transactions took 18 ms instead of 35.
MARKERS_SECONDS: Final = 0.001
QUEUE_MESSAGES_MAX: Final = (
    1_000_000  # Above the messages of the largest batch (cycle.MESSAGES_MAX plus one slice).
)
QUEUE_KBYTES_MAX: Final = 1_048_576
# One call to the coordinator. By default librdkafka waits for ever, and after a broker was killed
# it does: the answer about the offsets is never asked for again.
CALL_SECONDS_MAX: Final = 10.0
COMMIT_RETRIES_MAX: Final = 50  # Retriable errors of one commit, before it counts as a fault.


class Aborted(Exception):
    """The transaction was aborted.

    Nothing of the batch is visible, and its records are to be read again.
    """


class SealedBatch(msgspec.Struct, frozen=True):
    """What one transaction carries.

    Attributes:
        group_metadata: membership under which the records were fetched.
        offsets: (source topic, partition) to the next offset to read.
        rows: partition to changed rows, changelog order; the watermark row is the last of each.
        outputs: source partition to the messages to produce.
        records: number of source records decided.

    """

    group_metadata: bytes
    offsets: Mapping[tuple[str, int], int]
    rows: Mapping[int, Changes]
    outputs: Mapping[int, Outputs]
    records: int


class TransactionWriter:
    """The worker's transactional producer. All methods block; they run on the commit thread."""

    def __init__(
        self,
        client: Mapping[str, Any],
        *,
        transactional_id: str,
        transaction_timeout_ms: int,
        changelog: str,
        dead_letters: str,
        local_kinds: frozenset[int],
        reach: Callable[[str], None],
    ) -> None:
        self._changelog = changelog
        self._dead_letters = dead_letters
        self._local_kinds = bytes(local_kinds)
        self._reach = reach
        self._committed_at = 0.0  # time.perf_counter()
        self._producer = Producer(
            {
                **client,
                "transactional.id": transactional_id,
                "transaction.timeout.ms": transaction_timeout_ms,
                "acks": "all",
                "retry.backoff.ms": RETRY_BACKOFF_MS,
                "retry.backoff.max.ms": 100,
                "linger.ms": 5,  # Cut short by the flush inside commit_transaction.
                "batch.size": 1_000_000,
                "batch.num.messages": 20_000,
                "queue.buffering.max.messages": QUEUE_MESSAGES_MAX,
                "queue.buffering.max.kbytes": QUEUE_KBYTES_MAX,
                "compression.type": "none",
                # As the topics take it: with the default, 1 MB, a dead letter of the largest source
                # record could not be written, and the worker would end at that record for ever.
                "message.max.bytes": MESSAGE_BYTES_MAX,
            }
        )

        self._batches = batches_of(self._producer)

    def start(self, timeout_s: float) -> None:
        """Fence an earlier incarnation of this worker and abort what it left open.

        Raises:
            Fault: no answer within `timeout_s`.

        """
        try:
            self._producer.init_transactions(timeout_s)
        except KafkaException as exception:
            raise Fault(f"transactions cannot start: {exception.args[0]}") from exception

    def commit(self, batch: SealedBatch) -> dict[int, int]:
        """Produce and commit the batch; returns the next changelog offset of every partition in it.

        Raises:
            Aborted: nothing of it is visible.
            Fault: the outcome is unknown, or the producer was fenced.

        """
        try:
            return self._commit(batch)
        except KafkaException as exception:
            error: KafkaError = exception.args[0]
            if error.fatal() or not error.txn_requires_abort():
                raise Fault(f"transaction failed: {error}") from exception
            self._abort(error)
            raise Aborted(str(error)) from exception

    def _commit(self, batch: SealedBatch) -> dict[int, int]:
        producer, reach = self._producer, self._reach
        reach("before-produce")
        time.sleep(max(0.0, self._committed_at + MARKERS_SECONDS - time.perf_counter()))
        producer.begin_transaction()
        ends = {
            partition: self._produce_rows(partition, rows) for partition, rows in batch.rows.items()
        }
        for partition, outputs in batch.outputs.items():
            self._produce_outputs(partition, outputs)
        reach("after-produce")
        offsets = [
            TopicPartition(topic, partition, offset)
            for (topic, partition), offset in batch.offsets.items()
        ]
        self._retrying(
            lambda: producer.send_offsets_to_transaction(
                offsets, batch.group_metadata, CALL_SECONDS_MAX
            )
        )
        reach("before-commit")
        self._retrying(lambda: producer.commit_transaction(CALL_SECONDS_MAX))
        self._committed_at = time.perf_counter()
        producer.poll(0)
        reach("after-commit")
        return {partition: _delivered(partition, end) for partition, end in ends.items()}

    def _produce_outputs(self, partition: int, outputs: Outputs) -> None:
        for topic, messages in outputs.messages.items():
            to = ANY_PARTITION if topic == self._dead_letters else partition
            check(topic, self._batches.queue(topic, to, messages))
        for topic, wanted, key, value, headers in outputs.addressed:
            where = {} if wanted is None else {"partition": wanted}
            self._producer.produce(topic, value=value, key=key, headers=headers, **where)

    def _produce_rows(self, partition: int, rows: Changes) -> list[int]:
        """Produce the partition's rows.

        The returned list gets the last one's offset on delivery.
        """
        topic = self._changelog
        last, value = next(reversed(rows.items()))
        check(topic, self._batches.queue_rows(topic, partition, rows, self._local_kinds, last))
        end: list[int] = []

        def delivered(error: KafkaError | None, message: Any) -> None:
            if error is None:
                end.append(message.offset() + 1)

        self._producer.produce(
            topic, value=value, key=last, partition=partition, on_delivery=delivered
        )
        return end

    def _retrying(self, call: Callable[[], Any]) -> None:
        for _ in range(COMMIT_RETRIES_MAX):
            try:
                call()
            except KafkaException as exception:
                error: KafkaError = exception.args[0]
                if error.code() == KafkaError._TIMED_OUT:  # noqa: SLF001 - its public name
                    raise Fault(f"no answer within {CALL_SECONDS_MAX} s: {error}") from exception
                if not error.retriable():
                    raise
                time.sleep(RETRY_BACKOFF_MS / 1000)
            else:
                return
        raise Fault(
            f"the transaction coordinator kept answering 'try again' {COMMIT_RETRIES_MAX} times"
        )

    def _abort(self, cause: KafkaError) -> None:
        try:
            self._retrying(lambda: self._producer.abort_transaction(CALL_SECONDS_MAX))
        except KafkaException as exception:
            raise Fault(f"abort after {cause} failed: {exception.args[0]}") from exception


def _delivered(partition: int, end: list[int]) -> int:
    if not end:
        raise Fault(
            f"changelog partition {partition}: committed, but its last row was not delivered"
        )
    return end[0]
