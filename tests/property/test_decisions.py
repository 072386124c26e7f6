"""Random histories against the brute-force oracle: the claims of the whole reservation model.

Steered to the edges: exactly all the stock and a piece more, the expiry instant and a millisecond
around it, the clock stepping back, ids used again with other content, restarts between any two
records.
"""

from collections.abc import Sequence

import msgspec
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from processor.inventory.configuration import default
from processor.inventory.rows import LIVE, Hold as StoredHold, decode_hold
from schemas.codes import GRANTED, Code
from schemas.messages import RequestLine, RequestOptions, ResultLine
from tests.property.oracle import Hold, Node, Oracle, Said
from tests.support.partition import UNIT, WAREHOUSE, Partition, line

COLOURS = ("red", "blue")
SIZES = ("small", "large")
NODES: Sequence[Node] = (
    ("", ""),
    *((colour, "") for colour in COLOURS),
    *((colour, size) for colour in COLOURS for size in SIZES),
)
CROSSING: Sequence[Node] = (*NODES, *(("", size) for size in SIZES))
GRACE_MS = 3
orders = st.sampled_from(["", "SO-1", "SO-2"])
small = st.integers(1, 5)


def named(node: Node) -> dict[str, str]:
    """Dimensions of a node."""
    colour, size = node
    own = {"colorid": colour, "sizeid": size}
    return WAREHOUSE | {name: value for name, value in own.items() if value}


