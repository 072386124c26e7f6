"""What every record should have been answered: a second opinion, in the plainest Python there is.

It shares no code with `processor`. It keeps dictionaries and sums them up anew at every question,
so that it can be checked by reading. It is given the records of one partition in the order in which
they were decided, and says what each answer must have been.

Covered: the default configuration; on-hand ADD and SET; RESERVE with and without check, negative
quantities, UNRESERVE by reservation id, RELEASE by hold id, the hierarchy of levels, remembered
ids, the refusals of single lines, the offset of a reservation by the status of an ERP transaction,
once a unit, and its ends.
Not covered (the load of the fault campaign does not use it): baskets of several lines, expiry,
EXTEND, CONFIRM, AMEND, TRANSFER, partial grants, dry runs, other configurations, priorities, the
end of the dedupe window.
"""

from collections.abc import Collection
from typing import Final, NamedTuple

from schemas.codes import Code
from tests.support.wire import Fields

QUANTITY_MAX: Final = 10**18 - 1
HIERARCHY: Final = ("siteid", "locationid", "colorid", "sizeid")
BASE_DIMENSIONS: Final = frozenset(
    ["colorid", "sizeid", "styleid", "configid", "batchid", "serialid", "siteid", "locationid"]
    + ["statusid", "wmslocationid", "wmspalletid", "licenseplateid", "versionid"]
    + [f"customdimension{number}" for number in range(1, 13)]
    + [f"extendeddimension{number}" for number in range(1, 9)]
)
RESERVED: Final = "iv.softreserved"
SIGNS: Final = {
    "fno.physicalinvent": 1,
    "fno.ordered": 1,
    "fno.arrived": 1,
    "pos.inbound": 1,
    "iv.ordered": 1,
    "fno.reservphysical": -1,
    "pos.outbound": -1,
    "fno.softreserved": -1,
}
# Statuses at which the modifier `Reserve` offsets: the reservation, or the nearest later one.
OFFSETTING: Final = frozenset(
    {"RESERVED_ORDERED", "RESERVED_PHYSICAL", "PICKED", "DEDUCTED", "SOLD"}
)
LADDER: Final = OFFSETTING | {"QUOTATION_ISSUE", "ON_ORDER"}
ENDED: Final = frozenset({"CANCELLED", "DELETED"})

Row = frozenset[tuple[str, str]]  # full dimension values of a stock row
Node = tuple[str, ...]  # values of the hierarchy's dimensions, as far down as they are given


class Place(NamedTuple):
    """What a reservation id stands for: a product at one node of the hierarchy."""

    organization_id: str
    product_id: str
    node: Node


class Line(NamedTuple):
    """The answer one request line must get; `place` and `hold` stand for the ids."""

    code: int
    quantity: int = 0
    available: int = 0
    invalid_quantity: int = 0
    place: Place | None = None
    hold: int | None = None


class Answer(NamedTuple):
    """The answer a request must get."""

    code: int
    lines: tuple[Line, ...]


class Follow(NamedTuple):
    """An event an inventory transaction must cause after its TRANSACTION event."""

    event_type: str
    code: int
    quantity: int
    invalid_quantity: int


class Happening(NamedTuple):
    """The events an inventory transaction must give."""

    code: int
    follows: tuple[Follow, ...] = ()


class Hold:
    """One accepted line; `number` orders holds by age."""

    def __init__(self, number: int, quantity: int, order_id: str) -> None:
        self.number = number
        self.quantity = quantity
        self.order_id = order_id


