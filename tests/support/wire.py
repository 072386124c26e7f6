"""Records as plain dicts, read and written straight from the .avsc files: the checker's own eyes.

It shares no code with `schemas.codec`, which the engine reads and writes with, so that a fault
there cannot hide here.
Slow and plain: fastavro without a decimal type, quantities as unscaled integers (10^-6).
"""

import struct
import sys
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import fastavro
import msgspec

from schemas.codes import Code

SCHEMAS: Final = Path(__file__).resolve().parents[2] / "schemas"
FRAME: Final = struct.Struct(">bI")
NAMES: Final = (
    "ReservationRequest",
    "ReservationResult",
    "InventoryTransaction",
    "InventoryEvent",
    "DeadLetter",
)

Fields = dict[str, Any]


class SourceRecord(NamedTuple):
    """One record as it lies in a topic; `timestamp` is broker append time in milliseconds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class UnreadableError(Exception):
    """The bytes are not one framed record of the expected schema; `code` says in what way."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def _without_decimals(schema: Any) -> Any:
    """Copy of a schema with every decimal as its plain bytes."""
    if isinstance(schema, list):
        return [_without_decimals(branch) for branch in schema]
    if isinstance(schema, dict):
        return {
            name: _without_decimals(part)
            for name, part in schema.items()
            if name not in {"logicalType", "precision", "scale"}
        }
    return schema


def _with_defaults_as_bytes(schema: Any) -> Any:
    """Copy of a parsed schema whose defaults for bytes are bytes, as its writer wants them."""
    if isinstance(schema, list):
        return [_with_defaults_as_bytes(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _with_defaults_as_bytes(part) for name, part in schema.items()}
    if plain.get("type") in ("bytes", {"type": "bytes"}) and isinstance(plain.get("default"), str):
        plain["default"] = plain["default"].encode("latin-1")
    return plain


def _quantity_fields(schema: Any) -> frozenset[str]:
    """Names of the fields that hold a decimal, anywhere in a schema."""
    found: set[str] = set()
    if isinstance(schema, list):
        for branch in schema:
            found |= _quantity_fields(branch)
    elif isinstance(schema, dict):
        for field in schema.get("fields", ()):
            if "decimal" in str(field["type"]) and "fields" not in str(field["type"]):
                found.add(field["name"])
        for part in schema.values():
            found |= _quantity_fields(part)
    return frozenset(found)


def _load(name: str) -> Any:
    return msgspec.json.decode((SCHEMAS / f"{name}.avsc").read_bytes())


_RAW: Final = {name: _load(name) for name in NAMES}
_PARSED: Final = {
    name: _with_defaults_as_bytes(
        fastavro.parse_schema(_without_decimals(schema), named_schemas={})
    )
    for name, schema in _RAW.items()
}
_QUANTITIES: Final = {name: _quantity_fields(schema) for name, schema in _RAW.items()}


def _to_integers(value: Any, quantities: frozenset[str]) -> Any:
    """Replace the bytes of every quantity with its unscaled integer."""
    if isinstance(value, list):
        return [_to_integers(part, quantities) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: int.from_bytes(part, "big", signed=True)
        if name in quantities and isinstance(part, bytes)
        else _to_integers(part, quantities)
        for name, part in value.items()
    }


def _to_bytes(value: Any, quantities: frozenset[str]) -> Any:
    """Replace every quantity with its shortest two's complement bytes."""
    if isinstance(value, list | tuple):
        return [_to_bytes(part, quantities) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        name: part.to_bytes(part.bit_length() // 8 + 1, "big", signed=True)
        if name in quantities and isinstance(part, int)
        else _to_bytes(part, quantities)
        for name, part in value.items()
    }


class Wire:
    """Framed Avro to dicts and back; `ids` names the record of every schema id in use."""

    def __init__(self, ids: Mapping[int, str]) -> None:
        self._name_of = dict(ids)
        self._id_of = {name: number for number, name in ids.items()}

    def read(self, value: bytes | None, name: str, bytes_max: int = sys.maxsize) -> Fields:
        """Fields of a framed record that must be of record `name`.

        Raises:
            UnreadableError: it is not, with the reason.

        """
        if not value:
            raise UnreadableError(Code.RECORD_EMPTY, "no value")
        if len(value) > bytes_max:
            raise UnreadableError(Code.RECORD_TOO_LARGE, f"{len(value)} bytes")
        if len(value) < FRAME.size or value[0] != 0:
            raise UnreadableError(Code.RECORD_NOT_AVRO, "no frame")
        _, number = FRAME.unpack_from(value)
        known = self._name_of.get(number)
        if known != name:
            code = Code.SCHEMA_UNEXPECTED if known else Code.SCHEMA_UNKNOWN
            raise UnreadableError(code, f"schema id {number} is {known}, not {name}")
        stream = BytesIO(value)
        stream.seek(FRAME.size)
        try:
            fields = fastavro.schemaless_reader(stream, _PARSED[name], None)
        except Exception as error:
            raise UnreadableError(Code.RECORD_NOT_AVRO, f"not a {name}: {error!r}") from error
        if stream.tell() != len(value):
            raise UnreadableError(Code.RECORD_NOT_AVRO, "bytes after the record")
        return cast("Fields", _to_integers(fields, _QUANTITIES[name]))

    def write(self, fields: Fields, name: str) -> bytes:
        """Framed bytes of a record."""
        stream = BytesIO()
        stream.write(FRAME.pack(0, self._id_of[name]))
        fastavro.schemaless_writer(stream, _PARSED[name], _to_bytes(fields, _QUANTITIES[name]))
        return stream.getvalue()
