"""`holdfast audit`: prove that the stored totals are the sum of the holds, from the changelog.

The rule: it reads committed rows and changes nothing. Findings are listed; contradictions in the
rows make the exit code 1.
"""

import json
import sys
import time
from typing import Annotated, Final

import typer

from holdfast.changelog import committed_rows
from holdfast.connection import EXIT_REFUSED, EXIT_USAGE, Stop, find_settings
from processor.inventory import rows as row
from processor.inventory.audit import Drift, audit
from processor.inventory.reconfigure import rules_of
from processor.inventory.rules import default_rules
from producers.settings import Settings

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
    everything: Annotated[
        bool, typer.Option("--all", help=f"List all of them; usually the first {SHOWN_MAX}.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="End with one line of JSON.")] = False,
) -> None:
    """Prove that reserved totals are the sum of live holds, and that no level is oversold."""
    try:
        settings = find_settings(bootstrap, needs="broker")
        drifts, rows = _audit(settings)
    except Stop as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from error
    faults = sum(drift.is_fault for drift in drifts)
    drifts.sort(key=lambda drift: not drift.is_fault)
    shown = drifts if everything else drifts[:SHOWN_MAX]
    for drift in shown:
        print(f"{drift.kind}: {drift.place}: {drift.found}, not {drift.expected} (millionths)")
    if len(shown) < len(drifts):
        print(f"and {len(drifts) - len(shown)} more: --all lists them")
    if as_json:
        short = len(drifts) - faults
        print(json.dumps({"name": "audit", "rows": rows, "drifts": faults, "short": short}))
    else:
        print(f"{rows} rows: {faults} drifts, {len(drifts) - faults} levels short of supply")
    if faults:
        raise typer.Exit(EXIT_REFUSED)


def _audit(settings: Settings) -> tuple[list[Drift], int]:
    drifts: list[Drift] = []
    count = 0
    for _, rows in committed_rows(settings, _is_audited):
        count += len(rows)
        rules = rules_of(rows, default_rules())
        drifts += audit(rules, rows.items(), int(time.time() * 1000))
    return drifts, count


def _is_audited(key: bytes) -> bool:
    return key[:1] in {b"H", b"P"} or key == row.CONFIGURATION_KEY
