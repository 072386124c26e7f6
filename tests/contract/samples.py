"""Records of every kind to test the contract with: a few chosen ones, and strategies for any."""

import types
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from schemas import avro, messages
from schemas.limits import QUANTITY_MAX, QUANTITY_SCALE, QUANTITY_SUM_MAX
from schemas.messages import (
    DeadLetter,
    InventoryEvent,
    InventoryTransaction,
    LineDetail,
    MeasureChange,
    RequestLine,
    RequestOptions,
    ReservationRequest,
    ReservationResult,
    ResultDetail,
    ResultLine,
    Term,
    TransactionStatus,
)

PLACE: Final = {"siteid": "1", "locationid": "11", "colorid": "red", "sizeid": "small"}
AT_MS: Final = 1_770_000_000_000
QUANTITY_EDGES: Final = (
    *(0, 1, -1, 127, 128, -128, -129, 32_767, -32_768, 2**31, -(2**31)),
    *(QUANTITY_MAX, -QUANTITY_MAX, QUANTITY_SUM_MAX, -QUANTITY_SUM_MAX),
)


def chosen() -> dict[str, list[Any]]:
    """Records that golden bytes are recorded of: a plain one, a full one, an extreme one each."""
    return {
        "ReservationRequest": _requests(),
        "ReservationResult": _results(),
        "InventoryTransaction": _transactions(),
        "InventoryEvent": _events(),
        "DeadLetter": _dead_letters(),
    }


def _requests() -> list[ReservationRequest]:
    plain = RequestLine("D0002", "", PLACE, "", QUANTITY_SCALE)
    detail = LineDetail(
        order_id="SO-1",
        order_line_id="2",
        hold_id="abcdefghijklmnopqrst-1536",
        reservation_id="abcdefghijklmnopqrst",
        expires_at_ms=AT_MS,
        expires_in_ms=900_000,
        minimum_quantity=QUANTITY_SCALE // 2,
        external_reference="basket 7, häßlich 日本",
        target_dimensions={"locationid": "12"},
        priority=-3,
    )
    full = RequestLine("D0002", "fno", PLACE, "iv.softreserved", -QUANTITY_MAX, False, detail)
    options = RequestOptions(
        atomic=False,
        dry_run=True,
        explain=True,
        actor="ann",
        offset_failure_id="f1",
        configuration=b"{}",
    )
    return [
        ReservationRequest("r-1", "RESERVE", "usmf", "web-shop", [plain]),
        ReservationRequest("r-2", "TRANSFER", "usmf", "", [plain, full], options),
        ReservationRequest("", "TICK", "", "", [], RequestOptions()),
    ]


def _results() -> list[ReservationResult]:
    detail = ResultDetail(
        invalid_quantity=1,
        expires_at_ms=AT_MS,
        level="siteid,locationid",
        terms=[Term("fno.physicalinvent", QUANTITY_SUM_MAX), Term("iv.ordered", -1)],
        next_free_at_ms=AT_MS + 1,
        message="9 are available, 10 were asked for",
    )
    granted = ResultLine(1, "abcdefghijklmnopqrst", "abcdefghijklmnopqrst-512", 1_000_000, 0)
    refused = ResultLine(60, "abcdefghijklmnopqrst", "", 0, -QUANTITY_SUM_MAX, detail)
    return [
        ReservationResult("r-1", 1, 1, AT_MS, 0, False, [granted]),
        ReservationResult("r-2", 18, 2**40, AT_MS, 2**62, True, [granted, refused]),
        ReservationResult("r-3", 12, 3, 0, 1, False, []),
    ]


def _transactions() -> list[InventoryTransaction]:
    status = TransactionStatus(
        transaction_id="t-1",
        status="RESERVED_PHYSICAL",
        sequence=7,
        quantity=QUANTITY_MAX,
        order_id="SO-1",
        order_line_id="2",
        reservation_id="abcdefghijklmnopqrst",
        hold_id="abcdefghijklmnopqrst-512",
        auto_offset=True,
    )
    changes = [
        MeasureChange("fno.reservphysical", QUANTITY_SCALE),
        MeasureChange("fno.physicalinvent", -QUANTITY_SCALE, {"locationid": "12"}),
    ]
    return [
        InventoryTransaction(
            event_id="e-1",
            organization_id="usmf",
            product_id="D0002",
            dimensions=PLACE,
            source="fno",
            changes=changes[:1],
        ),
        InventoryTransaction(
            event_id="e-2",
            organization_id="usmf",
            product_id="D0002",
            dimension_data_source="fno",
            dimensions=PLACE,
            source="fno",
            mode="SET",
            modified_at_ms=AT_MS,
            changes=changes,
            transaction=status,
        ),
    ]


