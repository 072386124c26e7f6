"""The load of the fault campaign: requests and ERP events of every kind the model covers.

Products at a dozen warehouses, so few in stock that refusals are common, with repeats, reused ids,
releases, offsets that name what was granted, late and doubled ERP events, and records that nobody
can read. The same seed and the same answers give the same records.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from schemas import topics
from tests.support.checker import murmur2
from tests.support.wire import Fields, Wire

UNIT: Final = 1_000_000  # quantities are 10^-6
ORGANIZATION: Final = "usmf"
COLORS: Final = ("red", "blue", "green")
SIZES: Final = ("small", "large")
STOCK_AT_START: Final = 4  # pieces a row: soon gone, so that the edge is met all the time
WAREHOUSES_PER_PARTITION: Final = 3
FAR_MS: Final = 24 * 3_600_000  # Longer than any campaign.
REMEMBERED_MAX: Final = 5_000
ASKED_MAX: Final = 20_000  # Requests whose grant may still be learned.


class Draft(NamedTuple):
    """A record to be produced; `readable`: it is answered, not a dead letter."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    readable: bool = True


class Granted(NamedTuple):
    """A reservation some result confirmed."""

    product_id: str
    dimensions: dict[str, str]
    quantity: int
    reservation_id: str
    hold_id: str


class Shipment(NamedTuple):
    """An ERP transaction under way."""

    granted: Granted
    transaction_id: str
    sequence: int
    quantity: int


def warehouses(partitions: int) -> list[tuple[str, str]]:
    """Sites and warehouses, as many in every partition."""
    found: list[tuple[str, str]] = []
    room = dict.fromkeys(range(partitions), WAREHOUSES_PER_PARTITION)
    number = 0
    while any(room.values()):
        number += 1
        site, warehouse = str(1 + number % 4), str(10 + number)
        partition = murmur2(location_key(site, warehouse)) % partitions
        if room[partition]:
            room[partition] -= 1
            found.append((site, warehouse))
    return found


def location_of(granted: Granted) -> tuple[str, str]:
    """Site and warehouse of a reservation."""
    named = {name.lower(): value for name, value in granted.dimensions.items()}
    return named["siteid"], named["locationid"]


def location_key(site: str, warehouse: str) -> bytes:
    """Key of the records of a warehouse."""
    return f"{ORGANIZATION}|{site}|{warehouse}".encode()


