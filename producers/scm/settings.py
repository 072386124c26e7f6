"""The connector's settings: the only module of this room that reads the environment.

Secrets come by the environment alone, never by the command line, where every user of the machine
could read them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta

from producers.settings import Settings
from schemas.settings import LogFormat, said, told

SECRET_LENGTH_MIN: Final = 16  # Characters; below it an HMAC key can be guessed.

_VARIABLES: Final[Mapping[str, str]] = {
    "HOLDFAST_CONNECTOR_NAME": "name",
    "HOLDFAST_CONNECTOR_MAPPING": "mapping",
    "HOLDFAST_CONNECTOR_TABLE": "table",
    "HOLDFAST_CONNECTOR_POLL_MS": "poll_ms",
    "HOLDFAST_CONNECTOR_KEEP_DAYS": "keep_days",
    "HOLDFAST_CONNECTOR_HTTP_PORT": "http_port",
    "HOLDFAST_LOG_FORMAT": "log_format",
    "HOLDFAST_WEBHOOK_SECRETS": "secrets",
    "HOLDFAST_WEBHOOK_CERTIFICATE": "certificate",
    "HOLDFAST_WEBHOOK_KEY": "certificate_key",
    "HOLDFAST_CONNECTOR_CRASH_AT": "crash_at",
    "HOLDFAST_CONNECTOR_CRASH_AFTER": "crash_after",
}

_Port = Annotated[int, Meta(ge=0, le=65535)]
_Secret = Annotated[str, Meta(min_length=SECRET_LENGTH_MIN, max_length=256)]


class ConnectorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One connector's settings. Secrets never appear in the representation.

    Attributes:
        kafka: how the cluster and the registry are reached.
        name: whose position is kept; of two connectors with one name the later stops the earlier.
        mapping: a preset's name (d365, odoo, erpnext, sap, sample), or the path of a YAML file.
        table: outbox table, schema-qualified if need be.
        poll_ms: the outbox is looked at this often, whether or not a notification came.
        keep_days: published rows of the outbox older than this are deleted; 0 keeps them all.
        batch_rows: rows of one Kafka transaction.
        http_port: /live, /ready and /metrics on loopback; 0 for none.
        secrets: webhook keys, any of which may sign; two while one is being replaced.
        certificate: TLS certificate chain of the webhook, PEM; empty for plain HTTP.
        crash_at: step at which the process kills itself, for fault tests.
        crash_after: how many times that step is passed first.

    """

    kafka: Settings
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "scm"
    mapping: str = "sample"
    table: Annotated[str, Meta(pattern=r"^[A-Za-z_][\w$]*(\.[A-Za-z_][\w$]*)?$")] = (
        "holdfast_outbox"
    )
    poll_ms: Annotated[int, Meta(ge=10, le=60_000)] = 500
    keep_days: Annotated[int, Meta(ge=0, le=3_650)] = 0
    batch_rows: Annotated[int, Meta(ge=1, le=5_000)] = 500
    http_port: _Port = 0
    log_format: LogFormat = "console"
    secrets: Annotated[tuple[_Secret, ...], Meta(max_length=4)] = ()
    certificate: str = ""
    certificate_key: str = ""
    crash_at: str = ""
    crash_after: Annotated[int, Meta(ge=0)] = 0

    def __repr__(self) -> str:
        return f"ConnectorSettings({self.name}, {self.mapping}, {self.kafka!r})"

    @classmethod
    def from_environment(
        cls,
        kafka: Settings,
        given: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Settings from the environment; `given` (None left out) wins over it.

        Raises:
            msgspec.ValidationError: a value is out of range; the message names it, not its content.

        """
        values = {**said(_VARIABLES, environment), **told(given)}
        if isinstance(values.get("secrets"), str):
            values["secrets"] = tuple(filter(None, values["secrets"].split(",")))
        values["kafka"] = msgspec.structs.asdict(kafka)
        return msgspec.convert(values, cls, strict=False)
