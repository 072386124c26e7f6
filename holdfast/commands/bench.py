"""`holdfast bench`: figures from a throw-away stack, ours and a peer's side by side."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from compose.errors import StackError

if TYPE_CHECKING:
    from benchmarks.figures import Comparison
    from benchmarks.suite import Size

EXIT_WRONG = 1
EXIT_USAGE = 2
REPORT = "report"
TABLE = "table"
COST = "cost"
WIDTH_IN_A_FILE = 130
LINE_EVERY_S = 10.0  # Progress in a file.


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("bench", epilog=_EXAMPLES)(bench)


_EXAMPLES = """
Examples:

  holdfast bench spread --json

  holdfast bench spread --peer kstreams --runs 3

  holdfast bench latency --rate 5000 --seconds 20

  holdfast bench recovery --requests 500000 --runs 1

  holdfast bench failover --standby --runs 1

  holdfast bench join --runs 1

  holdfast bench holds --live 10000000 --runs 1

  holdfast bench sweep --requests 100000 --runs 1

  holdfast bench table

  holdfast bench table --only hot

  holdfast bench table --saved

  holdfast bench cost --save --json

  holdfast bench report

Benchmarks: spread, hot, zipf, reject, mixed, latency, recovery, failover, join, holds, scale,
sweep, http, view.

Sessions of the table: spread (with mixed), hot, latency, latency-half,
latency-half-one, recovery, failover, failover-standby, holds.

Peers: faust, kstreams, postgres, postgres-batched, redis, redis-pipelined.
"""


def bench(
    name: Annotated[
        str,
        typer.Argument(
            help="A benchmark; `table`: all, against floors and goals; `cost`: of one decision, "
            "in process; `report`: paper."
        ),
    ],
    peer: Annotated[str | None, typer.Option(help="Run this peer too, alternating.")] = None,
    runs: Annotated[int, typer.Option(min=1, max=50, help="Runs of each.")] = 3,
    requests: Annotated[
        int | None, typer.Option(min=100, max=20_000_000, help="Requests of one run.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, max=256, help="Of every topic.")] = 4,
    rate: Annotated[
        int, typer.Option(min=1, help="latency, failover, join, view: requests a second.")
    ] = 5_000,
    seconds: Annotated[
        int | None, typer.Option(min=1, help="latency, failover, join, view, http: how long.")
    ] = None,
    warm_up: Annotated[
        int | None, typer.Option(min=0, help="Seconds of load on the broker before all runs.")
    ] = None,
    live: Annotated[
        int, typer.Option(min=1, max=20_000_000, help="holds: how many are live.")
    ] = 1_000_000,
    standby: Annotated[
        bool, typer.Option("--standby", help="failover: each worker copies the other's rows.")
    ] = False,
    only: Annotated[str | None, typer.Option(help="table: this session alone.")] = None,
    saved: Annotated[
        bool, typer.Option("--saved", help="table: from the saved figures, nothing is run.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
    save: Annotated[
        bool,
        typer.Option(
            help="Keep the figures in benchmarks/results, for the report; those of the table's "
            "sessions are kept by `bench table`."
        ),
    ] = False,
) -> None:
    """Measure on a throw-away stack, and compare with what a user would pick instead.

    Every answer is checked: a contestant that answers wrongly, twice or not at all gives no figure,
    and the command ends with 1.
    """
    from benchmarks import catalogue, report, suite  # noqa: PLC0415 - not for --help

    signal.signal(signal.SIGTERM, _end)
    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(stderr=True, width=WIDTH_IN_A_FILE)
    if name == REPORT:
        _report(console, json=json)
        return
    if name == TABLE:
        size = suite.Size(runs, requests, seconds, live)
        _table(console, size, only=only, saved=saved, json=json)
        return
    if name == COST:
        _cost(console, save=save, json=json)
        return
    usual = catalogue.Options()
    options = catalogue.Options(
        requests=requests or catalogue.requests_default(name),
        partitions=partitions,
        runs=runs,
        rate=rate,
        seconds=seconds or usual.seconds,
        warm_up_s=usual.warm_up_s if warm_up is None else warm_up,
        live=live,
        standby=standby,
    )
    key = suite.key_of(name, peer, options)
    if save:
        _refuse_rows_of_the_table(console, key)
    with _no_figure_for_faults(console), _Bar(console) as bar:
        comparison = catalogue.session(name, peer, options, bar.show)
    if save:
        console.print(f"written: {report.save(comparison, key)}")
    _tell(console, comparison)
    if json:
        _print_line(comparison)


def _refuse_rows_of_the_table(console: Console, key: str) -> None:
    """End with how to take them: the table's figures are all taken in the same way."""
    from benchmarks import suite  # noqa: PLC0415 - not for --help

    session = suite.session_of(key)
    if session is not None:
        console.print(
            f"--save would replace figures of the table, which `holdfast bench table --only "
            f"{session}` takes and keeps",
            highlight=False,
        )
        raise typer.Exit(EXIT_USAGE)


def _end(number: int, _: object) -> None:
    """Leave through every `finally`, so that nothing that was started is left running."""
    raise SystemExit(128 + number)


