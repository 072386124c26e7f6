"""What the ERP tells: measures, the ladder of statuses, offsets, failures, shortage."""

from typing import Any

import msgspec
import pytest

from holdfast.commands import offsets as command
from processor.inventory.configuration import Configuration, PartitionRule, default, to_json
from processor.inventory.offsets import failure_id_of
from processor.inventory.rows import KIND_LEAF, decode_leaf
from processor.inventory.stock import LEAF_ROWS_REMEMBERED_MAX
from producers.settings import Settings
from schemas import topics
from schemas.codes import Code
from schemas.messages import InventoryTransaction, MeasureChange, RequestOptions, TransactionStatus
from tests.support.partition import CODEC, RED, RED_SMALL, UNIT, WAREHOUSE, Partition, line, pieces

BLUE_SMALL = RED_SMALL | {"colorid": "blue"}


def with_offset(**words: Any) -> Configuration:
    """The default with other offset rules."""
    offset = msgspec.structs.replace(default().offset, **words)
    return msgspec.structs.replace(default(), offset=offset)


def held(quantity: float, configuration: Configuration | None = None) -> tuple[Partition, Any]:
    """Ten pieces in stock, some of them held."""
    partition = Partition(configuration)
    partition.stock(10)
    return partition, partition.reserve(quantity)


def kinds(partition: Partition) -> list[str]:
    """Types of the events of the last record."""
    return [event.event_type for event in partition.events]


@pytest.mark.parametrize(
    ("ladder", "offset_at"),
    [
        (["ON_ORDER", "RESERVED_PHYSICAL", "PICKED", "DEDUCTED", "SOLD"], 1),
        (["ON_ORDER", "RESERVED_ORDERED", "RESERVED_PHYSICAL", "PICKED"], 1),
        (["ON_ORDER", "PICKED", "DEDUCTED", "SOLD"], 1),
        (["ON_ORDER", "SOLD"], 1),
        (["QUOTATION_ISSUE", "ON_ORDER", "DEDUCTED", "SOLD"], 2),
    ],
)
def test_modifier_reserve_offsets_once_at_the_nearest_status(
    ladder: list[str], offset_at: int
) -> None:
    """At Reserved, else the nearest later status; never again after it."""
    partition, hold = held(4)
    for sequence, status in enumerate(ladder):
        words = {"sequence": sequence, "reservation_id": hold.reservation_id}
        told = partition.status(status, 4, **words)
        due = sequence == offset_at
        assert kinds(partition) == ["TRANSACTION", "OFFSET_APPLIED"] if due else ["TRANSACTION"]
        assert told.code == (Code.OFFSET_APPLIED if due else Code.APPLIED)
    assert partition.available() == 10


def test_modifier_on_order_offsets_at_creation() -> None:
    """OnOrder: the whole created quantity at once."""
    partition, hold = held(10, with_offset(modifier="on-order"))
    told = partition.status("ON_ORDER", 10, sequence=1, reservation_id=hold.reservation_id)
    assert told.code == Code.OFFSET_APPLIED
    assert pieces(partition.events[1].quantity) == 10


def test_receipts_offset_nothing() -> None:
    """The receipt ladder changes measures only."""
    partition, hold = held(4)
    told = partition.status("REGISTERED", 4, sequence=1, reservation_id=hold.reservation_id)
    assert (told.code, partition.available()) == (Code.APPLIED, 6)


def test_a_line_split_into_transactions_offsets_each_part_once() -> None:
    """Ten reserved; four reach Reserved, later the other six: each transaction has its ledger."""
    partition, hold = held(10)
    by = {"reservation_id": hold.reservation_id}
    for sequence, status in enumerate(("RESERVED_PHYSICAL", "PICKED", "DEDUCTED")):
        partition.status(status, 4, sequence=sequence, transaction="T1", **by)
    assert partition.available() == 4
    partition.status("PICKED", 6, sequence=1, transaction="T2", **by)
    assert partition.available() == 10


@pytest.mark.parametrize("new_first", [True, False])
def test_a_transaction_that_is_split_after_its_offset_takes_nothing_twice(
    *, new_first: bool
) -> None:
    """Ten held; four reserved; three of them picked, a new transaction for the fourth.

    Whichever event comes first, the six that the ERP has not reached stay held.
    """
    partition, hold = held(10)
    by = {"reservation_id": hold.reservation_id, "order_id": "SO-1", "order_line_id": "1"}
    partition.status("RESERVED_PHYSICAL", 4, sequence=1, transaction="T1", **by)
    parts: list[Any] = [("PICKED", 3, 2, "T1"), ("RESERVED_PHYSICAL", 1, 1, "T2")]
    for status, quantity, sequence, name in reversed(parts) if new_first else parts:
        partition.status(status, quantity, sequence=sequence, transaction=name, **by)
    assert partition.available() == 4
    partition.status("PICKED", 1, sequence=2, transaction="T2", **by)
    partition.status("PICKED", 6, sequence=1, transaction="T3", **by)
    assert partition.available() == 10


