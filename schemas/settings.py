"""What every settings module says alike: how the environment is read, and how Kafka is reached.

The rule: a variable that is set to nothing is not set; a message about a wrong value names it and
never quotes a secret.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
LogFormat = Literal["console", "json"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

KAFKA_VARIABLES: Final[Mapping[str, str]] = {
    "KAFKA_BOOTSTRAP_SERVERS": "bootstrap_servers",
    "KAFKA_SECURITY_PROTOCOL": "security_protocol",
    "KAFKA_SASL_MECHANISM": "sasl_mechanism",
    "KAFKA_SASL_USERNAME": "sasl_username",
    "KAFKA_SASL_PASSWORD": "sasl_password",
    "KAFKA_SSL_CAFILE": "ssl_cafile",
    "KAFKA_SSL_CERTFILE": "ssl_certfile",
    "KAFKA_SSL_KEYFILE": "ssl_keyfile",
    "KAFKA_SSL_KEY_PASSWORD": "ssl_key_password",
}


def said(
    variables: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Fields and the text that the environment has for them; `variables` maps name to field."""
    found = os.environ if environment is None else environment
    return {field: found[name] for name, field in variables.items() if found.get(name)}


def told(values: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a caller gave: an option that was not used is None, and says nothing."""
    return {name: value for name, value in (values or {}).items() if value is not None}


class KafkaAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the cluster. Secrets never appear in the representation.

    Attributes:
        bootstrap_servers: brokers, host:port, comma-separated.
        security_protocol: whether there is TLS (SSL) and a user's name and password (SASL).
        sasl_mechanism: how the password is proved.
        ssl_cafile: certificate authorities to trust (PEM); empty for the system's.
        ssl_certfile: own certificate (PEM), where the broker asks for one.
        ssl_keyfile: its key; empty where it is in the certificate's file.
        ssl_key_password: of the key, where it has one.

    """

    bootstrap_servers: Annotated[str, Meta(min_length=1)]
    security_protocol: Protocol = "PLAINTEXT"
    sasl_mechanism: Mechanism = "PLAIN"
    sasl_username: str = ""
    sasl_password: str = ""
    ssl_cafile: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    ssl_key_password: str = ""

    def __post_init__(self) -> None:
        """What no single field can say, so that no client fails on it later.

        Raises:
            ValueError: a file is not there, or SASL has no user; the message names the variable.

        """
        for variable, path in (
            ("KAFKA_SSL_CAFILE", self.ssl_cafile),
            ("KAFKA_SSL_CERTFILE", self.ssl_certfile),
            ("KAFKA_SSL_KEYFILE", self.ssl_keyfile),
        ):
            if path and not Path(path).is_file():
                raise ValueError(f"{variable}: there is no file {path}")
        if self.sasl and not (self.sasl_username and self.sasl_password):
            raise ValueError(
                f"{self.security_protocol} needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.bootstrap_servers}, {self.security_protocol})"

    @property
    def sasl(self) -> bool:
        """Whether the broker is told a user."""
        return self.security_protocol.startswith("SASL")

    def librdkafka(self) -> dict[str, Any]:
        """Settings for confluent-kafka."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": self.security_protocol,
        }
        if self.sasl:
            settings["sasl.mechanism"] = self.sasl_mechanism
            settings["sasl.username"] = self.sasl_username
            settings["sasl.password"] = self.sasl_password
        if self.ssl_cafile:
            settings["ssl.ca.location"] = self.ssl_cafile
        if self.ssl_certfile:
            settings["ssl.certificate.location"] = self.ssl_certfile
            settings["ssl.key.location"] = self.ssl_keyfile or self.ssl_certfile
            if self.ssl_key_password:
                settings["ssl.key.password"] = self.ssl_key_password
        return settings
