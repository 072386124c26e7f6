"""Another configuration, put to work at one record: what changes, what is refused, what stays."""

import msgspec
import pytest

from processor.inventory.configuration import Configuration, PartitionRule, default, to_json
from schemas.codes import Code
from schemas.messages import InventoryTransaction, RequestOptions, ReservationResult
from tests.support.partition import CODEC, RED, RED_SMALL, WAREHOUSE, Partition, line, pieces

SMALL = WAREHOUSE | {"sizeid": "small"}


def changed(version: int, **words: object) -> Configuration:
    """The default with other reservation rules."""
    reservation = msgspec.structs.replace(default().reservation, **words)
    return msgspec.structs.replace(default(), version=version, reservation=reservation)


def apply(partition: Partition, document: bytes) -> ReservationResult:
    """Send a CONFIGURE request."""
    options = RequestOptions(configuration=document)
    return partition.ask("CONFIGURE", [], options=options, key=None)


def test_another_hierarchy_keeps_every_hold() -> None:
    """With size before colour the levels are made anew from holds and stock rows."""
    partition = Partition()
    partition.stock(10)
    hold = partition.reserve(4)
    assert partition.reserve(1, dimensions=SMALL).code == Code.LEVEL_NOT_RESERVABLE
    turned = changed(2, dimensions=("siteid", "locationid", "sizeid", "colorid"))
    assert apply(partition, to_json(turned)).code == Code.ACCEPTED
    assert [event.event_type for event in partition.events] == ["CONFIGURATION"]
    assert partition.available(SMALL) == 6
    assert partition.available(RED_SMALL) == 6
    partition.restart()
    assert partition.available(SMALL) == 6
    assert partition.release(hold.hold_id).code == Code.ACCEPTED
    assert partition.available(SMALL) == 10


@pytest.mark.parametrize("filtered", [True, False])
def test_holds_made_under_another_hierarchy_can_still_be_named(*, filtered: bool) -> None:
    """Their words mean a coarser level now, or none: the hold is still where it was."""
    partition = Partition()
    partition.stock(10)
    first, second = partition.reserve(4), partition.reserve(2, order_id="SO-1")
    fewer = changed(2, dimensions=("siteid", "locationid", "colorid"))
    reservation = msgspec.structs.replace(
        fewer.reservation, filter_unconfigured_dimensions=filtered
    )
    fewer = msgspec.structs.replace(fewer, reservation=reservation)
    assert apply(partition, to_json(fewer)).code == Code.ACCEPTED
    partition.restart()
    blue = RED_SMALL | {"colorid": "blue"}
    assert partition.release(first.hold_id, dimensions=blue).code != Code.ACCEPTED
    assert partition.line("CONFIRM", 0, hold_id=first.hold_id).code == Code.ACCEPTED
    named = {"reservation_id": first.reservation_id, "order_id": "SO-1"}
    given = partition.line("UNRESERVE", 1, **named)
    assert (given.code, pieces(given.quantity)) == (Code.ACCEPTED, 1)
    assert pieces(partition.release(second.hold_id).quantity) == 1
    assert pieces(partition.release(first.hold_id).quantity) == 4
    assert partition.available(RED) == 10


def test_a_hold_across_the_new_hierarchy_is_still_never_promised_again() -> None:
    """A hold on red, after size came first, is checked against small where they cross."""
    partition = Partition()
    partition.stock(5)
    partition.stock(5, dimensions=RED_SMALL | {"sizeid": "large", "colorid": "blue"})
    assert partition.reserve(5, dimensions=RED).code == Code.ACCEPTED
    apply(
        partition,
        to_json(changed(2, dimensions=("siteid", "locationid", "sizeid", "colorid"))),
    )
    assert partition.reserve(1, dimensions=SMALL).code == Code.INSUFFICIENT_STOCK
    assert partition.available(WAREHOUSE) == 5


def test_another_formula_changes_what_is_available_at_once() -> None:
    """Without inbound stock in the formula it is no longer promised."""
    partition = Partition()
    partition.stock(10)
    partition.tell({"fno.ordered": 5})
    assert partition.available() == 15
    sources = dict(default().data_sources)
    formula = sources["iv"].calculated_measures["availabletoreserve"]
    fewer = tuple(term for term in formula if term != "+fno.ordered")
    measures = {**sources["iv"].calculated_measures, "availabletoreserve": fewer}
    sources["iv"] = msgspec.structs.replace(sources["iv"], calculated_measures=measures)
    document = msgspec.structs.replace(default(), version=2, data_sources=sources)
    assert apply(partition, to_json(document)).code == Code.ACCEPTED
    assert partition.available() == 10


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"not json",
        b"{}",
        to_json(changed(3, dimensions=("colorid",))),
        to_json(changed(3, mapping={"iv.softreserved": "iv.nothing"})),
        to_json(changed(1, filter_unconfigured_dimensions=False)),
    ],
)
def test_a_document_that_is_invalid_old_or_would_corrupt_is_refused(document: bytes) -> None:
    """The configuration in force stays, and an event says why."""
    partition = Partition()
    apply(partition, to_json(changed(2, filter_unconfigured_dimensions=True)))
    assert apply(partition, document).code == Code.CONFIGURATION_INVALID
    assert [event.code for event in partition.events] == [Code.CONFIGURATION_INVALID]
    assert partition.events[0].message
    partition.stock(1)
    assert partition.reserve(1, dimensions=RED_SMALL | {"batchid": "1"}).code == Code.ACCEPTED


