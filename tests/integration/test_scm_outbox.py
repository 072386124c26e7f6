"""The outbox connector: real PostgreSQL, real Kafka, a worker, and a connector that is killed."""

import json
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from rich.console import Console

from compose.ports import choose_port
from compose.probes import http_answers
from compose.stack import LocalStack
from holdfast.commands.topics import ensure_topics
from producers.channel import ChannelClient, Item
from producers.settings import Settings
from schemas.codes import Code
from tests.support.eventually import eventually
from tests.support.scm import Connector, Reader, metric

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(280)]

SCM = Path(__file__).resolve().parents[2] / "producers" / "scm"
KILLS = 20
STEPS = ("read", "produced", "flushed", "committed")
PLACE = {"siteid": "1", "locationid": "11", "colorid": "red", "sizeid": "small"}


class Erp(Connector):
    """The sample ERP in a database of its own, and the connector that follows it."""

    def __init__(self, dsn: str, settings: Settings, folder: Path) -> None:
        self.name = f"erp-{uuid.uuid4().hex[:8]}"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{self.name}"')
        self.dsn = f"{dsn.rsplit('/', 1)[0]}/{self.name}"
        super().__init__(settings, folder, self.name, ("--source", self.dsn))
        with self.connect() as connection:
            for name in ("outbox.sql", "sample_erp.sql"):
                connection.execute((SCM / name).read_text())

    def connect(self, *, autocommit: bool = True) -> psycopg.Connection[Any]:
        """A session of the ERP."""
        return psycopg.connect(self.dsn, autocommit=autocommit)


@pytest.fixture
def erp(postgres_dsn: str, running: Settings, tmp_path: Path) -> Erp:
    """A sample ERP with nothing in it."""
    return Erp(postgres_dsn, running, tmp_path)


@pytest.fixture
def reader(erp: Erp, running: Settings) -> Iterator[Reader]:
    """Reads what that ERP's connector committed."""
    opened = Reader(running, erp.name)
    yield opened
    opened.close()


def create(connection: psycopg.Connection[Any], order: str, **words: Any) -> None:
    """An order line of the sample ERP; its product is nobody else's, as the order is."""
    line = {"product": f"P-{order}", "quantity": 1, "hold_id": None, **words}
    connection.execute(
        "SELECT erp_create(%s, '1', 'usmf', %s, '1', '11', 'red', 'small', %s, %s)",
        (order, line["product"], line["quantity"], line["hold_id"]),
    )


def step(connection: psycopg.Connection[Any], verb: str, order: str) -> None:
    """One step of an order line: reserve, pick, pack, invoice, cancel."""
    connection.execute(f"SELECT erp_{verb}(%s, '1')", (order,))


def test_an_order_takes_over_its_hold_and_gives_it_back(
    erp: Erp, running: Settings, reader: Reader
) -> None:
    """From reserved to picked the availability stays as the hold left it; each row is told once."""
    item = Item("usmf", f"P-{erp.name}", PLACE)
    with ChannelClient(running) as client, erp.connect() as session, erp.followed():
        client.on_hand(item, {"fno.physicalinvent": 10}, source="fno")
        answer = client.reserve(item, 4, order_id=erp.name)
        hold_id = answer.lines[0].hold_id

        def available() -> int:
            return client.availability(item).lines[0].available // 1_000_000

        assert available() == 6
        words = {"product": item.product_id, "quantity": 4, "hold_id": hold_id}
        create(session, erp.name, **words)
        for number, verb in enumerate(("reserve", "pick", "pack", "invoice"), start=2):
            step(session, verb, erp.name)
            eventually(lambda number=number: len(reader.count()) == number)  # type: ignore[misc]
            eventually(lambda: available() == 6)
        gone = client.release(item, hold_id)
        assert gone.code == Code.HOLD_CLOSED
    assert set(reader.count().values()) == {1}
    statuses = [told.transaction.status for told in reader.told if told.transaction]
    assert statuses == ["ON_ORDER", "RESERVED_PHYSICAL", "PICKED", "DEDUCTED", "SOLD"]


def test_a_cancelled_order_frees_its_stock(erp: Erp, running: Settings) -> None:
    """Cancelled after picking, the pieces come back."""
    item = Item("usmf", f"P-{erp.name}", PLACE)
    with ChannelClient(running) as client, erp.connect() as session, erp.followed():
        client.on_hand(item, {"fno.physicalinvent": 10}, source="fno")
        create(session, erp.name, product=item.product_id, quantity=4)
        step(session, "pick", erp.name)

        def available() -> int:
            return client.availability(item).lines[0].available // 1_000_000

        eventually(lambda: available() == 6)
        step(session, "cancel", erp.name)
        eventually(lambda: available() == 10)


