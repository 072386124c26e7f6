"""The .avsc files say everything, and the Python structs and symbols say the same."""

from collections.abc import Iterator
from typing import Any, get_type_hints

import msgspec
import pytest

from schemas import avro, symbols
from schemas.codes import Code
from schemas.topics import TOPICS
from tests.contract import samples

ENUMS = {
    "Action": symbols.ACTIONS,
    "ChangeMode": symbols.CHANGE_MODES,
    "Status": symbols.STATUSES,
    "EventType": symbols.EVENT_TYPES,
}


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every record and enum inside a schema, itself included."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _parts(branch)
    elif isinstance(schema, dict):
        if schema.get("type") in {"record", "enum"}:
            yield schema
        for field in schema.get("fields", ()):
            yield from _parts(field["type"])
        for inner in ("type", "items", "values"):
            yield from _parts(schema.get(inner))


PARTS = {part["name"]: part for record in avro.RECORDS for part in _parts(avro.schema(record))}
RECORDS = {name: part for name, part in PARTS.items() if part["type"] == "record"}


def _python_type(schema: Any) -> Any:
    """The annotation that a schema's field has in Python."""
    if isinstance(schema, list):
        branch = next(branch for branch in schema if branch != "null")
        return _python_type(branch) | None
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(schema, dict) and schema.get("logicalType") == "decimal":
        return int
    if kind == "array":
        return list[_python_type(schema["items"])]  # type: ignore[misc]
    if kind == "map":
        return dict[str, str]
    if kind == "record":
        return samples.struct_of(schema["name"])
    plain = {"string": str, "enum": str, "int": int, "long": int, "boolean": bool, "bytes": bytes}
    return plain[kind]


def _python_default(field: dict[str, Any]) -> Any:
    """The value of a field's Avro default in Python."""
    kind = field["type"]
    if isinstance(kind, dict) and kind.get("logicalType") == "decimal":
        return int.from_bytes(field["default"].encode("latin-1"), "big", signed=True)
    return field["default"]


def _struct_defaults(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Defaults of a struct, by field."""
    found = {field.name: field for field in msgspec.structs.fields(struct)}
    return {
        name: field.default_factory()
        if field.default is msgspec.NODEFAULT and field.default_factory is not msgspec.NODEFAULT
        else field.default
        for name, field in found.items()
    }


def test_there_is_a_file_for_every_record() -> None:
    """The declared records, the topics' values and the .avsc files are the same set."""
    assert {topic.schema for topic in TOPICS.values() if topic.schema} == set(avro.RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_every_field_says_what_it_means(name: str) -> None:
    """Every record and every field has a doc that is a sentence."""
    assert len(RECORDS[name]["doc"]) > 10
    for field in RECORDS[name]["fields"]:
        assert field.get("doc"), f"{name}.{field['name']} says nothing"


@pytest.mark.parametrize("name", RECORDS)
def test_times_and_quantities_are_what_their_names_say(name: str) -> None:
    """What is named `_ms` is a long; quantities are decimal(18,6)."""
    for field in RECORDS[name]["fields"]:
        text = str(field["type"])
        if field["name"].endswith("_ms"):
            assert "long" in text
        if "quantity" in field["name"] or field["name"] == "available":
            assert "'precision': 18" in text
            assert "'scale': 6" in text


@pytest.mark.parametrize("name", RECORDS)
def test_the_struct_has_the_fields_of_the_schema(name: str) -> None:
    """Same names in the same order, and the Python type that the schema's type reads as."""
    struct = samples.struct_of(name)
    hints = get_type_hints(struct)
    wanted = {field["name"]: _python_type(field["type"]) for field in RECORDS[name]["fields"]}
    assert list(struct.__struct_fields__) == list(wanted)
    assert {field: hints[field] for field in wanted} == wanted


@pytest.mark.parametrize("name", RECORDS)
def test_a_default_is_the_same_on_both_sides(name: str) -> None:
    """Where a struct has a default, the schema has the same one."""
    defaults = _struct_defaults(samples.struct_of(name))
    for field in RECORDS[name]["fields"]:
        default = defaults[field["name"]]
        if default is not msgspec.NODEFAULT:
            assert _python_default(field) == default, field["name"]


@pytest.mark.parametrize("name", ENUMS)
def test_the_symbols_are_those_of_the_schema(name: str) -> None:
    """Symbols are read by index: same symbols, same order."""
    assert tuple(PARTS[name]["symbols"]) == ENUMS[name]


def test_a_code_is_never_renumbered() -> None:
    """Codes of the first release keep their numbers: a result outlives the program."""
    fixed = {1: "ACCEPTED", 2: "PARTIAL", 11: "REQUEST_ID_REUSED", 60: "INSUFFICIENT_STOCK"}
    fixed |= {64: "RESERVATION_UNKNOWN", 81: "OFFSET_APPLIED", 84: "STALE", 102: "RECORD_NOT_AVRO"}
    assert {number: Code(number).name for number in fixed} == fixed