@pytest.mark.parametrize("new_first", [True, False])
def test_a_transaction_that_is_split_before_its_offset_keeps_its_holds(*, new_first: bool) -> None:
    """Ten on order become six on order and four picked by a new transaction: six stay held."""
    partition, hold = held(10)
    by = {"reservation_id": hold.reservation_id, "order_id": "SO-1", "order_line_id": "1"}
    partition.status("ON_ORDER", 10, sequence=1, transaction="T1", **by)
    parts: list[Any] = [("ON_ORDER", 6, 2, "T1"), ("PICKED", 4, 1, "T2")]
    for status, quantity, sequence, name in reversed(parts) if new_first else parts:
        partition.status(status, quantity, sequence=sequence, transaction=name, **by)
    assert partition.available() == 4


def test_a_reduction_long_before_is_no_split() -> None:
    """A new transaction after the window takes its own holds."""
    partition, hold = held(10)
    by = {"reservation_id": hold.reservation_id, "order_id": "SO-1", "order_line_id": "1"}
    partition.status("ON_ORDER", 10, sequence=1, transaction="T1", **by)
    partition.status("ON_ORDER", 6, sequence=2, transaction="T1", **by)
    assert partition.available() == 4
    partition.now_ms += 60_000
    partition.status("PICKED", 4, sequence=1, transaction="T2", **by)
    assert partition.available() == 8


LINE = {"order_id": "SO-1", "order_line_id": "1", "auto_offset": True}


def demand(quantity: float) -> dict[str, float]:
    """The ERP's own reservation, which stands in place of an offset hold."""
    return {"fno.reservphysical": quantity}


def test_a_transaction_is_no_split_of_itself() -> None:
    """First seen reserved, reduced a second later: the demand is gone, no hold comes back."""
    partition, _ = held(10)
    reached = {"transaction": "T1", **LINE}
    partition.status("RESERVED_PHYSICAL", 10, sequence=1, changes=demand(10), **reached)
    partition.now_ms += 1_000
    partition.status("RESERVED_PHYSICAL", 3, sequence=2, changes=demand(-7), **reached)
    assert kinds(partition) == ["TRANSACTION"]
    assert partition.available() == 7


@pytest.mark.parametrize("new_first", [True, False])
@pytest.mark.parametrize("stranger", [0, 3])
def test_a_split_of_what_was_wholly_offset(*, new_first: bool, stranger: float) -> None:
    """Whichever comes first: the new one has what the old one had, a stranger's hold stays."""
    partition, _ = held(5, with_offset(cancellation="release"))
    if stranger:
        partition.reserve(stranger, order_id="SO-2")
    reached = {"changes": demand(5), "transaction": "T1", **LINE}
    partition.status("RESERVED_PHYSICAL", 5, sequence=1, **reached)
    parts: list[Any] = [("T1", "PICKED", 2, 2, demand(-3)), ("T2", "RESERVED_PHYSICAL", 3, 1, {})]
    for name, status, quantity, sequence, changes in reversed(parts) if new_first else parts:
        words = {"transaction": name, "changes": changes, **LINE}
        partition.status(status, quantity, sequence=sequence, **words)
    partition.tell(demand(3))
    assert partition.available() == 5 - stranger
    assert not [key for key in partition.rows.rows if key[:1] == b"F"]
    partition.status("ON_ORDER", 3, sequence=2, changes=demand(-3), transaction="T2", **LINE)
    assert partition.available() == 5 - stranger  # Its own three, not the stranger's, are soft.
    kept = partition.reserve(10, order_id="SO-2", dimensions=RED_SMALL)
    assert kept.code == Code.INSUFFICIENT_STOCK


@pytest.mark.parametrize("new_first", [True, False])
def test_a_split_below_the_trigger_keeps_its_holds(*, new_first: bool) -> None:
    """Ten on order become four and six on order: ten stay held, and each offsets its own."""
    partition = Partition()
    partition.stock(20)
    partition.reserve(10, order_id="SO-1")
    partition.status("ON_ORDER", 10, sequence=1, transaction="T1", **LINE)
    parts: list[Any] = [("T1", 4, 2), ("T2", 6, 1)]
    for name, quantity, sequence in reversed(parts) if new_first else parts:
        partition.status("ON_ORDER", quantity, sequence=sequence, transaction=name, **LINE)
    assert partition.available() == 10
    for name, quantity in (("T1", 4), ("T2", 6)):
        told = partition.status("PICKED", quantity, sequence=3, transaction=name, **LINE)
        assert told.code == Code.OFFSET_APPLIED
    assert partition.available() == 20


def test_holds_move_with_a_split() -> None:
    """What the old one had offset comes back when the new one falls below the trigger."""
    partition = Partition()
    partition.stock(20)
    partition.reserve(10, order_id="SO-1")
    partition.status("ON_ORDER", 10, sequence=1, transaction="T1", **LINE)
    partition.status("RESERVED_PHYSICAL", 10, sequence=2, transaction="T1", **LINE)
    partition.now_ms += 61_000
    partition.status("PICKED", 3, sequence=3, transaction="T1", **LINE)
    partition.status("RESERVED_PHYSICAL", 7, sequence=1, transaction="T2", **LINE)
    assert partition.available() == 20
    partition.status("ON_ORDER", 7, sequence=2, transaction="T2", **LINE)
    assert partition.available() == 13


def test_a_split_row_of_an_earlier_release_is_read_as_nothing() -> None:
    """Its window has passed before a new release decides; it is forgotten in time."""
    partition, _ = held(4)
    key = b"Susmf\x1eSO-1\x1e1"
    partition.rows.put(key, msgspec.msgpack.encode((1, 4 * UNIT, partition.now_ms)))
    told = partition.status("RESERVED_PHYSICAL", 4, sequence=1, transaction="T2", **LINE)
    assert (told.code, partition.available()) == (Code.OFFSET_APPLIED, 10)


def test_the_parts_of_an_order_line_that_are_remembered_have_a_bound() -> None:
    """A line of a hundred new transactions within a minute does not fill a row."""
    partition, _ = held(10)
    for number in range(100):
        partition.status("ON_ORDER", 1, sequence=1, transaction=f"T{number}", **LINE)
    (stored,) = [value for key, value in partition.rows.rows.items() if key[:1] == b"S"]
    assert len(stored) < 1_000


def test_an_orders_own_hold_in_its_grace_comes_before_a_strangers() -> None:
    """There is stock for both: the order takes its own back, the other one keeps what it has."""
    partition = Partition(msgspec.structs.replace(default(), grace_ms=3_600_000))
    partition.stock(20)
    partition.reserve(10, order_id="X", expires_in_ms=1_000)
    other = partition.reserve(10, order_id="Y")
    partition.now_ms += 2_000
    told = partition.status(
        "RESERVED_PHYSICAL", 10, sequence=1, order_id="X", auto_offset=True, changes=demand(10)
    )
    assert told.code == Code.OFFSET_APPLIED
    assert pieces(partition.release(other.hold_id).quantity) == 10


def test_an_orders_own_hold_on_a_coarser_level_comes_before_a_strangers() -> None:
    """With the size masked X's hold on red is X's, though Y's names the size as the line does."""
    partition = Partition(with_offset(match=("colorid",)))
    partition.stock(20)
    own = partition.reserve(4, order_id="X", dimensions=RED)
    partition.reserve(4, order_id="Y")
    partition.status("PICKED", 4, sequence=1, order_id="X", auto_offset=True)
    assert partition.events[1].hold_id == own.hold_id


@pytest.mark.parametrize("other", [0, 1])
def test_a_named_hold_in_its_grace_is_found_under_masked_dimensions(other: float) -> None:
    """Whether or not another hold counts at its level: the row says where it is."""
    document = msgspec.structs.replace(with_offset(match=("colorid",)), grace_ms=3_600_000)
    partition = Partition(document)
    partition.stock(20)
    lapsed = partition.reserve(10, dimensions=RED, expires_in_ms=1_000)
    if other:
        partition.reserve(other, dimensions=RED)
    partition.now_ms += 2_000
    partition.tick()
    partition.restart()
    told = partition.status("RESERVED_PHYSICAL", 4, sequence=1, hold_id=lapsed.hold_id)
    assert told.code == Code.OFFSET_APPLIED


@pytest.mark.parametrize(("status", "quantity"), [("RESERVED_PHYSICAL", 4), ("ON_ORDER", 10)])
def test_a_failure_of_which_nothing_is_due_any_more_goes(status: str, quantity: float) -> None:
    """Reduced to what was offset, or below the trigger: trying again must take nobody's hold."""
    partition = Partition()
    partition.stock(100)
    partition.reserve(4, order_id="SO-1")
    by = {"order_id": "SO-1", "auto_offset": True}
    partition.status("RESERVED_PHYSICAL", 10, sequence=1, **by)
    partition.status(status, quantity, sequence=2, **by)
    partition.reserve(6, order_id="SO-2")
    before = partition.available()
    options = RequestOptions(offset_failure_id=failure_id_of("usmf", "T1"))
    assert partition.ask("RETRY_OFFSET", [], options=options).code == Code.FAILURE_UNKNOWN
    assert partition.available() == before


def test_a_retry_takes_no_more_than_is_due_by_now() -> None:
    """An entry that an earlier release left behind, for more than the transaction still asks."""
    partition = Partition()
    partition.stock(100)
    partition.reserve(4, order_id="SO-1")
    by = {"order_id": "SO-1", "auto_offset": True}
    partition.status("RESERVED_PHYSICAL", 10, sequence=1, **by)
    stale = {key: value for key, value in partition.rows.rows.items() if key[:1] == b"F"}
    partition.status("RESERVED_PHYSICAL", 4, sequence=2, **by)
    for key, value in stale.items():
        partition.rows.put(key, value)
    partition.reserve(6, order_id="SO-2")
    options = RequestOptions(offset_failure_id=failure_id_of("usmf", "T1"))
    assert partition.ask("RETRY_OFFSET", [], options=options).code == Code.ACCEPTED
    assert [event.event_type for event in partition.events] == ["OFFSET_RESOLVED"]
    assert partition.available() == 94


@pytest.mark.parametrize("was", ["failed", "offset"])
def test_what_has_no_place_under_a_new_partition_rule_stops_nobody(
    was: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty partition goes from one rule to another: what is left is refused, or told."""

    def document(version: int, rule: str) -> Configuration:
        partition = PartitionRule(rule=rule)
        reservation = msgspec.structs.replace(default().reservation, dimensions=tuple(RED_SMALL))
        return msgspec.structs.replace(
            default(), version=version, partition=partition, reservation=reservation
        )

    partition = Partition(document(1, "by-product"))
    key = b"usmf|D0002"
    reached = TransactionStatus(
        transaction_id="T1", status="SOLD", sequence=1, quantity=5 * UNIT, auto_offset=True
    )
    if was == "offset":
        partition.tell({"fno.physicalinvent": 5}, dimensions={}, key=key)
        partition.ask("RESERVE", [line(5, dimensions={})], key=key)
        partition.tell({"fno.physicalinvent": -5}, transaction=reached, dimensions={}, key=key)
    else:
        partition.tell({}, transaction=reached, dimensions={}, key=key)
    options = RequestOptions(configuration=to_json(document(2, "by-location")))
    assert partition.ask("CONFIGURE", [], options=options, key=None).code == Code.ACCEPTED
    if was == "offset":
        again = msgspec.structs.replace(reached, sequence=2)
        partition.tell({}, transaction=again, dimensions=WAREHOUSE)
        assert partition.events[1].message == "there is no place for the hold"
    else:
        options = RequestOptions(offset_failure_id=failure_id_of("usmf", "T1"))
        answer = partition.ask("RETRY_OFFSET", [], options=options)
        assert answer.code == Code.PARTITION_DIMENSION_MISSING
        monkeypatch.setattr(command, "committed_rows", lambda *_: [(0, partition.rows.rows)])
        listed = command.entries(Settings(bootstrap_servers="none", registry_url="none"))
        assert [entry.key for entry in listed] == [b"usmf||"]


def test_a_transaction_that_grows_offsets_the_difference() -> None:
    """Four, then seven of the same transaction: three more."""
    partition, hold = held(10)
    by = {"reservation_id": hold.reservation_id}
    partition.status("RESERVED_PHYSICAL", 4, sequence=1, **by)
    partition.status("PICKED", 7, sequence=2, **by)
    assert pieces(partition.events[1].quantity) == 3
    assert partition.available() == 7


def test_over_offset_takes_what_is_there_and_lists_the_rest() -> None:
    """Five reserved, eight offset: five gone, three invalid and in the list of failures."""
    partition, hold = held(5)
    told = partition.status("PICKED", 8, sequence=1, reservation_id=hold.reservation_id)
    assert told.code == Code.OFFSET_PARTIAL
    failed = partition.events[1]
    assert (failed.event_type, pieces(failed.quantity), pieces(failed.invalid_quantity)) == (
        "OFFSET_FAILED",
        5,
        3,
    )
    assert [key[:1] for key in partition.rows.rows].count(b"F") == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"reservation_id": "nonsense"}, Code.OFFSET_WRONG_RESERVATION),
        ({"hold_id": "nonsense"}, Code.OFFSET_WRONG_RESERVATION),
        ({"hold_id": "0" * 24 + "-7"}, Code.OFFSET_WRONG_RESERVATION),
        ({"auto_offset": True, "dimensions": RED}, Code.OFFSET_NOTHING_RESERVED),
        ({"own": "reservation_id", "dimensions": BLUE_SMALL}, Code.OFFSET_WRONG_DIMENSIONS),
        ({"own": "hold_id", "dimensions": RED}, Code.OFFSET_WRONG_DIMENSIONS),
    ],
)
def test_a_wrong_reference_changes_no_hold(words: dict[str, Any], code: Code) -> None:
    """Wrong id, wrong dimensions, nothing there: an event with the reason, an entry in the list."""
    partition, hold = held(4)
    if "own" in words:
        name = words.pop("own")
        words[name] = getattr(hold, name)
    told = partition.status("PICKED", 4, sequence=1, **words)
    assert told.code == code
    assert kinds(partition) == ["TRANSACTION", "OFFSET_FAILED"]
    assert partition.available() == 6
    assert [key[:1] for key in partition.rows.rows].count(b"F") == 1


def test_measures_of_a_failed_offset_are_applied_all_the_same() -> None:
    """What the ERP says of its own stock is true whether or not a hold was found."""
    partition, _ = held(4)
    changes = {"fno.reservphysical": 4.0}
    words = {"sequence": 1, "reservation_id": "nonsense", "changes": changes}
    partition.status("RESERVED_PHYSICAL", 4, **words)
    assert partition.available() == 2


@pytest.mark.parametrize("way", ["hold_id", "reservation_id", "auto_offset"])
def test_three_ways_to_name_what_is_offset(way: str) -> None:
    """By hold id, by reservation id and dimensions, or derived from the line."""
    partition, hold = held(4)
    words = {way: True if way == "auto_offset" else getattr(hold, way)}
    assert partition.status("PICKED", 4, sequence=1, **words).code == Code.OFFSET_APPLIED
    assert partition.available() == 10


def test_a_masked_dimension_need_not_match() -> None:
    """With the size masked, a hold on red is offset by a line of red small."""
    partition = Partition(with_offset(match=("colorid",)))
    partition.stock(10)
    hold = partition.reserve(4, dimensions=RED)
    words = {"sequence": 1, "reservation_id": hold.reservation_id}
    assert partition.status("PICKED", 4, **words).code == Code.OFFSET_APPLIED
    assert partition.available() == 10


@pytest.mark.parametrize("sequence", [1, 0])
def test_a_late_status_changes_nothing(sequence: int) -> None:
    """A sequence that is not above the last one: neither offset nor measures."""
    partition, hold = held(4)
    by = {"reservation_id": hold.reservation_id}
    partition.status("ON_ORDER", 4, sequence=1, **by)
    changes = {"fno.physicalinvent": -4.0}
    told = partition.status("PICKED", 4, sequence=sequence, changes=changes, **by)
    assert (told.code, partition.available()) == (Code.STALE, 6)


def test_a_step_back_down_brings_the_hold_back() -> None:
    """Reserved, then on order again: the demand is a soft one again, with its own hold id."""
    partition, hold = held(4)
    by = {"reservation_id": hold.reservation_id}
    up, down = {"fno.reservphysical": 4.0}, {"fno.reservphysical": -4.0}
    partition.status("RESERVED_PHYSICAL", 4, sequence=1, changes=up, **by)
    told = partition.status("ON_ORDER", 4, sequence=2, changes=down, **by)
    assert told.code == Code.OFFSET_REVERTED
    assert (partition.events[1].event_type, partition.events[1].hold_id) == (
        "OFFSET_REVERTED",
        hold.hold_id,
    )
    assert partition.available() == 6
    partition.status("PICKED", 4, sequence=3, **by)
    assert partition.available() == 10


def test_by_policy_a_step_back_brings_nothing_back() -> None:
    """`reversal: ignore`: what was offset stays offset."""
    partition, hold = held(4, with_offset(reversal="ignore"))
    by = {"reservation_id": hold.reservation_id}
    partition.status("RESERVED_PHYSICAL", 4, sequence=1, **by)
    assert partition.status("ON_ORDER", 4, sequence=2, **by).code == Code.APPLIED
    assert partition.available() == 10


@pytest.mark.parametrize("ended", ["CANCELLED", "DELETED"])
def test_a_cancelled_order_gives_its_quantity_back(ended: str) -> None:
    """Ten held, line gone: soft minus ten."""
    partition, hold = held(10)
    by = {"reservation_id": hold.reservation_id}
    partition.status("ON_ORDER", 10, sequence=1, **by)
    partition.status(ended, 10, sequence=2, **by)
    assert partition.available() == 10
    assert partition.release(hold.hold_id).code == Code.HOLD_CLOSED


def test_a_reduced_order_gives_the_difference_back() -> None:
    """Ten held, line reduced to six: soft minus four."""
    partition, hold = held(10)
    by = {"reservation_id": hold.reservation_id}
    partition.status("ON_ORDER", 10, sequence=1, **by)
    partition.status("ON_ORDER", 6, sequence=2, **by)
    assert partition.available() == 4


def test_cancelling_after_the_offset_holds_nothing_again() -> None:
    """The ERP gives its own measure back; there is no demand left to hold for."""
    partition, hold = held(4)
    by = {"reservation_id": hold.reservation_id}
    partition.status("PICKED", 4, sequence=1, changes={"fno.reservphysical": 4.0}, **by)
    partition.status("CANCELLED", 4, sequence=2, changes={"fno.reservphysical": -4.0}, **by)
    assert partition.available() == 10


def test_cancelling_what_was_offset_leaves_the_rest_of_the_hold() -> None:
    """Four of seven were offset, then cancelled: three are held on, for the other lines."""
    partition, hold = held(7)
    by = {"reservation_id": hold.reservation_id}
    partition.status("PICKED", 4, sequence=1, changes={"fno.reservphysical": 4.0}, **by)
    partition.status("CANCELLED", 4, sequence=2, changes={"fno.reservphysical": -4.0}, **by)
    assert partition.available() == 7
    assert partition.release(hold.hold_id).code == Code.ACCEPTED
    assert partition.available() == 10


def test_other_dimensions_revert_the_old_offset_and_make_a_new_one() -> None:
    """A line that was offset as red becomes blue: red counts again, blue is offset."""
    partition, red = held(4)
    partition.stock(10, dimensions=BLUE_SMALL)
    blue = partition.reserve(4, dimensions=BLUE_SMALL)
    partition.status("RESERVED_PHYSICAL", 4, sequence=1, reservation_id=red.reservation_id)
    assert partition.available() == 10
    words = {"reservation_id": blue.reservation_id, "dimensions": BLUE_SMALL}
    partition.status("RESERVED_PHYSICAL", 4, sequence=2, **words)
    assert kinds(partition) == ["TRANSACTION", "OFFSET_REVERTED", "OFFSET_APPLIED"]
    assert (partition.available(), partition.available(BLUE_SMALL)) == (6, 10)


def test_another_product_reverts_the_old_offset_and_makes_a_new_one() -> None:
    """A line becomes one of another product of the same color and size, in the same place."""
    partition, old = held(4)
    partition.stock(10, product="D0003")
    new = partition.reserve(3, product="D0003")
    by = {"auto_offset": True}
    partition.status("RESERVED_PHYSICAL", 4, sequence=1, **by)
    assert partition.available() == 10
    partition.status("RESERVED_PHYSICAL", 3, sequence=2, product="D0003", **by)
    assert [(event.event_type, event.hold_id) for event in partition.events] == [
        ("TRANSACTION", ""),
        ("OFFSET_REVERTED", old.hold_id),
        ("OFFSET_APPLIED", new.hold_id),
    ]
    assert (partition.available(), partition.available(product="D0003")) == (6, 10)


GRACE_MS = 5_000


@pytest.mark.parametrize("way", ["hold_id", "order_id"])
@pytest.mark.parametrize(
    ("left_ms", "code"), [(1, Code.OFFSET_APPLIED), (0, Code.OFFSET_NOTHING_RESERVED)]
)
def test_the_grace_ends_by_the_clock(way: str, left_ms: int, code: Code) -> None:
    """To the millisecond, though nothing has swept the hold: a tick may come at any time."""
    partition = Partition(msgspec.structs.replace(default(), grace_ms=GRACE_MS))
    partition.stock(10)
    hold = partition.reserve(4, expires_in_ms=1_000, order_id="SO-1")
    partition.now_ms += 1_000 + GRACE_MS - left_ms
    by: dict[str, Any] = {"hold_id": hold.hold_id}
    if way == "order_id":
        by = {"order_id": "SO-1", "auto_offset": True}
    assert partition.status("PICKED", 4, sequence=1, **by).code == code


def test_an_offset_just_after_expiry_finds_its_hold_within_the_grace() -> None:
    """By hold id, a hold that expired within the grace is offset if its stock is still there."""
    partition = Partition(msgspec.structs.replace(default(), grace_ms=5_000))
    partition.stock(10)
    hold = partition.reserve(4, expires_in_ms=1_000)
    partition.now_ms += 1_500
    partition.tick()
    changes = {"fno.reservphysical": 4.0}
    told = partition.status("PICKED", 4, sequence=1, changes=changes, hold_id=hold.hold_id)
    assert told.code == Code.OFFSET_APPLIED
    assert partition.available() == 6


def test_a_failed_offset_can_be_tried_again_or_dismissed() -> None:
    """An entry stays until it is resolved; retried after the hold is there, it is."""
    partition = Partition()
    partition.stock(10)
    for transaction in ("T1", "T2"):
        partition.status("PICKED", 4, sequence=1, auto_offset=True, transaction=transaction)
    entries = sorted(key[1:].decode() for key in partition.rows.rows if key[:1] == b"F")
    assert len(entries) == 2
    retry = RequestOptions(offset_failure_id=entries[0])
    assert partition.ask("RETRY_OFFSET", [], options=retry).code == Code.OFFSET_NOTHING_RESERVED
    partition.reserve(4)
    again = partition.ask("RETRY_OFFSET", [], options=retry)
    assert (again.code, kinds(partition)) == (Code.ACCEPTED, ["OFFSET_APPLIED"])
    assert partition.available() == 10
    dry = RequestOptions(offset_failure_id=entries[1], dry_run=True)
    assert partition.ask("DISMISS_OFFSET", [], options=dry).code == Code.ACCEPTED
    dismiss = RequestOptions(offset_failure_id=entries[1])
    assert partition.ask("DISMISS_OFFSET", [], options=dismiss).code == Code.ACCEPTED
    assert kinds(partition) == ["OFFSET_RESOLVED"]
    assert partition.ask("DISMISS_OFFSET", [], options=dismiss).code == Code.FAILURE_UNKNOWN
    assert not any(key[:1] == b"F" for key in partition.rows.rows)


def test_offsets_can_be_switched_off() -> None:
    """Statuses then change measures only."""
    partition, hold = held(4, with_offset(enabled=False))
    told = partition.status("PICKED", 4, sequence=1, reservation_id=hold.reservation_id)
    assert (told.code, partition.available()) == (Code.APPLIED, 6)


def test_the_ledger_of_a_finished_transaction_is_forgotten_in_the_end() -> None:
    """Ninety days after it was sold its row goes; a day before, a late status still finds it."""
    partition, hold = held(4)
    day_ms = 24 * 3_600_000
    partition.status("SOLD", 4, sequence=1, reservation_id=hold.reservation_id)
    for days, kept in ((89, True), (1, False)):
        partition.now_ms += days * day_ms
        for _ in range(4):
            partition.tick()
        assert any(key[:1] == b"T" for key in partition.rows.rows) == kept


def test_the_ledger_of_a_transaction_that_goes_on_behind_its_end_is_not_forgotten() -> None:
    """Sold by mistake, picked again, and quiet for months: its next status takes nothing twice."""
    partition = Partition()
    partition.stock(10)
    partition.reserve(8)
    partition.status("SOLD", 5, sequence=1, auto_offset=True)
    partition.status("PICKED", 5, sequence=2, auto_offset=True)
    partition.now_ms += 91 * 24 * 3_600_000
    for _ in range(9):
        partition.tick()
    partition.status("PICKED", 5, sequence=3, auto_offset=True)
    assert partition.available() == 7


# Measures.


def test_an_event_is_counted_once() -> None:
    """The same event id again changes nothing; with other content it is refused."""
    partition = Partition()
    partition.stock(10, event_id="E1")
    partition.restart()
    assert partition.stock(10, event_id="E1").code == Code.DUPLICATE
    assert partition.stock(11, event_id="E1").code == Code.REQUEST_ID_REUSED
    assert partition.available() == 10


def test_one_event_may_carry_several_measures_sources_and_rows() -> None:
    """All of them are applied together."""
    partition = Partition()
    partition.stock(10)
    partition.tell({"pos.outbound": 2, "IV.Ordered": 1}, source="pos")
    assert partition.available() == 9
    moved = [MeasureChange("fno.physicalinvent", -UNIT)]
    moved.append(MeasureChange("fno.physicalinvent", UNIT, BLUE_SMALL))
    partition.tell({}, changes=moved)
    assert (partition.available(), partition.available(BLUE_SMALL)) == (8, 1)


RESERVED = TransactionStatus(
    transaction_id="T1", status="RESERVED_PHYSICAL", sequence=1, quantity=UNIT
)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"changes": {"fno.physicalinvent": 1}, "source": "pos"}, Code.DATA_SOURCE_PROTECTED),
        ({"changes": {"iv.softreserved": 1}}, Code.MEASURE_RESERVED),
        ({"changes": {"fno.nothing": 1}}, Code.MEASURE_UNKNOWN),
        ({"changes": {"pos.inbound": 1}, "product": ""}, Code.PRODUCT_INVALID),
        ({"changes": {"pos.inbound": 1}, "event_id": ""}, Code.REQUEST_ID_INVALID),
        ({"changes": {"pos.inbound": 1}, "dimensions": RED | {"x": "y"}}, Code.DIMENSION_UNKNOWN),
        (
            {"changes": {}, "dimensions": {"siteid": "1"}, "transaction": RESERVED},
            Code.PARTITION_DIMENSION_MISSING,
        ),
    ],
)
def test_an_event_that_may_not_be_applied_changes_nothing(
    words: dict[str, Any], code: Code
) -> None:
    """It is answered with its reason."""
    partition = Partition()
    partition.stock(10)
    assert partition.tell(words.pop("changes"), **words).code == code
    assert partition.available() == 10


@pytest.mark.parametrize(
    ("dimensions", "key"),
    [({}, b"usmf||"), ({"siteid": "1", "colorid": "red"}, b"usmf|1|"), ({"siteid": ""}, b"usmf||")],
)
def test_stock_without_a_warehouse_is_kept_and_nothing_is_promised_from_it(
    dimensions: dict[str, str], key: bytes
) -> None:
    """By location the empty value is a place of its own, with a key of its own: deltas, counts."""
    partition = Partition()
    partition.stock(3)
    arrived = partition.stock(10, dimensions=dimensions, key=key, event_id="once")
    assert (arrived.code, arrived.dimensions) == (Code.APPLIED, dimensions)
    again = partition.stock(10, dimensions=dimensions, key=key, event_id="once")
    assert again.code == Code.DUPLICATE
    words = {"mode": "SET", "modified_at_ms": 5_000}
    assert partition.stock(7, dimensions=dimensions, key=key, **words).code == Code.APPLIED
    leaves = [
        decode_leaf(value)
        for name, value in partition.rows.rows.items()
        if name[:1] == b"P" and name[13] == KIND_LEAF
    ]
    assert [(leaf.dimensions, leaf.quantities["fno.physicalinvent"]) for leaf in leaves][1:] == [
        ({name: value for name, value in dimensions.items() if value}, 7 * UNIT)
    ]
    assert partition.available() == 3
    refused = partition.ask("RESERVE", [line(1, dimensions=dimensions)], key=key)
    assert refused.lines[0].code == Code.PARTITION_DIMENSION_MISSING
    elsewhere = InventoryTransaction(
        event_id="elsewhere",
        organization_id="usmf",
        product_id="D0002",
        dimensions=dimensions,
        source="fno",
        changes=[MeasureChange("fno.physicalinvent", UNIT)],
    )
    value = CODEC.encode_transaction(elsewhere)
    assert partition.send(topics.TRANSACTIONS, b"usmf|1|11", value) == []
    assert [letter.code for letter in partition.dead_letters] == [Code.KEY_MISMATCH]
    assert kinds(partition) == []


def test_stock_rows_add_up_over_changes_and_restarts() -> None:
    """Whether a row is remembered or read again: more of them than a product-location keeps."""
    places = [
        {"siteid": "1", "locationid": "11", "colorid": f"color-{number}"}
        for number in range(LEAF_ROWS_REMEMBERED_MAX + 4)
    ]
    partition = Partition()
    for quantity in (1, 2, 4):
        for place in places:
            partition.stock(quantity, dimensions=place)
            partition.stock(8, dimensions=place)
        partition.restart()
    assert [partition.available(place) for place in places] == [31] * len(places)


def test_a_count_replaces_and_an_older_count_loses() -> None:
    """SET with an older stamp than the last is STALE; the same stamp wins."""
    partition = Partition()
    partition.stock(10)
    for stamp, quantity, code, left in (
        (5_000, 7, Code.APPLIED, 7),
        (4_999, 3, Code.STALE, 7),
        (5_000, 4, Code.APPLIED, 4),
    ):
        words = {"mode": "SET", "modified_at_ms": stamp}
        assert partition.stock(quantity, **words).code == code
        assert partition.available() == left


def test_a_count_of_the_future_does_not_outlast_the_next() -> None:
    """Its stamp counts as now: a wrong clock would make every later count stale."""
    partition = Partition()
    ahead = partition.now_ms + 366 * 24 * 3_600_000
    partition.stock(7, mode="SET", modified_at_ms=ahead)
    partition.now_ms += 1_000
    assert partition.stock(5, mode="SET", modified_at_ms=partition.now_ms).code == Code.APPLIED
    assert partition.available() == 5


def test_a_stock_row_without_a_value_belongs_to_the_coarser_levels_only() -> None:
    """Stock of unknown size can be reserved as red, not as red small."""
    partition = Partition()
    partition.stock(5, dimensions=RED)
    assert (partition.available(RED), partition.available(RED_SMALL)) == (5, 0)


@pytest.mark.parametrize(
    ("policy", "short", "left"),
    [
        ("keep-and-alert", [], (4, 4)),
        ("newest-first", ["new"], (4, 0)),
        ("priority", ["old"], (0, 4)),
    ],
)
def test_supply_that_shrinks_below_what_is_held(
    policy: str, short: list[str], left: tuple[float, float]
) -> None:
    """An event always says so; by policy all holds stay, the newest go, or the lowest priority."""
    partition = Partition(msgspec.structs.replace(default(), supply_shrink=policy))
    partition.stock(10)
    old = partition.reserve(4, priority=1)
    new = partition.reserve(4, priority=2)
    partition.stock(-6)
    assert partition.events[1].event_type == "SUPPLY_SHORT"
    assert pieces(partition.events[1].quantity) == 4
    names = {old.hold_id: "old", new.hold_id: "new"}
    touched = [
        names[event.hold_id] for event in partition.events if event.event_type == "HOLD_SHORT"
    ]
    assert touched == short
    released = [partition.release(hold.hold_id) for hold in (old, new)]
    assert tuple(pieces(answer.quantity) for answer in released) == left
    assert partition.available(WAREHOUSE) == 4


@pytest.mark.parametrize(("level", "blue"), [(RED_SMALL, 5), (RED, 5), (WAREHOUSE, 0)])
def test_a_hold_loses_what_is_missing_and_keeps_the_rest(
    level: dict[str, str], blue: float
) -> None:
    """Less than the hold has, at whatever level that is missing, though another has enough."""
    partition = Partition(msgspec.structs.replace(default(), supply_shrink="newest-first"))
    partition.stock(10)
    partition.stock(blue, dimensions=BLUE_SMALL)
    old = partition.reserve(4, dimensions=level)
    new = partition.reserve(4, dimensions=level)
    partition.stock(-3)
    told = [(one.event_type, one.hold_id, pieces(one.quantity)) for one in partition.events]
    assert told[1:] == [("SUPPLY_SHORT", "", 1), ("HOLD_SHORT", new.hold_id, 1)]
    assert partition.available(level) == 0
    kept = [partition.release(hold.hold_id, dimensions=level) for hold in (old, new)]
    assert [pieces(answer.quantity) for answer in kept] == [4, 3]
    assert partition.available(level) == 7


def test_what_is_missing_at_a_fine_level_is_not_taken_twice() -> None:
    """The one on red small must lose: then red has enough for the other one, newer as it is."""
    partition = Partition(msgspec.structs.replace(default(), supply_shrink="newest-first"))
    partition.stock(4)
    partition.stock(4, dimensions=RED | {"sizeid": "large"})
    small = partition.reserve(4)
    partition.reserve(4, dimensions=RED)
    partition.stock(-4)
    lost = [one for one in partition.events if one.event_type == "HOLD_SHORT"]
    assert [(one.hold_id, pieces(one.quantity)) for one in lost] == [(small.hold_id, 4)]
