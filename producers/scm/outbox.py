"""The outbox of an ERP in PostgreSQL, told on exactly once.

The rule: rows go out in the order of their ids, none is passed over and none goes out twice. The
position is kept in Kafka, in the transaction of the records. A row that commits late under a lower
id is not passed: a look remembers the highest id and the transactions that are open, and the
connector goes on to that id only when all of those have ended. Transactions that begin later take
higher ids, because the outbox's trigger takes the transaction's number before the id.
"""

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

import psycopg
import structlog
from psycopg import sql

from producers.scm import metrics
from producers.scm.batch import Raw, count, records_of, translated
from producers.scm.mapping import Mapping
from producers.scm.publisher import Fault, Publisher
from producers.scm.settings import ConnectorSettings
from producers.scm.translate import read_json

CHANNEL: Final = "holdfast_outbox"
HELD_BACK_POLL_S: Final = 0.05
RECONNECT_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
STATEMENT_MS: Final = 30_000
TRIM_EVERY_S: Final = 60.0
TRIM_ROWS: Final = 10_000

log = structlog.get_logger()

_LOOK: Final = """
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, coalesce(max(id), 0) FROM {table}
"""
# A longer body than is taken is cut here: it is refused anyway, and must not fill the memory.
_ROWS: Final = """
SELECT id, left(body::text, 1000000), extract(epoch FROM clock_timestamp() - created_at)::float8
  FROM {table} WHERE id > %s AND id <= %s ORDER BY id LIMIT %s
"""
# Without the privilege its value is NULL (PostgreSQL 17), as of one that was never used.
_SEQUENCE: Final = """
SELECT coalesce(pg_sequence_last_value(name), 0)
  FROM (SELECT coalesce(to_regclass(%s), pg_get_serial_sequence(%s, 'id')::regclass) AS name) AS of
 WHERE name IS NOT NULL AND has_sequence_privilege(name, 'USAGE, SELECT')
"""
_OLDEST: Final = """
SELECT extract(epoch FROM clock_timestamp() - created_at)::float8
  FROM {table} WHERE id > %s ORDER BY id LIMIT 1
"""
_TRIM: Final = """
DELETE FROM {table} WHERE id IN (
    SELECT id FROM {table} WHERE id <= %s AND created_at < now() - make_interval(days => %s)
     ORDER BY id LIMIT %s)
"""


class Mark(NamedTuple):
    """A look at the outbox: its highest id then, and a transaction number given out after it."""

    highest: int
    number: int


class Frontier:
    """Up to which id nothing can be missing any more.

    One mark at a time is waited for: a newer one would never come to an end on a busy ERP.
    """

    def __init__(self) -> None:
        self._pending: Mark | None = None
        self.final = 0

    @property
    def held_back(self) -> bool:
        """Whether rows wait for transactions that were open when they were seen."""
        return self._pending is not None

    def wants(self, highest: int) -> bool:
        """Whether a mark should be set at this id."""
        return self._pending is None and highest > self.final

    def set_mark(self, mark: Mark) -> None:
        """Wait from now on for all transactions before this number."""
        self._pending = mark

    def settle(self, oldest_open: int) -> None:
        """Take in the number of the oldest transaction that has not ended."""
        if self._pending is not None and oldest_open >= self._pending.number:
            self.final = self._pending.highest
            self._pending = None


class Outbox:
    """One connection to the ERP's database: looks, rows, notifications."""

    def __init__(self, dsn: str, settings: ConnectorSettings) -> None:
        self._settings = settings
        self._connection = psycopg.connect(
            dsn,
            autocommit=True,  # A transaction left open here would hold back everybody's horizon.
            connect_timeout=10,
            application_name=f"holdfast-scm-{settings.name}",
            options=f"-c statement_timeout={STATEMENT_MS}",
        )
        self._table = sql.Identifier(*settings.table.split("."))
        self._connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))

    def look(self) -> tuple[int, int]:
        """Number of the oldest transaction that has not ended, and highest visible id."""
        oldest, highest = self._ask(_LOOK, ()).fetchone() or (0, 0)
        return oldest, highest

    def take_number(self) -> int:
        """A transaction number of our own: every one given out before it is lower.

        The end of a snapshot would not do: it is one past the highest *ended* transaction, and an
        open one may have a higher number.
        """
        found = self._connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        assert found is not None
        return int(found[0])

    def rows(self, after: int, up_to: int) -> list[tuple[int, str, float]]:
        """Id, body and age in seconds of the next rows."""
        return self._ask(_ROWS, (after, up_to, self._settings.batch_rows)).fetchall()

    def oldest_waiting_s(self, after: int) -> float:
        """Age of the oldest row behind the position; 0 for none."""
        found = self._ask(_OLDEST, (after,)).fetchone()
        return 0.0 if found is None else max(0.0, found[0])

    def last_given(self) -> int | None:
        """Highest id given out so far: it never goes back, unless the database does.

        None where the ids come from no sequence that can be found, or may be looked at.
        """
        table = self._settings.table
        found = self._connection.execute(_SEQUENCE, (f"{table}_id", table)).fetchone()
        return None if found is None else found[0]

    def trim(self, up_to: int) -> int:
        """Delete published rows older than is kept; how many."""
        return self._ask(_TRIM, (up_to, self._settings.keep_days, TRIM_ROWS)).rowcount

    def wait(self, seconds: float) -> None:
        """Return at a notification, or when the time is up."""
        for _ in self._connection.notifies(timeout=seconds, stop_after=1):
            pass

    def close(self) -> None:
        """Let go of the database."""
        self._connection.close()

    def _ask(self, text: str, values: tuple[Any, ...]) -> psycopg.Cursor[Any]:
        return self._connection.execute(sql.SQL(text).format(table=self._table), values)


