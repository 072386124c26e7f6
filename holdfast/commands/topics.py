"""`holdfast topics` and `holdfast schemas`: the contract on a cluster, made and compared.

The rule: what exists is never altered. `create` and `register` are safe to repeat.
"""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.table import Table

from compose.stack import Addresses
from holdfast.connection import Stop, find_settings
from producers.settings import Settings
from schemas import access, cluster, registry
from schemas.topics import PARTITIONS_DEFAULT, TOPICS, described, markdown_table

app = typer.Typer(no_args_is_help=True, help="The topics: create, compare, list.")
schemas_app = typer.Typer(
    no_args_is_help=True, help="The schemas in the registry: register, compare."
)

EXIT_DIFFERS = 1
EXIT_USAGE = 2
REGISTRY_TIMEOUT_S = 10.0
TABLE_WIDTH_MIN = 140  # Columns; into a pipe, a terminal's default of 80 would cut the names.

Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka: host:port,host:port.")]
RegistryUrl = Annotated[str | None, typer.Option("--registry", help="Schema registry's URL.")]
AsJson = Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout.")]
Partitions = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1024,
        help="Partitions of the co-partitioned topics; fixed for life. "
        f"Default: the count of those that exist, else {PARTITIONS_DEFAULT}.",
    ),
]

CREATE_EXAMPLES = """\
Examples:

  holdfast topics create                       on the running stack

  holdfast topics create --replication 3 --bootstrap broker:9092 --registry http://registry:8081
"""
CHECK_EXAMPLES = """\
Examples:

  holdfast topics check

  holdfast topics check --partitions 64 --json | tail -1
"""


@app.command(epilog=CREATE_EXAMPLES)
def create(
    *,
    partitions: Partitions = None,
    replication: Annotated[int, typer.Option(min=1, max=9, help="Copies of each.")] = 1,
    bootstrap: Bootstrap = None,
    registry_url: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Create the topics that are missing and register their schemas.

    Refuses, and creates nothing, when one exists and differs.
    """
    console = Console(stderr=True)
    with told_in_words(console):
        settings = find_settings(bootstrap, registry_url)
        created = _create(settings, partitions, replication, console)
        ids = _register(settings, console)
    if as_json:
        print(msgspec.json.encode({"created": created, "schemas": ids}).decode())


@app.command(epilog=CHECK_EXAMPLES)
def check(
    *,
    partitions: Partitions = None,
    bootstrap: Bootstrap = None,
    registry_url: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Compare the topics with what is declared. Exit code 1 when one is missing or differs."""
    console = Console(stderr=True)
    with told_in_words(console):
        settings = find_settings(bootstrap, registry_url, needs="broker")
        differences = cluster.check(_admin(settings), partitions)
    _report(differences, f"{len(TOPICS)} topics are as declared.", console, as_json=as_json)


@app.command("list")
def list_topics(
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table for a page.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every topic as declared: key, value, partitions, retention. Needs no broker."""
    rows = described()
    if as_json:
        print(msgspec.json.encode(rows).decode())
        return
    if markdown:
        print(markdown_table())
        return
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row.values())
    Console(width=max(Console().width, TABLE_WIDTH_MIN)).print(table)


@schemas_app.command()
def register(*, registry_url: RegistryUrl = None, as_json: AsJson = False) -> None:
    """Register this version's schemas under `<topic>-value`, with compatibility BACKWARD."""
    console = Console(stderr=True)
    with told_in_words(console):
        ids = _register(find_settings(None, registry_url, needs="registry"), console)
    if as_json:
        print(msgspec.json.encode(ids).decode())


@schemas_app.command("check")
def check_schemas(*, registry_url: RegistryUrl = None, as_json: AsJson = False) -> None:
    """Compare the registry with this version's schemas. Exit code 1 when they differ."""
    console = Console(stderr=True)
    with told_in_words(console):
        settings = find_settings(None, registry_url, needs="registry")
        server = registry.Registry(settings.registry_url, REGISTRY_TIMEOUT_S)
        differences = registry.check(server)
    done = f"{len(registry.SUBJECTS)} schemas are registered."
    _report(differences, done, console, as_json=as_json)


def ensure_topics(addresses: Addresses, partitions: int | None, console: Console) -> None:
    """Create what is missing on a running stack and register the schemas; for `holdfast run`.

    `partitions` is meant for new topics: those that exist keep their count.
    """
    with told_in_words(console):
        settings = find_settings(addresses.kafka_bootstrap, addresses.registry_url)
        found = cluster.partitions_found(_admin(settings))
        _create(settings, found or partitions, 1, console)
        _register(settings, console)


@contextlib.contextmanager
def told_in_words(console: Console) -> Iterator[None]:
    """Print what an expected failure says, instead of a trace, and end with its exit code."""
    try:
        yield
    except (Stop, cluster.ClusterError, registry.RegistryError) as error:
        console.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        differs = isinstance(error, cluster.TopicsDifferError | registry.SchemaRefusedError)
        raise typer.Exit(EXIT_DIFFERS if differs else EXIT_USAGE) from error


def _admin(settings: Settings) -> AdminClient:
    why = access.refusal(settings.librdkafka())
    if why:
        raise cluster.ClusterError(why)
    # Log level 0: a broker that is away is said once, by us, and not by librdkafka ten times.
    return AdminClient({**settings.librdkafka(), "log_level": 0})


def _create(
    settings: Settings, partitions: int | None, replication: int, console: Console
) -> list[str]:
    with console.status("topics: looking"):
        created = cluster.create(
            _admin(settings),
            partitions,
            replication,
            progress=lambda name: console.print(f"topic {name}: created", highlight=False),
        )
    if not created:
        console.print(f"topics: all {len(TOPICS)} there, as declared", highlight=False)
    return created


def _register(settings: Settings, console: Console) -> dict[str, int]:
    with console.status("schemas: registering"):
        server = registry.Registry(settings.registry_url, REGISTRY_TIMEOUT_S)
        ids = registry.register(server)
    listed = ", ".join(f"{record} {number}" for record, number in ids.items())
    console.print(f"schemas: {listed}", highlight=False, soft_wrap=True)
    return ids


def _report(differences: list[str], done: str, console: Console, *, as_json: bool) -> None:
    for difference in differences:
        console.print(difference, style="red", markup=False, highlight=False, soft_wrap=True)
    if not differences:
        console.print(done, highlight=False)
    if as_json:
        print(msgspec.json.encode({"differences": differences}).decode())
    if differences:
        raise typer.Exit(EXIT_DIFFERS)
