"""Requests and responses of a transactional producer, as they lie on the wire.

aiokafka has these requests in versions that know neither the group's generation (KIP-447) nor the
transactions that protect themselves (KIP-890); it has the types they are made of. Laid out here by
Kafka's own message definitions (`clients/src/main/resources/common/message`), in the versions whose
fields we fill in, all of them flexible (KIP-482). The rule: layouts only; what a request means and
what an error code calls for is `processor.engine.transaction`'s.
"""

from collections.abc import Sized
from io import BytesIO
from typing import Any, Final

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
    UnsignedVarInt32,
)

NO_TAGS: Final[dict[int, bytes]] = {}

_TEXT: Final = CompactString("utf-8")
_TAGS: Final = ("tags", TaggedFields)
_THROTTLE: Final = ("throttle_time_ms", Int32)
_ERROR: Final = ("error_code", Int16)
_PRODUCER: Final = (("producer_id", Int64), ("producer_epoch", Int16))
_BY_PARTITION: Final = CompactArray(("partition", Int32), _ERROR, _TAGS)
_BY_TOPIC: Final = CompactArray(("topic", _TEXT), ("partitions", _BY_PARTITION), _TAGS)


def _length(found: Sized) -> bytes:
    """Of an array, or of bytes, that are there: one more than it is."""
    return bytes(UnsignedVarInt32.encode(len(found) + 1))


class InitProducerIdResponse(Response):
    """Producer id and epoch to write with."""

    API_KEY = 22
    API_VERSION = 4
    SCHEMA = Schema(_THROTTLE, _ERROR, *_PRODUCER, _TAGS)


class InitProducerId(RequestStruct):
    """Fence who used this transactional id before; with id and epoch, only if they are the last."""

    API_KEY = 22
    API_VERSION = 4
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = InitProducerIdResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT), ("transaction_timeout_ms", Int32), *_PRODUCER, _TAGS
    )


class AddPartitionsToTxnResponse(Response):
    """One error code a partition."""

    API_KEY = 24
    API_VERSION = 3
    SCHEMA = Schema(_THROTTLE, ("topics", _BY_TOPIC), _TAGS)


class AddPartitionsToTxn(RequestStruct):
    """Partitions that the transaction will write to; implied by `Produce` from KIP-890 on."""

    API_KEY = 24
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = AddPartitionsToTxnResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        *_PRODUCER,
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
        _TAGS,
    )


class AddOffsetsToTxnResponse(Response):
    """An error code."""

    API_KEY = 25
    API_VERSION = 3
    SCHEMA = Schema(_THROTTLE, _ERROR, _TAGS)


class AddOffsetsToTxn(RequestStruct):
    """The group whose offsets the transaction carries; implied by the commit from KIP-890 on."""

    API_KEY = 25
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = AddOffsetsToTxnResponse
    SCHEMA = Schema(("transactional_id", _TEXT), *_PRODUCER, ("group_id", _TEXT), _TAGS)


class ProduceResponse(Response):
    """Error code and offset of the first record, a partition."""

    API_KEY = 0
    API_VERSION = 9
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        _ERROR,
                        ("base_offset", Int64),
                        ("log_append_time_ms", Int64),
                        ("log_start_offset", Int64),
                        (
                            "record_errors",
                            CompactArray(("batch_index", Int32), ("message", _TEXT), _TAGS),
                        ),
                        ("error_message", _TEXT),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _THROTTLE,
        _TAGS,
    )


