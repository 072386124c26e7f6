"""`holdfast view`: the read view: run it, rebuild it, ask it.

Exit codes: 0 done, 1 nothing was found, 2 it could not be asked, 3 the view cannot answer now.
"""

import asyncio
import json
import signal
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer

from compose.settings import Settings as StackSettings
from compose.stack import Stack
from holdfast.connection import EXIT_REFUSED, EXIT_UNKNOWN, Stop, find_settings, in_words
from processor.view.settings import ViewSettings
from producers.logs import configure
from producers.quantity import pieces_text
from schemas.queries import HoldQuery, HoldView, OnHandQuery, Queries, QueryInvalid, ViewUnavailable

if TYPE_CHECKING:
    from processor.view.follower import Follower

app = typer.Typer(no_args_is_help=True, help="Read view in Redis: run, rebuild, ask.")

Answer = TypeVar("Answer")

AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, quantities as text.")]
Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka, host:port.")]
RedisUrl = Annotated[str | None, typer.Option("--redis", help="redis:// or rediss:// URL.")]
Organization = Annotated[str, typer.Option("--org", help="Organization.")]
LogFormat = Annotated[str | None, typer.Option(help="console or json.")]

_QUANTITIES = frozenset({"quantity", "original_quantity", "available", "invalid_quantity"})

_RUN = """
Examples:

  holdfast view run                                 the running stack of this checkout

  REDIS_URL=rediss://cache:6380/0 holdfast view run --bootstrap kafka:9092 --http-port 8091
"""
_ASK = """
Examples:

  holdfast view onhand D0002 --org usmf --by colorid --by sizeid

  holdfast view holds --org usmf --product D0002 --limit 20

  holdfast view decision my-request-1
"""


def view_settings(
    redis_url: str | None = None, http_port: int | None = None, log_format: str | None = None
) -> ViewSettings:
    """Settings of the view that is meant: the option, the environment, the running stack.

    Raises:
        Stop: no Redis is named and no stack is running here.

    """
    home = StackSettings.from_environment().home
    known = {"redis_url": Stack.addresses(home).redis_url}
    given = {"redis_url": redis_url, "http_port": http_port, "log_format": log_format}
    try:
        return ViewSettings.from_environment(known, given=given)
    except msgspec.ValidationError as error:
        if "missing required field" not in str(error):
            raise Stop(f"settings: {error}") from error
        raise Stop(
            f"No Redis is known ({error}): start a stack with `make run`, or give --redis."
        ) from error


def _follower(bootstrap: str | None, settings: ViewSettings) -> "Follower":
    """Follower of the changelog that is meant: the option, the environment, the running stack.

    Raises:
        Stop: no broker is named and no stack is running here.

    """
    from processor.view.follower import Follower  # noqa: PLC0415 - Redis's client is not small

    return Follower(settings, find_settings(bootstrap, needs="broker").librdkafka())


@app.command("run", epilog=_RUN)
def run(
    bootstrap: Bootstrap = None,
    redis_url: RedisUrl = None,
    http_port: Annotated[
        int | None, typer.Option(help="/live, /ready and /metrics on loopback; 0: none.")
    ] = None,
    log_format: LogFormat = None,
) -> None:
    """Keep Redis in step with the decisions until SIGTERM or Ctrl-C; builds what is missing."""
    from processor.probes import NotListening, serve_probes  # noqa: PLC0415
    from processor.view.changelog import ChangelogMissing  # noqa: PLC0415

    with in_words():
        settings = view_settings(redis_url, http_port, log_format)
        configure(settings.log_format)
        follower = _follower(bootstrap, settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: follower.stop())
        try:
            if settings.http_port:
                serve_probes(settings.http_port, lambda: follower.is_following)
            follower.run()
        except (ChangelogMissing, NotListening) as error:
            raise Stop(str(error)) from error


@app.command("rebuild")
def rebuild(
    bootstrap: Bootstrap = None, redis_url: RedisUrl = None, log_format: LogFormat = None
) -> None:
    """Build the view anew beside the one that is served, then serve it. Questions go on."""
    from processor.view.applier import Superseded  # noqa: PLC0415
    from processor.view.changelog import ChangelogMissing  # noqa: PLC0415
    from processor.view.follower import Stopped, Unreadable  # noqa: PLC0415

    with in_words():
        settings = view_settings(redis_url, log_format=log_format)
        configure(settings.log_format)
        follower = _follower(bootstrap, settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: follower.stop())
        try:
            name = follower.rebuild()
        except Stopped:
            raise typer.Exit(EXIT_REFUSED) from None
        except (ChangelogMissing, Superseded, Unreadable) as error:
            raise Stop(f"not rebuilt: {error}") from error
    print(f"generation {name} is served")


@app.command("status")
def status(redis_url: RedisUrl = None, as_json: AsJson = False) -> None:
    """Tell which generation is served, and how far it is behind."""
    health = _ask(redis_url, lambda queries: queries.health())
    if as_json:
        print(json.dumps(msgspec.to_builtins(health)))
    else:
        print(
            f"{health.state}: generation {health.generation or 'none'}, {health.partitions} "
            f"partitions, {health.lag_records} records behind ({health.lag_ms} ms)"
        )
    if health.state != "following":
        raise typer.Exit(EXIT_UNKNOWN)


