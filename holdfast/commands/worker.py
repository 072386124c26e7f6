"""`holdfast worker`: decide for the partitions the group gives this process."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from holdfast.worker_group import PROCESSES_MAX, options_of, run_processes

EXIT_USAGE = 2


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("worker", epilog=_EXAMPLES)(worker)


_EXAMPLES = """
Examples:

  holdfast worker --data-dir .holdfast/worker-1

  holdfast worker --data-dir /var/lib/holdfast --session-timeout-ms 6000 --http-port 8090

  holdfast worker --data-dir /var/lib/holdfast --processes 4 --http-port 8090
"""


def worker(
    data_dir: Annotated[
        Path | None, typer.Option(help="Directory of this worker alone; safe to lose.")
    ] = None,
    bootstrap_servers: Annotated[
        str | None, typer.Option("--bootstrap", help="Kafka addresses, host:port,host:port.")
    ] = None,
    registry_url: Annotated[
        str | None, typer.Option("--registry", "--registry-url", help="Schema registry's URL.")
    ] = None,
    session_timeout_ms: Annotated[
        int | None, typer.Option(help="Silence after which the partitions go to another worker.")
    ] = None,
    group_instance_id: Annotated[
        str | None, typer.Option(help="Static membership: a restart causes no rebalance.")
    ] = None,
    standby: Annotated[
        bool | None,
        typer.Option("--standby", help="Keep copies of other workers' partitions: fast take-over."),
    ] = None,
    http_port: Annotated[
        int | None, typer.Option(help="/live, /ready and /metrics on loopback; 0: none.")
    ] = None,
    cache_mb: Annotated[
        int | None,
        typer.Option(help="RocksDB block cache, and as much for product-locations in use: MiB."),
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="console or json.")] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=PROCESSES_MAX, help="Cores to decide on, a process each.")
    ] = 1,
) -> None:
    """Decide requests and inventory transactions until SIGTERM or Ctrl-C.

    Options not given are read from the environment (KAFKA_BOOTSTRAP_SERVERS, SCHEMA_REGISTRY_URL,
    HOLDFAST_DATA_DIR, ...), and from the running stack's addresses.
    """
    from holdfast import running  # noqa: PLC0415 - Faust takes a second to import; --help does not
    from processor.engine.faults import Fault, refuse_optimised_python  # noqa: PLC0415
    from processor.probes import NotListening  # noqa: PLC0415
    from processor.settings import from_environment  # noqa: PLC0415
    from processor.worker import configure_logging, run  # noqa: PLC0415
    from schemas.registry import RegistryError  # noqa: PLC0415

    refuse_optimised_python()
    given = {
        "data_dir": data_dir,
        "bootstrap_servers": bootstrap_servers,
        "registry_url": registry_url,
        "session_timeout_ms": session_timeout_ms,
        "group_instance_id": group_instance_id,
        "standby": standby,
        "http_port": http_port,
        "cache_mb": cache_mb,
        "log_format": log_format,
    }
    try:
        settings = from_environment(given, defaults=running.worker_defaults())
    except msgspec.ValidationError as error:
        typer.secho(f"settings: {error}", fg="red", err=True)
        typer.secho("Start a stack with `holdfast stack up`, or give --bootstrap.", err=True)
        raise typer.Exit(EXIT_USAGE) from error
    if processes > 1:
        group = [options_of(number, given, settings) for number in range(processes)]
        raise typer.Exit(run_processes(group))
    configure_logging(settings.log_format)
    from holdfast.wiring import stock_domain  # noqa: PLC0415

    try:
        run(settings, stock_domain(settings))
    except (Fault, NotListening, RegistryError) as fault:
        typer.secho(f"worker: {fault}", fg="red", err=True)
        sys.exit(1)
