"""`holdfast gateway`: the HTTP interface in the foreground."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

EXIT_USAGE = 2

_EXAMPLES = """
Examples:

  holdfast gateway --port 8080                     on the running stack, with development tokens

  holdfast gateway openapi > openapi.json          the document of its interface

  holdfast gateway --host 0.0.0.0 --tls-certificate chain.pem --tls-key key.pem
"""


app = typer.Typer(epilog=_EXAMPLES)


def register(above: typer.Typer) -> None:
    """Mount the command."""
    above.add_typer(app, name="gateway")


@app.command()
def openapi() -> None:
    """Print the OpenAPI document of this release's gateway."""
    import orjson  # noqa: PLC0415 - only here

    from producers.gateway.openapi import document  # noqa: PLC0415

    print(orjson.dumps(document(), option=orjson.OPT_INDENT_2).decode())


@app.callback(invoke_without_command=True)
def gateway(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="/metrics on loopback; 0: none.")] = None,
    environments: Annotated[
        str | None,
        typer.Option(help="Environment ids and answer styles: prod=compatible,new=honest."),
    ] = None,
    local_keys: Annotated[
        Path | None,
        typer.Option(help="Development identity provider's folder. Default: the stack's."),
    ] = None,
    tls_certificate: Annotated[str | None, typer.Option(help="PEM chain.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="PEM key.")] = None,
    bootstrap: Annotated[str | None, typer.Option("--bootstrap", help="Kafka addresses.")] = None,
    registry: Annotated[
        str | None, typer.Option("--registry", help="Schema registry's URL.")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option("--redis", help="Redis of the read view.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="console or json.")] = None,
) -> None:
    """Serve the HTTP interface until SIGTERM or Ctrl-C.

    Options not given are read from the environment (HOLDFAST_GATEWAY_…, HOLDFAST_TOKEN_…), and from
    the running stack's addresses. Without an identity provider in the environment, tokens of
    `holdfast token` are accepted.
    """
    if context.invoked_subcommand is not None:
        return
    from compose.settings import Settings as StackSettings  # noqa: PLC0415
    from holdfast import gateway_wiring  # noqa: PLC0415 - keeps --help free of Kafka
    from holdfast.connection import find_settings, in_words  # noqa: PLC0415
    from producers.gateway.server import serve  # noqa: PLC0415
    from producers.gateway.settings import GatewaySettings  # noqa: PLC0415
    from producers.logs import configure  # noqa: PLC0415

    given = {
        "host": host,
        "port": port,
        "metrics_port": metrics_port,
        "environments": environments,
        "local_keys": local_keys,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
        "log_format": log_format,
    }
    home = StackSettings.from_environment().home
    try:
        settings = GatewaySettings.from_environment(
            given, default_local_keys=gateway_wiring.local_keys_of(home)
        )
    except msgspec.ValidationError as error:
        typer.secho(f"settings: {error}", fg="red", err=True)
        raise typer.Exit(EXIT_USAGE) from error
    configure(settings.log_format)
    with in_words():
        queries = gateway_wiring.view_queries(redis_url)
        built = gateway_wiring.build(find_settings(bootstrap, registry), settings, queries)
        serve(built)
