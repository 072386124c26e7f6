"""`holdfast connector`: tell Holdfast what an ERP did, from its outbox, a webhook or a file.

Exit codes: 0 stopped, or the file is told on; 1 rows of the file were refused; 2 it could not
start (its port is taken, the file or the mapping cannot be read); 70 it must not go on (fenced, or
the outcome of a commit is not known): start it again.
"""

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import orjson
import typer

from holdfast.connection import EXIT_REFUSED, EXIT_USAGE, Stop, find_settings, in_words
from producers.logs import configure
from producers.scm.mapping import PRESETS, MappingError, load, preset_names
from producers.scm.settings import SECRET_LENGTH_MIN, ConnectorSettings
from schemas.registry import RegistryError

app = typer.Typer(no_args_is_help=True, help="SCM connector: an ERP's changes to the topics.")

EXIT_FAULT: Final = 70
POSTGRES: Final = ("postgres://", "postgresql://")
SQL: Final = {"outbox": "outbox.sql", "sample-erp": "sample_erp.sql"}

_RUN_EXAMPLES = """
Examples:

  holdfast connector run --source postgres://erp@127.0.0.1/erp --mapping d365

  HOLDFAST_WEBHOOK_SECRETS=... holdfast connector run --webhook 8095 --mapping odoo

  holdfast connector run --file transactions.csv --mapping erpnext --report refused.jsonl
"""

Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka, host:port.")]
Registry = Annotated[str | None, typer.Option("--registry", help="Schema registry URL.")]
MappingName = Annotated[str, typer.Argument(help="Preset, or path of a YAML file.")]


@app.command(epilog=_RUN_EXAMPLES)
def run(
    source: Annotated[
        str | None, typer.Option(help="PostgreSQL with the outbox; PGPASSWORD for the password.")
    ] = None,
    webhook: Annotated[
        int | None, typer.Option(help="Port on which signed rows are taken.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="CSV or JSON lines, told on once.")] = None,
    mapping: Annotated[
        str | None, typer.Option(help="Preset (`connector mappings`) or path of a YAML file.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Whose position is kept: one name, one connector.")
    ] = None,
    table: Annotated[str | None, typer.Option(help="Outbox table.")] = None,
    host: Annotated[str, typer.Option(help="Address the webhook listens on.")] = "127.0.0.1",
    report: Annotated[
        Path | None,
        typer.Option(help="Refused rows, behind what is there. Default: FILE.refused.jsonl."),
    ] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Pass by the position that is kept.")
    ] = False,
    http_port: Annotated[
        int | None, typer.Option(help="/live, /ready and /metrics on loopback; 0: none.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="console or json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="File: end with a line of JSON.")] = False,
    bootstrap: Bootstrap = None,
    registry: Registry = None,
) -> None:
    """Publish an ERP's changes, each exactly once, until SIGTERM or Ctrl-C or the file's end."""
    from producers.listen import NotListening  # noqa: PLC0415
    from producers.scm.files import FileError  # noqa: PLC0415 - uvicorn and psycopg are not small
    from producers.scm.publisher import Fault  # noqa: PLC0415
    from producers.scm.run import run_file, run_outbox, run_webhook  # noqa: PLC0415

    with in_words():
        _one_source(source, webhook, file)
        given = {
            "mapping": mapping,
            "name": name,
            "table": table,
            "http_port": http_port,
            "log_format": log_format,
        }
        settings = _settings(bootstrap, registry, given, signed=webhook is not None)
    configure(settings.log_format)
    try:
        if source is not None:
            run_outbox(settings, source, from_start=from_start)
        elif webhook is not None:
            run_webhook(settings, host, webhook)
        elif file is not None:
            position, refused = run_file(settings, file, report, from_start=from_start)
            _show(file, position, refused, as_json=as_json)
    except (MappingError, FileError, NotListening, RegistryError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(EXIT_USAGE) from error
    except Fault as fault:
        typer.secho(f"connector: {fault}", fg="red", err=True)
        raise typer.Exit(EXIT_FAULT) from fault


@app.command(epilog="Example:\n\n  holdfast connector check my-erp.yaml")
def check(mapping: MappingName) -> None:
    """Check a mapping: every problem with its line, and what to do."""
    try:
        found = load(mapping)
    except MappingError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(EXIT_USAGE) from error
    values = sum(len(ladder.statuses) for ladder in found.ladders)
    print(f"{found.name}: {len(found.ladders)} ladders, {values} statuses, source {found.source}")


@app.command(epilog="Example:\n\n  holdfast connector mappings")
def mappings() -> None:
    """List the mappings that come with Holdfast."""
    for name in preset_names():
        print(f"{name:10} {load(name).description}")


@app.command(epilog="Example:\n\n  holdfast connector mapping d365 > my-d365.yaml")
def mapping(name: Annotated[str, typer.Argument(help="A preset's name.")]) -> None:
    """Print a preset, to start one's own from."""
    if name not in preset_names():
        typer.secho(f"{name}: there are {', '.join(preset_names())}", fg="red", err=True)
        raise typer.Exit(EXIT_USAGE)
    print((PRESETS / f"{name}.yaml").read_text(), end="")


@app.command(
    epilog="Example:\n\n  holdfast connector sql outbox | psql postgres://erp@127.0.0.1/erp"
)
def sql(what: Annotated[str, typer.Argument(help="outbox or sample-erp.")]) -> None:
    """Print the SQL of the outbox, or of the sample ERP that writes it."""
    if what not in SQL:
        typer.secho(f"{what}: there are {', '.join(SQL)}", fg="red", err=True)
        raise typer.Exit(EXIT_USAGE)
    print((PRESETS.parent / SQL[what]).read_text(), end="")


def _one_source(source: str | None, webhook: int | None, file: Path | None) -> None:
    if sum(one is not None for one in (source, webhook, file)) != 1:
        raise Stop("Say where the rows come from: one of --source, --webhook, --file.")
    if source is not None and not source.startswith(POSTGRES):
        raise Stop("--source: postgres://user@host:port/database")


def _settings(
    bootstrap: str | None, registry: str | None, given: dict[str, Any], *, signed: bool
) -> ConnectorSettings:
    try:
        settings = ConnectorSettings.from_environment(find_settings(bootstrap, registry), given)
    except msgspec.ValidationError as error:
        raise Stop(f"settings: {error}") from error
    if signed and not settings.secrets:
        raise Stop(
            "The webhook takes signed rows only: set HOLDFAST_WEBHOOK_SECRETS to a secret of at "
            f"least {SECRET_LENGTH_MIN} characters, or to several, joined by commas."
        )
    return settings


def _show(file: Path, position: Any, refused: Path, *, as_json: bool) -> None:
    fields = {
        "name": "connector",
        "file": str(file),
        **{
            field: getattr(position, field) for field in ("rows", "published", "ignored", "refused")
        },
        "report": str(refused) if position.refused else None,
    }
    if as_json:
        print(orjson.dumps(fields).decode())
    else:
        print(
            f"{file}: {position.rows} rows, {position.published} published, "
            f"{position.ignored} change nothing, {position.refused} refused"
            + (f" (see {refused})" if position.refused else "")
        )
    if position.refused:
        raise typer.Exit(EXIT_REFUSED)
