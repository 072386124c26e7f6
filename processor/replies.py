"""Reply topics: a request may name where it wants its result besides reservation-results.

The conventions are those of the ecosystem (Spring's ReplyingKafkaTemplate): `kafka_replyTopic`,
`kafka_replyPartition` (an integer of four bytes, big-endian) and `kafka_correlationId`, which comes
back as it was. The rule: only topics of the operator's list are written to, only partitions they
had when the worker started, only what is sure to fit. Anything else is not an error of the request:
its result stands on reservation-results in any case, and a metric counts what was not copied.
"""

from collections.abc import Mapping
from typing import Final

from processor.engine import metrics
from processor.engine.ports import Outputs
from processor.engine.records import Headers
from schemas.limits import CORRELATION_BYTES_MAX, REPLY_BYTES_MAX
from schemas.partitioning import partition_of

REPLY_TOPIC: Final = "kafka_replyTopic"
REPLY_PARTITION: Final = "kafka_replyPartition"
CORRELATION_ID: Final = "kafka_correlationId"


class Replies:
    """Copies results to the topics that may be asked for: name to number of partitions."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = dict(partitions)

    def copy(self, headers: Headers, key: bytes, value: bytes, outputs: Outputs) -> None:
        """Address a copy of the result, if the record's headers ask for one that is allowed."""
        said = dict(headers)
        wanted = said.get(REPLY_TOPIC)
        if wanted is None:
            return
        topic = wanted.decode("utf-8", "replace")
        partition = said.get(REPLY_PARTITION)
        correlation = said.get(CORRELATION_ID)
        refused = self._refusal(topic, partition, correlation, value)
        if refused:
            metrics.REPLIES_REFUSED.labels(refused).inc()
            return
        number = (
            partition_of(key, self._partitions[topic])
            if partition is None
            else int.from_bytes(partition, "big")
        )
        back = [] if correlation is None else [(CORRELATION_ID, correlation)]
        outputs.addressed.append((topic, number, key, value, back))

    def _refusal(
        self, topic: str, partition: bytes | None, correlation: bytes | None, value: bytes
    ) -> str:
        """Why no copy is made; empty if one is."""
        partitions = self._partitions.get(topic)
        if partitions is None:
            return "topic"
        if partition is not None and (
            len(partition) != 4 or int.from_bytes(partition, "big") >= partitions
        ):
            return "partition"
        if correlation is not None and len(correlation) > CORRELATION_BYTES_MAX:
            return "correlation"
        return "size" if len(value) > REPLY_BYTES_MAX else ""
