"""`holdfast run`: the main job in the foreground: servers, topics, a worker; Ctrl-C ends all."""

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from compose.errors import StackError
from compose.progress import console_lines
from compose.settings import Settings
from compose.stack import Addresses, Stack
from holdfast.commands.topics import ensure_topics
from holdfast.worker_process import WorkerEndedError, WorkerProcess, worker_process
from schemas import topics

HTTP_PORT_USUAL: Final = 8090
RESTARTS_MAX: Final = 5  # A worker that keeps ending has something to say.

_EXAMPLES = """
Examples:

  holdfast run

  holdfast run --partitions 16
"""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("run", epilog=_EXAMPLES)(run)


def run(
    partitions: Annotated[
        int, typer.Option(min=1, max=1024, help="Partitions of new topics; fixed for life.")
    ] = topics.PARTITIONS_DEFAULT,
) -> None:
    """Start Kafka, the registry, Redis and a worker, and run until Ctrl-C.

    What was up before is used and left up. Data stays in .holdfast between runs.
    """
    console = Console(stderr=True)
    home = Settings.from_environment().home
    try:
        addresses = Stack.up(home, progress=console_lines(console))
    except StackError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
    try:
        ensure_topics(addresses, partitions, console)
        _work(addresses, home, console)
    finally:
        if addresses.started:
            console.print("stopping the servers this command started")
            Stack.down(home, servers=addresses.started)


def _work(addresses: Addresses, home: Path, console: Console) -> None:
    """Run a worker until Ctrl-C; after a fault another one, as a supervisor would."""
    assert addresses.kafka_bootstrap is not None
    assert addresses.registry_url is not None
    for _ in range(RESTARTS_MAX):
        with worker_process(
            bootstrap=addresses.kafka_bootstrap,
            registry_url=addresses.registry_url,
            data_dir=home / "worker-1",
            http_port=HTTP_PORT_USUAL,
        ) as worker:
            try:
                with console.status("worker: starting"):
                    worker.wait_until_ready()
                _announce(addresses, worker, console)
                code = worker.wait()
            except KeyboardInterrupt:
                console.print("\nstopping the worker")
                return
            except WorkerEndedError as error:
                console.print(f"[red]{escape(str(error))}[/red]")
                raise typer.Exit(1) from error
            console.print(f"[red]the worker ended with {code}; {escape(worker.log_tail())}[/red]")
    raise typer.Exit(1)


def _announce(addresses: Addresses, worker: WorkerProcess, console: Console) -> None:
    console.print("\n[bold green]Holdfast is running.[/bold green]  Ctrl-C stops it.\n")
    console.print(f"  Kafka     {addresses.kafka_bootstrap}", highlight=False)
    console.print(f"  Registry  {addresses.registry_url}", highlight=False)
    console.print(f"  Redis     {addresses.redis_url}", highlight=False)
    console.print(
        f"  Worker    http://127.0.0.1:{worker.http_port}/metrics  log: {worker.log_path}",
        highlight=False,
    )
    place = "--org usmf --site 1 --warehouse 11 --color red --size small"
    console.print(
        "\nThree things to try, in another terminal:\n\n"
        f"  .venv/bin/holdfast onhand D0002 10 {place}\n"
        f"  .venv/bin/holdfast reserve D0002 1 {place}\n"
        "  .venv/bin/holdfast watch\n",
        highlight=False,
        soft_wrap=True,
    )
