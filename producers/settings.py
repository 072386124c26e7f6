"""How a producer reaches the cluster: the only module of this room that reads the environment.

Read once, checked whole, passed down. An address in the environment wins over the one the caller
knows of (the saved addresses of a running stack).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta

from schemas.settings import KAFKA_VARIABLES, KafkaAccess, said, told

IN_FLIGHT_LIMIT: Final = 50_000  # Below librdkafka's queue of 100,000 messages.

_VARIABLES: Final[Mapping[str, str]] = {
    **KAFKA_VARIABLES,
    "SCHEMA_REGISTRY_URL": "registry_url",
    "HOLDFAST_SCHEMA_CACHE": "schema_cache",
    "HOLDFAST_CHANNEL_TIMEOUT_MS": "timeout_ms",
    "HOLDFAST_CHANNEL_IN_FLIGHT_MAX": "in_flight_max",
    "HOLDFAST_CHANNEL_REPLY_TOPIC": "reply_topic",
}


class Settings(KafkaAccess, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a channel client. Secrets never appear in the representation.

    Attributes:
        registry_url: schema registry, its Confluent REST contract.
        schema_cache: file in which schema ids are remembered, so that a registry that is down
            stops nobody.
        timeout_ms: how long an answer is waited for before the outcome is called unknown.
        connect_timeout_ms: how long the cluster may take to answer the first question.
        in_flight_max: requests sent and not yet answered; the next one waits.
        reply_topic: topic of the client's own to which its results are copied; empty: it reads
            reservation-results, which has everybody's. The workers must allow it
            (HOLDFAST_REPLY_TOPICS), else no answer comes.
        linger_ms: how long a request may wait for company in a batch.

    """

    registry_url: Annotated[str, Meta(min_length=1)]
    schema_cache: Annotated[str, Meta(min_length=1)] = str(
        Path.home() / ".cache" / "holdfast" / "channel-schemas.json"
    )
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] = 10_000
    connect_timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] = 10_000
    in_flight_max: Annotated[int, Meta(ge=1, le=IN_FLIGHT_LIMIT)] = 1_000
    reply_topic: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,249}$")] = ""
    linger_ms: Annotated[int, Meta(ge=0, le=1_000)] = 1

    def __repr__(self) -> str:
        registry = self.registry_url.rpartition("@")[2]  # It may hold a user and a password.
        return f"Settings({self.bootstrap_servers}, {registry}, {self.security_protocol})"

    @classmethod
    def from_environment(
        cls,
        known: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        given: Mapping[str, Any] | None = None,
    ) -> Self:
        """Settings from the environment, for what it does not say from `known`; `given` wins.

        Raises:
            msgspec.ValidationError: a value is missing or out of range; the message names it.

        """
        values = {**told(known), **said(_VARIABLES, environment), **told(given)}
        return msgspec.convert(values, cls, strict=False)