class Decisions(RuleBasedStateMachine):
    """One partition and its oracle, in step."""

    @initialize(crossing=st.booleans(), grace=st.sampled_from([0, GRACE_MS]))
    def start(self, *, crossing: bool, grace: int) -> None:
        """Begin with an empty stock and a configuration."""
        mode = "subset" if crossing else "prefix"
        reservation = msgspec.structs.replace(default().reservation, mode=mode)
        document = msgspec.structs.replace(default(), reservation=reservation, grace_ms=grace)
        self.partition = Partition(document)
        self.oracle = Oracle(crossing=crossing, grace=grace)
        self.oracle.now = self.partition.now_ms
        self.partition.tick()
        self.asked: list[tuple[str, str, list[RequestLine], RequestOptions | None, object]] = []
        self.reservations: dict[Node, str] = {}
        self.sequence = 0
        self.told = 0
        self.transactions: dict[str, tuple[int, int, Node]] = {}

    def node(self, choice: int) -> Node:
        """A level that can be reserved."""
        nodes = CROSSING if self.oracle.crossing else NODES
        return nodes[choice % len(nodes)]

    def ask(
        self, action: str, lines: list[RequestLine], options: RequestOptions | None = None
    ) -> list[ResultLine]:
        """Send a request under a new id; remember it for repeats."""
        self.oracle.now = max(self.oracle.now, self.partition.now_ms)
        request_id = self.partition.next_id("p")
        result = self.partition.ask(action, lines, request_id=request_id, options=options)
        assert not result.replayed
        self.sequence = result.sequence
        self.asked.append((request_id, action, lines, options, result.lines))
        return result.lines

    def agree(self, answer: ResultLine, said: Said) -> None:
        """The answer is what the oracle says."""
        assert (answer.code, answer.quantity // UNIT) == (said.code, said.quantity)
        if said.available is not None:
            assert answer.available == said.available * UNIT

    def pick(self, choice: int) -> str | None:
        """Some hold that is still in the books."""
        ids = sorted(self.oracle.holds)
        return ids[choice % len(ids)] if ids else None

    def book(self, answer: ResultLine, node: Node, expires: int = 0, order: str = "") -> None:
        """Book a grant, and check what is available after it."""
        number = int(answer.hold_id.rpartition("-")[2])
        quantity = answer.quantity // UNIT
        self.oracle.hold(answer.hold_id, Hold(number, node, quantity, expires, order))
        self.reservations[node] = answer.reservation_id

    # Stock.

    @rule(choice=st.integers(0, 6), quantity=st.integers(-3, 8))
    def stock_changes(self, choice: int, quantity: int) -> None:
        """The ERP adds or takes away."""
        leaf = NODES[choice]
        if quantity < 0:
            self.oracle.clean = False
        self.oracle.now = max(self.oracle.now, self.partition.now_ms)
        self.partition.stock(quantity, dimensions=named(leaf))
        self.oracle.supply[leaf] = self.oracle.supply.get(leaf, 0) + quantity

    # Requests.

    @rule(
        choice=st.integers(0, 8), over=st.integers(-1, 1), expires=st.integers(0, 6), order=orders
    )
    def reserve_around_what_is_there(
        self, choice: int, over: int, expires: int, order: str
    ) -> None:
        """All of it, one less, one more."""
        self.oracle.now = max(self.oracle.now, self.partition.now_ms)
        node = self.node(choice)
        quantity = max(self.oracle.available(node) + over, 1)
        self.reserve_at(node, quantity, expires, order, check=True, minimum=None)

    @rule(
        choice=st.integers(0, 8),
        quantity=small,
        expires=st.integers(0, 6),
        order=orders,
        minimum=st.sampled_from([None, 1, 2]),
    )
    def reserve_some(
        self, choice: int, quantity: int, expires: int, order: str, minimum: int | None
    ) -> None:
        """A few pieces, sometimes with a minimum."""
        least = None if minimum is None else min(minimum, quantity)
        self.reserve_at(self.node(choice), quantity, expires, order, check=True, minimum=least)

    @rule(choice=st.integers(0, 8), quantity=small)
    def reserve_unchecked(self, choice: int, quantity: int) -> None:
        """Without the check anything goes."""
        self.reserve_at(self.node(choice), quantity, 0, "", check=False, minimum=None)

    def reserve_at(
        self,
        node: Node,
        quantity: int,
        expires: int,
        order: str,
        *,
        check: bool,
        minimum: int | None,
    ) -> None:
        """Ask, compare, book."""
        detail: dict[str, object] = {"order_id": order} if order else {}
        if expires:
            detail["expires_in_ms"] = expires
        if minimum is not None:
            detail["minimum"] = minimum
        lines = [line(quantity, dimensions=named(node), check=check, **detail)]
        (answer,) = self.ask("RESERVE", lines)
        said = self.oracle.reserve(node, quantity, check=check, minimum=minimum)
        self.agree(answer, said)
        if said.code in GRANTED:
            due = self.oracle.now + expires if expires else 0
            self.book(answer, node, due, order)
            assert answer.available == self.oracle.available(node) * UNIT

    @rule(choice=st.integers(0, 8), quantity=small, order=orders)
    def unreserve(self, choice: int, quantity: int, order: str) -> None:
        """By reservation id: oldest first, the order's own before them."""
        node = self.node(choice)
        words = {"reservation_id": self.reservations.get(node, "nonsense"), "order_id": order}
        (answer,) = self.ask("UNRESERVE", [line(quantity, dimensions=named(node), **words)])
        if node in self.reservations:
            self.agree(answer, self.oracle.back(node, quantity, order))
        else:
            assert answer.code == Code.RESERVATION_UNKNOWN

    @precondition(lambda self: self.oracle.holds)
    @rule(choice=st.integers(0, 50), quantity=small)
    def unreserve_for_an_order(self, choice: int, quantity: int) -> None:
        """Where there are holds of several orders, for the newest of them."""
        hold = self.oracle.holds[self.pick(choice) or ""]
        there = [one for one in self.oracle.holds.values() if one.node == hold.node]
        newest = max(there, key=lambda one: one.number)
        nodes = CROSSING if self.oracle.crossing else NODES
        self.unreserve(nodes.index(hold.node), quantity, newest.order)

    @rule(choice=st.integers(0, 8), quantity=small)
    def give_back(self, choice: int, quantity: int) -> None:
        """The original's way: a negative quantity without the check."""
        node = self.node(choice)
        (answer,) = self.ask("RESERVE", [line(-quantity, dimensions=named(node), check=False)])
        self.agree(answer, self.oracle.back(node, quantity))

    @rule(choice=st.integers(0, 50), quantity=st.integers(0, 5))
    def release(self, choice: int, quantity: int) -> None:
        """From one hold alone."""
        hold_id = self.pick(choice)
        if hold_id is None:
            return
        node = self.oracle.holds[hold_id].node
        lines = [line(quantity, dimensions=named(node), hold_id=hold_id)]
        (answer,) = self.ask("RELEASE", lines)
        self.agree_on_hold(answer, hold_id, self.oracle.release(hold_id, quantity))

    def agree_on_hold(self, answer: ResultLine, hold_id: str, said: Said) -> None:
        """An expired hold that was swept is closed; both words mean that it is over."""
        if said.code == Code.HOLD_EXPIRED and answer.code == Code.HOLD_CLOSED:
            self.oracle.holds.pop(hold_id)
            said = said._replace(code=Code.HOLD_CLOSED)
        self.agree(answer, said)

    @rule(choice=st.integers(0, 50), expires=st.integers(0, 5))
    def prolong(self, choice: int, expires: int) -> None:
        """CONFIRM or EXTEND."""
        hold_id = self.pick(choice)
        if hold_id is None:
            return
        hold = self.oracle.holds[hold_id]
        words: dict[str, object] = {"hold_id": hold_id}
        if expires:
            words["expires_in_ms"] = expires
        action = "EXTEND" if expires else "CONFIRM"
        (answer,) = self.ask(action, [line(0, dimensions=named(hold.node), **words)])
        due = self.oracle.now + expires if expires else 0
        self.agree_on_hold(answer, hold_id, self.oracle.prolong(hold_id, due))

    @rule(choice=st.integers(0, 50), quantity=small)
    def amend(self, choice: int, quantity: int) -> None:
        """Another quantity."""
        hold_id = self.pick(choice)
        if hold_id is None:
            return
        node = self.oracle.holds[hold_id].node
        lines = [line(quantity, dimensions=named(node), hold_id=hold_id)]
        (answer,) = self.ask("AMEND", lines)
        self.agree_on_hold(answer, hold_id, self.oracle.amend(hold_id, quantity))

    @rule(choice=st.integers(0, 50), where=st.integers(0, 8))
    def transfer(self, choice: int, where: int) -> None:
        """Other values."""
        hold_id = self.pick(choice)
        if hold_id is None:
            return
        hold, target = self.oracle.holds[hold_id], self.node(where)
        words = {"hold_id": hold_id, "target_dimensions": named(target)}
        (answer,) = self.ask("TRANSFER", [line(0, dimensions=named(hold.node), **words)])
        self.agree_on_hold(answer, hold_id, self.oracle.transfer(hold_id, target))
        if answer.code == Code.ACCEPTED:
            moved = self.oracle.holds.pop(hold_id)
            self.book(answer, target, moved.expires, moved.order)

    @rule(
        choices=st.lists(st.tuples(st.integers(0, 8), small), min_size=2, max_size=4),
        atomic=st.booleans(),
        dry_run=st.booleans(),
    )
    def basket(self, choices: list[tuple[int, int]], *, atomic: bool, dry_run: bool) -> None:
        """Several lines, all or nothing or each for itself, or only asked."""
        wanted = [(self.node(choice), quantity) for choice, quantity in choices]
        lines = [line(quantity, dimensions=named(node)) for node, quantity in wanted]
        answers = self.ask("RESERVE", lines, RequestOptions(atomic=atomic, dry_run=dry_run))
        if dry_run:
            self.asked.pop()
        granted: list[tuple[str, Hold]] = []
        failed = 0
        for index, (node, quantity) in enumerate(wanted):
            said = self.oracle.reserve(node, quantity, check=True, minimum=None)
            if said.code == Code.ACCEPTED:
                booked = Hold(2**62 + index, node, quantity, 0, "")
                self.oracle.hold(f"basket-{index}", booked)
                granted.append((f"basket-{index}", booked))
            else:
                failed += 1
                assert answers[index].code == said.code
        for hold_id, _ in granted:
            self.oracle.holds.pop(hold_id)
        stays = not dry_run and not (atomic and failed)
        for (node, quantity), answer in zip(wanted, answers, strict=True):
            if answer.code == Code.ACCEPTED and stays:
                assert answer.quantity == quantity * UNIT
                self.book(answer, node)
        assert sum(answer.code in GRANTED for answer in answers) == (
            0 if atomic and failed else len(granted)
        )

    # Repeats.

    @precondition(lambda self: self.asked)
    @rule(choice=st.integers(0, 1000))
    def repeat(self, choice: int) -> None:
        """The same id and content: the first answer, and nothing changes."""
        request_id, action, lines, options, answers = self.asked[choice % len(self.asked)]
        result = self.partition.ask(action, lines, request_id=request_id, options=options)
        assert result.replayed
        assert result.lines == answers

    @precondition(lambda self: self.asked)
    @rule(choice=st.integers(0, 1000))
    def reuse(self, choice: int) -> None:
        """The same id with another content: refused, and nothing changes."""
        request_id, action, lines, options, _ = self.asked[choice % len(self.asked)]
        first = lines[0]
        other = msgspec.structs.replace(first, quantity=first.quantity + UNIT)
        result = self.partition.ask(
            action, [other, *lines[1:]], request_id=request_id, options=options
        )
        assert result.code == Code.REQUEST_ID_REUSED

    # The ERP takes over.

    @rule(choice=st.integers(0, 6), quantity=small, order=orders, again=st.booleans())
    def offset(self, choice: int, quantity: int, order: str, *, again: bool) -> None:
        """A transaction is picked: what it exceeds its ledger by is taken from the holds."""
        node = NODES[choice]
        name = max(self.transactions) if again and self.transactions else None
        if name is None:
            name = f"T{len(self.transactions)}"
            self.transactions[name] = (0, 0, node)
        sequence, done, node = self.transactions[name]
        self.oracle.now = max(self.oracle.now, self.partition.now_ms)
        status = "PICKED" if again else "RESERVED_PHYSICAL"
        words = {"sequence": sequence + 1, "auto_offset": True, "order_id": order}
        told = self.partition.status(
            status, quantity, transaction=name, dimensions=named(node), **words
        )
        due = quantity - done
        if self.oracle.grace:
            return self.follow(name, node, due)
        taken = self.oracle.take(node, due, order) if due > 0 else 0
        self.transactions[name] = (sequence + 1, done + taken if due > 0 else quantity, node)
        wanted = Code.APPLIED
        if due > 0:
            wanted = Code.OFFSET_NOTHING_RESERVED
            if taken:
                wanted = Code.OFFSET_APPLIED if taken == due else Code.OFFSET_PARTIAL
        assert told.code == wanted
        return None

    def follow(self, name: str, node: Node, due: int) -> None:
        """With a grace, expired holds of the order may count: book what the event says."""
        sequence, done, _ = self.transactions[name]
        event = self.partition.events[1] if len(self.partition.events) > 1 else None
        taken = 0 if event is None or due <= 0 else event.quantity // UNIT
        assert taken <= max(due, 0)
        order = self.partition.events[0].order_id
        live = self.oracle.take(node, taken, order)
        over = [
            hold
            for hold in self.oracle.holds.values()
            if hold.node == node and hold.order == order and self.oracle.is_over(hold)
        ]
        for hold in sorted(over, key=lambda hold: hold.number):
            part = min(hold.quantity, taken - live)
            if part:
                hold.quantity -= part
                live += part
                hold.expires = 0 if hold.quantity else hold.expires
        self.oracle.drop_empty()
        assert live == taken
        self.transactions[name] = (sequence + 1, done + taken if due > 0 else done + due, node)

    # Time.

    @rule(ms=st.integers(0, 5))
    def time_passes(self, ms: int) -> None:
        """A little later."""
        self.partition.now_ms = max(self.partition.now_ms, self.oracle.now) + ms

    @rule(ms=st.integers(1, 4))
    def time_steps_back(self, ms: int) -> None:
        """A broker whose clock was set back: the partition's clock stays."""
        self.partition.now_ms = self.oracle.now - ms

    @precondition(lambda self: any(hold.expires for hold in self.oracle.holds.values()))
    @rule(choice=st.integers(0, 50), nudge=st.integers(-1, 1), grace=st.booleans())
    def time_lands_on_an_expiry(self, choice: int, nudge: int, *, grace: bool) -> None:
        """Off by one lives on the boundary."""
        due = sorted(hold.expires for hold in self.oracle.holds.values() if hold.expires)
        landed = due[choice % len(due)] + nudge + (self.oracle.grace if grace else 0)
        self.partition.now_ms = max(landed, self.oracle.now - 2)

    @precondition(lambda self: any(hold.expires for hold in self.oracle.holds.values()))
    @rule(
        choice=st.integers(0, 50),
        nudge=st.integers(-1, 1),
        grace=st.booleans(),
        action=st.sampled_from(["release", "confirm", "extend", "amend", "unreserve"]),
    )
    def act_on_an_expiry(self, choice: int, nudge: int, *, grace: bool, action: str) -> None:
        """What is asked of a hold at its expiry, or at the end of its grace, to the millisecond."""
        ids = sorted(key for key, hold in self.oracle.holds.items() if hold.expires)
        hold_id = ids[choice % len(ids)]
        hold = self.oracle.holds[hold_id]
        landed = hold.expires + nudge + (self.oracle.grace if grace else 0)
        self.partition.now_ms = max(landed, self.oracle.now)
        everything = sorted(self.oracle.holds)
        position = everything.index(hold_id)
        if action == "release":
            self.release(position, 0)
        elif action in {"confirm", "extend"}:
            self.prolong(position, 4 if action == "extend" else 0)
        elif action == "amend":
            self.amend(position, hold.quantity + nudge or 1)
        else:
            nodes = CROSSING if self.oracle.crossing else NODES
            self.unreserve(nodes.index(hold.node), hold.quantity, hold.order)

    @rule()
    def tick(self) -> None:
        """The clock arrives with nothing asked."""
        self.oracle.now = max(self.oracle.now, self.partition.now_ms)
        self.partition.tick()

    @rule()
    def restart(self) -> None:
        """Another worker takes over, with nothing but the changelog."""
        self.partition.restart()

    # What must hold after every step.

    @invariant()
    def all_promises_can_be_kept(self) -> None:
        """Live holds can be filled at the same time, unless a check was skipped or supply fell."""
        if hasattr(self, "oracle") and self.oracle.clean:
            assert self.oracle.is_fillable()

    @invariant()
    def every_hold_is_the_oracles(self) -> None:
        """Totals are conserved: each live hold has its quantity, and levels have their sum."""
        if not hasattr(self, "oracle"):
            return
        state = self.partition.decider._state
        self.oracle.now = max(self.oracle.now, state.clock_ms)  # Repeats bring the clock too.
        if state.clock_ms < self.oracle.now:
            return
        live = self.oracle.live()
        for location in state.locations.values():
            state.touch(location)
            reserved = sum(level.reserved for level in location.levels.values())
            assert reserved == UNIT * sum(hold.quantity for hold in live)
        rows = {
            (int.from_bytes(key[13:], "big"), decode_hold(value).quantity)
            for key, value in self.partition.rows.rows.items()
            if key[:1] == b"H" and self.is_live(decode_hold(value))
        }
        assert rows == {(hold.number, UNIT * hold.quantity) for hold in live}

    def is_live(self, hold: StoredHold) -> bool:
        """Whether a stored hold counts at the oracle's time."""
        return hold.state == LIVE and not 0 < hold.expires_at_ms <= self.oracle.now

    def teardown(self) -> None:
        """Replaying the log gives the same bytes."""
        if not hasattr(self, "partition"):
            return
        replayed = Partition(self.partition.domain._rules.configuration)
        for topic, key, value, now_ms in self.partition.log:
            replayed.now_ms = now_ms
            replayed.send(topic, key, value)
        assert replayed.written == self.partition.written
        assert replayed.rows.rows == self.partition.rows.rows


TestDecisions = Decisions.TestCase
TestDecisions.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
