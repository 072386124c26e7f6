"""`holdfast stack`: the local servers, up, down and how they are.

The rule: `up` starts only what is not there yet, `down` stops only what `up` started.
"""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from compose.errors import StackError
from compose.progress import console_lines
from compose.settings import ADDRESS_VARIABLES, Settings
from compose.stack import ALL_SERVERS, SERVERS, Addresses, Server, ServerStatus, Stack

app = typer.Typer(
    no_args_is_help=True,
    help="The local servers: Apache Kafka, a schema registry, Redis, and PostgreSQL on demand.",
)

Home = Annotated[
    Path | None,
    typer.Option(help="Folder of state and data. Default: $HOLDFAST_HOME, else .holdfast."),
]
AsJson = Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout.")]

UP_EXAMPLES = """\
Examples:

  holdfast stack up                     Kafka, registry and Redis

  holdfast stack up --with-postgres     PostgreSQL too

  holdfast stack up --free-ports        leave the usual ports alone

  KAFKA_BOOTSTRAP_SERVERS=broker:9092 holdfast stack up

  (uses that broker and starts the rest)
"""
DOWN_EXAMPLES = """\
Examples:

  holdfast stack down                    stop the servers, keep their data

  holdfast stack down --wipe             and delete their data
"""
STATUS_EXAMPLES = """\
Examples:

  holdfast stack status

  holdfast stack status --json | tail -1
"""


@app.command(epilog=UP_EXAMPLES)
def up(
    *,
    home: Home = None,
    with_postgres: Annotated[
        bool, typer.Option("--with-postgres", help="Start PostgreSQL too.")
    ] = False,
    free_ports: Annotated[
        bool, typer.Option("--free-ports", help="Choose free ports, not the usual ones.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the servers that are not up yet, and print where they are.

    Per server: an address in the environment wins, then Docker when its daemon answers, then a
    local process. A usual port that is taken is replaced by a free one.
    """
    settings = Settings.from_environment()
    servers: tuple[Server, ...] = ALL_SERVERS if with_postgres else SERVERS
    console = Console(stderr=True)
    with told_in_words(console):
        addresses = Stack.up(
            home or settings.home,
            servers,
            "free" if free_ports else "usual",
            console_lines(console),
            settings,
        )
    if as_json:
        print(msgspec.json.encode(addresses).decode())
        return
    for line in exports(addresses):
        print(line)


@app.command(epilog=DOWN_EXAMPLES)
def down(
    *,
    home: Home = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete the data as well.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the servers that `up` started. Their data stays, unless --wipe."""
    console = Console(stderr=True)
    folder = home or Settings.from_environment().home
    with told_in_words(console):
        stopped = Stack.down(folder, wipe=wipe, progress=console_lines(console))
    if as_json:
        print(msgspec.json.encode({"stopped": stopped, "wiped": wipe}).decode())
    elif not stopped:
        console.print(f"Nothing of this home was running ({folder}).")


@app.command(epilog=STATUS_EXAMPLES)
def status(*, home: Home = None, as_json: AsJson = False) -> None:
    """Show how each server is now. Exit code 1 when one that was started is not up."""
    console = Console(stderr=True)
    folder = home or Settings.from_environment().home
    with told_in_words(console):
        servers = Stack.status(folder)
    if as_json:
        print(msgspec.json.encode({"home": str(folder), "servers": servers}).decode())
    else:
        Console().print(_table(servers))
        Console().print(f"Logs: {folder}/<server>/<server>.log", highlight=False, soft_wrap=True)
    if any(server.source is not None and server.state != "up" for server in servers):
        raise typer.Exit(1)


@contextlib.contextmanager
def told_in_words(console: Console) -> Iterator[None]:
    """Print what a StackError says, instead of a trace, and end with exit code 1."""
    try:
        yield
    except StackError as failure:
        console.print(str(failure), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from failure


def exports(addresses: Addresses) -> list[str]:
    """Return the addresses as lines a shell can take: `export KAFKA_BOOTSTRAP_SERVERS=...`."""
    known = {
        "kafka": addresses.kafka_bootstrap,
        "registry": addresses.registry_url,
        "redis": addresses.redis_url,
        "postgres": addresses.postgres_dsn,
    }
    return [
        f"export {variable}={shlex.quote(address)}"
        for server, variable in ADDRESS_VARIABLES.items()
        if (address := known[server]) is not None
    ]


def _table(servers: tuple[ServerStatus, ...]) -> Table:
    table = Table("server", "state", "from", "address", "pid", box=None, pad_edge=False)
    colour = {"up": "green", "down": "dim", "silent": "red"}
    for server in servers:
        table.add_row(
            server.server,
            f"[{colour[server.state]}]{server.state}[/]",
            server.source or "",
            server.address or "",
            str(server.pid or ""),
        )
    return table
