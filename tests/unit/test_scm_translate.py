"""A row of an ERP to an inventory transaction: exact, or refused with words."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from producers.channel.key_rule import key_rule_of
from producers.scm.mapping import load, parse
from producers.scm.translate import Refused, apart, key_of, read_json, translate
from schemas.codec import Codec
from schemas.codes import Code
from schemas.messages import InventoryTransaction, MeasureChange
from schemas.registry import FixedSchemaIds

CODEC = Codec(FixedSchemaIds())
D365 = load("d365")
SAMPLE = load("sample")


def d365(**words: Any) -> dict[str, Any]:
    """A transaction of a sales line, physically reserved."""
    return {
        "EventId": "E1",
        "DataAreaId": "usmf",
        "ItemId": "D0002",
        "InventTransRecId": 5637144576,
        "RecVersion": 7,
        "Qty": "-4.5",
        "ReferenceId": "SO-1",
        "InventTransId": "L1",
        "InventSiteId": "1",
        "InventLocationId": "11",
        "InventColorId": "red",
        "StatusIssue": 4,
        "StatusReceipt": 0,
        **words,
    }


def told(row: dict[str, Any], mapping: Any = D365) -> InventoryTransaction:
    """What the row tells; it must tell something."""
    found = translate(mapping, row)
    assert found is not None
    return found


def changes(row: dict[str, Any], mapping: Any = D365) -> dict[str, int]:
    """Measure to change in thousandths of a piece."""
    return {change.measure: change.quantity // 1_000 for change in told(row, mapping).changes}


def test_a_d365_issue_is_told_whole() -> None:
    """Ids, dimensions, status and amount; the sign of an issue is not the amount's."""
    found = told(d365(InventoryServiceReservationId="R1", InventoryServiceAutoOffset="Yes"))
    assert found.transaction is not None
    assert (found.event_id, found.organization_id, found.product_id) == ("E1", "usmf", "D0002")
    assert found.dimensions == {"siteid": "1", "locationid": "11", "colorid": "red"}
    assert (found.transaction.status, found.transaction.quantity) == (
        "RESERVED_PHYSICAL",
        4_500_000,
    )
    assert found.transaction.transaction_id == "5637144576"
    assert (found.transaction.reservation_id, found.transaction.auto_offset) == ("R1", False)
    assert key_of(found) == b"usmf|1|11"
    by_product = key_rule_of(b'{"partition": {"rule": "by-product"}}')
    assert key_of(found, by_product) == b"usmf|D0002"
    assert CODEC.decode_transaction(CODEC.encode_transaction(found)) == found


def test_a_d365_receipt_is_on_the_other_ladder() -> None:
    """StatusIssue None skips; auto offset only where the row says it and names nothing."""
    row = d365(StatusIssue="None", StatusReceipt="Registered", Qty=4)
    assert told(row).transaction is not None
    assert changes(row) == {"fno.registered": 4_000, "fno.physicalinvent": 4_000}
    status = told(d365(InventoryServiceAutoOffset=True)).transaction
    assert status is not None
    assert status.auto_offset


def test_changes_are_what_it_is_now_less_what_it_was() -> None:
    """Reserved before, picked now: the reservation goes, the stock leaves."""
    picked = d365(StatusIssue="Picked", Previous=d365())
    assert changes(picked) == {
        "fno.picked": 4_500,
        "fno.physicalinvent": -4_500,
        "fno.reservphysical": -4_500,
    }
    assert changes(d365(Qty=-6, Previous=d365())) == {"fno.reservphysical": 1_500}
    assert changes(d365(Cancelled=True, Previous=d365())) == {"fno.reservphysical": -4_500}
    assert changes(d365(Previous=d365())) == {}