@contextmanager
def _no_figure_for_faults(console: Console) -> Iterator[None]:
    """Say why there is no figure, and end: 1 for a contestant's fault, 2 for a wrong name."""
    from benchmarks import catalogue, check, programs  # noqa: PLC0415 - not for --help

    try:
        yield
    except catalogue.UnknownBenchmarkError as error:
        console.print(f"[red]{error}")
        raise typer.Exit(EXIT_USAGE) from error
    except StackError as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(EXIT_USAGE) from error
    except (check.NoFigureError, programs.ProgramEndedError, TimeoutError) as error:
        console.print(f"no figure: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(EXIT_WRONG) from error


def _report(console: Console, *, json: bool) -> None:
    """Write tables, plots and the README's marked part from the saved figures."""
    from benchmarks import report  # noqa: PLC0415 - not for --help

    if not report.load_keyed() and report.load_cost() is None:
        console.print("no saved figures: run a benchmark with --save, or `bench table`, first")
        raise typer.Exit(EXIT_USAGE)
    written = _write(console)
    if json:
        _print_line({"name": REPORT, "written": [str(path) for path in written]})


def _write(console: Console) -> list[Path]:
    from benchmarks import report, suite  # noqa: PLC0415 - not for --help

    written = report.write(suite.promised(), readme=report.README)
    for path in written:
        console.print(f"written: {path}")
    return written


def _table(console: Console, size: "Size", *, only: str | None, saved: bool, json: bool) -> None:
    """Run everything, or read what was saved; exit with 1 when a figure is under its floor.

    A run of the whole table ends with the report; a trial with fewer runs or smaller loads leaves
    no trace.
    """
    from benchmarks import report, suite  # noqa: PLC0415 - not for --help

    faults: list[str] = []
    if saved:
        sessions = report.load_keyed()
        lines = suite.judge(sessions, suite.all_keys(sessions))
    else:
        with _no_figure_for_faults(console), _Bar(console) as bar:
            lines, faults = suite.run(bar.show, size=size, only=only)
        if only is None and not size.is_trial:
            _write(console)
    table = Table("figure", "floor", "goal", "seen", "")
    for line in lines:
        seen = "" if line.seen is None else f"{line.seen:,g}"
        table.add_row(line.figure, f"{line.floor:,g}", f"{line.goal:,g}", seen, line.verdict)
    console.print(table)
    for fault in faults:
        console.print(f"no figure: {fault}", style="red", markup=False, highlight=False)
    if json:
        _print_line(
            {"name": TABLE, "figures": [line._asdict() for line in lines], "faults": faults}
        )
    if faults or any(line.verdict in ("UNDER", "NO FIGURE") for line in lines):
        raise typer.Exit(EXIT_WRONG)


def _cost(console: Console, *, save: bool, json: bool) -> None:
    """Cost of one decision in process, by what it depends on, and bytes of the rows."""
    from benchmarks import cost, report  # noqa: PLC0415 - not for --help

    with _Bar(console) as bar:
        costs = cost.run(bar.show)
    table = Table("a decision by", "at", "CPU µs")
    for curve in costs.curves:
        for point in curve.points:
            table.add_row(curve.of, f"{point.at:,}", f"{point.cpu_us:.1f}")
    console.print(table)
    for kind, one in costs.rows.items():
        console.print(f"{kind}: {one:.0f} bytes, key and value")
    if save:
        console.print(f"written: {report.save_cost(costs)}")
    if json:
        _print_line(costs)


class _Bar:
    """One progress bar for the whole session; its text says what is under way.

    Where nobody watches a terminal, a line every now and then.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._line_at_s = 0.0  # time.monotonic() of the last line.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("starting", total=1)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, what: str, done: int, of: int) -> None:
        """Show the step under way."""
        if self._console.is_terminal:
            self._progress.update(self._task, description=what, completed=done, total=of)
        elif time.monotonic() >= self._line_at_s + LINE_EVERY_S:
            self._line_at_s = time.monotonic()
            self._console.print(f"{what} {done:,}/{of:,}", markup=False, highlight=False)


def _tell(console: Console, comparison: "Comparison") -> None:
    """Every run in a table, the medians, and where they come from."""
    table = Table(title=f"{comparison.name} on {comparison.machine}")
    table.add_column("contestant")
    for column in ("decisions/s", "CPU µs each", "p50 ms", "p95 ms", "p99 ms", "MiB", "seconds"):
        table.add_column(column, justify="right")
    for run in comparison.runs:
        figures = (
            run.decisions_per_s,
            run.cpu_us_per_decision,
            run.p50_ms,
            run.p95_ms,
            run.p99_ms,
            run.resident_mib,
            run.seconds,
        )
        table.add_row(run.contestant, *("" if f is None else f"{f:,.1f}" for f in figures))
    console.print(table)
    for key, value in comparison.extra.items():
        console.print(f"{key} {value}")
    if comparison.ratio is not None:
        console.print(
            f"ratio to {comparison.peer}: {comparison.ratio:.2f} "
            f"(medians of {comparison.compared_by})"
        )
    console.print(f"How: {comparison.method}", highlight=False)


def _print_line(told: Any) -> None:
    import msgspec  # noqa: PLC0415 - only here

    sys.stdout.write(msgspec.json.encode(told).decode() + "\n")
