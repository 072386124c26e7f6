"""The peer `postgres`: what most shops have, at its best.

pgbench drives it, the database's own client in C with prepared statements, so that no client of
ours holds it back. One request a transaction, or set-based batches of 500; 8, 32 or 64 clients.
fsync is on, as it is by default. The requests follow the load's distribution; the check is on what
every stock key has in the end.
"""

import csv
import io
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final, Self

import msgspec

from benchmarks import backlog
from benchmarks.broker import Progress
from benchmarks.check import Books, totals
from benchmarks.figures import Run
from benchmarks.load import ZIPF_EXPONENT, Work
from benchmarks.programs import CpuSampler
from compose.postgres_server import PostgresServer
from compose.process import LocalServer
from compose.progress import silent
from compose.settings import Settings

SCHEMA: Final = Path(__file__).with_name("postgres.sql")
CLIENTS: Final = (8, 32, 64)
BATCH_CLIENTS: Final = 2
BATCH_REQUESTS: Final = 500
RUN_WITHIN_S: Final = 600.0
REQUESTS_MAX: Final = 100_000
HOT_REQUESTS_MAX: Final = 20_000  # On one row these take as long.
# Its defaults are for a small machine; these are what its manual advises for one like this.
TUNING: Final = ("shared_buffers=1GB", "max_wal_size=8GB", "max_connections=200")
CHOICE: Final = {
    "zipf": f"random_zipfian(1, :leaves, {ZIPF_EXPONENT}) - 1",
    "hot": "0",
}


RECORDS: Final = (
    "SELECT leaf, sum(quantity), count(*) FILTER (WHERE code = 1), "
    "count(*) FILTER (WHERE code <> 1) FROM reservation GROUP BY leaf;"
)


class Database:
    """One throw-away PostgreSQL server."""

    def __init__(self, folder: Path) -> None:
        launch = PostgresServer.install(Settings.from_environment(), silent).launch(
            folder, port=None
        )
        options = tuple(word for setting in TUNING for word in ("-c", setting))
        self._server = LocalServer(msgspec.structs.replace(launch, argv=launch.argv + options))
        self._binaries = Path(launch.argv[0]).parent
        self.dsn = launch.address

    def __enter__(self) -> Self:
        self._server.start()
        self.psql(SCHEMA.read_text())
        return self

    def __exit__(self, *_: object) -> None:
        self._server.delete()  # Its data may be outside its folder, and then nobody else would.

    @property
    def pid(self) -> int:
        """Process id of the postmaster, whose children serve the clients."""
        pid = self._server.pid
        assert pid is not None, "the server runs between enter and exit"
        return pid

    def psql(self, commands: str) -> str:
        """Run SQL; stops at the first error. Rows come as lines of comma-separated values."""
        argv = [str(self._binaries / "psql"), self.dsn, "-X", "-q", "-A", "-t", "-F", ","]
        return self._run([*argv, "-v", "ON_ERROR_STOP=1"], commands)

    def pgbench(self, script: Path, *, clients: int, transactions: int, log: Path) -> None:
        """Each client runs `script` so many times; a line a transaction in the files `log`.*."""
        argv = [str(self._binaries / "pgbench"), "-n", "-M", "prepared", "-j", "2"]
        argv += ["-f", str(script), "-c", str(clients), "-t", str(transactions), "-D", "n=0"]
        self._run([*argv, "--log", f"--log-prefix={log}", self.dsn], "")

    @staticmethod
    def _run(argv: list[str], typed: str) -> str:
        answer = subprocess.run(
            argv, input=typed, capture_output=True, text=True, check=False, timeout=RUN_WITHIN_S
        )
        if answer.returncode:
            raise RuntimeError(f"{Path(argv[0]).name}: {answer.stderr[-2000:]}")
        return answer.stdout


class PostgresPeer:
    """One request a transaction from `clients`, or batches when `batched`."""

    def __init__(self, *, clients: int = CLIENTS[1], batched: bool = False) -> None:
        self._clients = BATCH_CLIENTS if batched else clients
        self._batched = batched
        variant = f"batches of {BATCH_REQUESTS}" if batched else "single"
        self.name = f"postgres ({variant}, {self._clients} clients)"

    def run(self, work: Work, progress: Progress) -> Run:
        """Load, drive, check, figure."""
        work = self._whole(work)
        with (
            tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder,
            Database(Path(folder) / "postgres") as database,
        ):
            progress(f"{self.name}: loading", 0, 1)
            self._load(database, work)
            progress(f"{self.name}: deciding", 0, 1)
            script = Path(folder) / "script.sql"
            script.write_text(self._script(work))
            log = Path(folder) / "log"
            with CpuSampler([database.pid]) as cpu:
                start = time.time()
                database.pgbench(
                    script,
                    clients=self._clients,
                    transactions=self._transactions(work),
                    log=log,
                )
                end = time.time()
            self._check(database, work)
            return self._figures(cpu, log, start, end)

    def requests_max(self, profile: str) -> int:
        """Requests after which its rate is known."""
        return HOT_REQUESTS_MAX if profile == "hot" else REQUESTS_MAX

    def _whole(self, work: Work) -> Work:
        """Every client runs as many transactions as the others."""
        step = self._clients * (BATCH_REQUESTS if self._batched else 1)
        return work._replace(asks=work.asks[: len(work.asks) // step * step])

    def _transactions(self, work: Work) -> int:
        return len(work.asks) // self._clients // (BATCH_REQUESTS if self._batched else 1)

    def _load(self, database: Database, work: Work) -> None:
        rows = f"INSERT INTO stock SELECT n, {work.supply} FROM generate_series(0, {{}}) AS n;"
        database.psql(rows.format(len(work.leaves) - 1))
        if self._batched:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            for number, (request_id, leaf, quantity) in enumerate(work.asks):
                writer.writerow((number, request_id, leaf, quantity))
            database.psql(f"COPY ask FROM stdin CSV;\n{text.getvalue()}\\.\n")
        # Not the empty table of records: the planner would take it for small for good, and scan it.
        database.psql("VACUUM ANALYZE stock, ask; CHECKPOINT;")

    def _script(self, work: Work) -> str:
        if self._batched:
            return (
                f"\\set first (:n * {self._clients} + :client_id) * {BATCH_REQUESTS}\n"
                "\\set n :n + 1\n"
                f"SELECT reserve_batch(:first, {BATCH_REQUESTS});\n"
            )
        choice = CHOICE.get(work.name, "random(1, :leaves) - 1")
        return (
            f"\\set leaves {len(work.leaves)}\n"
            f"\\set leaf {choice}\n"
            "\\set pieces random(1, 3)\n"
            "\\set n :n + 1\n"
            f"SELECT reserve('{work.name}-' || :client_id || '-' || :n, :leaf, :pieces);\n"
        )

    def _check(self, database: Database, work: Work) -> None:
        """Read every counter and record back; only of the batches the requests are known here."""
        books = Books(Counter(), Counter(), Counter(), Counter())
        for line in database.psql("SELECT leaf, reserved FROM stock WHERE reserved > 0;").split():
            leaf, pieces = map(int, line.split(","))
            books.reserved[leaf] = pieces
        for line in database.psql(RECORDS).split():
            leaf, pieces, accepted, refused = map(int, line.split(","))
            books.held[leaf], books.accepted[leaf], books.refused[leaf] = pieces, accepted, refused
        totals(work, books, as_asked=self._batched)

    def _figures(self, cpu: CpuSampler, log: Path, start: float, end: float) -> Run:
        lines = [
            line.split()
            for path in log.parent.glob("log.*")
            for line in path.read_text(encoding="ascii").splitlines()
        ]
        # Fields: client, number, latency in µs, script, end in s, and its µs.
        ends_ms = [int(line[4]) * 1000 + int(line[5]) / 1000 for line in lines]
        assert start * 1000 <= min(ends_ms), "pgbench and this process share a clock"
        assert max(ends_ms) <= end * 1000, "pgbench and this process share a clock"
        times_ms = [int(line[2]) / 1000 for line in lines]
        answers = BATCH_REQUESTS if self._batched else 1  # Of one transaction.
        answered_ms = [at_ms for at_ms in ends_ms for _ in range(answers)]
        return backlog.figures(self.name, answered_ms, times_ms, cpu)