class Produce(RequestStruct):
    """Record batches, one a partition."""

    API_KEY = 0
    API_VERSION = 9
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ProduceResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("acks", Int16),
        ("timeout_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(("partition", Int32), ("records", CompactBytes), _TAGS),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )

    def encode(self) -> bytes:
        """As the schema lays it out, but in one go.

        Field in field, all records were copied six times: 0.4 us a decision, with the interpreter
        held.
        """
        fields = self.__dict__
        parts = [
            _TEXT.encode(fields["transactional_id"]),
            Int16.encode(fields["acks"]),
            Int32.encode(fields["timeout_ms"]),
            _length(fields["topics"]),
        ]
        for topic, partitions, tags in fields["topics"]:
            parts += _TEXT.encode(topic), _length(partitions)
            for number, records, tags_there in partitions:
                parts += Int32.encode(number), _length(records), records
                parts.append(TaggedFields.encode(tags_there))
            parts.append(TaggedFields.encode(tags))
        return b"".join((*parts, TaggedFields.encode(fields["tags"])))


class ProduceImplied(Produce):
    """Partitions that are not part of the transaction yet become so (KIP-890)."""

    API_VERSION = 12


class TxnOffsetCommitResponse(Response):
    """One error code a partition."""

    API_KEY = 28
    API_VERSION = 3
    SCHEMA = Schema(_THROTTLE, ("topics", _BY_TOPIC), _TAGS)


class TxnOffsetCommit(RequestStruct):
    """Offsets of the group, under the generation the records were fetched in (KIP-447)."""

    API_KEY = 28
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TxnOffsetCommitResponse
    SCHEMA = Schema(
        ("transactional_id", _TEXT),
        ("group_id", _TEXT),
        *_PRODUCER,
        ("generation", Int32),
        ("member_id", _TEXT),
        ("group_instance_id", _TEXT),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _TEXT),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    )


class TxnOffsetCommitImplied(TxnOffsetCommit):
    """The group becomes part of the transaction, if it is not yet (KIP-890)."""

    API_VERSION = 5


class EndTxnResponse(Response):
    """An error code."""

    API_KEY = 26
    API_VERSION = 3
    SCHEMA = Schema(_THROTTLE, _ERROR, _TAGS)


class EndTxn(RequestStruct):
    """Commit or abort."""

    API_KEY = 26
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = EndTxnResponse
    SCHEMA = Schema(("transactional_id", _TEXT), *_PRODUCER, ("committed", Boolean), _TAGS)


class EndTxnNextResponse(Response):
    """An error code, and who the producer is in the next transaction (KIP-890)."""

    API_KEY = 26
    API_VERSION = 5
    SCHEMA = Schema(_THROTTLE, _ERROR, *_PRODUCER, _TAGS)


class EndTxnNext(EndTxn):
    """Commit or abort; the producer's epoch goes up."""

    API_VERSION = 5
    RESPONSE_TYPE = EndTxnNextResponse


class ApiVersionsResponse(Response):
    """What the broker speaks, and in its tagged fields the features of the cluster (KIP-584)."""

    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        _ERROR,
        ("apis", CompactArray(("api", Int16), ("least", Int16), ("most", Int16), _TAGS)),
        _THROTTLE,
        _TAGS,
    )


class ApiVersions(RequestStruct):
    """Asks for them; the header of the response is never flexible (KIP-511)."""

    API_KEY = 18
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ApiVersionsResponse
    SCHEMA = Schema(("software", _TEXT), ("version", _TEXT), _TAGS)

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> Any:
        """Without tags."""
        return ResponseHeader_v0.decode(read_buffer)


_FINALIZED_FEATURES: Final = 2  # Tag of an ApiVersions response.
_FEATURES: Final = CompactArray(("name", _TEXT), ("most", Int16), ("least", Int16), _TAGS)


def finalized_features(tags: dict[int, bytes]) -> dict[str, int]:
    """Name to level of what the whole cluster has agreed on."""
    found = tags.get(_FINALIZED_FEATURES)
    if found is None:
        return {}
    features = _FEATURES.decode(BytesIO(found)) or []
    return {str(name): int(most) for name, most, *_ in features}


class Ask:
    """One request in the one version it is meant in, as aiokafka's client takes it."""

    def __init__(self, struct: RequestStruct) -> None:
        self._struct = struct

    def prepare(self, versions: dict[int, tuple[int, int]]) -> RequestStruct:
        """The request.

        Raises:
            IncompatibleBrokerVersion: the broker does not speak this version of it.

        """
        key, version = self._struct.API_KEY, self._struct.API_VERSION
        least, most = versions.get(key, (0, -1))
        if not least <= version <= most:
            raise IncompatibleBrokerVersion(
                f"{type(self._struct).__name__} version {version} is not spoken by the broker, "
                f"which speaks {least} to {most}"
            )
        return self._struct
