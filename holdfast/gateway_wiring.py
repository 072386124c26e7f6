"""Puts a gateway together: where its rooms meet the processor's documents and view."""

from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from holdfast import configuration_topic as topic
from holdfast.commands.view import view_settings
from holdfast.connection import Stop
from holdfast.no_view import NoView
from processor.inventory.configuration import (
    Configuration,
    default,
    diff,
    errors,
    from_json,
    to_json,
    validate,
)
from processor.inventory.configuration.compare import refused
from processor.view.queries import RedisQueries
from producers.channel.client import connect_codec
from producers.gateway.ports import Applied, Refusal, Unavailable
from producers.gateway.settings import GatewaySettings
from producers.gateway.state import Gateway
from producers.gateway.v1.events import Events
from producers.gateway.v1.feed import Feed
from producers.gateway.writer import Writer
from producers.security.issuer import ISSUER, LocalIssuer
from producers.security.keys import remote_keys
from producers.security.verify import Verifier
from producers.settings import Settings
from schemas.codec import Codec
from schemas.codes import GRANTED
from schemas.queries import Queries

APPLY_WITHIN_S: Final = 15.0
log = structlog.get_logger()


class TopicConfigurations:
    """Configurations of the `configuration` topic, as `holdfast config` reads and applies them."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings = settings
        self._codec = codec

    def current(self) -> dict[str, Any]:
        """See `Configurations.current`."""
        members: dict[str, Any] = msgspec.json.decode(to_json(self._newest()))
        return members

    def apply(self, document: dict[str, Any], actor: str) -> Applied:
        """See `Configurations.apply`."""
        try:  # Nobody else's version can come between what is read now and what is written.
            applying = topic.Applying(self._settings, self._codec)
        except Stop as error:
            raise Unavailable(str(error)) from error
        before = self._newest()
        try:
            wanted = from_json(
                msgspec.json.encode({**document, "version": self._next_version(before)})
            )
        except msgspec.DecodeError as error:
            raise Refusal(str(error)) from error
        for problem in errors(validate(wanted)):
            raise Refusal(f"{problem.path}: {problem.rule}. {problem.remedy}")
        moved = before.partition != wanted.partition
        for change in refused(diff(before, wanted), may_move=True):
            raise Refusal(f"{change.path}: {change.verdict}: {change.reason}")
        try:
            if moved:  # Only where nothing is: all must say so before the first one switches.
                answered = _answers(applying.ask(wanted, actor))
                if len(answered) < applying.partitions:
                    raise Unavailable("some partitions do not answer")
            answered = _answers(applying.write(wanted, actor))
        except Stop as error:
            raise Unavailable(str(error)) from error
        return Applied(
            version=wanted.version, partitions=applying.partitions, in_force=len(answered)
        )

    def _next_version(self, before: Configuration) -> int:
        return before.version + 1 if topic.history(self._settings) else 1

    def _newest(self) -> Configuration:
        try:
            versions = topic.history(self._settings)
        except Stop as error:
            raise Unavailable(str(error)) from error
        if not versions:
            return default()
        newest = versions[-1].configuration
        if newest is None:
            raise Unavailable(f"version {versions[-1].version} was written by another release")
        return newest


def _answers(answers: topic.Answers) -> set[int]:
    """Partitions that accepted.

    Raises:
        Refusal: one of them does not.

    """
    try:
        found = answers.wait(APPLY_WITHIN_S)
    finally:
        answers.close()
    for partition, (code, words) in found.items():
        if code not in GRANTED:
            raise Refusal(
                f"partition {partition} keeps the old one: {words}. Another partition rule needs "
                "every partition to be empty, or `holdfast migrate`"
            )
    return set(found)


def view_queries(redis_url: str | None = None) -> Queries:
    """Way to the read view; where none is known, queries are answered 503 and writes go on."""
    try:
        return RedisQueries(view_settings(redis_url))
    except Stop as stop:
        log.warning("no read view: queries will not be answered", reason=str(stop))
        return NoView()


def build(settings: Settings, gateway: GatewaySettings, queries: Queries) -> Gateway:
    """Gateway of these settings; nothing is connected yet but what its ids and names need.

    Raises:
        RegistryError: the registry does not answer and no ids are remembered.
        Stop: the address of the keys is not safe, or the configuration cannot be read.

    """
    codec = connect_codec(settings)
    configurations = TopicConfigurations(settings, codec)
    try:
        issuer, verifier = _identity(gateway)
    except ValueError as error:
        raise Stop(f"HOLDFAST_TOKEN_JWKS_URL: {error}") from error
    channel = msgspec.structs.replace(
        settings, timeout_ms=gateway.answer_ms, in_flight_max=gateway.in_flight_max
    )
    try:
        document = configurations.current()
    except Unavailable as error:
        raise Stop(str(error)) from error
    built = Gateway(
        gateway,
        writer=Writer(channel, codec, in_flight_max=gateway.in_flight_max),
        queries=queries,
        configurations=configurations,
        document=document,
        verifier=verifier,
        issuer=issuer,
    )
    built.events = Events(Feed(channel, codec), built.metrics.registry)
    return built


def _identity(gateway: GatewaySettings) -> tuple[LocalIssuer | None, Verifier]:
    if gateway.local_keys is not None:
        log.warning(
            "development identity provider: who can read its folder can be anybody",
            folder=str(gateway.local_keys),
        )
        issuer = LocalIssuer(gateway.local_keys, audience=gateway.token_audience)
        keys, name = issuer.keys, ISSUER
    else:
        issuer, keys, name = None, remote_keys(gateway.jwks_url), gateway.token_issuer
    verifier = Verifier(
        keys,
        issuer=name,
        audience=gateway.token_audience,
        environment_claim=gateway.environment_claim,
    )
    return issuer, verifier


def local_keys_of(home: Path) -> Path:
    """Folder of the development identity provider in a stack's home."""
    return home / "identity"