BY_PRODUCT = to_json(
    msgspec.structs.replace(default(), version=2, partition=PartitionRule(rule="by-product"))
)


@pytest.mark.parametrize("rested", [False, True], ids=["in use", "restarted"])
def test_the_partition_rule_stays_while_something_is_on_hand_or_held(*, rested: bool) -> None:
    """Stock, or a hold without stock, would get another owner: refused."""
    stocked, holding = Partition(), Partition()
    stocked.stock(1)
    holding.stock(1)
    holding.reserve(1)
    holding.stock(-1)
    for partition in (stocked, holding):
        if rested:
            partition.restart()
        assert apply(partition, BY_PRODUCT).code == Code.CONFIGURATION_INVALID
        assert "partition" in (partition.events[-1].message or "")


def test_what_waits_for_its_commit_keeps_the_partition_rule_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A configuration in the same batch has let all product-locations go: nothing is in use."""
    partition = Partition()
    rows = partition.rows
    monkeypatch.setattr(rows, "next_group", lambda _after: None)
    monkeypatch.setattr(
        rows, "pending_groups", lambda kind: {key[:13] for key in rows.rows if key[:1] == kind}
    )
    partition.stock(1)
    assert apply(partition, to_json(changed(2, filter_unconfigured_dimensions=True))).code == (
        Code.ACCEPTED
    )
    moved = msgspec.structs.replace(
        default(), version=3, partition=PartitionRule(rule="by-product")
    )
    assert apply(partition, to_json(moved)).code == Code.CONFIGURATION_INVALID


@pytest.mark.parametrize("rested", [False, True], ids=["in use", "restarted"])
def test_an_empty_partition_takes_another_partition_rule(*, rested: bool) -> None:
    """Emptied to the last piece and hold it switches, and no row of the old places is left."""
    partition = Partition()
    partition.stock(5)
    hold = partition.reserve(2)
    partition.release(hold.hold_id)
    partition.stock(-5)
    if rested:
        partition.restart()
    asked = RequestOptions(configuration=BY_PRODUCT, dry_run=True)
    assert partition.ask("CONFIGURE", [], options=asked, key=None).code == Code.ACCEPTED
    assert any(key[:1] == b"P" for key in partition.rows.rows)
    assert apply(partition, BY_PRODUCT).code == Code.ACCEPTED
    assert not any(key[:1] in {b"P", b"H"} for key in partition.rows.rows)
    partition.stock(6, key=b"usmf|D0002")
    granted = partition.ask("RESERVE", [line(6)], key=b"usmf|D0002")
    assert granted.code == Code.ACCEPTED


def test_by_product_neither_site_nor_warehouse_is_needed() -> None:
    """Partitioned by product, stock anywhere can be reserved without naming a place."""
    rule = PartitionRule(rule="by-product")
    reservation = msgspec.structs.replace(
        default().reservation, dimensions=("siteid", "locationid")
    )
    partition = Partition(
        msgspec.structs.replace(default(), partition=rule, reservation=reservation)
    )
    key = b"usmf|D0002"
    partition.stock(6, key=key)
    partition.stock(4, dimensions=RED_SMALL | {"locationid": "12"}, key=key)
    anywhere = partition.ask("RESERVE", [line(8, dimensions={})], key=key)
    assert anywhere.code == Code.ACCEPTED
    here = partition.ask("RESERVE", [line(3, dimensions=WAREHOUSE)], key=key)
    assert here.code == Code.INSUFFICIENT_STOCK


def test_a_bucket_is_part_of_the_key() -> None:
    """By location and product, the key carries the bucket of the product's hash."""
    rule = PartitionRule(rule="by-location-and-product", buckets=4)
    partition = Partition(msgspec.structs.replace(default(), partition=rule))
    told = InventoryTransaction(
        event_id="E", organization_id="usmf", product_id="D0002", dimensions=RED_SMALL, source="fno"
    )
    granted = []
    for bucket in range(4):
        key = f"usmf|1|11|{bucket}".encode()
        value = partition.send("inventory-transactions", key, CODEC.encode_transaction(told))
        assert value == []
        granted.append(not partition.dead_letters)
    assert granted.count(True) == 1