def _events() -> list[InventoryEvent]:
    return [
        InventoryEvent(
            event_type="TRANSACTION",
            code=80,
            sequence=5,
            at_ms=AT_MS,
            source_topic="inventory-transactions",
            source_offset=9,
            source_id="e-1",
        ),
        InventoryEvent(
            event_type="OFFSET_APPLIED",
            code=81,
            sequence=6,
            at_ms=AT_MS,
            source_topic="inventory-transactions",
            source_offset=10,
            source_id="e-2",
            organization_id="usmf",
            product_id="D0002",
            dimensions=PLACE,
            transaction_id="t-1",
            reservation_id="abcdefghijklmnopqrst",
            hold_id="abcdefghijklmnopqrst-512",
            order_id="SO-1",
            channel="web-shop",
            quantity=QUANTITY_SCALE,
            invalid_quantity=1,
            available=-QUANTITY_SUM_MAX,
            message="offset",
        ),
    ]


def _dead_letters() -> list[DeadLetter]:
    return [
        DeadLetter(
            code=102,
            reason="not a ReservationRequest",
            topic="reservation-requests",
            partition=3,
            offset=4,
            timestamp_ms=AT_MS,
            key=b"usmf|1|11",
            value=b"\x00\xff",
        ),
        DeadLetter(
            code=100,
            reason="it has no value",
            topic="inventory-transactions",
            partition=0,
            offset=0,
            timestamp_ms=0,
            key=None,
            value=None,
        ),
    ]


def struct_of(record: str) -> type[msgspec.Struct]:
    """The struct of an Avro record, by its name."""
    found: type[msgspec.Struct] = getattr(messages, record)
    return found


def any_record(record: str, quantity_max: int = QUANTITY_SUM_MAX) -> st.SearchStrategy[Any]:
    """Any value that a record's schema allows, as its struct."""
    return _any(avro.schema(record), quantity_max)


def _any(schema: Any, quantity_max: int) -> st.SearchStrategy[Any]:
    if isinstance(schema, list):
        return st.one_of([_any(branch, quantity_max) for branch in schema])
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(schema, dict) and schema.get("logicalType") == "decimal":
        edges = [q for q in QUANTITY_EDGES if abs(q) <= quantity_max]
        return st.sampled_from(edges) | st.integers(-quantity_max, quantity_max)
    if kind == "record":
        fields = {f["name"]: _any(f["type"], quantity_max) for f in schema["fields"]}
        return st.builds(struct_of(schema["name"]), **fields)
    if kind == "array":
        return st.lists(_any(schema["items"], quantity_max), max_size=4)
    if kind == "map":
        return st.dictionaries(_TEXT, _TEXT, max_size=5)
    if kind == "enum":
        return st.sampled_from(schema["symbols"])
    return _PRIMITIVES[kind]


_TEXT: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
_PRIMITIVES: Final[Mapping[str, st.SearchStrategy[Any]]] = types.MappingProxyType(
    {
        "null": st.none(),
        "boolean": st.booleans(),
        "int": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**63), 2**63 - 1),
        "string": _TEXT,
        "bytes": st.binary(max_size=200),
    }
)


def fields_of(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct as nested dicts, quantities as unscaled integers, bytes as bytes."""
    fields: dict[str, Any] = msgspec.to_builtins(struct, builtin_types=(bytes,))
    return fields


def with_decimals(value: Any, schema: Any) -> Any:
    """Copy of `fields_of` with every quantity as the Decimal that other Avro readers see."""
    if value is None:
        return None
    if isinstance(schema, list):
        return with_decimals(value, next(branch for branch in schema if branch != "null"))
    if not isinstance(schema, dict):
        return value
    if schema.get("logicalType") == "decimal":
        return Decimal(value).scaleb(-6)
    if schema["type"] == "record":
        return {f["name"]: with_decimals(value[f["name"]], f["type"]) for f in schema["fields"]}
    if schema["type"] == "array":
        return [with_decimals(item, schema["items"]) for item in value]
    return value
