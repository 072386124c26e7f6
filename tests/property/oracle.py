"""What the stock decision must say, by brute force: no sums are kept, nothing is shared with it.

One product at one location, colours and sizes. Every question is answered by adding up all stock
rows and all holds again, and where levels cross by pushing flow from holds to stock, one piece of
path at a time. Slow, short, and checked by reading.
"""

from collections.abc import Iterator
from typing import NamedTuple

from schemas.codes import Code

Node = tuple[str, str]  # Colour and size; "" leaves it open.


class Hold:
    """One accepted line."""

    def __init__(self, number: int, node: Node, quantity: int, expires: int, order: str) -> None:
        self.number = number
        self.node = node
        self.quantity = quantity
        self.expires = expires
        self.order = order


class Said(NamedTuple):
    """What must be answered; `available` None: not compared."""

    code: int
    quantity: int = 0
    available: int | None = None


def contains(node: Node, other: Node) -> bool:
    """Whether `other` lies at the node or below it."""
    return all(value in {"", own} for value, own in zip(node, other, strict=True))


class Oracle:
    """Stock, holds and time of one product at one location."""

    def __init__(self, *, crossing: bool, grace: int) -> None:
        self.crossing = crossing
        self.grace = grace
        self.now = 0
        self.supply: dict[Node, int] = {}
        self.holds: dict[str, Hold] = {}
        self.clean = True  # Nothing was promised unchecked, and no supply was taken away.

    def live(self) -> list[Hold]:
        """Holds that count now, oldest first."""
        found = [hold for hold in self.holds.values() if not self.is_over(hold)]
        return sorted(found, key=lambda hold: hold.number)

    def is_over(self, hold: Hold) -> bool:
        """Whether a hold's expiry has come."""
        return 0 < hold.expires <= self.now

    def ancestors(self, node: Node) -> Iterator[Node]:
        """All levels that contain a node."""
        yield ("", "")
        yield (node[0], "")
        yield node
        if self.crossing:
            yield ("", node[1])

    def free(self, node: Node) -> int:
        """Supply below the node, less what is held at it or below it."""
        supply = sum(amount for leaf, amount in self.supply.items() if contains(node, leaf))
        return supply - sum(hold.quantity for hold in self.live() if contains(node, hold.node))

    def net(self, node: Node) -> int:
        """The least of what is free at every level that contains the node."""
        return min(self.free(one) for one in self.ancestors(node))

    def available(self, node: Node) -> int:
        """The most that can be held there besides everything else."""
        net = self.net(node)
        if not self.crossing or net <= 0:
            return net
        before = [(hold.node, hold.quantity) for hold in self.live()]
        return min(net, self.filled([*before, (node, net)]) - self.filled(before))

    def filled(self, demands: list[tuple[Node, int]]) -> int:
        """How much of the demands the stock rows can fill at the same time (max flow)."""
        left = {leaf: max(amount, 0) for leaf, amount in self.supply.items()}
        given: dict[tuple[int, Node], int] = {}
        total = 0
        for index, (_, quantity) in enumerate(demands):
            wanted = quantity
            while wanted:
                path = self.augmenting(index, demands, left, given)
                if path is None:
                    break
                step = min([wanted, left[path[-1][1]], *(given[edge] for edge in path[1::2])])
                for position, edge in enumerate(path):
                    given[edge] = given.get(edge, 0) + (step if position % 2 == 0 else -step)
                left[path[-1][1]] -= step
                wanted -= step
                total += step
        return total

    def augmenting(
        self,
        start: int,
        demands: list[tuple[Node, int]],
        left: dict[Node, int],
        given: dict[tuple[int, Node], int],
    ) -> list[tuple[int, Node]] | None:
        """Edges demand-leaf, taken and given back in turn, from a demand to a leaf with stock."""
        reached: dict[Node, list[tuple[int, Node]]] = {}
        queue: list[tuple[int, list[tuple[int, Node]]]] = [(start, [])]
        for demand, path in queue:
            for leaf, stock in left.items():
                if leaf in reached or not contains(demands[demand][0], leaf):
                    continue
                reached[leaf] = [*path, (demand, leaf)]
                if stock:
                    return reached[leaf]
                for (other, taken), amount in given.items():
                    if taken == leaf and amount and other != demand:
                        queue.append((other, [*reached[leaf], (other, leaf)]))
        return None

    def is_fillable(self) -> bool:
        """Whether all live holds can be filled at the same time."""
        demands = [(hold.node, hold.quantity) for hold in self.live()]
        return self.filled(demands) == sum(quantity for _, quantity in demands)

    # What requests do.

    def reserve(self, node: Node, quantity: int, *, check: bool, minimum: int | None) -> Said:
        """How much of a quantity is granted; `hold` then books it."""
        available = self.available(node)
        if check and quantity > available:
            least = quantity if minimum is None else minimum
            if available < least:
                return Said(Code.INSUFFICIENT_STOCK, 0, available)
            return Said(Code.PARTIAL, available)
        if not check:
            self.clean = False
        return Said(Code.ACCEPTED, quantity)

    def hold(self, hold_id: str, hold: Hold) -> None:
        """Book what was granted."""
        assert hold_id not in self.holds
        self.holds[hold_id] = hold

    def take(self, node: Node, quantity: int, order: str = "") -> int:
        """Take back: the order's own holds first, then the oldest."""
        holds = [hold for hold in self.live() if hold.node == node]
        holds.sort(key=lambda hold: (not order or hold.order != order, hold.number))
        left = quantity
        for hold in holds:
            part = min(hold.quantity, left)
            hold.quantity -= part
            left -= part
        self.drop_empty()
        return quantity - left

    def drop_empty(self) -> None:
        """Forget holds of which nothing is left."""
        self.holds = {key: hold for key, hold in self.holds.items() if hold.quantity}

    def back(self, node: Node, quantity: int, order: str = "") -> Said:
        """Answer to a give-back by reservation id."""
        taken = self.take(node, quantity, order)
        return self.given_back(node, taken, quantity)

    def given_back(self, node: Node, taken: int, asked: int) -> Said:
        """Answer to what was taken back."""
        code = Code.ACCEPTED if taken == asked else Code.PARTIAL if taken else Code.NOTHING_RESERVED
        return Said(code, taken, self.available(node))

    def release(self, hold_id: str, quantity: int) -> Said:
        """Take back from one hold."""
        hold = self.holds[hold_id]
        if self.is_over(hold):
            return Said(Code.HOLD_EXPIRED, 0, self.available(hold.node))
        asked = quantity or hold.quantity
        taken = min(asked, hold.quantity)
        hold.quantity -= taken
        self.drop_empty()
        return self.given_back(hold.node, taken, asked)

    def prolong(self, hold_id: str, expires: int) -> Said:
        """EXTEND and CONFIRM, also of a hold that expired within the grace."""
        hold = self.holds[hold_id]
        if self.is_over(hold) and (
            self.now >= hold.expires + self.grace or hold.quantity > self.available(hold.node)
        ):
            return Said(Code.HOLD_EXPIRED, 0, self.available(hold.node))
        hold.expires = expires
        return Said(Code.ACCEPTED, hold.quantity, self.available(hold.node))

    def amend(self, hold_id: str, quantity: int) -> Said:
        """Another quantity for a hold."""
        hold = self.holds[hold_id]
        if self.is_over(hold):
            return Said(Code.HOLD_EXPIRED, 0, self.available(hold.node))
        more = quantity - hold.quantity
        if more > 0 and more > self.available(hold.node):
            return Said(Code.INSUFFICIENT_STOCK, 0, self.available(hold.node))
        hold.quantity = quantity
        return Said(Code.ACCEPTED, quantity, self.available(hold.node))

    def transfer(self, hold_id: str, target: Node) -> Said:
        """Whether a hold fits elsewhere once it is gone from where it is."""
        hold = self.holds[hold_id]
        if self.is_over(hold):
            return Said(Code.HOLD_EXPIRED, 0, self.available(hold.node))
        quantity, hold.quantity = hold.quantity, 0
        fits = quantity <= self.available(target)
        hold.quantity = quantity
        if not fits:
            return Said(Code.INSUFFICIENT_STOCK, 0, self.available(target))
        hold.node = target
        return Said(Code.ACCEPTED, quantity, self.available(target))