def test_other_dimensions_change_both_rows() -> None:
    """The old row gets back what the new one takes."""
    found = told(d365(InventColorId="blue", Previous=d365()))
    old = {"siteid": "1", "locationid": "11", "colorid": "red"}
    assert found.changes == [
        MeasureChange("fno.reservphysical", 4_500_000, None),
        MeasureChange("fno.reservphysical", -4_500_000, dict(sorted(old.items()))),
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ({"StatusIssue": 9}, Code.STATUS_UNMAPPED, "StatusIssue: '9' is not in the mapping d365"),
        ({"StatusIssue": "picked"}, Code.STATUS_UNMAPPED, "'picked'"),
        ({"StatusIssue": {"a": 1}}, Code.ROW_INVALID, "is not a word"),
        ({"EventId": None}, Code.ROW_INVALID, "EventId (event_id) is missing"),
        ({"EventId": "x" * 129}, Code.ROW_INVALID, "event_id: longer than 128"),
        ({"EventId": "a\nb"}, Code.ROW_INVALID, "event_id: longer than 128, or not printable"),
        ({"ItemId": ""}, Code.ROW_INVALID, "ItemId (product_id) is missing"),
        ({"Qty": "four"}, Code.ROW_INVALID, "Qty: quantity 'four' is not a number"),
        ({"Qty": 0.5}, Code.ROW_INVALID, "Qty"),
        ({"Qty": "1e400"}, Code.ROW_INVALID, "Qty"),
        ({"Qty": None}, Code.ROW_INVALID, "Qty"),
        ({"Qty": [1]}, Code.ROW_INVALID, "Qty"),
        ({"RecVersion": "newest"}, Code.ROW_INVALID, "sequence: 'newest' is no whole number"),
        ({"RecVersion": 2**64}, Code.ROW_INVALID, "sequence: beyond 64 bits"),
        ({"Previous": d365(StatusIssue="?")}, Code.STATUS_UNMAPPED, "'?'"),
    ],
)
def test_what_is_not_known_is_refused(words: dict[str, Any], code: Code, said: str) -> None:
    """With a code and words, never guessed, never another exception."""
    with pytest.raises(Refused) as refused:
        translate(D365, d365(**words))
    assert refused.value.code == code
    assert said in refused.value.reason


def test_a_status_that_changes_nothing_is_passed_by() -> None:
    """An Odoo draft is told to nobody; an internal move is not in the vocabulary."""
    row = {"event_id": "E", "company": "c", "product_code": "P", "code": "outgoing"}
    assert translate(load("odoo"), {**row, "state": "draft"}) is None
    with pytest.raises(Refused, match="no ladder of odoo speaks of"):
        translate(load("odoo"), {**row, "code": "internal", "state": "draft"})


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ({"GBSTA": "A"}, "ON_ORDER"),
        ({"BESTA": "C", "GBSTA": "B"}, "RESERVED_PHYSICAL"),
        ({"KOSTA": "B", "BESTA": "C", "GBSTA": "B"}, "RESERVED_PHYSICAL"),
        ({"KOSTA": "C", "BESTA": "C", "GBSTA": "B"}, "PICKED"),
        ({"WBSTA": "C", "KOSTA": "C", "GBSTA": "B"}, "DEDUCTED"),
        ({"FKSTA": "C", "WBSTA": "C", "GBSTA": "C"}, "SOLD"),
        ({"ABGRU": "Z7", "WBSTA": "A", "GBSTA": "C"}, "CANCELLED"),
        ({"LOEKZ": "X", "GBSTA": "A"}, "DELETED"),
    ],
)
def test_the_latest_step_of_a_sap_item_decides(words: dict[str, str], status: str) -> None:
    """Billing before goods issue before picking before confirmation."""
    item = {
        "EVENT_ID": "E",
        "BUKRS": "1000",
        "MATNR": "M",
        "TRANSACTION_ID": "T",
        "AEZAEHLER": "3",
        "MENGE": "2.000",
    }
    found = told({**item, **words}, load("sap")).transaction
    assert found is not None
    assert (found.status, found.quantity, found.auto_offset) == (status, 2_000_000, True)


def test_changes_that_a_row_says_itself_win() -> None:
    """A point of sale that knows its measures needs no statuses."""
    text = b"""
name: till
source: pos
fields: {event_id: id, product_id: sku, changes: delta}
constants: {organization_id: usmf}
dimensions: {siteid: shop, locationid: room}
ladders: []
"""
    till = parse(text, "till.yaml")
    row = {"id": "7", "sku": "D0002", "shop": 1, "room": "11", "delta": {"pos.outbound": "1.25"}}
    assert told(row, till).transaction is None
    assert changes(row, till) == {"pos.outbound": 1_250}
    for wrong in ([], "x", {"pos.outbound": 0.5}, {f"m.{n}": 1 for n in range(65)}):
        with pytest.raises(Refused, match="delta"):
            translate(till, {**row, "delta": wrong})


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 50_000, "x" * 70_000, b"\xff"],
)
def test_a_row_that_is_no_json_object_is_refused(text: str | bytes) -> None:
    """Also one that says a name twice, or nests without end."""
    with pytest.raises(Refused) as refused:
        read_json(text)
    assert refused.value.code == Code.ROW_INVALID


def test_a_line_that_moved_to_another_warehouse_is_told_in_both() -> None:
    """Where it was its measures and its demand go; a partition decides only what is its own."""
    found = told(d365(Previous=d365(InventLocationId="12", StatusIssue=5)))
    left, here = apart(found)
    assert found.transaction is not None
    assert left.transaction is not None
    assert here.transaction == found.transaction
    assert (left.event_id, here.event_id) == ("E1~left0", "E1")
    assert (key_of(left), key_of(here)) == (b"usmf|1|12", b"usmf|1|11")
    assert left.transaction.status == "DELETED"
    assert left.transaction.sequence == here.transaction.sequence
    assert left.changes
    assert [*here.changes, *left.changes] == found.changes
    by_product = key_rule_of(b'{"partition": {"rule": "by-product"}}')
    assert apart(found, by_product) == (found,)


def test_a_line_that_moved_and_was_cancelled_ends_where_it_was() -> None:
    """Where it is now it never was: there it would give back what another line holds."""
    found = told(d365(Previous=d365(InventLocationId="12", StatusIssue=5)))
    assert found.transaction is not None
    ended = msgspec.structs.replace(found.transaction, status="CANCELLED")
    found = msgspec.structs.replace(found, transaction=ended)
    left, *here = apart(found)
    assert left.transaction is not None
    assert (key_of(left), left.transaction.status) == (b"usmf|1|12", "DELETED")
    assert all(one.transaction is None and one.changes for one in here)
    assert [change for one in (*here, left) for change in one.changes] == found.changes


def test_a_line_that_stays_is_told_once() -> None:
    """Other colours are of the same partition."""
    found = told(d365(Previous=d365(InventColorId="blue")))
    assert apart(found) == (found,)


def test_a_moved_line_of_a_long_id_is_refused() -> None:
    """Two events need two ids."""
    found = told(d365(EventId="9" * 128, Previous=d365(InventLocationId="12")))
    with pytest.raises(Refused, match="event_id of a row that moved"):
        apart(found)


_scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.decimals()
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
)


@given(st.dictionaries(st.sampled_from(sorted({*d365(), "Previous", "Deleted"})), _values))
def test_any_row_is_told_or_refused(words: dict[str, Any]) -> None:
    """No value in any field ends otherwise; what is told can be written."""
    try:
        found = translate(D365, d365(**words))
    except Refused as refused:
        assert refused.reason  # noqa: PT017 - either outcome is fine
        return
    assert found is not None
    try:
        CODEC.encode_transaction(found)
    except ValueError:
        assert any(not word.isascii() for word in map(str, words.values()))


ORDERED = {"fno.ordered": 2_000}
RECEIVED = {"fno.received": 2_000, "fno.physicalinvent": 2_000}
PURCHASED = {"fno.physicalinvent": 2_000}
ON_ORDER = {"fno.onorder": 2_000}
RESERVED = {"fno.reservphysical": 2_000}
PICKED = {"fno.picked": 2_000, "fno.physicalinvent": -2_000}
DEDUCTED = {"fno.deducted": 2_000, "fno.physicalinvent": -2_000}
SOLD = {"fno.physicalinvent": -2_000}


def _is_told(name: str, row: dict[str, Any], status: str, wanted: dict[str, int]) -> None:
    """Two pieces at this status, in a row whose ids and amount are under the mapping's names."""
    mapping = load(name)
    ids = {
        mapping.fields.event_id: "E",
        mapping.fields.organization_id: "usmf",
        mapping.fields.product_id: "P",
        mapping.fields.transaction_id: "T",
        mapping.fields.sequence: 1,
        mapping.fields.quantity: "2",
    }
    found = told({**ids, **row}, mapping).transaction
    assert found is not None
    assert (found.status, found.quantity) == (status, 2_000_000)
    assert changes({**ids, **row}, mapping) == wanted


@pytest.mark.parametrize(
    ("code", "state", "status", "wanted"),
    [
        ("outgoing", "waiting", "ON_ORDER", ON_ORDER),
        ("outgoing", "confirmed", "ON_ORDER", ON_ORDER),
        ("outgoing", "partially_available", "ON_ORDER", ON_ORDER),
        ("outgoing", "assigned", "RESERVED_PHYSICAL", RESERVED),
        ("outgoing", "done", "DEDUCTED", DEDUCTED),
        ("outgoing", "cancel", "CANCELLED", {}),
        ("incoming", "waiting", "ORDERED", ORDERED),
        ("incoming", "confirmed", "ORDERED", ORDERED),
        ("incoming", "partially_available", "ORDERED", ORDERED),
        ("incoming", "assigned", "ORDERED", ORDERED),
        ("incoming", "done", "RECEIVED", RECEIVED),
        ("incoming", "cancel", "CANCELLED", {}),
    ],
)
def test_an_odoo_move_adds_up_as_its_state_says(
    code: str, state: str, status: str, wanted: dict[str, int]
) -> None:
    """Outgoing moves take stock when they are done, incoming ones bring it."""
    _is_told("odoo", {"code": code, "state": state}, status, wanted)


