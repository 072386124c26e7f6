"""How a producer reaches the cluster: the only module of this room that reads the environment.

Read once, checked whole, passed down. An address in the environment wins over the one the caller
knows of (the saved addresses of a running stack).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta

IN_FLIGHT_LIMIT: Final = 50_000  # Below librdkafka's queue of 100,000 messages.

_VARIABLES: Final[Mapping[str, str]] = {
    "KAFKA_BOOTSTRAP_SERVERS": "bootstrap_servers",
    "SCHEMA_REGISTRY_URL": "registry_url",
    "KAFKA_SECURITY_PROTOCOL": "security_protocol",
    "KAFKA_SASL_MECHANISM": "sasl_mechanism",
    "KAFKA_SASL_USERNAME": "sasl_username",
    "KAFKA_SASL_PASSWORD": "sasl_password",
    "KAFKA_SSL_CAFILE": "ssl_cafile",
    "KAFKA_SSL_CERTFILE": "ssl_certfile",
    "KAFKA_SSL_KEYFILE": "ssl_keyfile",
    "KAFKA_SSL_KEY_PASSWORD": "ssl_key_password",
    "HOLDFAST_SCHEMA_CACHE": "schema_cache",
    "HOLDFAST_CHANNEL_TIMEOUT_MS": "timeout_ms",
    "HOLDFAST_CHANNEL_IN_FLIGHT_MAX": "in_flight_max",
    "HOLDFAST_CHANNEL_REPLY_TOPIC": "reply_topic",
}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a channel client. Secrets never appear in the representation.

    Attributes:
        bootstrap_servers: brokers, host:port, comma-separated.
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
        security_protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
        sasl_mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
        ssl_cafile: certificate authorities to trust; empty for the system's.
        ssl_certfile: own certificate (PEM), where the broker asks for one.
        ssl_keyfile: its key.
        ssl_key_password: of the key, where it has one.

    """

    bootstrap_servers: Annotated[str, Meta(min_length=1)]
    registry_url: Annotated[str, Meta(min_length=1)]
    schema_cache: Annotated[str, Meta(min_length=1)] = str(
        Path.home() / ".cache" / "holdfast" / "channel-schemas.json"
    )
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] = 10_000
    connect_timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] = 10_000
    in_flight_max: Annotated[int, Meta(ge=1, le=IN_FLIGHT_LIMIT)] = 1_000
    reply_topic: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,249}$")] = ""
    linger_ms: Annotated[int, Meta(ge=0, le=1_000)] = 1
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = ""
    ssl_cafile: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    ssl_key_password: str = ""

    def __repr__(self) -> str:
        return f"Settings({self.bootstrap_servers}, {self.registry_url}, {self.security_protocol})"

    @classmethod
    def from_environment(
        cls, known: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
    ) -> Self:
        """Settings from the environment, and for what it does not say from `known`.

        Raises:
            msgspec.ValidationError: a value is missing or out of range; the message names it.

        """
        found = os.environ if environment is None else environment
        told = {name: value for name, value in (known or {}).items() if value is not None}
        said = {field: found[name] for name, field in _VARIABLES.items() if found.get(name)}
        return msgspec.convert({**told, **said}, cls, strict=False)

    def librdkafka(self) -> dict[str, Any]:
        """Connection settings for confluent-kafka."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            settings["sasl.mechanism"] = self.sasl_mechanism
            settings["sasl.username"] = self.sasl_username
            settings["sasl.password"] = self.sasl_password
        if self.ssl_cafile:
            settings["ssl.ca.location"] = self.ssl_cafile
        if self.ssl_certfile:
            settings["ssl.certificate.location"] = self.ssl_certfile
            settings["ssl.key.location"] = self.ssl_keyfile
            settings["ssl.key.password"] = self.ssl_key_password
        return settings