def test_a_late_commit_under_a_lower_id_is_not_passed_over(erp: Erp, reader: Reader) -> None:
    """A row is held back while an older transaction is open, and both come in their order."""
    with erp.followed() as port, erp.connect(autocommit=False) as slow, erp.connect() as quick:
        create(slow, f"{erp.name}-slow")  # Takes the lower id, and stays open.
        create(quick, f"{erp.name}-quick")
        with erp.connect() as third:
            create(third, f"{erp.name}-third")
        eventually(lambda: metric(port, "holdfast_connector_held_back") == 1.0)
        assert not reader.count()
        slow.commit()
        eventually(lambda: len(reader.count()) == 3)
    orders = [told.transaction.order_id for told in reader.told if told.transaction]
    assert orders == [f"{erp.name}-{which}" for which in ("slow", "quick", "third")]


def test_an_unknown_status_goes_to_the_dead_letters_as_it_came(erp: Erp, reader: Reader) -> None:
    """The row's bytes and the reason are kept; the rows around it are told on."""
    with erp.connect() as session, erp.followed():
        create(session, f"{erp.name}-1")
        session.execute("ALTER TABLE erp_order_line DROP CONSTRAINT erp_order_line_status_check")
        session.execute("UPDATE erp_order_line SET status = 'levitating'")
        create(session, f"{erp.name}-2")
        eventually(lambda: (len(reader.count()), len(reader.letters)) == (2, 1))
    letter = reader.letters[0]
    assert letter.code == Code.STATUS_UNMAPPED
    assert "levitating" in letter.reason
    assert json.loads(letter.value or b"")["status"] == "levitating"


def test_twenty_kills_lose_and_double_no_row(erp: Erp, reader: Reader) -> None:
    """Killed between read, publish and commit while rows come in, every row is committed once."""
    written: list[str] = []
    stop = threading.Event()

    def write() -> None:
        with erp.connect() as session:
            while not stop.wait(0.005):
                order = f"{erp.name}-{len(written)}"
                create(session, order)
                step(session, "pick", order)
                written.append(order)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for kill in range(KILLS):
            killed = erp.start(
                HOLDFAST_CONNECTOR_CRASH_AT=STEPS[kill % len(STEPS)],
                HOLDFAST_CONNECTOR_CRASH_AFTER=str(kill % 7),
            )
            assert killed.wait(60) == -signal.SIGKILL, erp.log()
    finally:
        stop.set()
        writer.join()
    expected = {f"{order}/1/{revision}" for order in written for revision in (1, 2)}
    with erp.followed():
        eventually(lambda: len(reader.count()) >= len(expected), within_s=60)
    counts = reader.count()
    assert set(counts) == expected
    assert {event: n for event, n in counts.items() if n != 1} == {}
    assert len(expected) > KILLS


def test_a_lost_database_connection_is_made_again(erp: Erp, reader: Reader) -> None:
    """Its session is ended under it; rows go on, each once."""
    with erp.connect() as session, erp.followed():
        for number in range(3):
            create(session, f"{erp.name}-{number}")
            eventually(lambda number=number: len(reader.count()) == number + 1)  # type: ignore[misc]
            ended = session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = %s",
                (f"holdfast-scm-{erp.name}",),
            )
            assert ended.fetchall()
        create(session, f"{erp.name}-last")
        eventually(lambda: len(reader.count()) == 4)
    assert set(reader.count().values()) == {1}