class Leaf:
    """One stock row: its node (its dimensions along the hierarchy) and its measures."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.measures: dict[str, int] = {}


class Shelf:
    """One product at one location: its stock rows and what is held of it."""

    def __init__(self) -> None:
        self.leaves: dict[Row, Leaf] = {}
        self.holds: dict[Node, dict[int, Hold]] = {}

    def reserved(self, node: Node) -> int:
        """Quantity held at exactly this node."""
        return sum(hold.quantity for hold in self.holds.get(node, {}).values())

    def free(self, node: Node) -> int:
        """Supply below the node less what is held at it or below it."""
        supply = 0
        for leaf in self.leaves.values():
            if leaf.node[: len(node)] == node:
                for name, amount in leaf.measures.items():
                    supply += SIGNS.get(name, 0) * amount
        held = sum(self.reserved(other) for other in self.holds if other[: len(node)] == node)
        return supply - held

    def available(self, node: Node) -> int:
        """What a reservation at the node could still get: no level above it may run short."""
        return min(self.free(node[:depth]) for depth in range(2, len(node) + 1))

    def hold(self, node: Node, number: int, quantity: int, order_id: str = "") -> None:
        """Hold a quantity at a node."""
        self.holds.setdefault(node, {})[number] = Hold(number, quantity, order_id)

    def take(
        self,
        node: Node,
        quantity: int,
        order_id: str = "",
        hold: int | None = None,
        orders: Collection[str] | None = None,
    ) -> int:
        """Take back up to `quantity`: from one hold, else the order's own first, then oldest first.

        `orders`: only from holds of these, if any are given. Returns what was taken.

        """
        holds = self.holds.get(node, {})
        chosen = [
            entry
            for entry in holds.values()
            if (hold is None or entry.number == hold)
            and (orders is None or entry.order_id in orders)
        ]
        chosen.sort(key=lambda entry: (not order_id or entry.order_id != order_id, entry.number))
        taken = 0
        for entry in chosen:
            part = min(entry.quantity, quantity - taken)
            entry.quantity -= part
            taken += part
            if not entry.quantity:
                del holds[entry.number]
        return taken


Shelves = dict[tuple[str, ...], Shelf]
Counted = tuple[str, str, Row, str]  # organization, product, row, measure


def shelf_of(shelves: Shelves, place: Place) -> Shelf:
    """The shelf a place belongs to: its product at its location."""
    return shelves.setdefault((*place[:2], *place.node[:2]), Shelf())


def lowered(dimensions: Fields) -> dict[str, str]:
    """Dimensions with lower-case names."""
    return {name.lower(): value for name, value in dimensions.items()}


def node_of(dimensions: dict[str, str]) -> Node:
    """Values along the hierarchy, down to the first that is missing or empty."""
    node: list[str] = []
    for name in HIERARCHY:
        if not dimensions.get(name):
            break
        node.append(dimensions[name])
    return tuple(node)


class Entry:
    """What the ledger knows of one ERP transaction."""

    def __init__(self) -> None:
        self.sequence: int | None = None
        self.status = ""
        self.quantity = 0
        self.offset = 0


class Refused(Exception):
    """A line is refused with this code before stock is looked at."""

    def __init__(self, code: Code) -> None:
        self.code = code


def text_is_valid(text: str, longest: int) -> bool:
    """Whether an id has 1 to `longest` characters and no control characters."""
    return 0 < len(text) <= longest and all(
        ord(letter) >= 32 and ord(letter) != 127 for letter in text
    )


class Model:
    """The records of one partition, decided one after the other.

    `ids` is what the checker has learned: the text of a reservation id to what it stands for. The
    model cannot know how the engine hashes, only that the same place must always get the same id
    and another place another one.
    """

    def __init__(self, ids: dict[str, Place]) -> None:
        self.ids = ids
        self.shelves: Shelves = {}
        self.answers: dict[str, tuple[Fields, Answer]] = {}
        self.events: dict[str, Fields] = {}
        self.ledger: dict[tuple[str, str], Entry] = {}
        self.counted_at: dict[Counted, int] = {}

    def decide_request(self, request: Fields, sequence: int) -> tuple[Answer, bool]:
        """The answer to a request, and whether it is a repeat of an earlier one."""
        request_id = request["request_id"]
        if not text_is_valid(request_id, 128):
            return Answer(Code.REQUEST_ID_INVALID, ()), False
        if request_id in self.answers:
            content, answer = self.answers[request_id]
            if content == request:
                return answer, True
            return Answer(Code.REQUEST_ID_REUSED, ()), False
        answer = self._decide_new(request, sequence)
        self.answers[request_id] = (request, answer)
        return answer, False

    def _decide_new(self, request: Fields, sequence: int) -> Answer:
        if not request["lines"]:
            return Answer(Code.NO_LINES, ())
        assert len(request["lines"]) == 1, "the model does not cover baskets"
        if request["action"] not in {"RESERVE", "UNRESERVE", "RELEASE"}:
            return Answer(Code.ACTION_UNKNOWN, ())
        try:
            line = self._decide_line(request, request["lines"][0], sequence * 512)
        except Refused as refused:
            line = Line(refused.code)
        return Answer(line.code, (line,))

    def _decide_line(self, request: Fields, line: Fields, number: int) -> Line:
        if not text_is_valid(line["product_id"], 128):
            raise Refused(Code.PRODUCT_INVALID)
        node = reservable_node(lowered(line["dimensions"]))
        check_measure(line["measure"].lower() or RESERVED)
        check_quantity(request["action"], line)
        place = Place(request["organization_id"], line["product_id"], node)
        shelf = shelf_of(self.shelves, place)
        if request["action"] == "RESERVE" and line["quantity"] > 0:
            return reserve(shelf, place, line, number)
        if request["action"] == "RESERVE":
            return give_back(shelf, place, -line["quantity"], line)
        if request["action"] == "UNRESERVE":
            return self._unreserve(shelf, place, line)
        return self._release(shelf, place, line, number)

    def _unreserve(self, shelf: Shelf, place: Place, line: Fields) -> Line:
        detail = line["detail"] or {}
        if self.ids.get(detail.get("reservation_id", "")) != place:
            available = shelf.available(place.node)
            return Line(Code.RESERVATION_UNKNOWN, 0, available, line["quantity"])
        return give_back(shelf, place, line["quantity"], line)

    def _release(self, shelf: Shelf, place: Place, line: Fields, now: int) -> Line:
        """Take back from one hold; `now` is the number a hold made now would have."""
        text, _, digits = (line["detail"] or {}).get("hold_id", "").rpartition("-")
        number = int(digits) if digits.isdecimal() else now
        holds = shelf.holds.get(place.node, {})
        if self.ids.get(text) != place or number not in holds:
            ended = self.ids.get(text) == place and number < now
            code = Code.HOLD_CLOSED if ended else Code.HOLD_UNKNOWN
            return Line(code, 0, shelf.available(place.node), line["quantity"])
        asked = line["quantity"] or holds[number].quantity
        taken = shelf.take(place.node, asked, hold=number)
        code = Code.ACCEPTED if taken == asked else Code.PARTIAL
        return Line(code, taken, shelf.available(place.node), asked - taken, place, number)

    def decide_transaction(self, event: Fields) -> Happening:
        """The events an inventory transaction must give."""
        if not text_is_valid(event["event_id"], 128):
            return Happening(Code.REQUEST_ID_INVALID)
        if event["event_id"] in self.events:
            same = self.events[event["event_id"]] == event
            return Happening(Code.DUPLICATE if same else Code.REQUEST_ID_REUSED)
        self.events[event["event_id"]] = event
        try:
            check_event(event)
        except Refused as refused:
            return Happening(refused.code)
        status = event["transaction"]
        if status is None:
            return Happening(apply_changes(self.shelves, self.counted_at, event))
        known = (event["organization_id"], status["transaction_id"])
        entry = self.ledger.setdefault(known, Entry())
        if entry.sequence is not None and status["sequence"] <= entry.sequence:
            return Happening(Code.STALE)
        happening = self._reach(event, entry)
        entry.sequence = status["sequence"]
        entry.status = status["status"]
        entry.quantity = 0 if status["status"] in ENDED else status["quantity"]
        apply_changes(self.shelves, self.counted_at, event)
        return happening

    def _reach(self, event: Fields, entry: Entry) -> Happening:
        """An ERP transaction reaches a status: what is due is taken from the holds."""
        status = event["transaction"]
        if status["status"] in ENDED:
            if entry.sequence is not None and entry.status not in LADDER:
                return Happening(Code.APPLIED)  # It has ended before, or is a receipt.
            demand = status["quantity"] if entry.sequence is None else entry.quantity
            left = demand - entry.offset
            entry.offset = 0
            return self._give_up(event, left) if left > 0 else Happening(Code.APPLIED)
        if status["status"] not in LADDER:
            return Happening(Code.APPLIED)
        assert status["status"] in OFFSETTING or not entry.offset, "no steps back in the model"
        due = status["quantity"] - entry.offset if status["status"] in OFFSETTING else 0
        named = status["hold_id"] or status["reservation_id"] or status["auto_offset"]
        if due < 0:
            entry.offset += due  # Reduced: the ERP gives the stock back by its own measures.
        if due <= 0 or not named:
            return Happening(Code.APPLIED)
        taken, code = self._take(event, due)
        entry.offset += taken
        if taken == due:
            applied = Follow("OFFSET_APPLIED", Code.OFFSET_APPLIED, taken, 0)
            return Happening(Code.OFFSET_APPLIED, (applied,))
        failed = Follow("OFFSET_FAILED", code, taken, due - taken)
        return Happening(code, (failed,))

    def _give_up(self, event: Fields, left: int) -> Happening:
        """A demand that went away before it was offset takes its hold with it."""
        status = event["transaction"]
        if not (status["hold_id"] or status["reservation_id"] or status["auto_offset"]):
            return Happening(Code.APPLIED)
        own = {status["order_id"]}
        if status["hold_id"] or status["reservation_id"]:
            own.add("")  # A hold of no order, where it is named.
        taken, code = self._take(event, left, own)
        if taken:
            applied = Follow("OFFSET_APPLIED", Code.OFFSET_APPLIED, taken, left - taken)
            return Happening(Code.OFFSET_APPLIED, (applied,))
        if code == Code.OFFSET_NOTHING_RESERVED:
            return Happening(Code.APPLIED)
        return Happening(code, (Follow("OFFSET_FAILED", code, 0, left),))

    def _take(
        self, event: Fields, quantity: int, orders: Collection[str] | None = None
    ) -> tuple[int, Code]:
        """Take from the holds that a status names; the code is for when that is not enough."""
        status = event["transaction"]
        node = node_of(lowered(event["dimensions"]))
        place = Place(event["organization_id"], event["product_id"], node)
        shelf = shelf_of(self.shelves, place)
        hold: int | None = None
        text = status["reservation_id"]
        if status["hold_id"]:
            text, _, number = status["hold_id"].rpartition("-")
            hold = int(number)
        if text and self.ids.get(text) != place:
            other = self.ids.get(text)
            here = other is not None and shelf_of(self.shelves, other) is shelf
            if here and other is not None and shelf.reserved(other.node):
                return 0, Code.OFFSET_WRONG_DIMENSIONS
            return 0, Code.OFFSET_WRONG_RESERVATION
        taken = shelf.take(node, quantity, status["order_id"], hold, orders)
        return taken, Code.OFFSET_PARTIAL if taken else Code.OFFSET_NOTHING_RESERVED


def apply_changes(shelves: Shelves, counted_at: dict[Counted, int], event: Fields) -> Code:
    """Change the measures of the rows an event names; an older count than the last one loses."""
    organization_id, product_id = event["organization_id"], event["product_id"]
    modified_at_ms = event["modified_at_ms"] or 0
    code = Code.APPLIED
    for change in event["changes"]:
        dimensions = lowered(change["dimensions"] or event["dimensions"])
        row = frozenset((name, value) for name, value in dimensions.items() if value)
        shelf = shelf_of(shelves, Place(organization_id, product_id, node_of(dimensions)))
        measures = shelf.leaves.setdefault(row, Leaf(node_of(dimensions))).measures
        measure = change["measure"].lower()
        if event["mode"] == "ADD":
            measures[measure] = measures.get(measure, 0) + change["quantity"]
            continue
        counted = (organization_id, product_id, row, measure)
        if modified_at_ms < counted_at.get(counted, 0):
            code = Code.STALE
            continue
        counted_at[counted] = modified_at_ms
        measures[measure] = change["quantity"]
    return code


def check_event(event: Fields) -> None:
    """Refuse an event that may not change what it names.

    Raises:
        Refused: it may not.

    """
    for change in event["changes"]:
        measure = change["measure"].lower()
        if measure not in SIGNS and measure != RESERVED:
            raise Refused(Code.MEASURE_UNKNOWN)
        if measure.startswith("fno.") and event["source"] != "fno":
            raise Refused(Code.DATA_SOURCE_PROTECTED)
        if measure == RESERVED:
            raise Refused(Code.MEASURE_RESERVED)


def reservable_node(dimensions: dict[str, str]) -> Node:
    """The level a line names, as values along the hierarchy.

    Raises:
        Refused: an unknown name, a value too long, no site or warehouse, a gap in the hierarchy.

    """
    if not dimensions.keys() <= BASE_DIMENSIONS:
        raise Refused(Code.DIMENSION_UNKNOWN)
    if any(len(value) > 64 for value in dimensions.values()):
        raise Refused(Code.DIMENSION_VALUE_INVALID)
    node = node_of(dimensions)
    if len(node) < 2:
        raise Refused(Code.PARTITION_DIMENSION_MISSING)
    if any(dimensions.get(name) for name in HIERARCHY[len(node) :]):
        raise Refused(Code.LEVEL_NOT_RESERVABLE)
    return node


def check_measure(measure: str) -> None:
    """Refuse a measure that cannot be reserved.

    Raises:
        Refused: it cannot.

    """
    if measure == RESERVED:
        return
    if measure.startswith("fno."):
        raise Refused(Code.MEASURE_NOT_RESERVABLE)
    raise Refused(Code.MEASURE_UNKNOWN)


def check_quantity(action: str, line: Fields) -> None:
    """Refuse a quantity whose sign or size the action does not allow.

    Raises:
        Refused: it is not allowed.

    """
    quantity = line["quantity"]
    lowest = 1
    if action == "RELEASE":
        lowest = 0
    elif action == "RESERVE" and not line["check_availability"]:
        lowest = -QUANTITY_MAX
    if quantity < lowest or (quantity == 0 and action != "RELEASE"):
        raise Refused(Code.QUANTITY_INVALID)
    if abs(quantity) > QUANTITY_MAX:
        raise Refused(Code.QUANTITY_OUT_OF_RANGE)


def reserve(shelf: Shelf, place: Place, line: Fields, number: int) -> Line:
    """Hold the quantity if it fits at every level up to its own, or if no check was asked for."""
    quantity = line["quantity"]
    available = shelf.available(place.node)
    if line["check_availability"] and quantity > available:
        return Line(Code.INSUFFICIENT_STOCK, 0, available)
    shelf.hold(place.node, number, quantity, (line["detail"] or {}).get("order_id", ""))
    return Line(Code.ACCEPTED, quantity, shelf.available(place.node), 0, place, number)


def give_back(shelf: Shelf, place: Place, quantity: int, line: Fields) -> Line:
    """Take back from the place's holds, never more than is held; the excess is said."""
    taken = shelf.take(place.node, quantity, (line["detail"] or {}).get("order_id", ""))
    code = Code.ACCEPTED if taken == quantity else Code.PARTIAL
    if not taken:
        code = Code.NOTHING_RESERVED
    return Line(code, taken, shelf.available(place.node), quantity - taken)
