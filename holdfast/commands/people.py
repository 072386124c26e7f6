"""What a person at a console asks of a running stack: reserve, give back, change stock, watch.

Every command goes through the topics like any channel. Exit codes: 0 granted, 1 refused (an answer,
not an error), 2 it could not be asked, 3 no answer came, so the outcome is not known.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Annotated, Any

import orjson
import typer

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
    Registry,
    about_an_item,
    dimension_values,
)
from holdfast.present import (
    answer_json,
    answer_lines,
    availability_lines,
    record_json,
    record_text,
)
from producers.channel import ChannelClient, Item, Unknown, granted
from producers.channel.client import connect_codec
from producers.channel.follow import FROM_THE_START, Follower, find_answer
from producers.channel.outcomes import Answer, EventAnswer
from producers.settings import Settings
from schemas import topics
from schemas.codes import Code
from schemas.messages import InventoryEvent

SETTLED = frozenset({Code.APPLIED, Code.OFFSET_APPLIED, Code.OFFSET_PARTIAL, Code.DUPLICATE})
WATCHED = {"results": topics.RESULTS, "events": topics.EVENTS, "dead-letters": topics.DEAD_LETTERS}

Pieces = Annotated[str, typer.Argument(help="Quantity, up to six decimals.")]
HoldId = Annotated[str, typer.Argument(help="Hold id, as `reserve` answered it.")]
Order = Annotated[str, typer.Option("--order", help="Order id, kept with the hold.")]
RequestId = Annotated[
    str, typer.Option("--id", help="Request id: repeat it to get the same answer. Default: new.")
]
ExpiresIn = Annotated[
    str | None, typer.Option("--expires-in", help="Ends by itself after this: 90s, 15m, 2h, 1d.")
]

UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION_MS_LIMIT = 2**63  # A record has 64 bits for it.


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    for command, examples in _COMMANDS.items():
        app.command(epilog=_epilog(examples), rich_help_panel="Asking a running stack")(command)


def _epilog(examples: str) -> str:
    """Examples one a line: typer joins single line breaks."""
    return "Examples:\n\n" + "\n\n".join(examples.strip().splitlines())


def _duration_ms(text: str | None) -> int | None:
    """Milliseconds of `90s`, `15m`, `2h`, `1d`.

    Raises:
        Stop: it is none, or more than a record can say.

    """
    if text is None:
        return None
    number = text.rstrip("mshd")
    with contextlib.suppress(ValueError, KeyError):
        duration_ms = float(number) * UNITS_S[text[len(number) :] or "s"] * 1000
        if abs(duration_ms) < DURATION_MS_LIMIT:  # Neither infinity nor NaN is.
            return int(duration_ms)
    raise Stop(f"{text!r} is not a duration: write 90s, 15m, 2h or 1d")


def _ask(question: Callable[[ChannelClient], Answer | EventAnswer], stack: Asked) -> None:
    """Ask once, show the outcome, end with its exit code."""
    with in_words():
        settings = find_settings(stack.bootstrap, stack.registry, stack.timeout)
        client, _ = connect(settings)
        try:
            answer = question(client)
        finally:
            client.close(0)
    if stack.as_json:
        print(orjson.dumps(answer_json(answer)).decode())
    else:
        print("\n".join(answer_lines(answer)))
    _end_if_unknown(answer, settings)
    fine = answer.code in SETTLED if isinstance(answer, InventoryEvent) else granted(answer)
    if not fine:
        raise typer.Exit(EXIT_REFUSED)


@about_an_item
def reserve(
    item: Item,
    stack: Asked,
    quantity: Pieces,
    order: Order = "",
    request_id: RequestId = "",
    expires_in: ExpiresIn = None,
    minimum: Annotated[
        str | None, typer.Option("--at-least", help="Take less, but not less than this.")
    ] = None,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not ask whether it is available.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Decide and answer, change nothing.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the terms of the availability.")
    ] = False,
) -> None:
    """Hold a quantity of a product somewhere.

    A refusal is an answer (exit code 1) and says why.
    """
    with in_words():
        rare: dict[str, Any] = {"order_id": order, "expires_in_ms": _duration_ms(expires_in)}
        rare |= {"dry_run": dry_run, "explain": explain, "check_availability": not no_check}
        rare |= {} if minimum is None else {"minimum_quantity": minimum}
    _ask(
        lambda client: client.reserve(item, quantity, request_id=request_id, **rare),
        stack,
    )


@about_an_item
def unreserve(
    item: Item,
    stack: Asked,
    quantity: Pieces,
    reservation: Annotated[str, typer.Option("--reservation", help="Reservation id.")],
    order: Order = "",
    request_id: RequestId = "",
) -> None:
    """Give back by reservation id, oldest hold first.

    Product and dimensions must be those of the reservation. What was asked back beyond what is
    reserved is reported.
    """
    _ask(
        lambda client: client.unreserve(
            item, quantity, reservation, order_id=order, request_id=request_id
        ),
        stack,
    )


@about_an_item
def release(
    item: Item,
    stack: Asked,
    hold: HoldId,
    quantity: Annotated[str, typer.Option("--quantity", help="0: all that is left.")] = "0",
    request_id: RequestId = "",
) -> None:
    """Give back exactly one hold, or a part of it."""
    _ask(lambda client: client.release(item, hold, quantity, request_id=request_id), stack)


@about_an_item
def extend(
    item: Item,
    stack: Asked,
    hold: HoldId,
    expires_in: Annotated[str, typer.Option("--expires-in", help="From now on: 90s, 15m, 2h, 1d.")],
    request_id: RequestId = "",
) -> None:
    """Give one hold another expiry, earlier or later.

    Within the grace an expired hold comes back, if its stock is still there.
    """
    with in_words():
        expires_in_ms = _duration_ms(expires_in)
    _ask(
        lambda client: client.extend(
            item, hold, expires_in_ms=expires_in_ms, request_id=request_id
        ),
        stack,
    )


@about_an_item
def confirm(item: Item, stack: Asked, hold: HoldId, request_id: RequestId = "") -> None:
    """Make one hold stay until it is released or offset.

    Within the grace an expired hold comes back, if its stock is still there.
    """
    _ask(lambda client: client.confirm(item, hold, request_id=request_id), stack)


@about_an_item
def amend(
    item: Item, stack: Asked, hold: HoldId, quantity: Pieces, request_id: RequestId = ""
) -> None:
    """Give one hold another quantity, without a gap: more only if it fits."""
    _ask(lambda client: client.amend(item, hold, quantity, request_id=request_id), stack)


@about_an_item
def transfer(
    item: Item,
    stack: Asked,
    hold: HoldId,
    to: Annotated[
        list[str], typer.Option("--to", help="name=value, for example colorid=blue. Repeatable.")
    ],
    quantity: Annotated[
        str, typer.Option("--quantity", help="Of the moved hold. 0: as before.")
    ] = "0",
    request_id: RequestId = "",
) -> None:
    """Move one hold to other dimension values, in one step; it gets a new hold id.

    What --to does not name stays as it is. What decides the partition, by default site and
    warehouse, cannot change: reserve at the new place first, then release at the old one.
    """
    with in_words():
        target = {**item.dimensions, **dimension_values({}, to)}
    _ask(lambda client: client.transfer(item, hold, target, quantity, request_id=request_id), stack)


@about_an_item
def onhand(
    item: Item,
    stack: Asked,
    quantity: Annotated[
        str | None, typer.Argument(help="Change of the measure; left out: only look.")
    ] = None,
    measure: Annotated[
        str, typer.Option("--measure", help="source.measure, for example pos.inbound.")
    ] = "fno.physicalinvent",
    count: Annotated[
        bool, typer.Option("--set", help="The quantity was counted: it replaces the measure.")
    ] = False,
    source: Annotated[
        str, typer.Option("--source", help="Who tells; only the ERP may change fno.")
    ] = "fno",
    request_id: RequestId = "",
) -> None:
    """Change stock by a quantity, or show what can be promised and why.

    Without a quantity nothing changes: availability is asked by a dry run, so it is what a
    reservation would really be granted.
    """
    if quantity is None:
        _look(item, stack)
        return
    _ask(
        lambda client: client.on_hand(
            item,
            {measure: quantity},
            source=source,
            mode="SET" if count else "ADD",
            modified_at_ms=int(time.time() * 1000) if count else None,
            event_id=request_id,
        ),
        stack,
    )


def _look(item: Item, stack: Asked) -> None:
    """Show what can be promised; the dry run behind it is refused by nature."""
    with in_words():
        settings = find_settings(stack.bootstrap, stack.registry, stack.timeout)
        client, _ = connect(settings)
        try:
            seen = client.availability(item)
        finally:
            client.close(0)
    if stack.as_json:
        print(orjson.dumps(answer_json(seen)).decode())
    else:
        print("\n".join(availability_lines(seen)))
    _end_if_unknown(seen, settings)
    if not isinstance(seen, Unknown) and seen.code != Code.INSUFFICIENT_STOCK:
        raise typer.Exit(EXIT_REFUSED)


def _end_if_unknown(answer: Answer | EventAnswer, settings: Settings) -> None:
    if isinstance(answer, Unknown):
        typer.secho(why_no_answer(settings, answer.request_id), fg="yellow", err=True)
        raise typer.Exit(EXIT_UNKNOWN)


def answer(
    request_id: Annotated[str, typer.Argument(help="Request id, or the id of an event.")],
    since: Annotated[
        str | None, typer.Option("--since", help="Read back this far: 15m, 2h, 1d. Default: all.")
    ] = None,
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    registry: Registry = None,
) -> None:
    """Show what a request was answered, by reading the topics; asks nothing."""
    with in_words():
        settings = find_settings(bootstrap, registry)
        back_ms = _duration_ms(since)
        since_ms = FROM_THE_START if back_ms is None else int(time.time() * 1000) - back_ms
        found = find_answer(settings, connect_codec(settings), request_id, since_ms=since_ms)
    if found is None:
        typer.secho(f"no answer to {request_id} so far", fg="yellow", err=True)
        raise typer.Exit(EXIT_UNKNOWN)
    print(orjson.dumps(record_json(found)).decode() if as_json else record_text(found))


def watch(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="results, events or dead-letters. Repeatable. Default: all."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Begin this far back: 15m, 2h, 1d. Default: now.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", help="End after so many.")] = None,
    as_json: AsJson = False,
    bootstrap: Bootstrap = None,
    registry: Registry = None,
) -> None:
    """Follow what is decided, as it is committed, until Ctrl-C."""
    with in_words():
        unknown = [name for name in only or [] if name not in WATCHED]
        if unknown:
            raise Stop(f"--only {unknown[0]}: one of {', '.join(WATCHED)}")
        followed = [WATCHED[name] for name in only or WATCHED]
        settings = find_settings(bootstrap, registry)
        back_ms = _duration_ms(since)
        since_ms = None if back_ms is None else int(time.time() * 1000) - back_ms
        with Follower(settings, connect_codec(settings), followed, since_ms=since_ms) as follower:
            typer.secho(f"following {', '.join(followed)}; Ctrl-C ends", fg="cyan", err=True)
            _show(follower, count, as_json=as_json)


def _show(follower: Follower, count: int | None, *, as_json: bool) -> None:
    left = count
    try:
        while left is None or left > 0:
            for record in follower.read(0.2)[:left]:
                said = orjson.dumps(record_json(record)).decode() if as_json else None
                print(said or record_text(record), flush=True)
                left = left if left is None else left - 1
    except KeyboardInterrupt:
        return


_PLACE = "--org usmf --site 1 --warehouse 11 --color red --size small"
_RESERVATION = "4f29b4a7530beb14b6de6f22"
_HOLD = f"{_RESERVATION}-512"
_COMMANDS: dict[Callable[..., None], str] = {
    reserve: f"""
