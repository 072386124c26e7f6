"""Rows under another partition rule: where they go, and that nothing of them gets lost."""

from typing import Any

import msgspec
import pytest

from processor.inventory import rows as row, splits
from processor.inventory.audit import audit
from processor.inventory.configuration import Configuration, PartitionRule, default
from processor.inventory.rekey import Rekeyed, Unplaceable, checkpoint_of, totals
from processor.inventory.row_bodies import Checkpoint
from processor.inventory.rules import Rules
from schemas.codes import Code
from schemas.messages import RequestLine
from schemas.partitioning import location_key, partition_of, product_key
from tests.support.partition import RED, Partition, line
from tests.support.rows import DictRows

PARTITIONS = 4


def by(rule: str, version: int = 2) -> Configuration:
    """The default under another rule."""
    partition = msgspec.convert({"rule": rule, "buckets": 8}, PartitionRule)
    return msgspec.structs.replace(default(), version=version, partition=partition)


def busy() -> Partition:
    """A partition with every kind of row; `R` of request r-1 answers a grant."""
    partition = Partition()
    for product in ("D0002", "D0003", "D0004", "D0005"):
        partition.stock(10, product=product)
        partition.reserve(2, product=product, order_id="SO-1", expires_in_ms=60_000)
        partition.reserve(1, product=product, dimensions=RED)
    partition.status("RESERVED_PHYSICAL", 1, sequence=1, order_id="SO-1", auto_offset=True)
    partition.status("RESERVED_PHYSICAL", 99, sequence=1, transaction="T2", auto_offset=True)
    return partition


def rekeyed(partition: Partition, configuration: Configuration) -> list[dict[bytes, bytes]]:
    """Rows by new partition; nothing is known of where ids were asked."""
    new = Rekeyed(configuration, PARTITIONS, {})
    local = partition.domain.local_kinds
    new.add(0, ((key, value) for key, value in partition.rows.rows.items() if key[0] not in local))
    return new.finish()


def owner(
    rows: dict[bytes, bytes], partition: Partition, configuration: Configuration
) -> Partition:
    """A partition that goes on from moved rows."""
    moved = Partition(configuration)
    derived = [index for key, value in rows.items() for index in moved.domain.derive(key, value)]
    assert partition.checkpoint is not None
    moved.rows = DictRows(rows | dict(derived))
    moved.checkpoint = checkpoint_of([partition.checkpoint])
    moved.decider = moved.domain.open(0, 1, moved.rows, moved.checkpoint)
    moved.now_ms = partition.now_ms
    moved.count = partition.count
    return moved


@pytest.mark.parametrize("rule", ["by-location", "by-location-and-product", "by-product"])
def test_every_total_stays_and_totals_are_the_sum_of_their_holds(rule: str) -> None:
    """Stock, reserved, held, and the numbers of holds, ledgers, failures and ids."""
    partition = busy()
    moved = rekeyed(partition, by(rule))
    before = totals([partition.rows.rows.items()])
    assert before["stock", "usmf", "D0002", "fno.physicalinvent"]
    assert before["rows", "T"] == 2
    assert before["rows", "F"] == 1
    assert totals(rows.items() for rows in moved) == before
    for rows in moved:
        assert audit(Rules(by(rule)), rows.items(), 0, with_supply=False) == []


@pytest.mark.parametrize("rule", ["by-location", "by-product"])
def test_rows_lie_where_records_about_them_go(rule: str) -> None:
    """A product's stock and holds are in the partition of its key, and nowhere else."""
    moved = rekeyed(busy(), by(rule))
    for product in ("D0002", "D0003", "D0004", "D0005"):
        key = (
            location_key("usmf", "1", "11")
            if rule == "by-location"
            else product_key("usmf", product)
        )
        places = {
            number
            for number, rows in enumerate(moved)
            for name in totals([rows.items()])
            if product in name
        }
        assert places == {partition_of(key, PARTITIONS)}


