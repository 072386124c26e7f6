"""`holdfast token`: an access token of the local stack's development identity provider."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from compose.settings import Settings as StackSettings

if TYPE_CHECKING:
    from producers.security.issuer import LocalIssuer

LIFETIME_S = 12 * 3_600  # Of the token that `make run` prints: a working day.
LIFETIME_MAX_S = 30 * 24 * 3_600

_EXAMPLES = """
Examples:

  holdfast token                                   a token that may do everything

  holdfast token --scope reserve --scope read      one that may do less

  holdfast token --client                          id and secret for the two-step exchange
"""


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command("token", epilog=_EXAMPLES)(token)


def development_token() -> str:
    """An access token of the running stack's identity provider that may do everything."""
    from producers.gateway.settings import ENVIRONMENT_DEFAULT  # noqa: PLC0415
    from producers.security.caller import SCOPES  # noqa: PLC0415

    return _issuer(None).issue(
        "development",
        scopes=list(SCOPES),
        environments=[ENVIRONMENT_DEFAULT],
        lifetime_s=LIFETIME_S,
    )


def token(
    scope: Annotated[
        list[str] | None,
        typer.Option(help="reserve, onhand.write, read, admin. Repeatable; default: all."),
    ] = None,
    environment: Annotated[
        list[str] | None, typer.Option(help="Environment id. Repeatable; default: `default`.")
    ] = None,
    client_id: Annotated[str, typer.Option("--as", help="Client that it names.")] = "development",
    lifetime_s: Annotated[
        int, typer.Option("--lifetime", min=1, max=LIFETIME_MAX_S, help="Seconds.")
    ] = 3_600,
    client: Annotated[
        bool, typer.Option("--client", help="Print id and secret of the development client.")
    ] = False,
    keys: Annotated[
        Path | None, typer.Option(help="Folder of the identity provider. Default: the stack's.")
    ] = None,
) -> None:
    """Print a bearer token that the local gateway accepts. For development only."""
    from producers.gateway.settings import ENVIRONMENT_DEFAULT  # noqa: PLC0415 - keeps --help fast
    from producers.security.caller import SCOPES  # noqa: PLC0415

    scopes = scope or list(SCOPES)
    unknown = [name for name in scopes if name not in SCOPES]
    if unknown:
        typer.secho(f"no scope {unknown[0]}: there are {', '.join(SCOPES)}", fg="red", err=True)
        raise typer.Exit(2)
    issuer = _issuer(keys)
    if client:
        known, secret = issuer.development_client()
        print(f"client_id={known}\nclient_secret={secret}")
        return
    print(
        issuer.issue(
            client_id,
            scopes=scopes,
            environments=environment or [ENVIRONMENT_DEFAULT],
            lifetime_s=lifetime_s,
        )
    )


def _issuer(keys: Path | None) -> "LocalIssuer":
    """The development identity provider in this folder; None: the stack's."""
    from holdfast.gateway_wiring import local_keys_of  # noqa: PLC0415 - keeps --help fast
    from producers.gateway.settings import GatewaySettings  # noqa: PLC0415
    from producers.security.issuer import LocalIssuer  # noqa: PLC0415

    usual = local_keys_of(StackSettings.from_environment().home)
    try:
        settings = GatewaySettings.from_environment({"local_keys": keys}, default_local_keys=usual)
    except msgspec.ValidationError as error:
        typer.secho(f"settings: {error}", fg="red", err=True)
        raise typer.Exit(2) from error
    if settings.local_keys is None:
        typer.secho("Tokens come from the identity provider that is set.", fg="red", err=True)
        raise typer.Exit(2)
    return LocalIssuer(settings.local_keys, audience=settings.token_audience)
