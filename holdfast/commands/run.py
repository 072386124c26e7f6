"""`holdfast run`: the main job in the foreground: servers, topics, every room; Ctrl-C ends all."""

import secrets
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.markup import escape

from compose.errors import StackError
from compose.ports import choose_port, free_port
from compose.progress import console_lines
from compose.settings import Settings
from compose.stack import Addresses, Stack
from holdfast.commands.topics import ensure_topics
from holdfast.service_process import Service, ServiceEndedError, start_service, start_worker
from producers.gateway.settings import GatewaySettings
from schemas import topics

WORKER_PORT_USUAL: Final = 8090
VIEW_PORT_USUAL: Final = 8091
GATEWAY_PORT_USUAL: Final = 8080
WEBHOOK_PORT_USUAL: Final = 8095
CONNECTOR_PORT_USUAL: Final = 8096
RESTARTS_MAX: Final = 5  # Of each: a service that keeps ending has something to say.
POLL_SECONDS: Final = 0.2

_EXAMPLES = """
Examples:

  holdfast run

  holdfast run --partitions 16
"""


class Ports(NamedTuple):
    """Where the services listen, on loopback: the usual ports, or free ones."""

    worker: int
    view: int
    gateway: int
    webhook: int
    connector: int


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("run", epilog=_EXAMPLES)(run)


