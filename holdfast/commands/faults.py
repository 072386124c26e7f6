"""`holdfast faults`: kill, stop and restart everything under load, then check every answer.

The campaign, the independent model and the checker live with the tests, so this command needs a
checkout of the source, not only an installed package.
"""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from compose.errors import StackError

if TYPE_CHECKING:
    from tests.support.campaign import Outcome

EXIT_FAILED = 1
EXIT_USAGE = 2
NEEDS_CHECKOUT = (
    "The fault campaign lives with the tests: run this from a checkout of Holdfast, "
    "for example with `make faults`."
)

_EXAMPLES = """
Examples:

  holdfast faults                                      the long campaign

  holdfast faults --requests 30000 --kills 2 --seed 7  a short one

  holdfast faults --only zombie --kills 0 --requests 5000

  holdfast faults --engine stock --requests 20000      stock Faust: must be found wanting
"""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("faults", epilog=_EXAMPLES)(faults)


def faults(
    requests: Annotated[int, typer.Option(min=100, help="Requests to send.")] = 300_000,
    kills: Annotated[
        int, typer.Option(min=0, help="Kills at random moments, beside one at each crash point.")
    ] = 10,
    seed: Annotated[int, typer.Option(help="Draws the records and the order of the faults.")] = 1,
    partitions: Annotated[int, typer.Option(min=2, max=64)] = 4,
    engine: Annotated[
        str, typer.Option(help="holdfast, or stock: Faust as it comes.")
    ] = "holdfast",
    rate: Annotated[int, typer.Option(min=10, help="Records a second.")] = 4_000,
    only: Annotated[
        list[str] | None,
        typer.Option(help="One kind of fault, by its name in tests/support/faults.py; repeatable."),
    ] = None,
    directory: Annotated[
        Path | None, typer.Option(help="Keep the workers' logs and disks here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="End with a line of JSON.")] = False,
) -> None:
    """Check that nothing is lost, doubled, wrong or oversold, whatever is killed.

    A throw-away Kafka, workers and traffic are started, and struck: kill -9 at random moments and
    at every step of the commit, three workers and back to one, a paused worker that comes back as
    a zombie, broker restarts, a lost disk and an old one. Then the checker reads the topics and
    replays everything through an independent model. Exit code 1 unless all is clean.
    """
    console = Console(stderr=True)
    try:
        from tests.support.campaign import Plan, run_campaign  # noqa: PLC0415 - see above
        from tests.support.site import StuckError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("tests"):
            raise
        console.print(NEEDS_CHECKOUT)
        raise typer.Exit(EXIT_USAGE) from error
    if engine not in {"holdfast", "stock"}:
        console.print(f"no engine {engine!r}: holdfast or stock")
        raise typer.Exit(EXIT_USAGE)
    fields: dict[str, Any] = {"engine": engine, "only": tuple(only or ())}
    plan = Plan(
        requests=requests, kills=kills, seed=seed, partitions=partitions, rate_per_s=rate, **fields
    )
    folder = directory or Path(tempfile.mkdtemp(prefix="holdfast-faults-"))
    folder.mkdir(parents=True, exist_ok=True)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    try:
        outcome = run_campaign(plan, folder.resolve(), say)
    except StackError as error:
        say(str(error))
        raise typer.Exit(EXIT_USAGE) from error
    except StuckError as error:
        say(f"{error}\nlogs and disks are kept in {folder}")
        raise typer.Exit(EXIT_FAILED) from error
    _report(outcome, console)
    if outcome.findings.clean and directory is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        say(f"logs and disks are kept in {folder}")
    if as_json:
        print(outcome.as_line())
    if not outcome.findings.clean:
        raise typer.Exit(EXIT_FAILED)


def _report(outcome: "Outcome", console: Console) -> None:
    """Say in words what was found."""
    found = outcome.findings
    say = console.print
    say(f"{found.requests} requests, {found.transactions} ERP events, {outcome.kills} kills")
    say(f"answered exactly once: {found.answered_once}, lost {found.lost}, doubled {found.doubled}")
    say(f"wrong {found.wrong}, oversold {found.oversold}, misnumbered {found.misnumbered}")
    say(f"rows that differ from the model: {found.state_differences}")
    say(f"longest stall: {found.longest_stall_s:.1f} s, during {outcome.longest_stall_during}")
    say(f"records of aborted transactions, which no reader saw: {found.hidden}")
    for example in found.examples:
        console.print(f"  {example}", markup=False)
    say("clean" if found.clean else "NOT CLEAN", style="green" if found.clean else "red")
