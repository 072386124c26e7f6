"""Framed bytes to struct and back: Confluent's frame (0, schema id), then an Avro body.

The rule: whatever the bytes, decoding ends with a struct or with `Undecodable` and its code; never
with another exception, never with memory out of proportion to the bytes. A record of our own
schema is read directly; one of another version is first translated to ours (`schemas.avro`).
Whether the values make sense is not asked here: that is the domain's to answer.
"""

from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from schemas import avro, quick, reading, writing
from schemas.codes import Code
from schemas.limits import (
    DEAD_LETTER_KEY_BYTES_MAX,
    DEAD_LETTER_REASON_LENGTH_MAX,
    DEAD_LETTER_VALUE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    RECORD_BYTES_MAX,
)
from schemas.messages import (
    DeadLetter,
    InventoryEvent,
    InventoryTransaction,
    ReservationRequest,
    ReservationResult,
)
from schemas.registry import SchemaSource, UnavailableSchemaError, UnknownSchemaError

FRAME_BYTES: Final = 5
_MAGIC: Final = 0
_TRANSLATIONS_MAX: Final = 256  # Foreign schema ids remembered per record: versions of one record.

T = TypeVar("T")
Translate = Callable[[bytes], bytes]


class Undecodable(Exception):
    """The bytes are no record of the expected kind.

    Attributes:
        code: one of the codes of a dead letter.
        reason: the same in words.
        may_pass: that may be otherwise later: the registry cannot be asked now.

    """

    def __init__(self, code: Code, reason: str, *, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.may_pass = may_pass


class _Kind(Generic[T]):
    """One record type on the wire: its name, frame, reader, writer, largest size."""

    __slots__ = (
        "bytes_max",
        "frame",
        "quick_read",
        "quick_write",
        "read",
        "record",
        "translations",
        "write",
    )

    def __init__(
        self,
        record: str,
        ids: SchemaSource,
        read: Callable[[bytes, int], tuple[T, int]],
        write: Callable[[bytearray, T], None],
        *,
        bytes_max: int,
        compiled: bool,
    ) -> None:
        self.record = record
        self.frame = bytes((_MAGIC,)) + ids.id_of(record).to_bytes(4, "big")
        self.read = read
        self.write = write
        twin = quick.compiled_twin if compiled else quick.no_twin
        self.quick_read: Callable[[bytes | None, bytes], T | None] = twin(read)
        self.quick_write: Callable[[T, bytes], bytes | None] = twin(write)
        self.bytes_max = bytes_max
        self.translations: dict[bytes, Translate | Undecodable] = {}


class Codec:
    """Reads and writes the five records. Not for use by two threads at once.

    Every `decode_*` raises `Undecodable` and nothing else; `None` is an empty record. Every
    `encode_*` raises TypeError or ValueError for a value that the schema does not hold.
    `compiled=False` leaves out the compiled twins (`schemas.quick`): the same answers, slower.
    """

    def __init__(self, ids: SchemaSource, *, compiled: bool = True) -> None:
        self._ids = ids
        self._request = _Kind(
            "ReservationRequest",
            ids,
            reading.read_request,
            writing.write_request,
            bytes_max=RECORD_BYTES_MAX,
            compiled=compiled,
        )
        self._transaction = _Kind(
            "InventoryTransaction",
            ids,
            reading.read_transaction,
            writing.write_transaction,
            bytes_max=RECORD_BYTES_MAX,
            compiled=compiled,
        )
        self._result = _Kind(
            "ReservationResult",
            ids,
            reading.read_result,
            writing.write_result,
            bytes_max=MESSAGE_BYTES_MAX,
            compiled=compiled,
        )
        self._event = _Kind(
            "InventoryEvent",
            ids,
            reading.read_event,
            writing.write_event,
            bytes_max=MESSAGE_BYTES_MAX,
            compiled=compiled,
        )
        self._dead_letter = _Kind(
            "DeadLetter",
            ids,
            reading.read_dead_letter,
            writing.write_dead_letter,
            bytes_max=MESSAGE_BYTES_MAX,
            compiled=compiled,
        )
        # The short way (`processor.inventory.plain`) has these two and the frames they need.
        self.read_plain = quick.plain_reader(compiled=compiled)
        self.write_plain = quick.plain_writer()
        self.request_frame = self._request.frame
        self.result_frame = self._result.frame
        self._frames = {ids.id_of(record): record for record in avro.RECORDS}

    def decode_request(self, value: bytes | None) -> ReservationRequest:
        """Value of a record of reservation-requests."""
        return self._decode(value, self._request)

    def decode_transaction(self, value: bytes | None) -> InventoryTransaction:
        """Value of a record of inventory-transactions."""
        return self._decode(value, self._transaction)

    def decode_result(self, value: bytes | None) -> ReservationResult:
        """Value of a record of reservation-results."""
        return self._decode(value, self._result)

    def decode_event(self, value: bytes | None) -> InventoryEvent:
        """Value of a record of inventory-events."""
        return self._decode(value, self._event)

    def decode_dead_letter(self, value: bytes | None) -> DeadLetter:
        """Value of a record of dead-letters."""
        return self._decode(value, self._dead_letter)

    def encode_request(self, request: ReservationRequest) -> bytes:
        """Value for reservation-requests."""
        return _encode(request, self._request)

    def encode_transaction(self, transaction: InventoryTransaction) -> bytes:
        """Value for inventory-transactions."""
        return _encode(transaction, self._transaction)

    def encode_result(self, result: ReservationResult) -> bytes:
        """Value for reservation-results."""
        return _encode(result, self._result)

    def encode_event(self, event: InventoryEvent) -> bytes:
        """Value for inventory-events."""
        return _encode(event, self._event)

    def encode_dead_letter(self, letter: DeadLetter) -> bytes:
        """Value for dead-letters.

        A key or value beyond its limit (a record can unpack to far more than the broker's limit,
        which counts compressed bytes) is cut, and the reason says so: a letter that cannot be
        written would stop the partition.
        """
        return _encode(_cut(letter), self._dead_letter)

    def _decode(self, value: bytes | None, kind: _Kind[T]) -> T:
        found = kind.quick_read(value, kind.frame)
        if found is not None:
            return found
        if value is None or not value.startswith(kind.frame) or len(value) > kind.bytes_max:
            value = self._translated(value, kind)
        try:
            record, end = kind.read(value, FRAME_BYTES)
        except (ValueError, IndexError) as error:
            reason = f"not a {kind.record}: {_words(error)}"
            raise Undecodable(Code.RECORD_NOT_AVRO, reason) from error
        if end != len(value):
            fault = "bytes after the record" if end < len(value) else "it is cut short"
            raise Undecodable(Code.RECORD_NOT_AVRO, f"not a {kind.record}: {fault}")
        return record

    def _translated(self, value: bytes | None, kind: _Kind[T]) -> bytes:
        """The record in our own schema, when another version of it wrote it."""
        if not value:
            raise Undecodable(Code.RECORD_EMPTY, "it has no value")
        if len(value) > kind.bytes_max:
            reason = f"{len(value)} bytes; at most {kind.bytes_max} are allowed"
            raise Undecodable(Code.RECORD_TOO_LARGE, reason)
        if len(value) < FRAME_BYTES or value[0] != _MAGIC:
            raise Undecodable(Code.RECORD_NOT_AVRO, "it does not begin with 0 and a schema id")
        frame = value[:FRAME_BYTES]
        translate = kind.translations.get(frame) or self._find_translation(frame, kind)
        if isinstance(translate, Undecodable):
            raise Undecodable(translate.code, translate.reason, may_pass=translate.may_pass)
        try:
            return kind.frame + translate(value[FRAME_BYTES:])
        except (
            Exception
        ) as error:  # fastavro over foreign bytes: there is no list of what it raises
            reason = f"not a {kind.record} of that schema: {_words(error)}"
            raise Undecodable(Code.RECORD_NOT_AVRO, reason) from error

    def _find_translation(self, frame: bytes, kind: _Kind[T]) -> Translate | Undecodable:
        schema_id = int.from_bytes(frame[1:], "big")
        ours = self._frames.get(schema_id)
        if ours is not None:
            reason = f"schema {schema_id} is {ours}, not {kind.record}"
            return Undecodable(Code.SCHEMA_UNEXPECTED, reason)
        try:
            writer = self._ids.schema_of(schema_id)
        except UnknownSchemaError as error:
            reason = f"schema {schema_id}: {error}"
            may_pass = isinstance(error, UnavailableSchemaError)
            return Undecodable(Code.SCHEMA_UNKNOWN, reason, may_pass=may_pass)
        found: Translate | Undecodable
        try:
            found = avro.translation(writer, kind.record)
        except ValueError as error:
            reason = f"schema {schema_id} is not usable: {_words(error)}"
            found = Undecodable(Code.SCHEMA_UNEXPECTED, reason)
        if len(kind.translations) >= _TRANSLATIONS_MAX:
            kind.translations.clear()
        kind.translations[frame] = found
        return found


def _encode(record: T, kind: _Kind[T]) -> bytes:
    written = kind.quick_write(record, kind.frame)
    if written is not None:
        return written
    out = bytearray(kind.frame)
    kind.write(out, record)
    return bytes(out)


def _words(error: Exception) -> str:
    """An error for a person, bounded: it may quote the input."""
    return f"{type(error).__name__}: {error}"[:DEAD_LETTER_REASON_LENGTH_MAX]


def _cut(letter: DeadLetter) -> DeadLetter:
    key, value, reason = letter.key, letter.value, letter.reason[:DEAD_LETTER_REASON_LENGTH_MAX]
    if key is not None and len(key) > DEAD_LETTER_KEY_BYTES_MAX:
        reason += f" (first {DEAD_LETTER_KEY_BYTES_MAX} of the key's {len(key)} bytes)"
        key = key[:DEAD_LETTER_KEY_BYTES_MAX]
    if value is not None and len(value) > DEAD_LETTER_VALUE_BYTES_MAX:
        reason += f" (first {DEAD_LETTER_VALUE_BYTES_MAX} of the value's {len(value)} bytes)"
        value = value[:DEAD_LETTER_VALUE_BYTES_MAX]
    return msgspec.structs.replace(letter, key=key, value=value, reason=reason)
