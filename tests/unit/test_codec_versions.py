"""Records written by other versions of a schema: read as ours, or refused with a code."""

import copy
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

import fastavro
import pytest
from hypothesis import given, strategies as st

from schemas import avro
from schemas.codec import Codec, Undecodable
from schemas.codes import Code
from schemas.messages import InventoryTransaction, ReservationRequest
from schemas.registry import FixedSchemaIds, SchemaIds, _Known
from tests.contract import samples
from tests.contract.golden import outcome

THEIRS: Final = 900
Change = Callable[[dict[str, Any]], None]


def _changed(record: str, change: Change) -> dict[str, Any]:
    schema = copy.deepcopy(avro.schema(record))
    change(schema)
    return dict(schema)


def _field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return next(field for field in schema["fields"] if field["name"] == name)


def _without(name: str) -> Change:
    def change(schema: dict[str, Any]) -> None:
        schema["fields"].remove(_field(schema, name))

    return change


def _with(field: dict[str, Any]) -> Change:
    return lambda schema: schema["fields"].append(field)


def _with_symbol(name: str, symbol: str) -> Change:
    return lambda schema: _field(schema, name)["type"]["symbols"].append(symbol)


def _with_scale(scale: int) -> Change:
    def change(schema: dict[str, Any]) -> None:
        line = _field(schema, "lines")["type"]["items"]
        _field(line, "quantity")["type"]["scale"] = scale

    return change


def _written(schema: dict[str, Any], fields: dict[str, Any]) -> bytes:
    out = BytesIO()
    parsed = fastavro.parse_schema(avro.without_decimals(schema), named_schemas={})
    fastavro.schemaless_writer(out, parsed, fields)
    return b"\x00" + THEIRS.to_bytes(4, "big") + out.getvalue()


def _raw(value: Any) -> Any:
    """Fields with quantities as the bytes that a schema without decimals writes."""
    if isinstance(value, list):
        return [_raw(part) for part in value]
    if isinstance(value, dict):
        return {
            name: part.to_bytes(9, "big", signed=True)
            if name.endswith("quantity") and isinstance(part, int)
            else _raw(part)
            for name, part in value.items()
        }
    return value


def _request_fields() -> dict[str, Any]:
    fields: dict[str, Any] = _raw(samples.fields_of(samples.chosen()["ReservationRequest"][1]))
    return fields


def _request(change: Change, **extra: Any) -> ReservationRequest:
    schema = _changed("ReservationRequest", change)
    codec = Codec(FixedSchemaIds({THEIRS: schema}))
    return codec.decode_request(_written(schema, {**_request_fields(), **extra}))


def _refusal(schema: Any, value: bytes) -> Code:
    codec = Codec(FixedSchemaIds({THEIRS: schema}))
    with pytest.raises(Undecodable) as caught:
        codec.decode_request(value)
    return caught.value.code


def test_a_field_that_the_writer_did_not_know_has_its_default() -> None:
    """An older request without `channel` reads with the schema's default."""
    assert _request(_without("channel")).channel == ""


def test_a_quantity_that_the_writer_did_not_know_is_zero() -> None:
    """The default of a decimal is the number 0, not a text."""
    schema = _changed("InventoryEvent", _without("available"))
    event = samples.chosen()["InventoryEvent"][0]
    fields = {**_raw(samples.fields_of(event)), "quantity": b"\x05", "invalid_quantity": b"\x00"}
    decoded = Codec(FixedSchemaIds({THEIRS: schema})).decode_event(_written(schema, fields))
    assert decoded.available == 0
    assert decoded.quantity == 5


def test_a_field_that_we_do_not_know_is_skipped() -> None:
    """A newer request with one more field reads as ours, everything else unchanged."""
    extra = {"name": "mood", "type": {"type": "array", "items": "string"}, "default": []}
    whole = samples.chosen()["ReservationRequest"][1]
    assert _request(_with(extra), mood=["a", "b"]) == whole


def test_an_action_that_we_do_not_know_is_not_a_tick() -> None:
    """A newer action reads as UNKNOWN, which is answered with a refusal; never as one of ours."""
    newer = _request(_with_symbol("action", "SWAP"), action="SWAP")
    assert newer.action == "UNKNOWN"


def test_a_change_mode_that_we_do_not_know_is_refused() -> None:
    """A newer mode is not taken for ADD: the record is undecodable."""
    schema = _changed("InventoryTransaction", _with_symbol("mode", "SCALE"))
    chosen: InventoryTransaction = samples.chosen()["InventoryTransaction"][0]
    fields = {**_raw(samples.fields_of(chosen)), "mode": "SCALE"}
    codec = Codec(FixedSchemaIds({THEIRS: schema}))
    with pytest.raises(Undecodable) as caught:
        codec.decode_transaction(_written(schema, fields))
    assert caught.value.code == Code.RECORD_NOT_AVRO


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (_changed("ReservationRequest", _with_scale(2)), "a quantity of another scale"),
        (avro.without_decimals(avro.schema("ReservationRequest")), "a quantity that is bytes"),
        (_changed("ReservationRequest", lambda s: s.update(name="Other")), "another record"),
        (_changed("ReservationRequest", lambda s: s.update(namespace="x")), "another namespace"),
        ({"type": "string"}, "no record"),
        ("string", "no record"),
        ({"type": "record", "name": "holdfast.ReservationRequest", "fields": 3}, "no schema"),
        (
            _changed(
                "ReservationRequest",
                _with({"name": "n", "type": {"type": "array", "items": "null"}, "default": []}),
            ),
            "an array of nothing",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schema_that_cannot_be_ours_is_refused(schema: Any, why: str) -> None:
    """Known to the registry, but not a version of this record: SCHEMA_UNEXPECTED."""
    value = b"\x00" + THEIRS.to_bytes(4, "big") + bytes(40)
    assert _refusal(schema, value) == Code.SCHEMA_UNEXPECTED, why


@given(garbage=st.binary(max_size=200))
def test_garbage_of_another_version_never_fails(garbage: bytes) -> None:
    """Any bytes under a foreign id end in a record or in Undecodable."""
    schema = _changed("ReservationRequest", _without("channel"))
    codec = Codec(FixedSchemaIds({THEIRS: schema}))
    value = b"\x00" + THEIRS.to_bytes(4, "big") + garbage
    assert outcome(codec.decode_request, value) in {None, Code.RECORD_NOT_AVRO}


def test_a_truncated_record_of_another_version_is_refused_at_every_byte() -> None:
    """No prefix of a foreign record is taken for a record."""
    schema = _changed("ReservationRequest", _without("channel"))
    whole = _written(schema, _request_fields())
    codec = Codec(FixedSchemaIds({THEIRS: schema}))
    for length in range(5, len(whole)):
        with pytest.raises(Undecodable):
            codec.decode_request(whole[:length])
    with pytest.raises(Undecodable):
        codec.decode_request(whole + b"\x00")


def test_a_schema_that_is_not_avros_makes_a_record_undecodable() -> None:
    """A client may send Protobuf by the same registry: that is no reason to stop a partition."""
    ids = object.__new__(SchemaIds)
    ids._known = _Known(schemas={THEIRS: 'syntax = "proto3"; message Other {}'})
    ids._ids = FixedSchemaIds()._ids
    codec = Codec(ids)
    with pytest.raises(Undecodable) as refused:
        codec.decode_request(b"\x00" + THEIRS.to_bytes(4, "big") + b"\x00")
    assert refused.value.code == Code.SCHEMA_UNKNOWN
