"""`holdfast audit`: prove that the stored totals are the sum of the holds, from the changelog.

The rule: it reads committed rows and changes nothing. Findings are listed; contradictions in the
rows make the exit code 1.
"""

import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Final

import typer
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from holdfast.connection import EXIT_REFUSED, EXIT_UNKNOWN, Stop, find_settings
from processor.inventory import rows as row
from processor.inventory.audit import Drift, audit
from processor.inventory.reconfigure import rules_of
from processor.inventory.rules import default_rules
from schemas import topics

READ_WITHIN_S: Final = 300.0
SHOWN_MAX: Final = 50

EXAMPLES = """\
Examples:

  holdfast audit                     the running stack of this checkout

  holdfast audit --bootstrap kafka:9092 --json | tail -1
"""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("audit", epilog=EXAMPLES)(command)


def command(
    bootstrap: Annotated[str | None, typer.Option(help="Kafka: host:port,host:port.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Prove that reserved totals are the sum of live holds, and that no level is oversold."""
    try:
        settings = find_settings(bootstrap, "unused" if bootstrap else None)
        drifts, rows = _audit(settings.bootstrap_servers)
    except (Stop, KafkaException, TimeoutError) as error:
        print(f"The changelog cannot be read: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_UNKNOWN) from error
    faults = sum(drift.is_fault for drift in drifts)
    for drift in drifts[:SHOWN_MAX]:
        print(f"{drift.kind}: {drift.place}: {drift.found}, not {drift.expected} (millionths)")
    if as_json:
        short = len(drifts) - faults
        print(json.dumps({"name": "audit", "rows": rows, "drifts": faults, "short": short}))
    else:
        print(f"{rows} rows: {faults} drifts, {len(drifts) - faults} levels short of supply")
    if faults:
        raise typer.Exit(EXIT_REFUSED)


def _audit(bootstrap: str) -> tuple[list[Drift], int]:
    drifts: list[Drift] = []
    count = 0
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "audit",  # Never committed: partitions are assigned by hand.
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
    )
    try:
        found = consumer.list_topics(topics.CHANGELOG, timeout=30).topics[topics.CHANGELOG]
        for partition in sorted(found.partitions):
            rows = dict(_rows(consumer, partition))
            count += len(rows)
            rules = rules_of(_Committed(rows), default_rules())
            drifts += audit(rules, rows.items(), int(time.time() * 1000))
    finally:
        consumer.close()
    return drifts, count


class _Committed:
    """Rows that are only looked up."""

    def __init__(self, rows: dict[bytes, bytes]) -> None:
        self.get = rows.get

    def put(self, key: bytes, value: bytes, /) -> None:
        raise NotImplementedError

    def delete(self, key: bytes, /) -> None:
        raise NotImplementedError

    def scan(self, group: bytes, after: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]:
        raise NotImplementedError


def _rows(consumer: Consumer, partition: int) -> Iterator[tuple[bytes, bytes]]:
    """Last committed value of every stock and hold row of a partition."""
    place = TopicPartition(topics.CHANGELOG, partition, OFFSET_BEGINNING)
    end = consumer.get_watermark_offsets(place, timeout=30)[1]
    consumer.assign([place])
    latest: dict[bytes, bytes | None] = {}
    deadline = time.monotonic() + READ_WITHIN_S
    while (position := consumer.position([place])[0].offset) < end:
        if time.monotonic() > deadline:
            raise TimeoutError(f"partition {partition}: read to {position} of {end}")
        for message in consumer.consume(num_messages=10_000, timeout=0.5):
            if message.error() is not None:
                raise KafkaException(message.error())
            key = message.key()
            if key is not None and (key[:1] in {b"H", b"P"} or key == row.CONFIGURATION_KEY):
                latest[key] = message.value()
    for key, value in latest.items():
        if value is not None:
            yield key, value
