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
from holdfast.options import (
    AsJson,
    Asked,
    Bootstrap,
    Choice,
    OfOrder,
    OfProduct,
    Registry,
    about_failures,
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

Actor = Annotated[str, typer.Option("--actor", help="Who decides this; kept with the request.")]


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
            values = rules.stock_values(failure.dimensions)
            yield Entry(
                failure, rules.record_key(failure.organization_id, failure.product_id, values)
            )


@app.command(
    epilog="Examples:\n\n  holdfast offsets failed\n\n  holdfast offsets failed --order SO-1 --json"
)
def failed(
    order: OfOrder = "",
    product: OfProduct = "",
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    registry: Registry = None,
) -> None:
    """List the offsets that found nothing, or not all of it, to take over; oldest first."""
    with in_words():
        settings = find_settings(bootstrap, registry, needs="broker")
        found = _chosen(settings, Choice([], order=order, product=product))
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
@about_failures
def retry(choice: Choice, *, stack: Asked, actor: Actor = "") -> None:
    """Try failed offsets again, as the ERP told them."""
    _ask_each("RETRY_OFFSET", choice, stack, actor)


@app.command(
    epilog="Examples:\n\n  holdfast offsets dismiss 3f9c0a --actor anna\n\n"
    "  holdfast offsets dismiss --all --product D0002"
)
@about_failures
def dismiss(choice: Choice, *, stack: Asked, actor: Actor = "") -> None:
    """Take entries off the list; stock and holds stay as they are."""
    _ask_each("DISMISS_OFFSET", choice, stack, actor)


def _is_wanted(key: bytes) -> bool:
    return key[:1] == FAILURE_KIND or key == row.CONFIGURATION_KEY


def _named(settings: Settings, choice: Choice) -> list[Entry]:
    """The entries that the words of a command mean; Stop when they mean none."""
    if bool(choice.failure_ids) == choice.everything:
        raise Stop("Name failure ids, or say --all: `holdfast offsets failed` lists them.")
    found = _chosen(settings, choice)
    missing = set(choice.failure_ids) - {entry.failure.failure_id for entry in found}
    if missing:
        raise Stop(
            f"Not in the list: {', '.join(sorted(missing))}. A later status may have resolved it: "
            "see `holdfast offsets failed`."
        )
    return found


def _chosen(settings: Settings, choice: Choice) -> list[Entry]:
    found = [
        entry
        for entry in entries(settings)
        if (not choice.failure_ids or entry.failure.failure_id in choice.failure_ids)
        and (not choice.order or entry.failure.order_id == choice.order)
        and (not choice.product or entry.failure.product_id == choice.product)
    ]
    return sorted(found, key=lambda entry: entry.failure.at_ms)


def _ask_each(action: str, choice: Choice, stack: Asked, actor: str) -> None:
    """Ask for all, show each answer; the worst of them is the exit code."""
    with in_words():
        settings = find_settings(stack.bootstrap, stack.registry, stack.timeout)
        found = _named(settings, choice)
        client, _ = connect(settings)
        try:
            answers = _answers(client, action, found, actor)
        finally:
            client.close(0)
    exit_code = 0
    for entry, answer in zip(found, answers, strict=True):
        failure_id = entry.failure.failure_id
        if stack.as_json:
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