@app.command("onhand", epilog=_ASK)
def onhand(
    products: Annotated[list[str], typer.Argument(help="Products.")],
    organization: Organization,
    by: Annotated[list[str] | None, typer.Option(help="Group by a dimension.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="dimension=value; repeat for more values.")
    ] = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Quantities on hand and calculated measures of products."""
    query = OnHandQuery(
        organization_ids=(organization,),
        product_ids=tuple(products),
        filters={name: tuple(values) for name, values in _pairs(where).items()},
        group_by=tuple(by or ()),
    )
    page = _ask(redis_url, lambda queries: queries.on_hand(query))
    for row in page.rows:
        quantities = {
            f"{source}.{name}": pieces_text(quantity)
            for source, measures in sorted(row.quantities.items())
            for name, quantity in sorted(measures.items())
        }
        if as_json:
            print(
                json.dumps(
                    {
                        "organization_id": row.organization_id,
                        "product_id": row.product_id,
                        "dimensions": row.dimensions,
                        "quantities": quantities,
                    }
                )
            )
            continue
        print(" ".join([row.product_id, *(f"{k}={v}" for k, v in row.dimensions.items())]))
        for name, quantity in quantities.items():
            print(f"  {quantity:>14}  {name}")
    if not page.rows:
        raise typer.Exit(EXIT_REFUSED)


@app.command("holds", epilog=_ASK)
def holds(
    organization: Organization = "",
    product: Annotated[str, typer.Option(help="Product; needs --org.")] = "",
    order: Annotated[str, typer.Option(help="Order.")] = "",
    channel: Annotated[str, typer.Option(help="Channel.")] = "",
    reservation: Annotated[str, typer.Option(help="Reservation id.")] = "",
    where: Annotated[list[str] | None, typer.Option(help="dimension=value.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Holds a page.")] = 100,
    cursor: Annotated[str, typer.Option(help="Of the page before.")] = "",
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """List holds, oldest first; the last line says how to go on, where there are more.

    With --json it is {"cursor": …}, behind the holds. Exit code 1 if there are none.
    """
    query = HoldQuery(
        organization_id=organization,
        product_id=product,
        order_id=order,
        channel=channel,
        reservation_id=reservation,
        dimensions={name: values[-1] for name, values in _pairs(where).items()},
        limit=limit,
        cursor=cursor,
    )
    page = _ask(redis_url, lambda queries: queries.holds(query))
    for hold in page.holds:
        print(json.dumps(_plain(hold)) if as_json else _hold_text(hold))
    if page.cursor:
        print(json.dumps({"cursor": page.cursor}) if as_json else f"more: --cursor {page.cursor}")
    elif not page.holds:
        raise typer.Exit(EXIT_REFUSED)


@app.command("hold")
def hold(hold_id: str, redis_url: RedisUrl = None) -> None:
    """One hold, as JSON."""
    _tell(_ask(redis_url, lambda queries: queries.hold(hold_id)))


@app.command("decision", epilog=_ASK)
def decision(request_id: str, redis_url: RedisUrl = None) -> None:
    """What a request id, or the event id of an on-hand change, was answered, as JSON."""
    _tell(_ask(redis_url, lambda queries: queries.decision(request_id)))


def _ask(
    redis_url: str | None, question: Callable[[Queries], Coroutine[Any, Any, Answer]]
) -> Answer:
    from processor.view.queries import RedisQueries  # noqa: PLC0415

    async def ask(settings: ViewSettings) -> Answer:
        queries = RedisQueries(settings)
        try:
            return await question(queries)
        finally:
            await queries.close()

    with in_words():
        try:
            return asyncio.run(ask(view_settings(redis_url)))
        except QueryInvalid as error:
            raise Stop(str(error)) from error
        except ViewUnavailable as error:
            typer.secho(str(error), fg="red", err=True)
            raise typer.Exit(EXIT_UNKNOWN) from error


def _pairs(where: list[str] | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in where or ():
        name, equals, value = text.partition("=")
        if not equals:
            typer.secho(f"--where {text}: dimension=value", fg="red", err=True)
            raise typer.Exit(2)
        found.setdefault(name, []).append(value)
    return found


def _tell(found: Any) -> None:
    if found is None:
        typer.secho("not there", fg="red", err=True)
        raise typer.Exit(EXIT_REFUSED)
    print(json.dumps(_plain(found)))


def _plain(found: Any) -> Any:
    """Structs as JSON members, quantities in pieces as text."""
    if isinstance(found, list):
        return [_plain(one) for one in found]
    if not isinstance(found, msgspec.Struct):
        return found
    told = {name: getattr(found, name) for name in found.__struct_fields__}
    return {
        name: pieces_text(value) if name in _QUANTITIES else _plain(value)
        for name, value in told.items()
    }


def _hold_text(hold: HoldView) -> str:
    values = ",".join(hold.dimensions.values())
    order = f" order {hold.order_id}" if hold.order_id else ""
    channel = f" channel {hold.channel}" if hold.channel else ""
    quantity = pieces_text(hold.quantity)
    return f"{hold.hold_id}  {quantity:>8}  {hold.product_id} [{values}]{order}{channel}"