def test_a_decision_after_it_goes_on_from_what_was_held() -> None:
    """By product: what was held still counts, is released by its id, and a repeat is replayed."""
    partition = busy()
    held = partition.reserve(3, product="D0003", request_id="mine")
    rows = rekeyed(partition, by("by-product"))[partition_of(b"usmf|D0003", PARTITIONS)]
    moved = owner(rows, partition, by("by-product"))
    key = b"usmf|D0003"
    again = moved.ask("RESERVE", [line_of(3)], request_id="mine", key=key)
    assert again.replayed
    assert again.lines[0].hold_id == held.hold_id
    asked = moved.ask("RESERVE", [line_of(5)], key=key)
    assert (asked.code, asked.lines[0].available) == (Code.INSUFFICIENT_STOCK, 4_000_000)
    gone = moved.ask("RELEASE", [line_of(0, hold_id=held.hold_id)], key=key)
    assert gone.code == Code.ACCEPTED
    more = moved.ask("RESERVE", [line_of(5)], key=key)
    assert more.code == Code.ACCEPTED
    number = int(more.lines[0].hold_id.rpartition("-")[2])
    assert number > int(held.hold_id.rpartition("-")[2])


@pytest.mark.parametrize("first", ["later", "longer"])
def test_every_new_partition_begins_behind_all_that_were(first: str) -> None:
    """Its clock is the latest, its sequence the highest, whichever partition had them."""
    later, longer = Partition(), busy()
    later.now_ms += 3_600_000
    later.stock(1)
    number = longer.stock(1).sequence
    assert number > 1
    of_later, of_longer = later.checkpoint, longer.checkpoint
    assert of_later is not None
    assert of_longer is not None
    both = [of_later, of_longer] if first == "later" else [of_longer, of_later]
    began = msgspec.msgpack.decode(checkpoint_of(both), type=Checkpoint)
    assert (began.clock_ms, began.sequence) == (later.now_ms, number)


def test_an_id_whose_record_is_known_goes_to_its_partition_alone() -> None:
    """Others go everywhere; what forgets them goes with them."""
    partition = busy()
    new = Rekeyed(by("by-product"), PARTITIONS, {(0, b"Rr-2"): 2})
    new.add(0, partition.rows.rows.items() - dict(index_rows(partition)).items())
    rows = new.finish()
    assert [number for number in range(PARTITIONS) if b"Rr-2" in rows[number]] == [2]
    assert all(b"Rr-3" in each for each in rows)
    for number, each in enumerate(rows):
        reminded = {
            key
            for name, value in each.items()
            if name[:1] == b"D"
            for key in msgspec.msgpack.decode(value)[1]
        }
        assert (b"Rr-2" in reminded) is (number == 2)
        assert b"Rr-3" in reminded


@pytest.mark.parametrize("first", ["older", "newer"])
def test_an_id_that_two_partitions_remember_is_answered_by_each_in_its_place(first: str) -> None:
    """As order numbers of two stores are; where both come to one partition, the newer one stays."""
    key, reminder = b"R1", msgspec.msgpack.encode((row.FORMAT, [b"R1"]))
    at_ms = (1_000, 2_000) if first == "older" else (2_000, 1_000)
    answers = [row.encode_answer(ms, bytes(8), (row.FORMAT, 0, [])) for ms in at_ms]
    for places, kept in ([(1, 3), {1: answers[0], 3: answers[1]}], [(2, 2), {2: max(answers)}]):
        new = Rekeyed(
            by("by-product"), PARTITIONS, {(n, key): place for n, place in enumerate(places)}
        )
        for number, answer in enumerate(answers):
            due = b"D" + (at_ms[number] + 1).to_bytes(8, "big") + bytes(8)
            new.add(number, [(key, answer), (due, reminder)])
        rows = new.finish()
        assert {n: each[key] for n, each in enumerate(rows) if key in each} == kept
        assert new.met == ({key} if len(kept) == 1 else set())


def test_an_order_line_that_two_partitions_noted_keeps_the_later_note() -> None:
    """Its place is not known: both come everywhere."""
    key = b"Susmf\x1eSO-1\x1e1"
    notes = [
        msgspec.msgpack.encode(splits.Split(splits.FORMAT, [splits.Part("T", ms, 1, [])]))
        for ms in (5, 7, 6)
    ]
    new = Rekeyed(by("by-product"), PARTITIONS, {})
    for number, note in enumerate(notes):
        new.add(number, [(key, note)])
    assert all(rows[key] == notes[1] for rows in new.finish())


def test_a_failure_without_a_place_lies_once_where_a_request_about_it_goes() -> None:
    """By product it named no warehouse; by location its key has an empty one."""
    key, value = next(item for item in busy().rows.rows.items() if item[0][:1] == b"F")
    failure = msgspec.structs.replace(row.decode_failure(value), dimensions={"siteid": "1"})
    new = Rekeyed(by("by-location"), PARTITIONS, {})
    new.add(0, [(key, row.encode_row(failure))])
    places = [number for number, rows in enumerate(new.finish()) if key in rows]
    assert places == [partition_of(location_key("usmf", "1", ""), PARTITIONS)]


def test_a_row_without_a_needed_dimension_stops_everything() -> None:
    """By product a hold may name no warehouse; by location it has no partition."""
    partition = Partition(by("by-product", version=1))
    site = {"siteid": "1"}
    key = b"usmf|D0002"
    partition.ask("RESERVE", [line(1, dimensions=site, check=False)], key=key)
    assert any(name[:1] == b"H" for name in partition.rows.rows)
    with pytest.raises(Unplaceable, match="siteid or locationid"):
        rekeyed(partition, by("by-location"))


def test_stock_without_a_warehouse_has_a_place_by_location() -> None:
    """The empty location: its rows move there, and back, and no total changes."""
    partition = Partition(by("by-product", version=1))
    partition.stock(5, dimensions={"colorid": "red"}, key=b"usmf|D0002")
    before = totals([partition.rows.rows.items()])
    rows = rekeyed(partition, by("by-location"))
    assert totals(each.items() for each in rows) == before
    (number,) = [n for n, each in enumerate(rows) if any(key[:1] == b"P" for key in each)]
    assert number == partition_of(b"usmf||", PARTITIONS)


def index_rows(partition: Partition) -> list[tuple[bytes, bytes]]:
    """Rows that no changelog holds."""
    local = partition.domain.local_kinds
    return [(key, value) for key, value in partition.rows.rows.items() if key[0] in local]


def line_of(quantity: float, **detail: Any) -> RequestLine:
    """A line about D0003."""
    return line(quantity, product="D0003", **detail)


@pytest.mark.parametrize("status", ["RESERVED_PHYSICAL", "SOLD"])
@pytest.mark.parametrize("first", ["old place", "new place"])
def test_a_transaction_that_moved_goes_on_where_both_its_places_come_together(
    first: str, status: str
) -> None:
    """Its ended ledger, where it was, does not replace the one that knows what was offset."""
    before, after = busy(), Partition()
    before.status("DELETED", 1, sequence=2, order_id="SO-1", auto_offset=True)
    after.stock(10)
    after.reserve(2, order_id="SO-1")
    after.status(status, 1, sequence=2, order_id="SO-1", auto_offset=True)
    old, new = ledgers(before.rows.rows), ledgers(after.rows.rows)
    (key,) = old.keys() & new.keys()
    together = Rekeyed(by("by-product"), 1, {})
    for number, rows in enumerate((old, new) if first == "old place" else (new, old)):
        together.add(number, rows.items())
    (rows,) = together.finish()
    assert row.decode_ledger(rows[key]).offset_quantity == 1_000_000
    assert rows[key] == new[key] != old[key]


def ledgers(rows: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The ledgers among rows."""
    return {key: value for key, value in rows.items() if key[:1] == b"T"}