@pytest.mark.parametrize(
    ("doctype", "state", "status", "wanted"),
    [
        ("Sales Order", "On Hold", "ON_ORDER", ON_ORDER),
        ("Sales Order", "To Pay", "ON_ORDER", ON_ORDER),
        ("Sales Order", "To Deliver", "ON_ORDER", ON_ORDER),
        ("Sales Order", "To Deliver and Bill", "ON_ORDER", ON_ORDER),
        ("Sales Order", "To Bill", "DEDUCTED", DEDUCTED),
        ("Sales Order", "Completed", "SOLD", SOLD),
        ("Sales Order", "Closed", "CANCELLED", {}),
        ("Sales Order", "Cancelled", "CANCELLED", {}),
        ("Stock Reservation Entry", "Partially Reserved", "RESERVED_PHYSICAL", RESERVED),
        ("Stock Reservation Entry", "Reserved", "RESERVED_PHYSICAL", RESERVED),
        ("Stock Reservation Entry", "Partially Delivered", "DEDUCTED", DEDUCTED),
        ("Stock Reservation Entry", "Delivered", "DEDUCTED", DEDUCTED),
        ("Stock Reservation Entry", "Partially Used", "DEDUCTED", DEDUCTED),
        ("Stock Reservation Entry", "Closed", "CANCELLED", {}),
        ("Stock Reservation Entry", "Cancelled", "CANCELLED", {}),
        ("Delivery Note", "To Bill", "DEDUCTED", DEDUCTED),
        ("Delivery Note", "Partially Billed", "DEDUCTED", DEDUCTED),
        ("Delivery Note", "Completed", "SOLD", SOLD),
        ("Delivery Note", "Closed", "DEDUCTED", DEDUCTED),
        ("Delivery Note", "Return", "CANCELLED", {}),
        ("Delivery Note", "Return Issued", "DEDUCTED", DEDUCTED),
        ("Delivery Note", "Cancelled", "CANCELLED", {}),
        ("Purchase Order", "On Hold", "ORDERED", ORDERED),
        ("Purchase Order", "To Receive", "ORDERED", ORDERED),
        ("Purchase Order", "To Receive and Bill", "ORDERED", ORDERED),
        ("Purchase Order", "To Bill", "RECEIVED", RECEIVED),
        ("Purchase Order", "Completed", "PURCHASED", PURCHASED),
        ("Purchase Order", "Delivered", "RECEIVED", RECEIVED),
        ("Purchase Order", "Closed", "CANCELLED", {}),
        ("Purchase Order", "Cancelled", "CANCELLED", {}),
    ],
)
def test_an_erpnext_document_adds_up_as_its_status_says(
    doctype: str, state: str, status: str, wanted: dict[str, int]
) -> None:
    """One vocabulary per document; a cancelled document is cancelled whatever its status."""
    row = {"doctype": doctype, "status": state, "docstatus": 1}
    _is_told("erpnext", row, status, wanted)
    _is_told("erpnext", {**row, "docstatus": 2}, "CANCELLED", {})


@pytest.mark.parametrize(
    ("words", "status", "wanted"),
    [
        ({"GBSTA": "A"}, "ON_ORDER", ON_ORDER),
        ({"BESTA": "C", "GBSTA": "A"}, "RESERVED_PHYSICAL", RESERVED),
        ({"KOSTA": "C", "BESTA": "C", "GBSTA": "B"}, "PICKED", PICKED),
        ({"WBSTA": "C", "KOSTA": "C", "GBSTA": "B"}, "DEDUCTED", DEDUCTED),
        ({"FKSTA": "C", "WBSTA": "C", "GBSTA": "C"}, "SOLD", SOLD),
        ({"GBSTA": "C"}, "SOLD", SOLD),
        ({"ABGRU": "Z7", "GBSTA": "C"}, "CANCELLED", {}),
        ({"LOEKZ": "X", "GBSTA": "A"}, "DELETED", {}),
    ],
)
def test_a_sap_item_adds_up_as_its_latest_step_says(
    words: dict[str, str], status: str, wanted: dict[str, int]
) -> None:
    """On order and reserved it is still in stock; from picked on it is not."""
    _is_told("sap", words, status, wanted)
