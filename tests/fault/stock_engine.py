"""Stock Faust doing the same job as plainly as its documentation shows: for the control run only.

A table with RocksDB, an agent per topic, ids remembered in the table, answers by `send`. Without
faults it answers rightly; what becomes of that under `kill -9` is what the checker must be able to
see, or it sees nothing.

    python -m tests.fault.stock_engine --datadir DIR worker
"""

import os
from typing import Any, Final

import faust
import msgspec

from schemas import topics
from schemas.codes import Code
from schemas.registry import Registry, register
from tests.support.model import lowered
from tests.support.wire import Fields, Wire

PARTITIONS: Final = 4
SEQUENCE: Final = b"sequence"
CLOCK: Final = b"clock"


def make_app() -> Any:
    """The app, its table and its agents."""
    registry = Registry(os.environ["SCHEMA_REGISTRY_URL"], timeout_s=30.0)
    wire = Wire({number: record for record, number in register(registry).items()})
    app = faust.App(
        "stock-engine",
        broker=f"kafka://{os.environ['KAFKA_BOOTSTRAP_SERVERS']}",
        store="rocksdb://",
        key_serializer="raw",
        value_serializer="raw",
        topic_partitions=PARTITIONS,
        topic_allow_declare=True,
        processing_guarantee="at_least_once",
        broker_session_timeout=int(os.environ["HOLDFAST_SESSION_TIMEOUT_MS"]) / 1000,
        broker_heartbeat_interval=1.0,
        table_standby_replicas=0,
        web_enabled=False,
    )
    table = app.Table("stock", partitions=PARTITIONS, key_type=bytes, value_type=bytes)
    add_agents(app, table, wire)
    return app


def add_agents(app: Any, table: Any, wire: Wire) -> None:
    """Receipts raise a quantity, reservations lower it; both answer."""
    plain = {"key_type": bytes, "value_type": bytes}
    results = app.topic(topics.RESULTS, **plain)
    events = app.topic(topics.EVENTS, **plain)

    async def receive(stream: Any) -> None:
        async for event in stream.events():
            fields = wire.read(event.value, "InventoryTransaction")
            for change in fields["changes"]:
                row = row_key(fields, change["dimensions"] or fields["dimensions"])
                table[row] = b"%d" % (quantity(table, row) + change["quantity"])
            answer = {
                "event_type": "TRANSACTION",
                "code": int(Code.APPLIED),
                "sequence": next_sequence(table),
                "at_ms": move_clock(table, event.message),
                "source_topic": topics.TRANSACTIONS,
                "source_offset": event.message.offset,
                "source_id": fields["event_id"],
            }
            await events.send(
                key=fields["event_id"].encode(),
                value=wire.write(answer, "InventoryEvent"),
                partition=event.message.partition,
            )

    async def reserve(stream: Any) -> None:
        async for event in stream.events():
            request = wire.read(event.value, "ReservationRequest")
            answer = answer_request(table, request, event.message)
            await results.send(
                key=request["request_id"].encode(),
                value=wire.write(answer, "ReservationResult"),
                partition=event.message.partition,
            )

    app.agent(app.topic(topics.TRANSACTIONS, **plain))(receive)
    app.agent(app.topic(topics.REQUESTS, **plain))(reserve)


def answer_request(table: Any, request: Fields, message: Any) -> Fields:
    """Decide a request, or answer as it was answered before."""
    id_key = b"id|" + request["request_id"].encode()
    about = {"sequence": next_sequence(table), "source_offset": message.offset}
    clock_ms = move_clock(table, message)
    remembered = table.get(id_key)
    if remembered is not None:
        answer: Fields = {**msgspec.json.decode(remembered), **about, "replayed": True}
        return answer
    answer = {
        "request_id": request["request_id"],
        "decided_at_ms": clock_ms,
        **about,
        **decide(table, request, about["sequence"]),
    }
    table[id_key] = msgspec.json.encode(answer)
    return answer


def decide(table: Any, request: Fields, sequence: int) -> Fields:
    """Reserve if there is enough."""
    line = request["lines"][0]
    row = row_key({**request, **line}, line["dimensions"])
    available = quantity(table, row)
    asked = line["quantity"]
    if asked > available:
        code, granted = Code.INSUFFICIENT_STOCK, 0
    else:
        code, granted = Code.ACCEPTED, asked
        table[row] = b"%d" % (available - asked)
    text = row.decode()
    told = {
        "code": int(code),
        "reservation_id": text if granted else "",
        "hold_id": f"{text}-{sequence * 512}" if granted else "",
        "quantity": granted,
        "available": available - granted,
    }
    return {"code": int(code), "lines": [told]}


def row_key(about: Fields, dimensions: dict[str, str]) -> bytes:
    """Key of a stock row."""
    values = "/".join(f"{name}={value}" for name, value in sorted(lowered(dimensions).items()))
    return f"{about['organization_id']}/{about['product_id']}/{values}".encode()


def quantity(table: Any, row: bytes) -> int:
    """What is left of a row."""
    return int(table.get(row) or 0)


def next_sequence(table: Any) -> int:
    """Number of this decision in its partition."""
    number = int(table.get(SEQUENCE) or 0) + 1
    table[SEQUENCE] = b"%d" % number
    return number


def move_clock(table: Any, message: Any) -> int:
    """The partition's clock after this record, in milliseconds."""
    clock_ms: int = max(int(table.get(CLOCK) or 0), round(message.timestamp * 1000))
    table[CLOCK] = b"%d" % clock_ms
    return clock_ms


if __name__ == "__main__":
    make_app().main()
