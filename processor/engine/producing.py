"""How the messages of a transaction get into librdkafka: many in one call.

confluent-kafka's `produce_batch` takes a dict a message, makes a text of each of six field names
for each of them, and holds the interpreter meanwhile: 1.5 us of CPU a message, of which a decision
has four. The quick way calls the same function of librdkafka on the same producer, straight from
the rows: 0.3 us, and the interpreter is free. It was compiled for the layout of confluent-kafka's
producer object; the rule is that with a release whose layout was not looked at, or without the
compiled module, the plain way does the same.
"""

import ctypes
from importlib import import_module
from typing import Any, Final, Protocol

import confluent_kafka
from confluent_kafka import KafkaError, Producer

from processor.engine.faults import Fault
from processor.engine.ports import Message
from processor.engine.rows import Changes

# Releases whose producer object begins with librdkafka's handle, by a look at confluent_kafka.h.
LAYOUT_KNOWN: Final = frozenset({"2.16.0", "2.16.1"})
ANY_PARTITION: Final = -1  # RD_KAFKA_PARTITION_UA: by the key.


class Batches(Protocol):
    """Queues batches of messages on a producer, for the transaction that is open.

    Each returns the number of messages that were refused and the error code of the first of them.
    """

    def queue(self, topic: str, partition: int, messages: list[Message]) -> tuple[int, int]:
        """Queue (key, value) pairs."""
        ...

    def queue_rows(
        self, topic: str, partition: int, rows: Changes, local_kinds: bytes, omitted: bytes
    ) -> tuple[int, int]:
        """Queue rows in their order, but for local kinds and for the key object `omitted`."""
        ...


class PlainBatches:
    """By confluent-kafka's own `produce_batch`."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    def queue(self, topic: str, partition: int, messages: list[Message]) -> tuple[int, int]:
        """Queue (key, value) pairs."""
        if not messages:
            return 0, 0
        wanted: list[dict[str, Any]] = [{"key": key, "value": value} for key, value in messages]
        queued = self._producer.produce_batch(topic, wanted, partition)
        errors = [message["_error"].code() for message in wanted if "_error" in message]
        return len(wanted) - queued, errors[0] if errors else 0

    def queue_rows(
        self, topic: str, partition: int, rows: Changes, local_kinds: bytes, omitted: bytes
    ) -> tuple[int, int]:
        """Queue rows in their order, but for local kinds and for the key object `omitted`."""
        kept: list[Message] = [
            (key, value)
            for key, value in rows.items()
            if key is not omitted and key[0] not in local_kinds
        ]
        return self.queue(topic, partition, kept)


def batches_of(producer: Producer) -> Batches:
    """The quickest way there is to queue messages on this producer."""
    if confluent_kafka.__version__ not in LAYOUT_KNOWN:
        return PlainBatches(producer)
    try:
        quick = import_module("processor.engine._producing")
        # Found among the libraries that the extension was linked with: this very librdkafka.
        library = ctypes.CDLL(confluent_kafka.cimpl.__file__)
        found = [
            ctypes.cast(function, ctypes.c_void_p).value
            for function in (
                library.rd_kafka_produce_batch,
                library.rd_kafka_topic_new,
                library.rd_kafka_topic_destroy,
            )
        ]
    except (ImportError, OSError, AttributeError):
        return PlainBatches(producer)
    batches: Batches = quick.QuickBatches(producer, *found)
    return batches


def check(topic: str, outcome: tuple[int, int]) -> None:
    """Take in what was refused.

    Raises:
        Fault: something was; it would be missing from the transaction.

    """
    refused, code = outcome
    if refused:
        raise Fault(f"{refused} messages for {topic} refused: {KafkaError(code)}")
