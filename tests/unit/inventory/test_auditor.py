"""The auditor's pass in the worker tells what contradicts itself, once, and mends nothing."""

from collections.abc import Iterator

import pytest

from processor.inventory import auditor, rows as row
from schemas.codes import Code
from schemas.messages import InventoryEvent
from tests.support.partition import RED, UNIT, Partition, line


def drifts(partition: Partition, seconds: int = 5) -> list[InventoryEvent]:
    """What the auditor tells in the next seconds."""
    told: list[InventoryEvent] = []
    for _ in range(seconds):
        partition.now_ms += 1_000
        partition.tick()
        told += [event for event in partition.events if event.event_type == "DRIFT"]
    return told


def busy() -> Partition:
    """A partition with holds of all sorts."""
    partition = Partition()
    partition.stock(10)
    partition.reserve(1, order_id="SO-1")
    partition.reserve(2, expires_in_ms=500)
    held = partition.reserve(3, dimensions=RED)
    partition.release(held.hold_id, 1, dimensions=RED)
    return partition


def level_rows(partition: Partition) -> list[bytes]:
    """Keys of the totals."""
    return [key for key in partition.rows.rows if key[:1] == b"P" and key[13] == row.KIND_LEVEL]


def test_nothing_is_told_where_nothing_is_wrong() -> None:
    """Live, released and expired holds, before and behind the sweep."""
    partition = busy()
    assert drifts(partition) == []
    assert partition.decider._auditor.passes >= 4


def test_a_planted_drift_is_told_once_and_stays() -> None:
    """A total that is one too high: one event that says both figures, and the row as it was."""
    partition = busy()
    (key, *_) = level_rows(partition)
    total = row.decode_level(partition.rows.rows[key])
    place = row.Place(total.organization_id, total.product_id, total.dimensions, total.measure)
    wrong = row.level_head(row.encode_place(place)) + auditor._encode(total.reserved + UNIT)
    partition.rows.put(key, wrong)
    partition.restart()
    (told,) = drifts(partition)
    assert told.code == Code.ROWS_CONTRADICT
    assert (told.organization_id, told.product_id) == ("usmf", "D0002")
    assert told.message.startswith("level-total: usmf D0002")
    assert f"{told.quantity}, not {told.quantity - UNIT}" in told.message
    assert drifts(partition) == []
    assert key in partition.rows.rows


@pytest.mark.parametrize("kind", ["hold", "total"])
def test_a_row_that_vanished_is_told(kind: str) -> None:
    """A hold without its total is found as well as a total without its hold."""
    partition = busy()
    drifts(partition)
    lost = next(key for key in partition.rows.rows if key[:1] == b"H")
    if kind == "total":
        lost = next(key for key in level_rows(partition))
    partition.rows.delete(lost)
    partition.restart()
    (told,) = drifts(partition)
    assert told.message.startswith("level-total")


def test_totals_that_are_not_written_yet_are_no_drift() -> None:
    """In the middle of a batch the rows of totals are behind; the auditor knows."""
    partition = busy()
    partition.decider._auditor.next_ms = 0
    partition.commit = lambda: None  # type: ignore[method-assign]
    for _ in range(5):
        partition.now_ms += 1_000
        partition.tick()
        assert "DRIFT" not in {event.event_type for event in partition.events}
        partition.now_ms += 1_000
        for product in ("NEW", "D0002"):
            partition.reserve(1, product=product, check=False)
            assert "DRIFT" not in {event.event_type for event in partition.events}
    assert partition.decider._auditor.passes >= 4


def test_a_long_list_of_holds_is_left_to_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a missing total nor a wrong one is looked for there; below the bound it is."""
    partition = Partition()
    partition.stock(1_000)
    partition.ask("RESERVE", [line(1) for _ in range(40)])
    partition.rows.delete(next(key for key in partition.rows.rows if key[:1] == b"H"))
    partition.restart()
    monkeypatch.setattr(auditor, "HOLDS_MAX", 38)
    assert drifts(partition) == []
    monkeypatch.setattr(auditor, "HOLDS_MAX", 39)
    assert len(drifts(partition)) == 1


def test_a_step_ends_when_it_has_seen_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass over 40 products takes as many steps as its rows ask for."""
    partition = Partition()
    for number in range(40):
        partition.reserve(1, product=f"P{number}", check=False)
    monkeypatch.setattr(auditor, "STEP_ROWS", 60)
    drifts(partition, seconds=1)
    passes = partition.decider._auditor.passes
    drifts(partition, seconds=4)
    assert partition.decider._auditor.passes == passes
    drifts(partition, seconds=8)
    assert partition.decider._auditor.passes > passes


def test_a_step_reads_few_rows_however_many_holds_there_are() -> None:
    """Whole and right or not: a step ends behind the group in which its rows were spent."""
    partition = Partition()
    for number in range(20):
        product = f"P-{number}"
        partition.stock(1_000, product=product)
        for _ in range(3):
            partition.ask(
                "RESERVE",
                [line(1, product=product) for _ in range(300)],
                key=b"usmf|1|11",
            )
    read, scan = [0], partition.rows.scan

    def counted(group: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        for found in scan(group, after):
            read[0] += 1
            yield found

    partition.rows.scan = counted  # type: ignore[method-assign]
    told, steps = partition.decider._auditor, 0
    passes = told.passes
    while told.passes < passes + 2:
        read[0] = 0
        partition.now_ms += 1_000
        partition.tick()
        steps += 1
        assert read[0] <= auditor.STEP_ROWS + auditor.HOLDS_MAX
    assert steps > 20 * 900 // (auditor.STEP_ROWS + auditor.HOLDS_MAX)
