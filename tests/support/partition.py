"""One partition decided in process, with words for what a test wants to say.

Records go in as bytes and answers come out as bytes, through the domain that the engine is given;
only the engine is missing. Defaults tell a story (D0002 red/small at usmf, site 1, warehouse 11),
so that a test names what matters to it alone. Quantities are whole pieces.
"""

from typing import Any

from processor.decider import StockDomain
from processor.engine.ports import Outputs
from processor.engine.records import Record
from processor.inventory.configuration import Configuration
from schemas import topics
from schemas.codec import Codec
from schemas.messages import (
    DeadLetter,
    InventoryEvent,
    InventoryTransaction,
    LineDetail,
    MeasureChange,
    RequestLine,
    RequestOptions,
    ReservationRequest,
    ReservationResult,
    ResultLine,
    TransactionStatus,
)
from schemas.registry import FixedSchemaIds
from tests.support.rows import DictRows

UNIT = 1_000_000
RED_SMALL = {"siteid": "1", "locationid": "11", "colorid": "red", "sizeid": "small"}
RED = {"siteid": "1", "locationid": "11", "colorid": "red"}
WAREHOUSE = {"siteid": "1", "locationid": "11"}
CODEC = Codec(FixedSchemaIds())


class Partition:
    """Partition 0 of 1, and everything it ever answered."""

    def __init__(self, configuration: Configuration | None = None, codec: Codec = CODEC) -> None:
        self.domain = StockDomain(codec, configuration)
        self.rows = DictRows()
        self.decider = self.domain.open(0, 1, self.rows, None)
        self.now_ms = 1_800_000_000_000
        self.offsets = dict.fromkeys(topics.SOURCES, 0)
        self.count = 0
        self.checkpoint: bytes | None = None
        self.events: list[InventoryEvent] = []
        self.dead_letters: list[DeadLetter] = []
        self.log: list[tuple[str, bytes | None, bytes | None, int]] = []
        self.written: list[bytes] = []

    # Records.

    def send(self, topic: str, key: bytes | None, value: bytes | None) -> list[ReservationResult]:
        """Decide one record and commit it; returns its results, keeps events and dead letters."""
        record = Record(topic, 0, self.offsets[topic], self.now_ms, key=key, value=value)
        self.offsets[topic] += 1
        self.log.append((topic, key, value, self.now_ms))
        outputs = Outputs(self.domain.output_topics)
        self.decider.decide([record], outputs)
        self.commit()
        messages = outputs.messages
        self.written += [value for of in messages.values() for _, value in of if value]
        self.events = [CODEC.decode_event(value) for _, value in messages[topics.EVENTS]]
        self.dead_letters = [
            CODEC.decode_dead_letter(value) for _, value in messages[topics.DEAD_LETTERS]
        ]
        return [CODEC.decode_result(value) for _, value in messages[topics.RESULTS]]

    def commit(self) -> None:
        """What the engine does behind a batch."""
        self.checkpoint = self.decider.checkpoint()
        self.decider.committed()

    def restart(self) -> None:
        """Forget everything but what a changelog would bring back."""
        local = self.domain.local_kinds
        kept = {key: value for key, value in self.rows.rows.items() if key[0] not in local}
        derived = [index for key, value in kept.items() for index in self.domain.derive(key, value)]
        self.rows = DictRows(kept | dict(derived))
        self.decider = self.domain.open(0, 1, self.rows, self.checkpoint)

    def next_id(self, kind: str) -> str:
        """A new id."""
        self.count += 1
        return f"{kind}-{self.count}"

    # Requests.

    def ask(
        self,
        action: str,
        lines: list[RequestLine],
        *,
        request_id: str | None = None,
        options: RequestOptions | None = None,
        channel: str = "web-shop",
        organization: str = "usmf",
        key: bytes | None = b"usmf|1|11",
    ) -> ReservationResult:
        """Send a request; returns its one result."""
        request = ReservationRequest(
            self.next_id("r") if request_id is None else request_id,
            action,
            organization,
            channel,
            lines,
            options,
        )
        (result,) = self.send(topics.REQUESTS, key, CODEC.encode_request(request))
        return result

    def line(self, action: str, quantity: float, **words: Any) -> ResultLine:
        """Send a request of one line; returns its answer as a line."""
        asked = {
            name: words.pop(name) for name in ("request_id", "options", "channel") if name in words
        }
        result = self.ask(action, [line(quantity, **words)], **asked)
        if not result.lines:
            return ResultLine(result.code, "", "", 0, 0)
        return result.lines[0]

    def reserve(self, quantity: float, **words: Any) -> ResultLine:
        """RESERVE one line."""
        return self.line("RESERVE", quantity, **words)

    def release(self, hold_id: str, quantity: float = 0, **words: Any) -> ResultLine:
        """RELEASE one hold."""
        return self.line("RELEASE", quantity, hold_id=hold_id, **words)

    def tick(self) -> None:
        """Let the clock arrive."""
        request = ReservationRequest("", "TICK", "", "", [])
        assert self.send(topics.REQUESTS, None, CODEC.encode_request(request)) == []

    def available(self, dimensions: dict[str, str] = RED_SMALL, product: str = "D0002") -> float:
        """What could be reserved, asked by a dry run of the impossible."""
        dry = RequestOptions(dry_run=True)
        answer = self.reserve(10**9, dimensions=dimensions, product=product, options=dry)
        return answer.available / UNIT

    # What the ERP tells.

    def tell(
        self,
        measures: dict[str, float],
        *,
        event_id: str | None = None,
        dimensions: dict[str, str] = RED_SMALL,
        product: str = "D0002",
        source: str = "fno",
        transaction: TransactionStatus | None = None,
        key: bytes | None = b"usmf|1|11",
        **words: Any,
    ) -> InventoryEvent:
        """Send an inventory transaction; returns its TRANSACTION event."""
        changes = [
            MeasureChange(measure, round(quantity * UNIT)) for measure, quantity in measures.items()
        ]
        told = InventoryTransaction(
            event_id=self.next_id("e") if event_id is None else event_id,
            organization_id="usmf",
            product_id=product,
            dimensions=dimensions,
            source=source,
            transaction=transaction,
            **{"changes": changes, **words},
        )
        self.send(topics.TRANSACTIONS, key, CODEC.encode_transaction(told))
        kinds = [event.event_type for event in self.events]
        assert kinds.count("TRANSACTION") == 1
        assert kinds[0] == "TRANSACTION"
        return self.events[0]

    def stock(self, quantity: float, **words: Any) -> InventoryEvent:
        """More physical stock."""
        return self.tell({"fno.physicalinvent": quantity}, **words)

    def status(
        self,
        status: str,
        quantity: float,
        *,
        sequence: int,
        transaction: str = "T1",
        changes: dict[str, float] | None = None,
        dimensions: dict[str, str] = RED_SMALL,
        product: str = "D0002",
        **words: Any,
    ) -> InventoryEvent:
        """An ERP transaction reaches a status."""
        reached = TransactionStatus(
            transaction_id=transaction,
            status=status,
            sequence=sequence,
            quantity=round(quantity * UNIT),
            **words,
        )
        return self.tell(changes or {}, transaction=reached, dimensions=dimensions, product=product)


def line(
    quantity: float,
    *,
    dimensions: dict[str, str] = RED_SMALL,
    product: str = "D0002",
    source: str = "",
    measure: str = "",
    check: bool = True,
    **detail: Any,
) -> RequestLine:
    """A request line; what is not named here goes into its detail."""
    if "minimum" in detail:
        detail["minimum_quantity"] = round(detail.pop("minimum") * UNIT)
    rare = LineDetail(**detail) if detail else None
    return RequestLine(product, source, dimensions, measure, round(quantity * UNIT), check, rare)


def pieces(quantity: int) -> float:
    """A quantity in whole pieces."""
    return quantity / UNIT