class Load:
    """Makes records; `learn` tells it what was granted, so that later records can name it.

    `plain`: reservations at the finest level, repeats and receipts only, which even a small engine
    can answer rightly as long as nothing goes wrong.
    """

    def __init__(
        self, seed: int, partitions: int, products: int, wire: Wire, *, plain: bool = False
    ) -> None:
        self.random = random.Random(seed)  # noqa: S311 - repeatable, on purpose
        self.partitions = partitions
        self.wire = wire
        self.plain = plain
        self.products = [f"P{number:04}" for number in range(products)]
        self.warehouses = warehouses(partitions)
        self.prefix = f"s{seed}"
        self.count = 0
        self.asked: dict[str, tuple[str, dict[str, str]]] = {}
        self._asking = threading.Lock()  # One thread asks, another learns what was answered.
        self.granted: deque[Granted] = deque(maxlen=REMEMBERED_MAX)
        self.shipments: deque[Shipment] = deque(maxlen=REMEMBERED_MAX)
        self.sent: deque[tuple[Draft, Fields]] = deque(maxlen=REMEMBERED_MAX)
        self.told: deque[Draft] = deque(maxlen=REMEMBERED_MAX)
        kinds = self._plain_kinds() if plain else self._all_kinds()
        self.weights = [weight for weight, _ in kinds]
        self.kinds = [kind for _, kind in kinds]

    def _plain_kinds(self) -> list[tuple[int, Callable[[], Draft]]]:
        return [(90, self.reserve), (8, self.repeat), (2, self.receipt)]

    def _all_kinds(self) -> list[tuple[int, Callable[[], Draft]]]:
        return [
            (620, self.reserve),
            (50, self.repeat),
            (10, self.reuse),
            (60, self.unreserve),
            (70, self.release),
            (20, self.give_back),
            (15, self.reserve_unchecked),
            (40, self.refused),
            (50, self.receipt),
            (70, self.ship),
            (45, self.ship_on),
            (8, self.tell_again),
            (6, self.count_stock),
            (5, self.refused_event),
            (4, self.unreadable),
        ]

    def opening(self) -> Iterator[Draft]:
        """Receipts that fill every row."""
        for site, warehouse in self.warehouses:
            for product_id in self.products:
                rows = [
                    {"siteid": site, "locationid": warehouse, "colorid": color, "sizeid": size}
                    for color in COLORS
                    for size in SIZES
                ]
                changes = [
                    {
                        "measure": "fno.physicalinvent",
                        "quantity": STOCK_AT_START * UNIT,
                        "dimensions": row,
                    }
                    for row in rows
                ]
                yield self.event(product_id, rows[0], changes)

    def draw(self) -> Draft:
        """One record of a kind drawn by weight."""
        return self.random.choices(self.kinds, self.weights)[0]()

    def learn(self, result: Fields) -> None:
        """Remember what a result granted."""
        with self._asking:
            asked = self.asked.pop(result["request_id"], None)
        if asked is None or not result["lines"]:
            return
        line = result["lines"][0]
        if line["hold_id"] and line["quantity"] > 0:
            product_id, dimensions = asked
            self.granted.append(
                Granted(
                    product_id,
                    dimensions,
                    line["quantity"],
                    line["reservation_id"],
                    line["hold_id"],
                )
            )

    def next_id(self, kind: str) -> str:
        """A new id."""
        self.count += 1
        return f"{self.prefix}-{kind}-{self.count}"

    def place(self) -> tuple[str, dict[str, str]]:
        """A product and reservable dimensions: mostly the finest level."""
        site, warehouse = self.random.choice(self.warehouses)
        dimensions = {"siteid": site, "locationid": warehouse}
        depth = 1.0 if self.plain else self.random.random()
        if depth > 0.1:
            dimensions["colorid"] = self.random.choice(COLORS)
        if depth > 0.3:
            dimensions["sizeid"] = self.random.choice(SIZES)
        return self.random.choice(self.products), dimensions

    def request(self, action: str, product_id: str, line: Fields) -> Draft:
        """A request of one line, sent where it belongs."""
        request_id = self.next_id("r")
        fields: Fields = {
            "request_id": request_id,
            "action": action,
            "organization_id": ORGANIZATION,
            "channel": "web-shop",
            "lines": [{"product_id": product_id, **line}],
            "options": None,
        }
        draft = self.addressed(topics.REQUESTS, line["dimensions"], fields)
        self.sent.append((draft, fields))
        if action == "RESERVE":
            with self._asking:
                self.asked[request_id] = (product_id, line["dimensions"])
                if len(self.asked) > ASKED_MAX:
                    del self.asked[next(iter(self.asked))]
        return draft

    def addressed(self, topic: str, dimensions: dict[str, str], fields: Fields) -> Draft:
        """A record with the key of its location, in the partition of that key."""
        named = {name.lower(): value for name, value in dimensions.items()}
        key = location_key(named.get("siteid", ""), named.get("locationid", ""))
        name = "ReservationRequest" if topic == topics.REQUESTS else "InventoryTransaction"
        partition = murmur2(key) % self.partitions
        return Draft(topic, partition, key, self.wire.write(fields, name))

    def event(
        self,
        product_id: str,
        dimensions: dict[str, str],
        changes: list[Fields],
        transaction: Fields | None = None,
        **other: object,
    ) -> Draft:
        """An inventory transaction of the ERP, or as `other` says."""
        fields: Fields = {
            "event_id": self.next_id("e"),
            "organization_id": ORGANIZATION,
            "product_id": product_id,
            "dimensions": dimensions,
            "source": "fno",
            "changes": changes,
            "transaction": transaction,
            **other,
        }
        draft = self.addressed(topics.TRANSACTIONS, dimensions, fields)
        self.told.append(draft)
        return draft

    def reserve(self) -> Draft:
        """A reservation with check, sometimes of half a piece, sometimes for an order."""
        product_id, dimensions = self.place()
        if self.random.random() < 0.1:
            dimensions = {name.title(): value for name, value in dimensions.items()}
        line: Fields = {
            "dimensions": dimensions,
            "quantity": self.random.choice((1, 1, 1, 2, 3)) * UNIT
            + (UNIT // 2 if self.random.random() < 0.05 else 0),
        }
        detail: Fields = {}
        if self.random.random() < 0.3:
            detail["order_id"] = f"SO-{self.random.randrange(1000)}"
        if self.random.random() < 0.2:
            detail["expires_in_ms"] = FAR_MS  # Indexed by its due, which never comes.
        if detail:
            line["detail"] = detail
        return self.request("RESERVE", product_id, line)

    def reserve_unchecked(self) -> Draft:
        """A reservation nobody checks; one product alone, or nothing would be left to promise."""
        _, dimensions = self.place()
        line = {"dimensions": dimensions, "quantity": UNIT, "check_availability": False}
        return self.request("RESERVE", self.products[0], line)

    def give_back(self) -> Draft:
        """A negative reservation: gives back, often more than there is."""
        product_id, dimensions = self.place()
        quantity = -UNIT * self.random.randint(1, 3)
        line = {"dimensions": dimensions, "quantity": quantity, "check_availability": False}
        return self.request("RESERVE", product_id, line)

    def repeat(self) -> Draft:
        """The same request again, bit for bit."""
        return self.random.choice(self.sent)[0] if self.sent else self.reserve()

    def reuse(self) -> Draft:
        """An id that was used before, for another quantity."""
        if not self.sent:
            return self.reserve()
        draft, fields = self.random.choice(self.sent)
        line = {**fields["lines"][0]}
        line["quantity"] += UNIT
        value = self.wire.write({**fields, "lines": [line]}, "ReservationRequest")
        return draft._replace(value=value)

    def unreserve(self) -> Draft:
        """Give back by reservation id: some, all, too much, under another id or elsewhere."""
        if not self.granted:
            return self.reserve()
        granted = self.random.choice(self.granted)
        quantity = self.random.choice((UNIT // 2, granted.quantity, granted.quantity + 5 * UNIT))
        dimensions, reservation_id = dict(granted.dimensions), granted.reservation_id
        if self.random.random() < 0.05:
            reservation_id = self.random.choice(("", "nonsense", "a" * 20))
        if self.random.random() < 0.05:
            dimensions.pop("sizeid", None)
        line = {
            "dimensions": dimensions,
            "quantity": quantity,
            "detail": {"reservation_id": reservation_id},
        }
        return self.request("UNRESERVE", granted.product_id, line)

    def release(self) -> Draft:
        """Give back one hold: all of it, part of it, or one that is gone."""
        if not self.granted:
            return self.reserve()
        granted = self.random.choice(self.granted)
        line = {
            "dimensions": granted.dimensions,
            "quantity": self.random.choice((0, 0, UNIT // 4, granted.quantity, 9 * UNIT)),
            "detail": {"hold_id": granted.hold_id},
        }
        return self.request("RELEASE", granted.product_id, line)

    def refused(self) -> Draft:
        """A request that is refused before stock is looked at."""
        product_id, dimensions = self.place()
        line: Fields = {"dimensions": dimensions, "quantity": UNIT}
        flaw = self.random.randrange(8)
        if flaw == 0:
            line["quantity"] = 0
        elif flaw == 1:
            line["quantity"] = -UNIT
        elif flaw == 2:
            line["quantity"] = 10**18
        elif flaw == 3:
            line["dimensions"] = {**dimensions, "flavour": "sweet"}
        elif flaw == 4:
            dimensions.pop("colorid", None)
            line["dimensions"] = {**dimensions, "sizeid": "small"}
        elif flaw == 5:
            line["measure"] = "iv.nothing"
        elif flaw == 6:
            product_id = "x" * 129
        else:
            line["dimensions"] = {**dimensions, "styleid": "y" * 65}
        return self.request("RESERVE", product_id, line)

    def receipt(self) -> Draft:
        """New stock of a row."""
        product_id, dimensions = self.place()
        quantity = self.random.randint(1, 4) * UNIT
        change = {"measure": "fno.physicalinvent", "quantity": quantity, "dimensions": None}
        return self.event(product_id, dimensions, [change])

    def count_stock(self) -> Draft:
        """A count: an absolute value with its own time, sometimes an older one than the last."""
        product_id, dimensions = self.place()
        change = {
            "measure": "pos.inbound",
            "quantity": self.random.randint(0, 5) * UNIT,
            "dimensions": None,
        }
        modified_at_ms = 1_700_000_000_000 + self.random.randrange(1000)
        return self.event(
            product_id,
            dimensions,
            [change],
            mode="SET",
            source="pos",
            modified_at_ms=modified_at_ms,
        )

    def ship(self) -> Draft:
        """The ERP reserves for an order: offsets what was held."""
        if not self.granted:
            return self.receipt()
        granted = self.random.choice(self.granted)
        if self.random.random() < 0.1:  # An order that goes away before the ERP reserved for it.
            gone = Shipment(granted, self.next_id("t"), 1, granted.quantity)
            return self.status(gone, "CANCELLED", [])
        quantity = self.random.choice((granted.quantity, granted.quantity, granted.quantity + UNIT))
        shipment = Shipment(granted, self.next_id("t"), 1, quantity)
        self.shipments.append(shipment)
        change = {"measure": "fno.reservphysical", "quantity": quantity, "dimensions": None}
        return self.status(shipment, "RESERVED_PHYSICAL", [change])

    def ship_on(self) -> Draft:
        """What follows in the ERP: picked, sold, and now and then a status that comes too late."""
        if not self.shipments:
            return self.receipt()
        shipment = self.shipments.popleft()
        if self.random.random() < 0.1:
            return self.status(shipment, "ON_ORDER", [])
        if self.random.random() < 0.2:
            undone = {
                "measure": "fno.reservphysical",
                "quantity": -shipment.quantity,
                "dimensions": None,
            }
            return self.status(shipment._replace(sequence=3), "CANCELLED", [undone])
        taken = [
            {"measure": name, "quantity": -shipment.quantity, "dimensions": None}
            for name in ("fno.physicalinvent", "fno.reservphysical")
        ]
        return self.status(shipment._replace(sequence=2), "PICKED", taken)

    def status(self, shipment: Shipment, status: str, changes: list[Fields]) -> Draft:
        """An ERP transaction reaches a status; names what it offsets in one of three ways."""
        granted = shipment.granted
        ways = ("reservation_id", "reservation_id", "hold_id", "auto", "nonsense", "elsewhere")
        way = self.random.choice(ways)
        transaction: Fields = {
            "transaction_id": shipment.transaction_id,
            "status": status,
            "sequence": shipment.sequence,
            "quantity": shipment.quantity,
            "reservation_id": granted.reservation_id if way == "reservation_id" else "",
            "hold_id": granted.hold_id if way == "hold_id" else "",
            "auto_offset": way == "auto",
        }
        if way == "nonsense":
            transaction["reservation_id"] = way
        if way == "elsewhere":
            transaction["reservation_id"] = self.neighbour(granted).reservation_id
        return self.event(granted.product_id, granted.dimensions, changes, transaction)

    def neighbour(self, granted: Granted) -> Granted:
        """Another reservation of the same product at the same warehouse, if one is found."""
        for other in self.random.sample(self.granted, min(50, len(self.granted))):
            near = other.product_id == granted.product_id and location_of(other) == location_of(
                granted
            )
            if near and other.reservation_id != granted.reservation_id:
                return other
        return granted

    def tell_again(self) -> Draft:
        """An ERP event twice."""
        return self.random.choice(self.told) if self.told else self.receipt()

    def refused_event(self) -> Draft:
        """An ERP event that may not be applied."""
        product_id, dimensions = self.place()
        source, measure = self.random.choice(
            (("pos", "fno.physicalinvent"), ("iv", "iv.softreserved"), ("fno", "fno.nothing"))
        )
        change = {"measure": measure, "quantity": UNIT, "dimensions": None}
        return self.event(product_id, dimensions, [change], source=source)

    def unreadable(self) -> Draft:
        """A record for the dead letters."""
        draft = self.reserve()._replace(readable=False)
        self.sent.pop()
        flaw = self.random.randrange(6)
        if flaw == 0:
            return draft._replace(value=b"not a record")
        if flaw == 1:
            return draft._replace(value=b"\0\0\x0f\x42\x40" + draft.value[5:])
        if flaw == 2:
            return draft._replace(value=draft.value[:-3])
        if flaw == 3:
            return draft._replace(key=None)
        if flaw == 4:
            return draft._replace(partition=(draft.partition + 1) % self.partitions)
        return draft._replace(topic=topics.TRANSACTIONS)
