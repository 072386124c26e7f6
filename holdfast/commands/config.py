"""`holdfast config`: the configuration document, written, checked, compared and put to work.

The rule: nothing but `apply` changes anything on the cluster, and `apply` never writes a document
that `validate` refuses or that would corrupt what is stored.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from holdfast.connection import (
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    EXIT_USAGE,
    Stop,
    find_settings,
    in_words,
)
from processor.inventory.configuration import (
    PRESETS,
    Change,
    Configuration,
    Parsed,
    Problem,
    default,
    diff,
    dump,
    errors,
    json_schema,
    parse,
)
from processor.inventory.configuration.compare import refused
from producers.channel.client import connect_codec
from producers.settings import Settings
from schemas.codes import GRANTED

app = typer.Typer(
    no_args_is_help=True,
    help="The configuration document: init, validate, diff, apply, show, history, schema.",
)

FILE_DEFAULT = Path("holdfast.yaml")
ANSWER_TIMEOUT_S = 15.0

File = Annotated[Path, typer.Argument(help="YAML (or JSON) document; - for standard input.")]
AsJson = Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout.")]
Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka: host:port,host:port.")]
RegistryUrl = Annotated[str | None, typer.Option("--registry", help="Schema registry's URL.")]

INIT_EXAMPLES = """\
Examples:

  holdfast config init                              the 2023-11 edition, to holdfast.yaml

  holdfast config init early.yaml --preset early-2023

  holdfast config init -                            to standard output
"""
VALIDATE_EXAMPLES = """\
Examples:

  holdfast config validate holdfast.yaml

  holdfast config validate holdfast.yaml --strict --json | tail -1
"""
DIFF_EXAMPLES = """\
Examples:

  holdfast config diff holdfast.yaml                against what is applied

  holdfast config diff old.yaml new.yaml            needs no broker
"""
APPLY_EXAMPLES = """\
Examples:

  holdfast config apply holdfast.yaml

  holdfast config apply holdfast.yaml --next        with the next version number

  holdfast config apply holdfast.yaml --next --dry-run
