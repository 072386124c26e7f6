"""Product-locations that are forgotten: no answer changes, and their memory is free at once."""

import gc
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from processor.inventory.configuration import Configuration, default, to_json
from processor.inventory.state import PartitionState
from schemas.codes import Code
from schemas.messages import RequestOptions
from tests.support.partition import RED, RED_SMALL, WAREHOUSE, Partition

SMALL = WAREHOUSE | {"sizeid": "small"}
PRODUCTS = 300
ROUNDS = 4
BLOCKS_LEFT_MAX = 5 * PRODUCTS  # Of memory; a product-location that stays is 40 and more.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["stock", "reserve", "expire", "release", "extend", "wait"]),
        st.sampled_from(["P1", "P2", "P3", "P4"]),
        st.sampled_from([RED, RED_SMALL]),
        st.integers(1, 4),
    ),
    min_size=20,
    max_size=60,
)


def state_of(partition: Partition) -> PartitionState:
    """What the partition's decider remembers."""
    return partition.decider._state


class Overlapping(Partition):
    """Three records a batch; its commit is told when the next one is begun, as by the engine."""

    def commit(self) -> None:
        """The next step of the three."""
        step = sum(self.offsets.values()) % 3
        if step == 0:
            self.checkpoint = self.decider.checkpoint()
        elif step == 1:
            self.decider.committed()


def forgetful() -> Partition:
    """A partition that remembers one product-location, beside those just used."""
    partition = Overlapping()
    state_of(partition).locations_max = 1
    return partition


def play(partition: Partition, steps: list[tuple[str, str, dict[str, str], int]]) -> None:
    """Send what the steps say; holds are named by the answers so far."""
    held: list[tuple[str, dict[str, Any]]] = []
    for verb, product, dimensions, number in steps:
        words: dict[str, Any] = {"product": product, "dimensions": dimensions}
        if verb == "stock":
            partition.stock(number, product=product)
        elif verb == "wait":
            partition.now_ms += number * 1_000
            partition.tick()
        elif verb in {"reserve", "expire"}:
            due = {"expires_in_ms": 2_000} if verb == "expire" else {}
            answer = partition.reserve(number, **words, **due)
            if answer.hold_id:
                held.append((answer.hold_id, words))
        elif held:
            hold_id, words = held[number % len(held)]
            if verb == "release":
                partition.release(hold_id, **words)
            else:
                partition.line("EXTEND", 0, hold_id=hold_id, expires_in_ms=5_000, **words)


def reserving(mode: str) -> Configuration:
    """The default, with levels that are prefixes of the hierarchy, or that cross."""
    reservation = msgspec.structs.replace(default().reservation, mode=mode)
    return msgspec.structs.replace(default(), reservation=reservation)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_forgetting_changes_no_answer_and_no_row(
    steps: list[tuple[str, str, dict[str, str], int]],
) -> None:
    """One that forgets all that was not just used answers to the byte as one that never does."""
    remembers, forgets = Overlapping(), forgetful()
    for partition in (remembers, forgets):
        play(partition, steps)
        partition.decider.checkpoint()
    assert forgets.written == remembers.written
    assert forgets.rows.rows == remembers.rows.rows


def test_no_more_is_remembered_than_the_bound_and_what_was_just_used() -> None:
    """The bound is kept, whatever comes by."""
    partition = forgetful()
    for number in range(20):
        partition.reserve(1, product=f"P{number}", check=False)
        assert len(state_of(partition).locations) <= 7  # Two batches and one.


def by_trim(partition: Partition) -> None:
    """Behind a batch, the oldest that are too many."""
    state_of(partition).locations_max = 1
    for number in range(3):
        partition.reserve(1, product=f"other-{number}", check=False)
    state_of(partition).locations_max = PRODUCTS + 10


def by_configuration(partition: Partition) -> None:
    """Every sum is made anew."""
    current = state_of(partition).rules.configuration
    document = to_json(msgspec.structs.replace(current, version=current.version + 1))
    asked = RequestOptions(configuration=document)
    assert partition.ask("CONFIGURE", [], options=asked, key=None).code == Code.ACCEPTED


def by_handing_over(partition: Partition) -> None:
    """The partition goes to another worker."""
    while partition.decider.let_go():
        pass


@pytest.mark.parametrize("mode", ["prefix", "subset"])
@pytest.mark.parametrize("forget", [by_trim, by_configuration, by_handing_over])
def test_what_is_forgotten_is_freed_without_a_collector(
    forget: Callable[[Partition], None], mode: str
) -> None:
    """The engine looks for cycles among young objects only: old ones may not leave any."""
    partition = Partition(reserving(mode))
    names = [f"P{number}" for number in range(PRODUCTS)]
    for name in names:  # Held across what is asked for: where levels cross, it takes a flow.
        partition.stock(2, product=name)
        partition.reserve(1, product=name, dimensions=SMALL if mode == "subset" else WAREHOUSE)
    gc.collect()
    gc.disable()
    try:
        blocks = []
        for _ in range(ROUNDS):
            assert [partition.available(RED, name) for name in names] == [1] * PRODUCTS
            assert len(state_of(partition).locations) >= PRODUCTS
            forget(partition)
            assert len(state_of(partition).locations) < PRODUCTS
            partition.log.clear()
            partition.written.clear()
            blocks.append(sys.getallocatedblocks())
    finally:
        gc.enable()
    assert blocks[-1] - blocks[0] < BLOCKS_LEFT_MAX
