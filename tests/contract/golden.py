"""Golden bytes: what each version of a record looked like on the wire, recorded once.

`python -m tests.contract.golden` records the next version of every record whose schema is not the
last recorded one (documentation aside). A recorded file is never edited and never recorded again:
the topics hold such bytes for as long as they are kept.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas import avro
from schemas.codec import FRAME_BYTES, Codec, Undecodable
from schemas.codes import Code
from schemas.registry import FixedSchemaIds
from tests.contract import samples

FOLDER: Final = Path(avro.__file__).parent / "golden"


class Example(msgspec.Struct, frozen=True):
    """One record: its fields (bytes as hex after `hex:`) and its Avro body in hex."""

    fields: dict[str, Any]
    body: str


class Golden(msgspec.Struct, frozen=True):
    """One recorded version of a record."""

    record: str
    version: int
    schema: dict[str, Any]
    examples: list[Example]


def recorded(record: str) -> list[Golden]:
    """All recorded versions of a record, the oldest first."""
    found = [
        msgspec.json.decode(path.read_bytes(), type=Golden)
        for path in FOLDER.glob(f"{record}.*.json")
    ]
    return sorted(found, key=lambda golden: golden.version)


def undocumented(schema: Any) -> Any:
    """Copy of a schema without its documentation, which may change freely."""
    if isinstance(schema, list):
        return [undocumented(branch) for branch in schema]
    if isinstance(schema, dict):
        return {name: undocumented(part) for name, part in schema.items() if name != "doc"}
    return schema


def readable(value: Any) -> Any:
    """Fields as JSON can hold them."""
    if isinstance(value, bytes):
        return f"hex:{value.hex()}"
    if isinstance(value, dict):
        return {name: readable(part) for name, part in value.items()}
    if isinstance(value, list):
        return [readable(part) for part in value]
    return value


def body_of(record: str, struct: msgspec.Struct) -> bytes:
    """Avro body of a struct, without the frame."""
    framed: bytes = encoders(Codec(FixedSchemaIds()))[record](struct)
    return framed[FRAME_BYTES:]


def encoders(codec: Codec) -> dict[str, Any]:
    """Record name to the codec's function that encodes it."""
    return {
        "ReservationRequest": codec.encode_request,
        "ReservationResult": codec.encode_result,
        "InventoryTransaction": codec.encode_transaction,
        "InventoryEvent": codec.encode_event,
        "DeadLetter": codec.encode_dead_letter,
    }


def decoders(codec: Codec) -> dict[str, Any]:
    """Record name to the codec's function that decodes it."""
    return {
        "ReservationRequest": codec.decode_request,
        "ReservationResult": codec.decode_result,
        "InventoryTransaction": codec.decode_transaction,
        "InventoryEvent": codec.decode_event,
        "DeadLetter": codec.decode_dead_letter,
    }


def outcome(decode: Callable[[bytes], object], value: bytes) -> Code | None:
    """None when it decodes, else the code that says why not; any other exception goes on."""
    try:
        decode(value)
    except Undecodable as refusal:
        return refusal.code
    return None


def record_new() -> list[Path]:
    """Record the versions that are not recorded yet; the files made."""
    made: list[Path] = []
    for record, structs in samples.chosen().items():
        past = recorded(record)
        schema = avro.schema(record)
        if past and undocumented(past[-1].schema) == undocumented(schema):
            continue
        examples = [
            Example(readable(samples.fields_of(struct)), body_of(record, struct).hex())
            for struct in structs
        ]
        golden = Golden(record, len(past) + 1, schema, examples)
        path = FOLDER / f"{record}.{golden.version}.json"
        with path.open("xb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(golden), indent=1) + b"\n")
        made.append(path)
    return made


if __name__ == "__main__":
    record_new()