holdfast reserve D0002 1 {_PLACE} --order SO-1
holdfast reserve D0002 5 {_PLACE} --expires-in 15m --at-least 2
holdfast reserve {_PLACE} --no-check -- D0002 -1
""",
    unreserve: f"""
holdfast unreserve D0002 1 --reservation {_RESERVATION} {_PLACE}
""",
    release: f"""
holdfast release D0002 {_HOLD} {_PLACE}
""",
    extend: f"""
holdfast extend D0002 {_HOLD} --expires-in 2h {_PLACE}
""",
    confirm: f"""
holdfast confirm D0002 {_HOLD} {_PLACE}
""",
    amend: f"""
holdfast amend D0002 {_HOLD} 3.5 {_PLACE}
""",
    transfer: f"""
holdfast transfer D0002 {_HOLD} --to colorid=blue {_PLACE}
holdfast transfer D0002 {_HOLD} --to sizeid=large --quantity 2 {_PLACE} --json
""",
    onhand: f"""
holdfast onhand D0002 10 {_PLACE}
holdfast onhand D0002 3 {_PLACE} --set --measure pos.inbound --source pos
holdfast onhand {_PLACE} -- D0002 -2
holdfast onhand D0002 {_PLACE}
""",
    answer: """
holdfast answer 0199b0c4-6c1f-7000-8000-000000000000 --since 1h
""",
    watch: """
holdfast watch
holdfast watch --only events --since 15m --json
""",
}
