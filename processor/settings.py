"""The worker's settings.

The only module of this room that reads the environment. Read once, checked whole.
"""

import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import faust
import msgspec
from msgspec import Meta

from schemas.limits import CACHE_MB
from schemas.settings import KAFKA_VARIABLES, KafkaAccess, LogFormat, said, told

_Port = Annotated[int, Meta(ge=0, le=65535)]
_TopicName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$")]


class KafkaConnection(KafkaAccess, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the worker reaches the cluster, for each of its three client libraries."""

    def _ssl_context(self) -> ssl.SSLContext | None:
        if not self.security_protocol.endswith("SSL"):
            return None
        context = ssl.create_default_context(cafile=self.ssl_cafile or None)
        if self.ssl_certfile:
            context.load_cert_chain(
                self.ssl_certfile, self.ssl_keyfile or None, self.ssl_key_password or None
            )
        return context

    def librdkafka(self) -> dict[str, Any]:
        """Settings for confluent-kafka; it logs what is wrong where the other libraries do."""
        return {
            **super().librdkafka(),
            "reconnect.backoff.ms": 100,
            "log_level": 4,
            "logger": logging.getLogger("librdkafka"),
        }

    def aiokafka(self) -> dict[str, Any]:
        """Keyword arguments for aiokafka."""
        settings: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
            "ssl_context": self._ssl_context(),
        }
        if self.sasl:
            settings["sasl_mechanism"] = self.sasl_mechanism
            settings["sasl_plain_username"] = self.sasl_username
            settings["sasl_plain_password"] = self.sasl_password
        return settings

    def faust_credentials(self) -> Any:
        """Credentials for Faust, None for a plaintext broker."""
        context = self._ssl_context()
        if self.sasl:
            return faust.SASLCredentials(
                username=self.sasl_username,
                password=self.sasl_password,
                mechanism=self.sasl_mechanism,
                ssl_context=context,
            )
        return None if context is None else faust.SSLCredentials(context)


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One worker's settings; every field is an environment variable, see `from_environment`.

    Attributes:
        data_dir: directory of this worker alone (RocksDB, instance id, schema cache); safe to lose.
        session_timeout_ms: silence after which the group gives this worker's partitions away.
        standby: keep copies of the partitions that other workers decide, so that taking them over
            takes no longer than noticing that their worker is gone; costs their disk and CPU.
        reply_topics: topics that a request may name for a copy of its result; see
            `processor.replies`. They must exist, as long as a worker runs.
        http_port: /live, /ready and /metrics on loopback; 0 for none.
        log_format: console or json.

    """

    kafka: KafkaConnection
    registry_url: str
    data_dir: Path
    session_timeout_ms: Annotated[int, Meta(ge=500, le=1_800_000)] = 10_000
    group_instance_id: str | None = None
    cache_mb: Annotated[int, Meta(ge=8, le=1_048_576)] = CACHE_MB
    standby: bool = False
    reply_topics: tuple[_TopicName, ...] = ()
    http_port: _Port = 0
    log_format: LogFormat = "console"
    crash_at: str | None = None
    crash_after: Annotated[int, Meta(ge=0)] = 0


_VARIABLES: Mapping[str, str] = {
    "SCHEMA_REGISTRY_URL": "registry_url",
    "HOLDFAST_DATA_DIR": "data_dir",
    "HOLDFAST_SESSION_TIMEOUT_MS": "session_timeout_ms",
    "HOLDFAST_GROUP_INSTANCE_ID": "group_instance_id",
    "HOLDFAST_CACHE_MB": "cache_mb",
    "HOLDFAST_STANDBY": "standby",
    "HOLDFAST_REPLY_TOPICS": "reply_topics",
    "HOLDFAST_HTTP_PORT": "http_port",
    "HOLDFAST_LOG_FORMAT": "log_format",
    "HOLDFAST_CRASH_AT": "crash_at",
    "HOLDFAST_CRASH_AFTER": "crash_after",
}


def from_environment(
    overrides: Mapping[str, object],
    *,
    defaults: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
) -> WorkerSettings:
    """Settings from the environment; `overrides` (command-line options, None left out) win over it.

    `defaults` are used for what neither says.

    Raises:
        msgspec.ValidationError: a value is missing, unknown or out of range; the message names the
        field.

    """
    variables = {**KAFKA_VARIABLES, **_VARIABLES}
    values = {**told(defaults), **said(variables, environment), **told(overrides)}
    if isinstance(values.get("reply_topics"), str):
        values["reply_topics"] = tuple(filter(None, values["reply_topics"].split(",")))
    fields = KafkaConnection.__struct_fields__
    kafka = {field: values.pop(field) for field in fields if field in values}
    return msgspec.convert({**values, "kafka": kafka}, WorkerSettings, strict=False, dec_hook=_path)


def _path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError
