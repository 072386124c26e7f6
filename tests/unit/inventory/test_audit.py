"""The auditor sees what does not add up, and only that."""

from processor.inventory import rows as row
from processor.inventory.audit import audit
from processor.inventory.rules import default_rules
from tests.support.partition import RED, UNIT, Partition


def busy() -> Partition:
    """A partition with holds of all sorts."""
    partition = Partition()
    partition.stock(10)
    partition.reserve(1, order_id="SO-1")
    partition.reserve(2, expires_in_ms=1_000)
    held = partition.reserve(3, dimensions=RED)
    partition.release(held.hold_id, 1, dimensions=RED)
    partition.now_ms += 1_000
    partition.tick()
    return partition


def kinds(partition: Partition) -> list[str]:
    """Kinds of what the auditor finds."""
    found = audit(default_rules(), partition.rows.rows.items(), partition.now_ms)
    return [drift.kind for drift in found]


def test_rows_of_a_busy_partition_add_up() -> None:
    """Nothing is found where nothing is wrong."""
    assert kinds(busy()) == []


def test_a_total_that_is_not_the_sum_of_its_holds_is_a_drift() -> None:
    """A hold that vanished, and a total that vanished."""
    partition = busy()
    hold = next(key for key in partition.rows.rows if key[:1] == b"H")
    partition.rows.delete(hold)
    assert kinds(partition) == ["level-total"]
    partition = busy()
    total = next(k for k in partition.rows.rows if k[:1] == b"P" and k[13] == row.KIND_LEVEL)
    partition.rows.delete(total)
    assert kinds(partition) == ["level-total"]


def test_a_hold_under_another_key_is_a_drift() -> None:
    """A hold row that lies under another reservation than its own."""
    partition = busy()
    key = next(key for key in partition.rows.rows if key[:1] == b"H")
    value = partition.rows.rows[key]
    partition.rows.put(b"H" + bytes(12) + key[13:], value)
    assert "hold" in kinds(partition)


def test_a_shortage_is_told_but_is_no_fault_of_the_rows() -> None:
    """Supply that was lowered below checked holds is `short`; unchecked ones are not told."""
    partition = busy()
    partition.stock(-9)
    found = audit(default_rules(), partition.rows.rows.items(), partition.now_ms)
    assert {drift.kind for drift in found} == {"short"}
    assert not any(drift.is_fault for drift in found)
    assert max(drift.found for drift in found) == 2 * UNIT
    partition.reserve(1, check=False)
    assert kinds(partition) == []
