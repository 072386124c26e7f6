"""How the people's commands reach a running stack, and what they say when they cannot.

Order of addresses: the command line, the environment, the saved addresses of this checkout's
running stack.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec
import typer
from confluent_kafka.admin import AdminClient

from compose.settings import Settings as StackSettings
from compose.stack import Stack
from producers.channel import ChannelClient, ChannelError
from producers.channel.client import connect_codec
from producers.listen import NotListening
from producers.quantity import QuantityError
from producers.settings import Settings
from schemas.cluster import ClusterError
from schemas.codec import Codec
from schemas.registry import RegistryError
from schemas.topics import APP_ID

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_UNKNOWN = 3

_NONE: Final = "none"
HOW_TO_START = (
    "Start one with `make run` (servers and a worker), or name another with --bootstrap and "
    "--registry, or KAFKA_BOOTSTRAP_SERVERS and SCHEMA_REGISTRY_URL."
)


class Stop(Exception):
    """The command cannot go on; the text says why and what to do."""


def find_settings(
    bootstrap: str | None = None,
    registry: str | None = None,
    timeout_s: float | None = None,
    *,
    needs: Literal["both", "broker", "registry"] = "both",
) -> Settings:
    """Settings for the stack that is meant; of what a command does not need, none need be known.

    Raises:
        Stop: no stack is running here and none is named, or the environment says what cannot be.

    """
    home = StackSettings.from_environment().home
    saved = Stack.addresses(home)
    known = {"bootstrap_servers": saved.kafka_bootstrap, "registry_url": saved.registry_url}
    if needs == "registry":
        known["bootstrap_servers"] = known["bootstrap_servers"] or _NONE
    if needs == "broker":
        known["registry_url"] = known["registry_url"] or _NONE
    given = {
        "bootstrap_servers": bootstrap,
        "registry_url": registry,
        "timeout_ms": None if timeout_s is None else int(timeout_s * 1000),
    }
    try:
        return Settings.from_environment(known, given=given)
    except msgspec.ValidationError as error:
        raise not_known(home, error) from error


def not_known(home: Path, error: msgspec.ValidationError) -> Stop:
    """What to say of settings that cannot be used: nothing is known, or what is known is wrong."""
    if "missing required field" in str(error):
        return Stop(f"No stack is running in {home} ({error}).\n{HOW_TO_START}")
    return Stop(f"settings: {error}")


def connect(settings: Settings) -> tuple[ChannelClient, Codec]:
    """Channel client of the stack, under the channel name `console`.

    Raises:
        Stop: broker, topics or registry are not there.

    """
    try:
        codec = connect_codec(settings)
        return ChannelClient(settings, channel="console", codec=codec), codec
    except (ChannelError, RegistryError) as error:
        raise Stop(f"{error}\n{HOW_TO_START}") from error


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Say what went wrong in words, on stderr, with exit code 2; no traceback for people."""
    try:
        yield
    except (Stop, ChannelError, ClusterError, NotListening, RegistryError, QuantityError) as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(EXIT_USAGE) from error


def workers_seen(settings: Settings) -> int | None:
    """How many workers are members of the group now; None when the broker does not say."""
    admin = AdminClient(settings.librdkafka())
    try:
        described = admin.describe_consumer_groups([APP_ID], request_timeout=5.0)[APP_ID].result()
    except Exception:  # noqa: BLE001 - a hint for people: any failure means "not known"
        return None
    return len(described.members)


def why_no_answer(settings: Settings, request_id: str) -> str:
    """What to do about an answer that did not come."""
    count = workers_seen(settings)
    if count is None:
        state = "Its workers cannot be looked up: is the broker away (`holdfast stack status`)?"
    elif count == 0:
        state = "No worker is running: start one with `holdfast worker` (or `make run`)."
    else:
        state = f"{count} worker(s) are in the group: read their log; they may be catching up."
    return (
        f"{state}\nThe request may have been decided: see `holdfast answer {request_id}`. Asking "
        f"again with `--id {request_id}` is safe: it is decided once."
    )
