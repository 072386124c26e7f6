"""Random splits of an order line: whatever moves where, and whichever event of a split comes first.

The claim is a sum: what is held for the line is what its transactions have below the trigger. The
holds of other orders are theirs, and no offset fails.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from hypothesis import given, settings, strategies as st

from processor.inventory.rows import LIVE, decode_hold
from tests.support.partition import Partition, pieces

QUANTITY = 10
LINE = {"order_id": "SO-1", "order_line_id": "1", "auto_offset": True}
BELOW = "ON_ORDER"
ABOVE = ("RESERVED_PHYSICAL", "PICKED")


class Step(NamedTuple):
    """What the ERP does to one transaction of the line, or to two.

    move: it reaches `old_status`. split: a share of it is a new one's. end: it is deleted, where
    there is another one. again: one that is gone is deleted once more.
    """

    how: str
    choice: int
    other: int
    share: int  # Of its quantity, in tenths.
    old_status: str
    new_status: str
    new_first: bool
    wait_ms: int


statuses = st.sampled_from([BELOW, *ABOVE])
steps = st.builds(
    Step,
    how=st.sampled_from(["move", "split", "split", "end", "again"]),
    choice=st.integers(0, 9),
    other=st.integers(0, 9),
    share=st.integers(0, 9),
    old_status=statuses,
    new_status=statuses,
    new_first=st.booleans(),
    wait_ms=st.sampled_from([0, 1, 59_999, 60_000]),
)


class Line:
    """An order line in one partition, and what its transactions are."""

    def __init__(self) -> None:
        self.partition = Partition()
        self.partition.stock(100)
        self.partition.reserve(QUANTITY, order_id="SO-1")
        self.partition.reserve(QUANTITY, order_id="SO-2")
        self.transactions: dict[str, tuple[str, int]] = {}
        self.gone: list[str] = []
        self.sequence = 0

    def tell(self, name: str, status: str, quantity: int) -> None:
        """A transaction reaches a status."""
        self.sequence += 1
        self.transactions[name] = (status, quantity)
        words = {"sequence": self.sequence, "transaction": name, **LINE}
        self.partition.status(status, quantity, **words)

    def delete(self, name: str) -> None:
        """A transaction is deleted; the ERP tells what it was."""
        self.tell(name, "DELETED", self.transactions[name][1])
        del self.transactions[name]
        self.gone.append(name)

    def take(self, step: Step) -> None:
        """One step; what stays does not rise above the trigger by the same event."""
        self.partition.now_ms += step.wait_ms
        names = sorted(self.transactions)
        name = names[step.choice % len(names)]
        status, quantity = self.transactions[name]
        new = f"T{len(self.transactions) + len(self.gone)}"
        moved = quantity * step.share // 10
        if step.how == "again" and self.gone:
            gone = self.gone[step.other % len(self.gone)]
            self.sequence += 1
            words = {"sequence": self.sequence, "transaction": gone, **LINE}
            self.partition.status("DELETED", step.share, **words)
        elif step.how == "end" and len(names) > 1:
            self.delete(name)
        elif step.how == "split" and moved:
            stays = BELOW if status == BELOW else step.old_status
            old = (self.tell, name, stays, quantity - moved)
            self.both(step, old, (self.tell, new, step.new_status, moved))
        else:
            self.tell(name, step.old_status, quantity)

    def both(self, step: Step, *halves: Any) -> None:
        """Two events of one step, in either order."""
        for does, *words in reversed(halves) if step.new_first else halves:
            does(*words)

    def check(self) -> None:
        """The claim."""
        held = {"SO-1": 0.0, "SO-2": 0.0}
        for key, value in self.partition.rows.rows.items():
            assert key[:1] != b"F"
            if key[:1] == b"H":
                hold = decode_hold(value)
                assert hold.state == LIVE
                held[hold.order_id] += pieces(hold.quantity)
        below = [quantity for status, quantity in self.transactions.values() if status == BELOW]
        assert held == {"SO-1": sum(below), "SO-2": QUANTITY}


@given(first=statuses, history=st.lists(steps, max_size=12))
@settings(max_examples=500, deadline=None)
def test_a_line_is_held_for_what_of_it_is_below_the_trigger(
    first: str, history: Sequence[Step]
) -> None:
    """After every split that is complete."""
    line = Line()
    line.tell("T0", first, QUANTITY)
    line.check()
    for step in history:
        line.take(step)
        line.check()
