"""The gateway's settings: the only module of this room that reads the environment.

Read once, checked whole, passed down. The channel's settings (brokers, registry, their security)
are `producers.settings.Settings`; these are what HTTP adds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import msgspec
from msgspec import Meta

from schemas.settings import LogFormat, said, told

Style = Literal["compatible", "honest"]

ENVIRONMENT_DEFAULT: Final = "default"

_VARIABLES: Final[Mapping[str, str]] = {
    "HOLDFAST_GATEWAY_HOST": "host",
    "HOLDFAST_GATEWAY_PORT": "port",
    "HOLDFAST_GATEWAY_METRICS_PORT": "metrics_port",
    "HOLDFAST_GATEWAY_ENVIRONMENTS": "environments",
    "HOLDFAST_GATEWAY_WIPE_ALLOWED": "wipe_allowed",
    "HOLDFAST_GATEWAY_ANSWER_MS": "answer_ms",
    "HOLDFAST_GATEWAY_CONSISTENCY_MS": "consistency_ms",
    "HOLDFAST_GATEWAY_BODY_BYTES_MAX": "body_bytes_max",
    "HOLDFAST_GATEWAY_IN_FLIGHT_MAX": "in_flight_max",
    "HOLDFAST_GATEWAY_RATE_PER_S": "rate_per_s",
    "HOLDFAST_GATEWAY_BURST": "burst",
    "HOLDFAST_GATEWAY_TLS_CERTIFICATE": "tls_certificate",
    "HOLDFAST_GATEWAY_TLS_KEY": "tls_key",
    "HOLDFAST_LOG_FORMAT": "log_format",
    "HOLDFAST_TOKEN_ISSUER": "token_issuer",
    "HOLDFAST_TOKEN_AUDIENCE": "token_audience",
    "HOLDFAST_TOKEN_JWKS_URL": "jwks_url",
    "HOLDFAST_TOKEN_ENVIRONMENT_CLAIM": "environment_claim",
    "HOLDFAST_TOKEN_LOCAL_KEYS": "local_keys",
}


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One gateway's settings.

    Attributes:
        environments: environment id to answer style, as `prod=compatible,prod-v2=honest`; every
            other id in a path is unknown. All of them are this one deployment.
        wipe_allowed: whether `partitions/cleanupalldata` may set stock to nought.
        answer_ms: how long a write's answer is waited for; past it, 202 and a place to look.
        consistency_ms: how long a query waits for the caller's own writes to be seen.
        in_flight_max: records sent and not yet answered; past it, 503.
        rate_per_s: requests of one client, on average; 0: no limit.
        burst: requests of one client at once.
        tls_certificate: PEM chain; with `tls_key` the gateway speaks TLS.
        token_issuer: `iss` that is accepted.
        token_audience: `aud` that is accepted.
        jwks_url: where the issuer publishes its keys.
        environment_claim: claim that names the environment(s) of a token.
        local_keys: directory of the development identity provider. When it is given, its keys are
            accepted, published, and tokens are given out by this gateway. Never in production.

    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    environments: dict[str, Style] = msgspec.field(
        default_factory=lambda: {ENVIRONMENT_DEFAULT: "compatible"}
    )
    wipe_allowed: bool = False
    answer_ms: Annotated[int, Meta(ge=1, le=60_000)] = 5_000
    consistency_ms: Annotated[int, Meta(ge=0, le=60_000)] = 2_000
    body_bytes_max: Annotated[int, Meta(ge=1_024, le=64 * 1_048_576)] = 2 * 1_048_576
    in_flight_max: Annotated[int, Meta(ge=1, le=50_000)] = 20_000
    rate_per_s: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    tls_certificate: str = ""
    tls_key: str = ""
    log_format: LogFormat = "console"
    token_issuer: str = ""
    token_audience: str = "holdfast"  # noqa: S105 - whom tokens are for
    jwks_url: str = ""
    environment_claim: str = "environment"
    local_keys: Path | None = None

    @classmethod
    def from_environment(
        cls,
        given: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        default_local_keys: Path | None = None,
    ) -> Self:
        """Settings from the environment; what is `given` (and not None) wins over it.

        `default_local_keys` is used where nothing of an identity provider is said.

        Raises:
            msgspec.ValidationError: a value is missing or out of range; the message names it.

        """
        values = {**said(_VARIABLES, environment), **told(given)}
        if isinstance(values.get("environments"), str):
            values["environments"] = _environments(values["environments"])
        if not any(values.get(name) for name in ("jwks_url", "token_issuer", "local_keys")):
            values["local_keys"] = default_local_keys
        settings = msgspec.convert(values, cls, strict=False, dec_hook=_path)
        settings.check()
        return settings

    def check(self) -> None:
        """What no single field can say.

        Raises:
            msgspec.ValidationError: nobody's tokens would be accepted, or two providers are named,
                or half of TLS is missing.

        """
        if self.local_keys is not None and (self.jwks_url or self.token_issuer):
            raise msgspec.ValidationError(
                "two identity providers: HOLDFAST_TOKEN_LOCAL_KEYS (--local-keys) is for "
                "development; HOLDFAST_TOKEN_JWKS_URL and HOLDFAST_TOKEN_ISSUER are another one"
            )
        if self.local_keys is None and not (self.jwks_url and self.token_issuer):
            raise msgspec.ValidationError(
                "no identity provider: set HOLDFAST_TOKEN_JWKS_URL and HOLDFAST_TOKEN_ISSUER, or "
                "HOLDFAST_TOKEN_LOCAL_KEYS for development"
            )
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise msgspec.ValidationError("TLS needs both a certificate and its key")
        if not self.environments:
            raise msgspec.ValidationError("no environment is named")


def _environments(text: str) -> dict[str, str]:
    """`prod=compatible,prod-v2=honest`; a name alone is compatible."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return {
        name.strip(): style.strip() or "compatible"
        for name, _, style in (part.partition("=") for part in parts)
    }


def _path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError
