"""An order line that the ERP splits: what moves between its transactions, and what does not."""

from typing import Any

import msgspec
import pytest

from processor.inventory.configuration import default
from processor.inventory.holds import UNORDERED_LOOKED_AT_MAX
from processor.inventory.rows import decode_failure, decode_hold
from processor.inventory.splits import PARTS_MAX, SPLIT_WINDOW_MS, Split
from schemas.codes import Code
from schemas.messages import InventoryEvent, TransactionStatus
from tests.support.partition import UNIT, Partition, pieces

LINE = {"order_id": "SO-1", "order_line_id": "1", "auto_offset": True}
LINE_KEY = b"Susmf\x1eSO-1\x1e1"
RESERVED = "RESERVED_PHYSICAL"


def reach(
    partition: Partition, transaction: str, status: str, quantity: float, sequence: int = 1
) -> InventoryEvent:
    """A transaction of the line reaches a status."""
    words: dict[str, Any] = {"sequence": sequence, "transaction": transaction, **LINE}
    return partition.status(status, quantity, **words)


def split(
    partition: Partition, old: tuple[str, float], new: tuple[str, float], *, new_first: bool
) -> None:
    """T1 becomes smaller, and T2 is new."""
    parts: list[Any] = [("T1", *old, 9), ("T2", *new, 1)]
    for part in reversed(parts) if new_first else parts:
        reach(partition, *part)


def held(partition: Partition) -> dict[str, float]:
    """What is held, by order."""
    found: dict[str, float] = {}
    for key, value in partition.rows.rows.items():
        if key[:1] == b"H":
            hold = decode_hold(value)
            found[hold.order_id] = found.get(hold.order_id, 0) + pieces(hold.quantity)
    return found


def failed(partition: Partition) -> list[float]:
    """What is missing, of every entry of the list of failures."""
    rows = partition.rows.rows.items()
    return [pieces(decode_failure(value).quantity) for key, value in rows if key[:1] == b"F"]


def with_line(quantity: float = 10, status: str = RESERVED, **words: Any) -> Partition:
    """Twenty in stock, ten held for the line, and T1 of it known for long."""
    partition = Partition(**words)
    partition.stock(20)
    partition.reserve(quantity, order_id="SO-1")
    reach(partition, "T1", status, 10)
    partition.now_ms += SPLIT_WINDOW_MS
    return partition


def test_a_transaction_is_no_part_of_itself() -> None:
    """New and reduced within a minute: the demand is gone, and no hold comes back for it."""
    partition = Partition()
    partition.stock(20)
    partition.reserve(10, order_id="SO-1")
    reach(partition, "T1", RESERVED, 10)
    assert reach(partition, "T1", RESERVED, 3, 2).code == Code.APPLIED
    assert held(partition) == {}


def test_a_transaction_is_no_part_of_an_older_one() -> None:
    """Two are new together, the second is reduced: the first has nothing of it."""
    partition = Partition()
    partition.stock(20)
    partition.reserve(10, order_id="SO-1")
    reach(partition, "T1", RESERVED, 4)
    reach(partition, "T2", RESERVED, 6)
    assert reach(partition, "T2", RESERVED, 4, 2).code == Code.APPLIED
    assert held(partition) == {}


@pytest.mark.parametrize("new_first", [True, False])
def test_a_new_transaction_takes_over_what_its_line_has_offset(*, new_first: bool) -> None:
    """All of the line was offset: the new part fails at nothing, and nothing is held again."""
    partition = with_line()
    split(partition, ("PICKED", 3), (RESERVED, 7), new_first=new_first)
    assert (held(partition), failed(partition), partition.available()) == ({}, [], 20)


@pytest.mark.parametrize("new_first", [True, False])
def test_a_split_takes_nothing_from_other_orders(*, new_first: bool) -> None:
    """What the new part took from SO-2 before its line's reduction was known goes back to it."""
    partition = with_line()
    partition.reserve(8, order_id="SO-2")
    split(partition, ("PICKED", 3), (RESERVED, 7), new_first=new_first)
    assert (held(partition), failed(partition)) == ({"SO-2": 8}, [])


def test_what_of_a_failure_the_line_had_offset_is_off_the_list() -> None:
    """Seven of the new part were not found, five were its older part's."""
    partition = with_line()
    split(partition, ("PICKED", 5), (RESERVED, 7), new_first=True)
    assert failed(partition) == [2]


def test_a_new_transaction_that_was_cancelled_gets_nothing() -> None:
    """Its demand is gone before that of its older part is known to be less."""
    partition = with_line()
    reach(partition, "T2", RESERVED, 7)
    reach(partition, "T2", "CANCELLED", 7, 2)
    reach(partition, "T1", "PICKED", 3, 2)
    assert (held(partition), failed(partition)) == ({}, [])


@pytest.mark.parametrize("new_first", [True, False])
def test_holds_move_along_with_a_split(*, new_first: bool) -> None:
    """The new part goes back below the trigger: its seven are held again."""
    partition = with_line()
    split(partition, ("PICKED", 3), (RESERVED, 7), new_first=new_first)
    assert reach(partition, "T2", "ON_ORDER", 7, 2).code == Code.OFFSET_REVERTED
    assert held(partition) == {"SO-1": 7}


@pytest.mark.parametrize("new_first", [True, False])
@pytest.mark.parametrize(("status", "left"), [("ON_ORDER", 10), (RESERVED, 6)])
def test_a_part_that_moved_below_the_trigger_stays_held(
    status: str, left: float, *, new_first: bool
) -> None:
    """Six move into a new transaction on order; the four that stay are on order or reserved."""
    partition = with_line(status=status)
    split(partition, (status, 4), ("ON_ORDER", 6), new_first=new_first)
    assert held(partition) == {"SO-1": left}


@pytest.mark.parametrize("late", [True, False])
def test_what_steps_down_and_is_reduced_is_held_for_what_is_left(*, late: bool) -> None:
    """Ten reserved, then four on order: four are held; six are a new part's if one comes soon."""
    partition = with_line()
    assert reach(partition, "T1", "ON_ORDER", 4, 2).code == Code.OFFSET_REVERTED
    assert held(partition) == {"SO-1": 4}
    partition.now_ms += SPLIT_WINDOW_MS if late else 0
    reach(partition, "T2", RESERVED, 6)
    assert held(partition).get("SO-1", 0) == (0 if late else 4)


def test_each_loss_counts_for_a_minute_of_its_own() -> None:
    """Four were lost too long ago, one was not: of five that are new one merely moved."""
    partition = with_line()
    reach(partition, "T1", RESERVED, 6, 2)
    partition.now_ms += SPLIT_WINDOW_MS - 1
    reach(partition, "T1", RESERVED, 5, 3)
    partition.now_ms += 1
    partition.reserve(10, order_id="SO-1")
    reach(partition, "T2", RESERVED, 5)
    assert held(partition) == {"SO-1": 6}


def test_a_demand_that_is_kept_when_it_goes_moves_by_its_holds() -> None:
    """`cancellation: keep`: what was lost is held again, and the new part takes it."""
    offset = msgspec.structs.replace(default().offset, cancellation="keep")
    partition = with_line(configuration=msgspec.structs.replace(default(), offset=offset))
    split(partition, ("PICKED", 3), (RESERVED, 7), new_first=False)
    assert (held(partition), failed(partition)) == ({}, [])


def test_a_line_of_many_transactions_remembers_a_bounded_number() -> None:
    """The youngest of them, however large their quantities."""
    partition = Partition()
    for number in range(2 * PARTS_MAX):
        reach(partition, f"T{number}", RESERVED, 10**11)
    line = msgspec.msgpack.decode(partition.rows.rows[LINE_KEY], type=Split)
    assert [part.transaction_id for part in line.parts] == [
        f"T{number}" for number in range(PARTS_MAX, 2 * PARTS_MAX)
    ]


def test_a_loss_of_many_holds_moves_whole() -> None:
    """Only some of them can be brought back one by one; the quantity is theirs all the same."""
    partition = Partition()
    partition.stock(200)
    for _ in range(100):
        partition.reserve(1, order_id="SO-1")
    partition.reserve(100, order_id="SO-2")
    reach(partition, "T1", RESERVED, 100)
    split(partition, (RESERVED, 20), (RESERVED, 80), new_first=False)
    assert (held(partition), failed(partition)) == ({"SO-2": 100}, [])


@pytest.mark.parametrize("status", ["ON_ORDER", RESERVED])
def test_a_transaction_ends_once(status: str) -> None:
    """Cancelled, then its row deleted: the second end has nothing to give, of nobody's holds."""
    partition = with_line(status=status)
    partition.reserve(8, order_id="SO-2")
    reach(partition, "T1", "CANCELLED", 10, 2)
    assert reach(partition, "T1", "DELETED", 10, 3).code == Code.APPLIED
    assert held(partition) == {"SO-2": 8}


def test_a_receipt_that_ends_touches_no_holds() -> None:
    """A purchase that is cancelled was never a demand."""
    partition = with_line()
    partition.reserve(8, order_id="SO-2")
    reach(partition, "P1", "ORDERED", 8)
    assert reach(partition, "P1", "CANCELLED", 8, 2).code == Code.APPLIED
    assert held(partition) == {"SO-2": 8}


@pytest.mark.parametrize("end", ["CANCELLED", "ON_ORDER"])
def test_what_goes_away_gives_back_no_other_orders_holds(end: str) -> None:
    """Its own hold was released by its channel: cancelled or reduced, there is nothing to give."""
    partition = Partition()
    partition.stock(20)
    own = partition.reserve(10, order_id="SO-1")
    partition.reserve(10, order_id="SO-2")
    reach(partition, "T1", "ON_ORDER", 10)
    partition.release(own.hold_id)
    assert reach(partition, "T1", end, 4, 2).code == Code.APPLIED
    assert held(partition) == {"SO-2": 10}


@pytest.mark.parametrize(("by", "left"), [("reservation", 4), ("hold", 4), ("dimensions", 10)])
def test_holds_of_no_order_are_given_back_where_they_are_named(by: str, left: float) -> None:
    """By hold or reservation id; an order's line alone says nothing of them."""
    partition = Partition()
    partition.stock(20)
    hold = partition.reserve(10)
    named = {"reservation_id": hold.reservation_id} if by == "reservation" else {}
    named |= {"hold_id": hold.hold_id} if by == "hold" else {}
    words: dict[str, Any] = {"transaction": "T1", **LINE, **named}
    partition.status("ON_ORDER", 6, sequence=1, **words)
    partition.status("CANCELLED", 6, sequence=2, **words)
    assert held(partition) == {"": left}


def test_a_hold_that_is_named_but_another_orders_is_not_given_back() -> None:
    """The ERP's line names it by mistake, or it changed hands."""
    partition = Partition()
    partition.stock(20)
    hold = partition.reserve(10, order_id="SO-2")
    words: dict[str, Any] = {"transaction": "T1", **LINE, "hold_id": hold.hold_id}
    partition.status("ON_ORDER", 10, sequence=1, **words)
    assert partition.status("CANCELLED", 10, sequence=2, **words).code == Code.APPLIED
    assert held(partition) == {"SO-2": 10}


@pytest.mark.parametrize("swept", [True, False])
def test_of_a_hold_in_its_grace_only_what_is_offset_comes_back(*, swept: bool) -> None:
    """The rest has expired: nobody's basket holds it any more, and it need not be there."""
    partition = Partition(msgspec.structs.replace(default(), grace_ms=60_000))
    partition.stock(10)
    lapsed = partition.reserve(10, order_id="SO-1", expires_in_ms=1_000)
    partition.now_ms += 2_000
    if swept:
        partition.tick()
    partition.reserve(5, order_id="SO-2")
    told = partition.status("PICKED", 4, sequence=1, hold_id=lapsed.hold_id)
    assert told.code == Code.OFFSET_APPLIED
    assert partition.available() == 5
    again = partition.status("PICKED", 6, sequence=1, transaction="T2", hold_id=lapsed.hold_id)
    assert again.code == Code.OFFSET_NOTHING_RESERVED
    partition.now_ms += 120_000
    partition.tick()
    assert held(partition) == {"SO-2": 5}


def test_holds_of_no_order_are_looked_for_among_so_many() -> None:
    """One cancelled line does not read all the holds of a level."""
    partition = Partition()
    partition.stock(10 * UNORDERED_LOOKED_AT_MAX)
    for _ in range(UNORDERED_LOOKED_AT_MAX):
        hold = partition.reserve(1, order_id="SO-2")
    partition.reserve(1)
    words: dict[str, Any] = {"transaction": "T1", **LINE, "reservation_id": hold.reservation_id}
    partition.status("ON_ORDER", 1, sequence=1, **words)
    partition.status("CANCELLED", 1, sequence=2, **words)
    assert held(partition) == {"SO-2": UNORDERED_LOOKED_AT_MAX, "": 1}


@pytest.mark.parametrize("status", ["ON_ORDER", RESERVED])
def test_transactions_of_one_line_that_all_end_leave_nothing_held(status: str) -> None:
    """New and cancelled within a minute: none of them takes over what the other gives back."""
    partition = Partition()
    partition.stock(20)
    partition.reserve(8, order_id="SO-1")
    for name in ("T1", "T2"):
        reach(partition, name, status, 4)
    for name in ("T1", "T2"):
        reach(partition, name, "CANCELLED", 4, 2)
    assert (held(partition), partition.available()) == ({}, 20)


def test_a_line_that_moved_within_a_partition_goes_on_where_it_is() -> None:
    """It was ended where it was by the same event, under the same sequence."""
    partition = Partition()
    partition.stock(20)
    partition.reserve(4, order_id="SO-1")
    reach(partition, "T1", RESERVED, 4)
    words: dict[str, Any] = {"transaction_id": "T1", "sequence": 2, **LINE}
    moved = TransactionStatus(status=RESERVED, quantity=4 * UNIT, **words)
    ended = msgspec.structs.replace(moved, status="DELETED")
    assert partition.tell({}, transaction=ended, event_id="E2~left0").code == Code.APPLIED
    told = partition.tell({}, transaction=moved, event_id="E2")
    assert told.code == Code.OFFSET_NOTHING_RESERVED
    assert partition.tell({}, transaction=moved, event_id="E3").code == Code.STALE
