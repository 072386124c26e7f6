"""The .avsc files, and what it takes to read a record that was written with another version.

A foreign writer schema comes from the registry, so from another program: it is looked at before it
is used. Refused are another record, a quantity of another scale (fastavro would read its digits as
they are), and arrays of nothing, of which a few bytes could announce billions.
"""

import functools
from collections.abc import Callable
from importlib import resources
from io import BytesIO
from typing import Any, Final

import fastavro
import msgspec

RECORDS: Final = (
    "ReservationRequest",
    "ReservationResult",
    "InventoryTransaction",
    "InventoryEvent",
    "DeadLetter",
)
NAMESPACE: Final = "holdfast"

Schema = Any  # Parsed JSON of an Avro schema: a name, a list of branches, or an object.


@functools.cache
def schema_json(record: str) -> str:
    """The schema of a record as it is registered: compact JSON, always the same text."""
    text = resources.files("schemas").joinpath(f"{record}.avsc").read_bytes()
    return msgspec.json.encode(msgspec.json.decode(text)).decode()


def schema(record: str) -> Schema:
    """The schema of a record as parsed JSON, fresh at every call."""
    return msgspec.json.decode(schema_json(record))


def without_decimals(part: Schema) -> Schema:
    """Copy of a schema with every decimal as its plain bytes, the unscaled integer."""
    if isinstance(part, list):
        return [without_decimals(branch) for branch in part]
    if not isinstance(part, dict):
        return part
    return {
        name: without_decimals(value)
        for name, value in part.items()
        if name not in {"logicalType", "precision", "scale"}
    }


def translation(writer: Schema, record: str) -> Callable[[bytes], bytes]:
    """Function from a body written with `writer` to the same record's body in our schema.

    The function raises whatever fastavro raises over bytes that do not decode, and ValueError when
    bytes are left over.

    Raises:
        ValueError: `writer` is another record, or cannot be resolved to ours.

    """
    try:
        return _translation(writer, schema(record), record)
    except Exception as error:  # A foreign schema: there is no list of what fastavro raises over it
        raise ValueError(f"{error}") from error


def _translation(writer: Schema, reader: Schema, record: str) -> Callable[[bytes], bytes]:
    if not isinstance(writer, dict) or _full_name(writer) != _full_name(reader):
        raise ValueError(f"it is no {NAMESPACE}.{record}")
    _refuse_unsafe(writer)
    _refuse_other_scale(writer, reader)
    theirs = fastavro.parse_schema(without_decimals(writer), named_schemas={})
    ours = _bytes_defaults(fastavro.parse_schema(without_decimals(reader), named_schemas={}))

    def translate(body: bytes) -> bytes:
        stream = BytesIO(body)
        fields = fastavro.schemaless_reader(stream, theirs, ours)
        if stream.tell() != len(body):
            raise ValueError(f"{len(body) - stream.tell()} bytes after the record")
        out = BytesIO()
        fastavro.schemaless_writer(out, ours, fields)
        return out.getvalue()

    return translate


def _bytes_defaults(reader: Schema) -> Schema:
    """Turn the defaults of bytes, text in JSON, into bytes: fastavro hands them out as they are.

    Done to the parsed schema, since parsing takes only text for such a default.
    """
    for field in reader["fields"]:
        kind = field["type"]
        is_bytes = kind == "bytes" or (isinstance(kind, dict) and kind.get("type") == "bytes")
        if is_bytes and isinstance(field.get("default"), str):
            field["default"] = field["default"].encode("latin-1")
        if isinstance(kind, dict) and kind.get("type") == "array":
            kind = kind["items"]
        kind = _not_null(kind)
        if isinstance(kind, dict) and "fields" in kind:
            _bytes_defaults(kind)
    return reader


def _full_name(part: dict[str, Any]) -> str:
    name = str(part.get("name", ""))
    return name if "." in name else f"{part.get('namespace', '')}.{name}"


def _refuse_unsafe(part: Schema) -> None:
    if isinstance(part, list):
        for branch in part:
            _refuse_unsafe(branch)
        return
    if not isinstance(part, dict):
        return
    if part.get("type") == "array" and _may_be_empty(part["items"]):
        raise ValueError("it has an array whose items may take no bytes")
    for field in part.get("fields", ()):
        _refuse_unsafe(field["type"])
    for inner in ("items", "values", "type"):
        _refuse_unsafe(part.get(inner))


def _may_be_empty(part: Schema) -> bool:
    """Whether a value of this schema can be encoded in no bytes. A named reference counts so."""
    if isinstance(part, list):
        return False
    kind = part.get("type") if isinstance(part, dict) else part
    if kind == "record":
        return all(_may_be_empty(field["type"]) for field in part["fields"])
    if kind == "fixed":
        return bool(part["size"] == 0)
    if isinstance(kind, dict | list):
        return _may_be_empty(kind)
    return kind not in {
        *("boolean", "int", "long", "float", "double", "bytes", "string"),
        *("enum", "array", "map"),
    }


def _refuse_other_scale(writer: Schema, reader: Schema, path: str = "") -> None:
    """Refuse a writer whose decimals are not ours, field by field."""
    theirs, ours = _not_null(writer), _not_null(reader)
    if not isinstance(ours, dict):
        return
    if ours.get("logicalType") == "decimal":
        scale = theirs.get("scale", 0) if isinstance(theirs, dict) else None
        if scale != ours["scale"] or theirs.get("logicalType") != "decimal":
            raise ValueError(f"{path} is no decimal of scale {ours['scale']}")
    if not isinstance(theirs, dict):
        return
    fields = {field["name"]: field["type"] for field in theirs.get("fields", ())}
    for field in ours.get("fields", ()):
        name = field["name"]
        if name in fields:
            _refuse_other_scale(fields[name], field["type"], f"{path}.{name}".strip("."))
    for inner in ("items", "values"):
        if inner in ours and inner in theirs:
            _refuse_other_scale(theirs[inner], ours[inner], path)


def _not_null(part: Schema) -> Schema:
    """The one branch of a union with null that is not null."""
    if not isinstance(part, list):
        return part
    branches = [branch for branch in part if branch != "null"]
    return branches[0] if len(branches) == 1 else part