class OutboxConnector:
    """Tells on rows until it is stopped; survives a database that goes and comes back."""

    def __init__(
        self,
        dsn: str,
        settings: ConnectorSettings,
        mapping: Mapping,
        publisher: Publisher,
        stop: threading.Event,
    ) -> None:
        self._dsn = dsn
        self._settings = settings
        self._mapping = mapping
        self._publisher = publisher
        self._stop = stop
        self._position = 0
        self._trimmed_s = 0.0

    def run(self, ready: Callable[[], None], *, from_start: bool = False) -> None:
        """Tell on rows until `stop` is set.

        Raises:
            Fault: it must not go on; see `Publisher.commit`. Or the database went back in time.

        """
        self._publisher.start()
        kept = None if from_start else self._publisher.position()
        self._position = 0 if kept is None else int(json.loads(kept)["id"])
        log.info("connector starts", name=self._settings.name, after_id=self._position)
        failures = 0
        while not self._stop.is_set():
            try:
                outbox = Outbox(self._dsn, self._settings)
            except psycopg.OperationalError as error:
                failures = self._pause(failures, error)
                continue
            try:
                self._check(outbox)
                failures = 0
                ready()
                self._follow(outbox)
            except psycopg.OperationalError as error:
                failures = self._pause(failures, error)
            except psycopg.Error as error:
                raise Fault(f"the outbox: {str(error).splitlines()[0]}") from error
            finally:
                outbox.close()

    def _pause(self, failures: int, error: Exception) -> int:
        metrics.SOURCE_UP.set(0)
        log.warning("the outbox cannot be read; trying again", why=str(error).splitlines()[0])
        self._stop.wait(RECONNECT_S[min(failures, len(RECONNECT_S) - 1)])
        return failures + 1

    def _check(self, outbox: Outbox) -> None:
        try:
            outbox.look()
            given = outbox.last_given()
        except psycopg.errors.UndefinedTable as error:
            raise Fault(
                f"there is no table {self._settings.table}: make it with "
                "`holdfast connector sql outbox | psql ...`"
            ) from error
        if given is not None and given < self._position:
            raise Fault(
                f"the outbox has given out ids up to {given}, but {self._position} was told on "
                "before: the database was restored or replaced. Delete what was told on from the "
                "table, then start once with --from-start"
            )

    def _follow(self, outbox: Outbox) -> None:
        frontier = Frontier()
        while not self._stop.is_set():
            _advance(outbox, frontier)
            while not self._stop.is_set() and self._step(outbox, frontier.final):
                pass
            metrics.HELD_BACK.set(frontier.held_back)
            metrics.WAITING.set(outbox.oldest_waiting_s(self._position))
            self._trim(outbox)
            if frontier.held_back:
                self._stop.wait(HELD_BACK_POLL_S)
            else:
                outbox.wait(self._settings.poll_ms / 1000)

    def _step(self, outbox: Outbox, up_to: int) -> bool:
        """Tell on one batch; whether there was one."""
        found = outbox.rows(self._position, up_to) if up_to > self._position else []
        if not found:
            return False
        read_s = time.monotonic()
        self._publisher.reach("read")
        rows = [Raw(number, body.encode(), partial(read_json, body)) for number, body, _ in found]
        results = translated(self._publisher, self._mapping, rows)
        last = found[-1][0]
        self._publisher.commit(records_of(results), {"": json.dumps({"id": last}).encode()})
        self._position = last
        count(results)
        since_s = time.monotonic() - read_s
        for _, _, age_s in found:
            metrics.ROW_AGE.observe(max(0.0, age_s + since_s))
        return True

    def _trim(self, outbox: Outbox) -> None:
        now_s = time.monotonic()
        if not self._settings.keep_days or now_s - self._trimmed_s < TRIM_EVERY_S:
            return
        self._trimmed_s = now_s
        outbox.trim(self._position)


def _advance(outbox: Outbox, frontier: Frontier) -> None:
    """Move the frontier as far as the transactions that are open allow."""
    oldest_open, highest = outbox.look()
    frontier.settle(oldest_open)
    if frontier.wants(highest):
        frontier.set_mark(Mark(highest, outbox.take_number()))
        frontier.settle(outbox.look()[0])