"""


@app.command(epilog=INIT_EXAMPLES)
def init(
    file: Annotated[Path, typer.Argument(help="File to write; - for standard output.")] = (
        FILE_DEFAULT
    ),
    *,
    preset: Annotated[str, typer.Option(help=f"One of {', '.join(PRESETS)}.")] = "2023-11",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a document to start from."""
    if preset not in PRESETS:
        _stop(f"There is no preset {preset}. There are: {', '.join(PRESETS)}.")
    text = dump(PRESETS[preset]())
    if str(file) == "-":
        print(text, end="")
        return
    try:
        with file.open("w" if force else "x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        _stop(f"{file} is there already. Name another, or overwrite it with --force.")
    except OSError as error:
        _stop(f"{file}: {error.strerror}.")
    _say(f"{file}: the {preset} edition. Next: holdfast config validate {file}")


@app.command(epilog=VALIDATE_EXAMPLES)
def validate(
    file: File,
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse warnings too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check a document. Exit code 1 when it is refused. Needs no broker."""
    parsed = _read(file)
    found = parsed.problems
    _print_problems(file, found)
    bad = found if strict else errors(found)
    if as_json:
        print(_json({"file": str(file), "valid": not bad, "problems": found}))
    if bad:
        raise typer.Exit(EXIT_REFUSED)
    _say(f"{file}: valid, {len(found)} warning(s).")


@app.command("diff", epilog=DIFF_EXAMPLES)
def diff_command(
    old: Annotated[Path, typer.Argument(help="Document; alone: the new one.")],
    new: Annotated[Path | None, typer.Argument(help="New document.")] = None,
    *,
    bootstrap: Bootstrap = None,
    registry_url: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show what changes, and whether it can while stock and holds exist.

    Exit code 1 when a change would corrupt what is stored.
    """
    if new is None:
        with in_words():
            before = in_force(find_settings(bootstrap, registry_url, needs="broker"))
        after = valid_document(old)
    else:
        before, after = valid_document(old), valid_document(new)
    changes = diff(before, after)
    _print_changes(changes)
    if as_json:
        print(_json({"from": before.version, "to": after.version, "changes": changes}))
    if refused(changes):
        raise typer.Exit(EXIT_REFUSED)


@app.command(epilog=APPLY_EXAMPLES)
def apply(
    file: File,
    *,
    next_version: Annotated[
        bool, typer.Option("--next", help="Use the next version number, whatever the file says.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and compare only.")] = False,
    actor: Annotated[str, typer.Option(help="On whose behalf; kept with the record.")] = "",
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait for answers.")] = (
        ANSWER_TIMEOUT_S
    ),
    bootstrap: Bootstrap = None,
    registry_url: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Put a document to work: in every partition, at one record each, without a restart.

    Exit code 1: refused, nothing or the old one is in force. 3: some partition has not answered.
    """
    from holdfast import configuration_topic as topic  # noqa: PLC0415 - keeps --help free of Kafka

    document = valid_document(file)
    with in_words():
        settings = find_settings(bootstrap, registry_url)
        applying = topic.Applying(settings, connect_codec(settings))
        before = _newest(topic.history(settings))
        document = numbered(document, before, next_version=next_version)
        changes = diff(before, document)
        _print_changes(changes)
        if refused(changes):
            _stop("Not applied: it would corrupt what is stored.", EXIT_REFUSED)
        if dry_run:
            if as_json:
                print(_json({"version": document.version, "changes": changes}))
            _say(f"Version {document.version} can be applied.")
            return
        answers = applying.write(document, actor)
    try:
        found = answers.wait(timeout_s)
    finally:
        answers.close()
    _report(document, applying.partitions, found, as_json=as_json)


@app.command()
def show(
    version: Annotated[int | None, typer.Option(help="Default: the newest.")] = None,
    *,
    bootstrap: Bootstrap = None,
    registry_url: RegistryUrl = None,
    as_json: AsJson = False,
) -> None:
    """Print an applied version, as YAML or JSON."""
    from holdfast import configuration_topic as topic  # noqa: PLC0415

    with in_words():
        versions = topic.history(find_settings(bootstrap, registry_url, needs="broker"))
    if not versions and version is None:
        _say("Nothing was applied: every worker decides by the 2023-11 edition.")
        shown = default()
    else:
        chosen = [one for one in versions if version in (None, one.version)]
        if not chosen or chosen[-1].configuration is None:
            known = ", ".join(str(one.version) for one in versions) or "none"
            _stop(f"There is no version {version} that can be shown. Applied: {known}.")
        shown = chosen[-1].configuration
    print(_json(shown) if as_json else dump(shown), end="\n" if as_json else "")


@app.command()
def history(
    *, bootstrap: Bootstrap = None, registry_url: RegistryUrl = None, as_json: AsJson = False
) -> None:
    """List the applied versions, oldest first, with what each one changed."""
    from holdfast import configuration_topic as topic  # noqa: PLC0415

    with in_words():
        versions = topic.history(find_settings(bootstrap, registry_url, needs="broker"))
    rows: list[dict[str, Any]] = []
    before = default()
    for one in versions:
        after = one.configuration
        changed = [] if after is None else [change.path for change in diff(before, after)]
        rows.append(
            {
                "version": one.version,
                "written_at": datetime.fromtimestamp(one.written_at_ms / 1000, UTC).isoformat(
                    timespec="seconds"
                ),
                "comment": "" if after is None else after.comment,
                "changed": changed,
            }
        )
        before = after or before
    if as_json:
        print(_json(rows))
        return
    table = Table("version", "written", "comment", "changed", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            str(row["version"]), row["written_at"], row["comment"], ", ".join(row["changed"])
        )
    Console().print(table)


@app.command()
def schema() -> None:
    """Print the document's JSON Schema, for editors."""
    sys.stdout.write(json_schema())


def _read(file: Path) -> Parsed:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        _stop(f"{file}: {error.strerror}. Start from `holdfast config init`.")
    except UnicodeDecodeError:
        _stop(f"{file}: not UTF-8 text.")
    return parse(text)


def valid_document(file: Path) -> Configuration:
    """Read a document; says what is wrong with it and ends the command when it is refused."""
    parsed = _read(file)
    bad = errors(parsed.problems)
    if parsed.configuration is None or bad:
        _print_problems(file, parsed.problems)
        raise typer.Exit(EXIT_REFUSED)
    return parsed.configuration


def in_force(settings: Settings) -> Configuration:
    """Newest version that was applied; what workers start with when there is none."""
    from holdfast import configuration_topic as topic  # noqa: PLC0415

    return _newest(topic.history(settings))


def _newest(versions: list[Any]) -> Configuration:
    """The newest applied version; what workers start with when there is none."""
    if not versions:
        return msgspec.structs.replace(default(), version=0)
    newest = versions[-1]
    if newest.configuration is None:
        raise Stop(
            f"Version {newest.version} was written by another release and cannot be compared: use "
            "that release, or apply with it."
        )
    return newest.configuration  # type: ignore[no-any-return]


def numbered(
    document: Configuration, before: Configuration, *, next_version: bool
) -> Configuration:
    """The document under the next version, or its own if that is above what is applied."""
    if next_version:
        return msgspec.structs.replace(document, version=before.version + 1)
    if document.version <= before.version and document != before:
        _stop(
            f"Version {document.version} is not above {before.version}, which is applied: set "
            f"version: {before.version + 1}, or give --next.",
            EXIT_REFUSED,
        )
    return document


def _report(
    document: Configuration, partitions: int, found: dict[int, Any], *, as_json: bool
) -> None:
    silent = [number for number in range(partitions) if number not in found]
    rejected = {number: name for number, (code, name) in found.items() if code not in GRANTED}
    if as_json:
        print(
            _json(
                {
                    "version": document.version,
                    "partitions": partitions,
                    "in_force": partitions - len(silent) - len(rejected),
                    "refused": rejected,
                    "silent": silent,
                }
            )
        )
    if rejected:
        _stop(
            f"Version {document.version} was refused by partitions {sorted(rejected)}; they keep "
            "the old one. `holdfast watch` shows why.",
            EXIT_REFUSED,
        )
    if silent:
        _stop(
            f"Version {document.version} is written; partitions {silent} have not answered yet. "
            "They switch when a worker reaches the record: is one running?",
            EXIT_UNKNOWN,
        )
    _say(f"Version {document.version} is in force in all {partitions} partitions.")


def _print_problems(file: Path, problems: list[Problem]) -> None:
    for problem in problems:
        place = f"{file}:{problem.line}" if problem.line else str(file)
        where = f" {problem.path}:" if problem.path else ""
        typer.secho(
            f"{place}: {problem.severity}:{where} {problem.rule}. {_sentence(problem.remedy)}",
            fg="red" if problem.severity == "error" else "yellow",
            err=True,
        )


def _sentence(words: str) -> str:
    end = "" if words.endswith(("?", ".")) else "."
    return words[:1].upper() + words[1:] + end


def _print_changes(changes: list[Change]) -> None:
    if not changes:
        _say("No change.")
    for change in changes:
        typer.secho(
            f"{change.path}: {_short(change.old)} -> {_short(change.new)}\n"
            f"    {change.verdict}: {change.reason}",
            fg="red" if change in refused([change]) else None,
            err=True,
        )


def _short(value: object) -> str:
    return "none" if value is None else msgspec.json.encode(value).decode()


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _say(words: str) -> None:
    typer.secho(words, err=True)


def _stop(words: str, code: int = EXIT_USAGE) -> NoReturn:
    typer.secho(words, fg="red", err=True)
    raise typer.Exit(code)
