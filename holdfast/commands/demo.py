"""`holdfast demo`: scenarios played through the real topics, each step with what was expected.

Exit code 0 only when every step came out as expected.
"""

import contextlib
from collections.abc import Iterator
from typing import Annotated, Final

import orjson
import typer
from rich.console import Console
from rich.table import Table

from compose.errors import StackError
from compose.progress import console_lines
from holdfast.connection import EXIT_REFUSED, Stop, find_settings, in_words, why_no_answer
from holdfast.demo.place import throw_away
from holdfast.demo.play import Played, Player
from holdfast.demo.scenarios import SCENARIOS
from holdfast.demo.steps import Expected, Scenario
from producers.channel import ChannelClient
from producers.channel.client import connect_codec
from producers.channel.follow import Follower
from producers.channel.ids import new_request_id
from producers.settings import Settings
from schemas import topics

TABLE_WIDTH: Final = 120  # Columns, where there is no terminal to ask.
EXAMPLES: Final = """\
Examples:

  holdfast demo                          every scenario, on a throw-away stack

  holdfast demo --scenario worked-example

  holdfast demo --running --json         on the running stack, with a fresh product
"""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("demo", epilog=EXAMPLES)(demo)


def demo(
    scenario: Annotated[
        list[str] | None, typer.Option("--scenario", help="Only this one. Repeatable.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="Name the scenarios and end.")] = False,
    running: Annotated[
        bool, typer.Option("--running", help="On the running stack, with a fresh product id.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one line of JSON on stdout.")
    ] = False,
) -> None:
    """Play scenarios through the real topics and check every outcome.

    Without --running it starts servers and a worker of its own, on free ports, and deletes them
    again. Exit code 1 when any outcome differs.
    """
    if listed:
        for known in SCENARIOS.values():
            print(f"{known.name:<20} {known.says}")
        return
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console = Console(stderr=as_json, width=TABLE_WIDTH)
    with in_words(), _stack_errors_in_words():
        chosen = _chosen(scenario, running=running)
        with _place(console, running=running) as settings:
            played = _play_all(settings, chosen, console, fresh=running)
    fine = all(step.ok for steps in played.values() for step in steps)
    steps = sum(len(steps) for steps in played.values())
    if as_json:
        print(orjson.dumps(_summary(played, ok=fine)).decode())
    console.print(f"{len(played)} scenario(s), {steps} steps: ", end="")
    console.print("[green]all as expected[/green]" if fine else "[red]differences[/red]")
    if not fine:
        raise typer.Exit(EXIT_REFUSED)


def _chosen(names: list[str] | None, *, running: bool) -> list[Scenario]:
    unknown = [name for name in names or [] if name not in SCENARIOS]
    if unknown:
        raise Stop(f"no scenario {unknown[0]}; there are: {', '.join(SCENARIOS)}")
    chosen = [SCENARIOS[name] for name in names or SCENARIOS]
    if not running:
        return chosen
    barred = [one.name for one in chosen if one.reconfigures]
    if barred and names:
        raise Stop(f"{barred[0]} changes the configuration of the whole stack: not with --running")
    return [one for one in chosen if not one.reconfigures]


@contextlib.contextmanager
def _stack_errors_in_words() -> Iterator[None]:
    try:
        yield
    except StackError as error:
        raise Stop(str(error)) from error


@contextlib.contextmanager
def _place(console: Console, *, running: bool) -> Iterator[Settings]:
    if running:
        yield find_settings()
        return
    with throw_away(console_lines(console)) as settings:
        yield settings


def _play_all(
    settings: Settings, chosen: list[Scenario], console: Console, *, fresh: bool
) -> dict[str, list[Played]]:
    """Play the scenarios and show each; one that stopped early lacks its last steps.

    `fresh`: with a product of this run alone, since other stock may be there.
    """
    played: dict[str, list[Played]] = {}
    with (
        ChannelClient(settings, channel="demo") as client,
        Follower(settings, connect_codec(settings), (topics.EVENTS,)) as follower,
    ):
        for scenario in chosen:
            suffix = f"-{new_request_id()[-8:]}" if fresh else ""
            product = scenario.product + suffix
            steps = list(Player(client, follower, scenario, product).play())
            played[scenario.name] = steps
            console.print(_table(scenario, product, steps))
            if steps[-1].actual.get("outcome") == "UNKNOWN":
                raise Stop(f"no answer: {why_no_answer(settings, '<request id>')}")
    return played


def _table(scenario: Scenario, product: str, played: list[Played]) -> Table:
    title = f"{scenario.name}: {scenario.says} ({scenario.organization} {product})"
    table = Table("", "step", "expected", "actual", "", title=title, title_justify="left")
    for number, step in enumerate(played, start=1):
        verdict = "[green]ok[/green]" if step.ok else "[red]differs[/red]"
        table.add_row(str(number), step.says, _words(step.expected), _words(step.actual), verdict)
    return table


def _words(seen: Expected) -> str:
    return ", ".join(
        value if name == "outcome" else f"{name} {value}" for name, value in seen.items()
    )


def _summary(played: dict[str, list[Played]], *, ok: bool) -> dict[str, object]:
    return {
        "name": "demo",
        "ok": ok,
        "steps": sum(len(steps) for steps in played.values()),
        "different": sum(not step.ok for steps in played.values() for step in steps),
        "scenarios": [
            {
                "scenario": name,
                "steps": [
                    {
                        "step": step.says,
                        "expected": step.expected,
                        "actual": step.actual,
                        "ok": step.ok,
                    }
                    for step in steps
                ],
            }
            for name, steps in played.items()
        ],
    }