def test_a_restarted_broker_loses_and_doubles_no_row(postgres_dsn: str, tmp_path: Path) -> None:
    """Restarted twice under rows; the connector goes on, or ends with 70 and is started again."""
    with LocalStack(tmp_path / "servers", ("kafka", "registry")) as stack:
        ensure_topics(stack.addresses, 2, Console(stderr=True, quiet=True))
        settings = Settings(
            bootstrap_servers=str(stack.addresses.kafka_bootstrap),
            registry_url=str(stack.addresses.registry_url),
            schema_cache=str(tmp_path / "schemas.json"),
        )
        erp = Erp(postgres_dsn, settings, tmp_path)
        stop = threading.Event()
        codes: list[int] = []
        port = choose_port(None)
        ready = f"http://127.0.0.1:{port}/ready"

        def run_one() -> int:
            process = erp.start("--http-port", str(port))
            while process.poll() is None and not stop.wait(0.05):
                pass
            # Before it is ready it does not yet listen to signals, and would die of this one.
            eventually(lambda: process.poll() is not None or http_answers(ready), within_s=60)
            process.send_signal(signal.SIGTERM)
            return process.wait(60)

        def supervise() -> None:
            while not stop.is_set():
                codes.append(run_one())

        supervisor = threading.Thread(target=supervise)
        supervisor.start()
        try:
            with erp.connect() as session:
                for batch in range(3):
                    for number in range(100):
                        create(session, f"{erp.name}-{batch}-{number}")
                    if batch < 2:
                        stack.kafka.restart()
            reader = Reader(settings, erp.name)
            eventually(lambda: len(reader.count()) == 300, within_s=120)
            reader.read()
            reader.close()
        finally:
            stop.set()
            supervisor.join()
    assert set(Counter(told.event_id for told in reader.told).values()) == {1}
    assert set(codes) <= {0, 70}, codes


def test_a_second_connector_of_the_name_stops_the_first(erp: Erp, reader: Reader) -> None:
    """The earlier one ends with code 70 at its next row and says why; the later tells it on."""
    port = choose_port(None)
    first = erp.start("--http-port", str(port))
    eventually(lambda: http_answers(f"http://127.0.0.1:{port}/ready"))
    first_log = erp.folder / f"connector-{erp.runs}.log"
    with erp.followed(), erp.connect() as session:
        create(session, f"{erp.name}-1")
        assert first.wait(30) == 70
        assert "another connector of this name" in first_log.read_text()
        eventually(lambda: sum(reader.count().values()) == 1)


def test_a_database_that_went_back_is_refused(erp: Erp, reader: Reader) -> None:
    """Ids below the position would never be told on: the connector says so and ends."""
    with erp.connect() as session:
        with erp.followed():
            for number in range(3):
                create(session, f"{erp.name}-{number}")
            eventually(lambda: len(reader.count()) == 3)
        session.execute("TRUNCATE holdfast_outbox")
        session.execute("ALTER SEQUENCE holdfast_outbox_id RESTART")
    assert erp.start().wait(30) == 70
    assert "restored or replaced" in erp.log()


def test_published_rows_are_deleted_when_they_are_old(erp: Erp, reader: Reader) -> None:
    """Only rows that were told on and are older than is kept go."""
    with erp.connect() as session:
        create(session, f"{erp.name}-old")
        session.execute("UPDATE holdfast_outbox SET created_at = now() - interval '3 days'")
        create(session, f"{erp.name}-new")

        def kept() -> list[Any]:
            return session.execute("SELECT body ->> 'order_id' FROM holdfast_outbox").fetchall()

        with erp.followed(HOLDFAST_CONNECTOR_KEEP_DAYS="2"):
            eventually(lambda: len(reader.count()) == 2)
            eventually(lambda: kept() == [(f"{erp.name}-new",)])


def test_an_old_row_that_was_not_told_on_is_kept_and_told(erp: Erp, reader: Reader) -> None:
    """However old: behind another session's open transaction it waits, and is not trimmed."""
    with erp.connect(autocommit=False) as slow, erp.connect() as session:
        create(session, f"{erp.name}-told")
        with erp.followed():
            eventually(lambda: len(reader.count()) == 1)
        create(slow, f"{erp.name}-slow")  # Takes the lower id, and stays open.
        create(session, f"{erp.name}-waiting")
        session.execute("UPDATE holdfast_outbox SET created_at = now() - interval '3 days'")

        def kept() -> list[Any]:
            return session.execute("SELECT body ->> 'order_id' FROM holdfast_outbox").fetchall()

        with erp.followed(HOLDFAST_CONNECTOR_KEEP_DAYS="2"):
            eventually(lambda: (f"{erp.name}-told",) not in kept())
            assert kept() == [(f"{erp.name}-waiting",)]
            slow.commit()
            eventually(lambda: len(reader.count()) == 3)
    assert set(reader.count().values()) == {1}


def test_from_start_tells_everything_again(erp: Erp, reader: Reader) -> None:
    """Asked to, it passes its position over: every row that is there, a second time."""
    with erp.connect() as session:
        for number in range(3):
            create(session, f"{erp.name}-{number}")
    with erp.followed():
        eventually(lambda: len(reader.count()) == 3)
    with erp.followed("--from-start"):
        eventually(lambda: set(reader.count().values()) == {2})