def run(
    partitions: Annotated[
        int, typer.Option(min=1, max=1024, help="Partitions of new topics; fixed for life.")
    ] = topics.PARTITIONS_DEFAULT,
) -> None:
    """Start the servers, a worker, the read view, the gateway and the connector, until Ctrl-C.

    What was up before is used and left up. Data stays in .holdfast between runs.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Also where a shell made this a background job, with Ctrl-C ignored: children must end.
        signal.signal(number, signal.default_int_handler)
    console = Console(stderr=True)
    home = Settings.from_environment().home
    try:
        addresses = Stack.up(home, progress=console_lines(console))
    except StackError as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(1) from error
    try:
        ensure_topics(addresses, partitions, console)
        _serve(addresses, home, console)
    finally:
        if addresses.started:
            console.print("stopping the servers this command started")
            Stack.down(home, servers=addresses.started)


def _serve(addresses: Addresses, home: Path, console: Console) -> None:
    """Run all services until Ctrl-C; one that ends is started again, as by a supervisor."""
    try:
        gateway = GatewaySettings.from_environment(default_local_keys=home)
    except msgspec.ValidationError as error:
        console.print(f"[red]settings of the gateway: {escape(str(error))}[/red]")
        raise typer.Exit(2) from error
    ports = Ports(
        worker=choose_port(WORKER_PORT_USUAL),
        view=choose_port(VIEW_PORT_USUAL),
        gateway=gateway_port(gateway.port),
        webhook=choose_port(WEBHOOK_PORT_USUAL),
        connector=choose_port(CONNECTOR_PORT_USUAL),
    )
    starters = _starters(addresses, home, ports)
    running: list[Service] = []
    try:
        running.extend(start() for start in starters)  # One by one: what was started is ended.
        for service in running:
            with console.status(f"{service.name}: starting"):
                service.wait_until_ready()
        _announce(addresses, ports, running, console)
        _supervise(starters, running, console)
    except KeyboardInterrupt:
        console.print("\nstopping")
    except ServiceEndedError as error:
        console.print(f"[red]{escape(str(error))}[/red]")
        raise typer.Exit(1) from error
    finally:
        for service in reversed(running):
            service.stop()


def gateway_port(asked: int) -> int:
    """The port that was asked for (`HOLDFAST_GATEWAY_PORT`); the usual one may give way, 0 is any.

    A port that somebody chose is not exchanged for another: where it is taken, the gateway says so.
    """
    if not asked:
        return free_port()
    return choose_port(asked) if asked == GATEWAY_PORT_USUAL else asked


def _supervise(
    starters: Sequence[Callable[[], Service]], running: list[Service], console: Console
) -> None:
    """Start again what ends; returns never, but by an exception.

    Raises:
        ServiceEndedError: one ended too often.

    """
    restarts = [0] * len(running)
    while True:
        time.sleep(POLL_SECONDS)
        for index, service in enumerate(running):
            if service.exit_code is None:
                continue
            said = f"the {service.name} ended with {service.exit_code}; {service.log_tail()}"
            restarts[index] += 1
            if restarts[index] > RESTARTS_MAX:
                raise ServiceEndedError(said)
            console.print(f"[red]{escape(said)}[/red]\nstarting it again")
            running[index] = starters[index]()


def _starters(addresses: Addresses, home: Path, ports: Ports) -> list[Callable[[], Service]]:
    """What starts each service, the worker first."""
    bootstrap, registry_url, redis_url = (
        addresses.kafka_bootstrap,
        addresses.registry_url,
        addresses.redis_url,
    )
    assert bootstrap is not None
    assert registry_url is not None
    assert redis_url is not None
    secret = _webhook_secret(home)
    kafka = ("--bootstrap", bootstrap, "--registry", registry_url)

    def worker() -> Service:
        return start_worker(
            bootstrap=bootstrap,
            registry_url=registry_url,
            data_dir=home / "worker-1",
            http_port=ports.worker,
        )

    def view() -> Service:
        words = ("view", "run", "--bootstrap", bootstrap, "--redis", redis_url)
        return start_service(
            "view",
            (*words, "--http-port", ports.view),
            ready_url=f"http://127.0.0.1:{ports.view}/ready",
            log_path=home / "view.log",
        )

    def gateway() -> Service:
        return start_service(
            "gateway",
            ("gateway", "--port", ports.gateway, *kafka),
            ready_url=f"http://127.0.0.1:{ports.gateway}/health/ping",
            log_path=home / "gateway.log",
            environment={"REDIS_URL": redis_url},
        )

    def connector() -> Service:
        words = ("connector", "run", "--webhook", ports.webhook, "--mapping", "d365")
        return start_service(
            "connector",
            (*words, "--http-port", ports.connector, *kafka),
            ready_url=f"http://127.0.0.1:{ports.connector}/ready",
            log_path=home / "connector.log",
            environment={"HOLDFAST_WEBHOOK_SECRETS": secret},
        )

    return [worker, view, gateway, connector]


def _webhook_secret(home: Path) -> str:
    """The development key that signs webhook requests, made once."""
    path = home / "webhook-secret"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text().strip()


def _announce(
    addresses: Addresses, ports: Ports, running: Sequence[Service], console: Console
) -> None:
    from holdfast.commands.token import development_token  # noqa: PLC0415 - keeps --help fast

    gateway = f"http://127.0.0.1:{ports.gateway}"
    lines = [
        ("Kafka", addresses.kafka_bootstrap),
        ("Registry", addresses.registry_url),
        ("Redis", addresses.redis_url),
        ("Worker", f"http://127.0.0.1:{ports.worker}/metrics"),
        ("View", f"http://127.0.0.1:{ports.view}/metrics"),
        ("Gateway", f"{gateway}  document: {gateway}/openapi.json"),
        ("Connector", f"http://127.0.0.1:{ports.webhook}  signed webhook, key: webhook-secret"),
        ("Logs", ", ".join(service.log_path.name for service in running)),
    ]
    console.print("\n[bold green]Holdfast is running.[/bold green]  Ctrl-C stops it.\n")
    for name, address in lines:
        console.print(f"  {name:9} {address}", highlight=False, soft_wrap=True)
    console.print(f"  in        {running[0].log_path.parent}", highlight=False, soft_wrap=True)
    console.print(_to_try(gateway, development_token()), highlight=False, soft_wrap=True)


def _to_try(gateway: str, token: str) -> str:
    """Lines for another terminal; each works as it stands."""
    place = '"siteid": "1", "locationid": "11", "colorid": "red", "sizeid": "small"'
    base = f"{gateway}/api/environment/default"
    curl = 'curl -sS -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json"'
    stock = (
        '{"id": "try-1", "organizationId": "usmf", "productId": "T-SHIRT", "dimensions": '
        f'{{{place}}}, "quantities": {{"pos": {{"inbound": 10}}}}}}'
    )
    reserve = (
        '{"id": "try-2", "organizationId": "usmf", "productId": "T-SHIRT", "dimensions": '
        f'{{{place}}}, "quantity": 1, "quantityDataSource": "iv", "modifier": "softreserved", '
        '"ifCheckAvailForReserv": true}'
    )
    query = (
        '{"filters": {"organizationId": ["usmf"], "productId": ["T-SHIRT"], "siteId": ["1"], '
        '"locationId": ["11"]}, "groupByValues": ["colorId", "sizeId"], "returnNegative": true}'
    )
    return (
        f"\nTo try, in another terminal:\n\n  TOKEN={token}\n\n"
        f"  {curl} {base}/onhand -d '{stock}'\n\n"
        f"  {curl} {base}/onhand/reserve -d '{reserve}'\n\n"
        f"  {curl} {base}/onhand/indexquery -d '{query}'\n\n"
        "  .venv/bin/holdfast watch\n"
    )
