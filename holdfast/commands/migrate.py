"""`holdfast migrate`: another partition rule or partition count, while nothing runs.

The rule: it proves before it switches, and a run that was interrupted is finished by the next.
"""

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from holdfast.commands.config import in_force, numbered, valid_document
from holdfast.connection import EXIT_REFUSED, Stop, find_settings, in_words
from holdfast.options import AsJson, Bootstrap, Registry
from processor.inventory.configuration import Configuration, diff
from processor.inventory.configuration.compare import refused
from processor.inventory.rekey import totals
from producers.channel.client import connect_codec
from producers.settings import Settings

EXAMPLES = """\
Examples:

  holdfast migrate --partitions 32                  the same rule, more partitions

  holdfast migrate holdfast.yaml --partitions 32    the document has another partition rule

  holdfast migrate holdfast.yaml --partitions 32 --dry-run
"""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("migrate", epilog=EXAMPLES)(command)


def command(
    partitions: Annotated[int, typer.Option(min=1, max=10_000, help="The new count.")],
    file: Annotated[
        Path | None, typer.Argument(help="Document with the new rule. Default: as it is.")
    ] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prove it, switch nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the topics go.")] = False,
    bootstrap: Bootstrap = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Move all stock, holds and remembered ids to another partition rule or partition count.

    Everything must be quiet: stop the producers, let the workers answer what there is, stop the
    workers. The shared topics are replaced, so answers and events told before are gone from them;
    state is not. Totals are compared before and after. Interrupted, the same command goes on; until
    then no worker starts. Answering no takes back what was prepared.

    Exit code 1: it would corrupt what is stored. 2: something runs, or cannot be reached.
    """
    from holdfast.migration import Migration, Plan  # noqa: PLC0415 - keeps --help free of Kafka

    def say(text: str) -> None:
        typer.secho(text, fg="cyan", err=True)

    with in_words():
        settings = find_settings(bootstrap, registry)
        migration = Migration(settings, connect_codec(settings), say)
        migration.require_ready()
        begun = migration.unfinished()
        if begun is not None:
            say("an earlier run staged everything and began to switch: going on from there")
            plan = begun.plan
            _require_as_begun(plan.partitions, partitions)
            rows = migration.staged_rows(plan)
            if not dry_run:
                _ask(yes=yes)
                migration.delete_group()
        else:
            plan = Plan(_document(file, settings), partitions)
            state = migration.read(plan)
            if dry_run:
                rows = migration.rekeyed(plan, state)
            else:
                with migration.taken_back_if_it_fails():
                    rows = migration.stage(plan, state)
                    _ask(yes=yes)
                    migration.delete_group()
                    migration.require_unchanged(state)
        if not dry_run:
            migration.switch(plan, rows)
    found = totals(each.items() for each in rows)
    holds = sum(count for name, count in found.items() if name[0] == "holds")
    done = "could be moved" if dry_run else "moved"
    if as_json:
        told = {"name": "migrate", "partitions": plan.partitions, "holds": holds}
        print(json.dumps({**told, "rows": sum(map(len, rows)), "switched": not dry_run}))
    else:
        print(f"{holds} holds {done} to {plan.partitions} partitions; every total is the same.")


def _document(file: Path | None, settings: Settings) -> Configuration:
    """The document to migrate to.

    Raises:
        Stop: there is nothing to do it with.

    """
    before = in_force(settings)
    if file is None:
        return msgspec.structs.replace(before, version=before.version + 1)
    document = numbered(valid_document(file), before, next_version=False)
    others = refused(diff(before, document), may_move=True)
    for change in others:
        typer.secho(f"{change.path}: {change.reason}", fg="red", err=True)
    if others:
        raise typer.Exit(EXIT_REFUSED)
    return document


def _ask(*, yes: bool) -> None:
    """Ask before the topics go; what must be so for that is looked at behind the answer."""
    if not yes:
        typer.confirm("Proved equal. Replace the topics now?", abort=True, err=True)


def _require_as_begun(staged: int, partitions: int) -> None:
    """An interrupted run is finished as it was begun."""
    if staged != partitions:
        raise Stop(
            f"An earlier run began to switch to {staged} partitions: finish it with "
            f"--partitions {staged}, then migrate again."
        )
