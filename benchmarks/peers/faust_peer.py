"""The peer `faust`: a stock Faust 0.15.3 application, written as its documentation teaches.

One agent, two tables on RocksDB (reserved quantity by stock key, reservation record by request id),
a reply by `send`. Raw bytes in the tables and Holdfast's own Avro codec, so that the difference is
Faust's alone. At-least-once: its exactly-once mode is slower still (reference: 1.9 k/s).
"""

import argparse
import struct
from pathlib import Path
from typing import Any

import faust

from schemas import topics
from schemas.codec import Codec
from schemas.codes import Code
from schemas.limits import QUANTITY_SCALE
from schemas.messages import RequestLine, ReservationRequest, ReservationResult, ResultLine
from schemas.registry import SchemaIds

RECORD = struct.Struct(">iqq")  # Code, reserved quantity, availability after it.
COUNT = struct.Struct(">q")


def stock_key(request: ReservationRequest, line: RequestLine) -> bytes:
    """Organization, product and the four dimension values."""
    values = line.dimensions
    parts = (
        request.organization_id,
        line.product_id,
        values["siteid"],
        values["locationid"],
        values["colorid"],
        values["sizeid"],
    )
    return "|".join(parts).encode()


def decide(request: ReservationRequest, stock: Any, reservations: Any, supply: int) -> bytes:
    """Reserve one line, count it, keep the record; the record is the answer."""
    line = request.lines[0]
    key = stock_key(request, line)
    before = stock.get(key)
    reserved = COUNT.unpack(before)[0] if before else 0
    if reserved + line.quantity <= supply:
        reserved += line.quantity
        stock[key] = COUNT.pack(reserved)
        record = RECORD.pack(Code.ACCEPTED, line.quantity, supply - reserved)
    else:
        record = RECORD.pack(Code.INSUFFICIENT_STOCK, 0, supply - reserved)
    reservations[request.request_id.encode()] = record
    return record


def result(request_id: str, record: bytes, event: Any, *, replayed: bool) -> ReservationResult:
    """The answer in the contract's form."""
    code, granted, available = RECORD.unpack(record)
    hold_id = request_id if granted else ""
    return ReservationResult(
        request_id=request_id,
        code=code,
        sequence=event.message.offset + 1,
        decided_at_ms=int(event.message.timestamp * 1000),
        source_offset=event.message.offset,
        replayed=replayed,
        lines=[ResultLine(code, "", hold_id, granted, available)],
    )


def build(arguments: argparse.Namespace) -> faust.App:
    """The application; nothing is connected before Faust starts it."""
    app = faust.App(
        arguments.group,
        broker=f"kafka://{arguments.bootstrap}",
        datadir=arguments.data,
        store="rocksdb://?driver=rocksdict",
        topic_partitions=arguments.partitions,
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )
    partitions = arguments.partitions
    raw = {"key_type": bytes, "value_type": bytes}
    frames = {**raw, "key_serializer": "raw", "value_serializer": "raw", "partitions": partitions}
    requests = app.topic(topics.REQUESTS, **frames)
    results = app.topic(topics.RESULTS, **frames)
    tables = [
        app.Table(name, partitions=partitions, **raw)
        for name in ("peer-stock", "peer-reservations")
    ]
    codec = Codec(SchemaIds(arguments.registry, Path(arguments.data) / "schema-ids.json"))
    supply = arguments.supply * QUANTITY_SCALE

    @app.agent(requests)  # type: ignore[untyped-decorator]
    async def reserve(stream: Any) -> None:
        stock, reservations = tables
        async for event in stream.events():
            request = codec.decode_request(event.value)
            request_id = request.request_id
            known = reservations.get(request_id.encode())
            record = known or decide(request, stock, reservations, supply)
            answer = result(request_id, record, event, replayed=known is not None)
            await results.send(
                key=request_id.encode(),
                value=codec.encode_result(answer),
                partition=event.message.partition,
            )

    return app


def main() -> None:
    """Run one worker until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--registry", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--supply", type=int, required=True, help="pieces of every stock key")
    arguments = parser.parse_args()
    faust.Worker(build(arguments), loglevel="info").execute_from_commandline()


if __name__ == "__main__":
    main()
