"""`holdfast offsets`: the offsets that failed, tried again or taken off the list.

The list is what the partitions have committed; retry and dismiss go through the topics like any
request, so they are decided once and in order. Exit codes: 0 done, 1 refused, 2 it could not be
asked, 3 no answer came.
"""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

import msgspec
import orjson
import typer

from holdfast.changelog import committed_rows
from holdfast.connection import (
    EXIT_REFUSED,
    EXIT_UNKNOWN,
    Stop,
    connect,
    find_settings,
    in_words,
    why_no_answer,
)
from holdfast.present import answer_json
from processor.inventory import rows as row
from processor.inventory.reconfigure import rules_of
from processor.inventory.rules import default_rules
from producers.channel import ChannelClient, Unknown, code_name, granted
from producers.channel.ids import new_request_id
from producers.channel.outcomes import Answer
from producers.channel.requests import request
from producers.quantity import pieces_text
from producers.settings import Settings
from schemas.messages import RequestOptions

app = typer.Typer(no_args_is_help=True, help="Offsets that failed: list, retry, dismiss.")

FAILURE_KIND = b"F"

FailureIds = Annotated[
    list[str] | None, typer.Argument(help="Failure ids, as `offsets failed` shows them.")
]
Everything = Annotated[
    bool, typer.Option("--all", help="Every entry of the list that --order or --product leaves.")
]
Order = Annotated[str, typer.Option("--order", help="Only those of this order.")]
Product = Annotated[str, typer.Option("--product", help="Only those of this product.")]
Actor = Annotated[str, typer.Option("--actor", help="Who decides this; kept with the request.")]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON per entry, on stdout.")]
Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka, host:port.")]
Registry = Annotated[str | None, typer.Option("--registry", help="Schema registry URL.")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Seconds to wait. Default: 10.")]


class Entry(NamedTuple):
    """A failure, and the key that a request about it must carry to reach its partition."""

    failure: row.Failure
    key: bytes


def entries(settings: Settings) -> Iterator[Entry]:
    """Every failure that the partitions have committed, partition after partition.

    Raises:
        Stop: the changelog cannot be read.

    """
    for _, rows in committed_rows(settings, _is_wanted):
        rules = rules_of(rows, default_rules())
        for key, value in rows.items():
            if key[:1] != FAILURE_KIND:
                continue
            failure = row.decode_failure(value)
            values = rules.partition_values(failure.dimensions) or ()
            yield Entry(
                failure, rules.record_key(failure.organization_id, failure.product_id, values)
            )


@app.command(
    epilog="Examples:\n\n  holdfast offsets failed\n\n  holdfast offsets failed --order SO-1 --json"
)
def failed(
    order: Order = "",
    product: Product = "",
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    registry: Registry = None,
) -> None:
    """List the offsets that found nothing, or not all of it, to take over; oldest first."""
    with in_words():
        settings = find_settings(bootstrap, registry)
        found = _chosen(settings, [], order=order, product=product)
    if as_json:
        for entry in found:
            print(orjson.dumps(_as_json(entry.failure)).decode())
        return
    if not found:
        print("No offset failed.")
        return
    for entry in found:
        print(_text(entry.failure))


@app.command(
    epilog="Examples:\n\n  holdfast offsets retry 3f9c0a\n\n"
    "  holdfast offsets retry --all --order SO-1"
)
def retry(
    failure_ids: FailureIds = None,
    everything: Everything = False,
    order: Order = "",
    product: Product = "",
    actor: Actor = "",
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    registry: Registry = None,
    timeout: Timeout = None,
) -> None:
    """Try failed offsets again, as the ERP told them."""
    with in_words():
        settings = find_settings(bootstrap, registry, timeout)
        found = _named(settings, failure_ids, everything=everything, order=order, product=product)
    _ask_each("RETRY_OFFSET", settings, found, actor=actor, as_json=as_json)


@app.command(
    epilog="Examples:\n\n  holdfast offsets dismiss 3f9c0a --actor anna\n\n"
    "  holdfast offsets dismiss --all --product D0002"
)
def dismiss(
    failure_ids: FailureIds = None,
    everything: Everything = False,
    order: Order = "",
    product: Product = "",
    actor: Actor = "",
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    registry: Registry = None,
    timeout: Timeout = None,
) -> None:
    """Take entries off the list; stock and holds stay as they are."""
    with in_words():
        settings = find_settings(bootstrap, registry, timeout)
        found = _named(settings, failure_ids, everything=everything, order=order, product=product)
    _ask_each("DISMISS_OFFSET", settings, found, actor=actor, as_json=as_json)


def _is_wanted(key: bytes) -> bool:
    return key[:1] == FAILURE_KIND or key == row.CONFIGURATION_KEY


def _named(
    settings: Settings,
    failure_ids: list[str] | None,
    *,
    everything: bool,
    order: str,
    product: str,
) -> list[Entry]:
    """The entries that the words of a command mean; Stop when they mean none."""
    wanted = failure_ids or []
    if bool(wanted) == everything:
        raise Stop("Name failure ids, or say --all: `holdfast offsets failed` lists them.")
    found = _chosen(settings, wanted, order=order, product=product)
    missing = set(wanted) - {entry.failure.failure_id for entry in found}
    if missing:
        raise Stop(
            f"Not in the list: {', '.join(sorted(missing))}. A later status may have resolved it: "
            "see `holdfast offsets failed`."
        )
    return found


def _chosen(settings: Settings, wanted: list[str], *, order: str, product: str) -> list[Entry]:
    found = [
        entry
        for entry in entries(settings)
        if (not wanted or entry.failure.failure_id in wanted)
        and (not order or entry.failure.order_id == order)
        and (not product or entry.failure.product_id == product)
    ]
    return sorted(found, key=lambda entry: entry.failure.at_ms)


def _ask_each(
    action: str, settings: Settings, found: list[Entry], *, actor: str, as_json: bool
) -> None:
    """Ask for all, show each answer; the worst of them is the exit code."""
    with in_words():
        client, _ = connect(settings)
        try:
            answers = _answers(client, action, found, actor)
        finally:
            client.close(0)
    exit_code = 0
    for entry, answer in zip(found, answers, strict=True):
        failure_id = entry.failure.failure_id
        if as_json:
            print(orjson.dumps({"failure_id": failure_id, **answer_json(answer)}).decode())
        else:
            print(f"{failure_id}  {_in_words(answer)}")
        if isinstance(answer, Unknown):
            typer.secho(why_no_answer(settings, answer.request_id), fg="yellow", err=True)
            exit_code = EXIT_UNKNOWN
        elif not granted(answer):
            exit_code = max(exit_code, EXIT_REFUSED)
    if not found:
        print("Nothing to do.", file=sys.stderr)
    if exit_code:
        raise typer.Exit(exit_code)


def _answers(client: ChannelClient, action: str, found: list[Entry], actor: str) -> list[Answer]:
    futures = [
        client.submit(
            request(
                action,
                [],
                request_id=new_request_id(),
                organization_id=entry.failure.organization_id,
                channel="console",
                options=RequestOptions(offset_failure_id=entry.failure.failure_id, actor=actor),
            ),
            key=entry.key,
        )
        for entry in found
    ]
    return [future.result() for future in futures]


def _in_words(answer: Answer) -> str:
    if isinstance(answer, Unknown):
        return f"unknown: {answer.reason}"
    return "done" if granted(answer) else f"refused: {code_name(answer.code)}"


def _text(failure: row.Failure) -> str:
    """Two lines: what is missing where, and whose demand it is."""
    where = " ".join(f"{name}={value}" for name, value in failure.dimensions.items())
    since = datetime.fromtimestamp(failure.at_ms / 1000, UTC).astimezone()
    return (
        f"{failure.failure_id}  {code_name(failure.code)}: {pieces_text(failure.quantity)} of "
        f"{failure.organization_id} {failure.product_id} {where}\n"
        f"    order {failure.order_id or '(none)'}, transaction {failure.transaction_id}, "
        f"{failure.status} since {since:%Y-%m-%d %H:%M:%S}, tried {failure.tries} times"
    )


def _as_json(failure: row.Failure) -> dict[str, object]:
    fields = {name: getattr(failure, name) for name in msgspec.structs.asdict(failure)}
    del fields["format"]
    return {
        "outcome": code_name(failure.code),
        **fields,
        "quantity": pieces_text(failure.quantity),
    }
