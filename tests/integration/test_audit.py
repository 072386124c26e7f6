"""`holdfast audit` against a real changelog."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from typer.testing import CliRunner

from holdfast.changelog import committed_rows
from holdfast.cli import app
from producers.settings import Settings
from tests.support.records import in_transactions

pytestmark = pytest.mark.kafka

PLACE = ("--org", "usmf", "--site", "1", "--warehouse", "11", "--color", "red", "--size", "small")


def test_the_stored_totals_are_the_sum_of_the_holds(running: Settings, tmp_path: Path) -> None:
    """After reservations on a real stack the auditor reads the changelog and finds no drift."""
    product = f"A-{uuid.uuid4().hex[:8]}"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": running.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": running.registry_url,
        "HOLDFAST_SCHEMA_CACHE": running.schema_cache,
        "HOLDFAST_HOME": str(tmp_path),
    }
    for words in (("onhand", product, "10"), ("reserve", product, "2", "--order", "SO-1")):
        result = CliRunner().invoke(app, [*words, *PLACE], env=environment)
        assert result.exit_code == 0, result.output
    audited = CliRunner().invoke(app, ["audit", "--json"], env=environment)
    assert audited.exit_code == 0, audited.output
    told = json.loads(audited.stdout.strip().splitlines()[-1])
    assert told["drifts"] == 0
    assert told["rows"] >= 3


def test_what_was_aborted_is_not_read(running: Settings, fresh: Callable[[str], str]) -> None:
    """Audit, offsets and migration see the rows of committed batches, and of them the latest."""
    topic = fresh("changelog")
    admin = AdminClient(running.librdkafka())
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    in_transactions(
        running.librdkafka(),
        topic,
        (True, [(b"Fkept", b"1"), (b"Fover", b"1")]),
        (False, [(b"Fgone", b"2"), (b"Fkept", b"2")]),
        (True, [(b"Fover", b"3")]),
        (False, [(b"Fover", b"4")]),
    )
    found = dict(committed_rows(running, lambda _: True, topic))
    assert found == {0: {b"Fkept": b"1", b"Fover": b"3"}}
