"""One Kafka transaction for what is told on and for the position up to which it was told.

The rule: records, dead letters and the position become visible together or not at all, so a
connector that is killed at any moment goes on exactly where its records end. Two connectors of one
name cannot both write: the later one fences the earlier (transactional.id). Where the outcome of a
commit cannot be known, the process ends, and its next start reads the position.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)

from producers.channel.key_rule import key_rule_in_force
from producers.channel.outcomes import ChannelError
from producers.channel.requests import KeyRule, key_by_location
from producers.scm import metrics
from producers.scm.settings import ConnectorSettings
from producers.scm.translate import Refused, apart, key_of
from schemas.access import refusal
from schemas.codec import Codec, Undecodable
from schemas.codes import Code
from schemas.limits import DEAD_LETTER_REASON_LENGTH_MAX, MESSAGE_BYTES_MAX, RECORD_BYTES_MAX
from schemas.messages import DeadLetter, InventoryTransaction
from schemas.partitioning import partition_of
from schemas.topics import DEAD_LETTERS, POSITIONS, TRANSACTIONS

START_WITHIN_S: Final = 60.0  # Longer than a transaction that a killed connector left open.
CALL_S: Final = 10.0
COMMIT_WITHIN_S: Final = 60.0
TRANSACTION_TIMEOUT_MS: Final = 15_000
ATTEMPTS_MAX: Final = 8  # Aborted transactions in a row before it counts as a fault.
PAUSE_S: Final = 0.1
POSITION_WITHIN_S: Final = 90.0

log = structlog.get_logger()


class Fault(Exception):
    """The connector must not go on: fenced, or the outcome of a commit is not known."""


class _Aborted(Exception):
    """The transaction was aborted: nothing of it is visible."""


class Outgoing(NamedTuple):
    """One record to write."""

    topic: str
    partition: int
    key: bytes
    value: bytes


class Publisher:
    """Writes batches of one connector; its methods block, and one thread at a time calls them."""

    def __init__(self, settings: ConnectorSettings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec
        self._passed = 0
        self._partitions = 0
        self._key_rule: KeyRule = key_by_location
        self._producer = Producer(
            {
                **settings.kafka.librdkafka(),
                "transactional.id": f"holdfast-scm-{settings.name}",
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "acks": "all",
                "partitioner": "murmur2_random",  # As Java; every record names its partition.
                # With librdkafka's default of 100 ms every small transaction takes 100 ms.
                "retry.backoff.ms": 2,
                "retry.backoff.max.ms": 100,
                "linger.ms": 1,
                "message.max.bytes": MESSAGE_BYTES_MAX,
                "error_cb": lambda _error: None,  # Errors come with the call that they concern.
                "log_level": 0,
            }
        )

    def start(self) -> None:
        """Fence an earlier connector of this name, abort what it left open, look at the topics.

        Raises:
            Fault: no broker, no topics, or no answer in time.

        """
        try:
            known = self._producer.list_topics(timeout=CALL_S).topics
            missing = [
                name for name in (TRANSACTIONS, DEAD_LETTERS, POSITIONS) if name not in known
            ]
            if missing:
                raise Fault(f"no topic {', '.join(missing)}: run `holdfast topics create`")
            self._partitions = len(known[TRANSACTIONS].partitions)
            self._key_rule = key_rule_in_force(self._settings.kafka)
            self._retrying(lambda: self._producer.init_transactions(CALL_S), START_WITHIN_S)
        except KafkaException as error:
            why = refusal(self._settings.kafka.librdkafka()) or error.args[0].str()
            raise Fault(f"Kafka does not answer: {why}") from error
        except ChannelError as error:
            raise Fault(str(error)) from error

    def tell(self, told: InventoryTransaction) -> tuple[Outgoing, ...]:
        """The record of a transaction; several where it moved to another partition key.

        Raises:
            Refused: it does not fit into a record.

        """
        try:
            parts = apart(told, self._key_rule)
        except ValueError as error:
            raise Refused(Code.ROW_INVALID, f"cannot be written: {error}") from error
        return tuple(self._record(part) for part in parts)

    def _record(self, told: InventoryTransaction) -> Outgoing:
        try:
            key = key_of(told, self._key_rule)
            value = self._codec.encode_transaction(told)
        except (Undecodable, ValueError, OverflowError) as error:
            raise Refused(Code.ROW_INVALID, f"cannot be written: {error}") from error
        if len(value) > RECORD_BYTES_MAX:
            raise Refused(Code.ROW_INVALID, f"{len(value)} bytes exceed {RECORD_BYTES_MAX}")
        return Outgoing(TRANSACTIONS, partition_of(key, self._partitions), key, value)

    def bury(self, refused: Refused, row: bytes, place: int) -> Outgoing:
        """The dead letter of a row: the row as it came, and its place in the source."""
        letter = DeadLetter(
            code=int(refused.code),
            reason=refused.reason[:DEAD_LETTER_REASON_LENGTH_MAX],
            topic=f"scm:{self._settings.name}",
            partition=0,
            offset=place,
            timestamp_ms=int(time.time() * 1000),
            key=None,
            value=row,
        )
        metrics.REFUSED.labels(refused.code.name).inc()
        name = self._settings.name.encode()
        return Outgoing(DEAD_LETTERS, 0, name, self._codec.encode_dead_letter(letter))

    def position(self, part: str = "") -> bytes | None:
        """The last committed position; `part` names one of several of this connector.

        Call after `start`: only then nobody else of this name can still commit one.

        Raises:
            Fault: it cannot be read.

        """
        try:
            return read_position(self._settings, self._key(part))
        except KafkaException as error:
            raise Fault(f"the position cannot be read: {error.args[0].str()}") from error

    def commit(self, records: Sequence[Outgoing], positions: Mapping[str, bytes]) -> None:
        """Make the records and the positions visible, both or neither.

        Raises:
            Fault: fenced by another connector of this name, or the outcome is not known.

        """
        for attempt in range(ATTEMPTS_MAX):
            try:
                self._commit(records, positions)
            except _Aborted as aborted:
                metrics.ABORTED.inc()
                log.warning("aborted, sent again", connector=self._settings.name, why=str(aborted))
                time.sleep(PAUSE_S * 2**attempt)
            else:
                metrics.COMMITS.inc()
                return
        raise Fault(f"{ATTEMPTS_MAX} transactions in a row were aborted")

    def reach(self, step: str) -> None:
        """End this process, as kill -9 does, where a fault test wants it."""
        if step != self._settings.crash_at:
            return
        if self._passed >= self._settings.crash_after:
            os.kill(os.getpid(), signal.SIGKILL)
        self._passed += 1

    def _key(self, part: str) -> bytes:
        return f"{self._settings.name}|{part}".encode() if part else self._settings.name.encode()

    def _commit(self, records: Sequence[Outgoing], positions: Mapping[str, bytes]) -> None:
        producer = self._producer
        try:
            producer.begin_transaction()
            for record in records:
                self._produce(record)
            self.reach("produced")
            for part, position in positions.items():
                self._produce(Outgoing(POSITIONS, 0, self._key(part), position))
            producer.flush(CALL_S)
            self.reach("flushed")
            self._retrying(lambda: producer.commit_transaction(CALL_S), COMMIT_WITHIN_S)
            self.reach("committed")
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            if cause.fatal() or not cause.txn_requires_abort():
                raise Fault(_words(cause)) from error
            self._abort(cause)
            raise _Aborted(cause.str()) from error

    def _produce(self, record: Outgoing) -> None:
        topic, partition, key, value = record
        try:
            self._producer.produce(topic, value=value, key=key, partition=partition)
        except BufferError:
            self._producer.flush(CALL_S)
            self._producer.produce(topic, value=value, key=key, partition=partition)

    def _abort(self, cause: KafkaError) -> None:
        try:
            self._retrying(lambda: self._producer.abort_transaction(CALL_S), COMMIT_WITHIN_S)
        except KafkaException as error:
            raise Fault(f"abort after {cause.str()} failed: {error.args[0].str()}") from error

    def _retrying(self, call: Callable[[], Any], within_s: float) -> None:
        until = time.monotonic() + within_s
        while True:
            try:
                call()
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > until:
                    raise
                time.sleep(0.005)
            else:
                return


def _words(error: KafkaError) -> str:
    if error.code() in {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH}:  # noqa: SLF001
        return "another connector of this name has started; one name, one connector"
    return f"the outcome of a commit is not known: {error.str()}"


def read_position(settings: ConnectorSettings, key: bytes) -> bytes | None:
    """Last committed value of a key of the positions topic.

    Read up to the end that the topic has now: another connector's open transaction may hold back
    ours for a while, and what lies behind it must not be missed.

    Raises:
        Fault: the end was not reached in time.
        KafkaException: the broker does not answer.

    """
    consumer = Consumer(
        {
            **settings.kafka.librdkafka(),
            "group.id": "holdfast-scm",  # The library asks for one; none is joined.
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,  # The end is told after a fetch that found nothing.
            "error_cb": lambda _error: None,
            "log_level": 0,
        }
    )
    found: bytes | None = None
    until = time.monotonic() + POSITION_WITHIN_S
    try:
        place = TopicPartition(POSITIONS, 0, OFFSET_BEGINNING)
        end = consumer.get_watermark_offsets(place, timeout=CALL_S)[1]
        consumer.assign([place])
        while time.monotonic() < until:
            message = consumer.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is None:
                found = message.value() if message.key() == key else found
            elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name has none
                raise KafkaException(error)
            elif message.offset() >= end:
                return found
    finally:
        consumer.close()
    raise Fault(f"{POSITIONS} could not be read to its end within {POSITION_WITHIN_S:g} s")
