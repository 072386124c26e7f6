"""`holdfast run`: the main job in the foreground: servers, topics, a worker; Ctrl-C ends all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from compose.errors import StackError
from compose.ports import choose_port
from compose.progress import console_lines
from compose.settings import Settings
from compose.stack import Addresses, Stack
from schemas import topics

READY_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 10.0
HTTP_PORT_USUAL: Final = 8090
WEB_PORT_USUAL: Final = 6066

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
        _create_topics(addresses, partitions, console)
        _work(addresses, home, console)
    finally:
        if addresses.started:
            console.print("stopping the servers this command started")
            Stack.down(home, servers=addresses.started)


def _create_topics(addresses: Addresses, partitions: int, console: Console) -> None:
    from holdfast.commands.topics import ensure_topics  # noqa: PLC0415 - clients load with it

    ensure_topics(addresses, partitions, console)


def _work(addresses: Addresses, home: Path, console: Console) -> None:
    """Run one worker until it ends or Ctrl-C comes."""
    http_port = choose_port(HTTP_PORT_USUAL)
    log_path = home / "worker-1.log"
    with log_path.open("ab") as log:
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "holdfast", "worker"),
                *("--data-dir", str(home / "worker-1")),
                *("--bootstrap", str(addresses.kafka_bootstrap)),
                *("--registry-url", str(addresses.registry_url)),
                *("--http-port", str(http_port)),
                *("--web-port", str(choose_port(WEB_PORT_USUAL))),
            ],
            stderr=log,
            stdout=log,
            start_new_session=True,  # Ctrl-C is ours to pass on, once.
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        _wait_until_ready(worker, http_port, log_path, console)
        _announce(addresses, http_port, log_path, console)
        code = worker.wait()
        console.print(f"[red]the worker ended with {code}; its log: {log_path}[/red]")
        raise typer.Exit(1)
    except KeyboardInterrupt:
        console.print("\nstopping the worker")
    finally:
        _stop(worker)


def _wait_until_ready(
    worker: "subprocess.Popen[bytes]", http_port: int, log_path: Path, console: Console
) -> None:
    from compose.probes import http_answers  # noqa: PLC0415

    with console.status("worker: starting"):
        deadline = time.monotonic() + READY_SECONDS_MAX
        while not http_answers(f"http://127.0.0.1:{http_port}/ready"):
            if worker.poll() is not None or time.monotonic() > deadline:
                tail = log_path.read_text(errors="replace").splitlines()[-15:]
                console.print("\n".join(tail), markup=False)
                console.print(f"[red]the worker did not start; its log: {log_path}[/red]")
                raise typer.Exit(1)
            time.sleep(0.1)


def _announce(addresses: Addresses, http_port: int, log_path: Path, console: Console) -> None:
    console.print("\n[bold green]Holdfast is running.[/bold green]  Ctrl-C stops it.\n")
    console.print(f"  Kafka     {addresses.kafka_bootstrap}", highlight=False)
    console.print(f"  Registry  {addresses.registry_url}", highlight=False)
    console.print(f"  Redis     {addresses.redis_url}", highlight=False)
    console.print(
        f"  Worker    http://127.0.0.1:{http_port}/metrics  log: {log_path}", highlight=False
    )
    console.print(
        "\nThree things to try, in another terminal:\n\n"
        "  .venv/bin/holdfast onhand D0002 10 --org usmf --site 1 --warehouse 11 "
        "--color red --size small\n"
        "  .venv/bin/holdfast reserve D0002 1 --org usmf --site 1 --warehouse 11 "
        "--color red --size small\n"
        "  .venv/bin/holdfast watch\n",
        highlight=False,
    )


def _stop(worker: "subprocess.Popen[bytes]") -> None:
    if worker.poll() is not None:
        return
    worker.send_signal(signal.SIGTERM)
    try:
        worker.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()
