"""The view's settings: the only module of this room that reads the environment.

Read once, checked whole. How Kafka is reached is given by whoever starts the view.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta

from schemas.limits import DEDUPE_WINDOW_MS
from schemas.settings import LogFormat, said, told

ANSWER_WITHIN_S: Final = 5.0  # Of Redis: one that is silent for longer is taken to be away.

_VARIABLES: Final[Mapping[str, str]] = {
    "REDIS_URL": "redis_url",
    "REDIS_USERNAME": "username",
    "REDIS_PASSWORD": "password",
    "HOLDFAST_VIEW_PREFIX": "prefix",
    "HOLDFAST_VIEW_ANSWERS_MS": "answers_ms",
    "HOLDFAST_VIEW_HTTP_PORT": "http_port",
    "HOLDFAST_LOG_FORMAT": "log_format",
}


class ViewSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the view and of those who ask it. Secrets never appear in the representation.

    Attributes:
        redis_url: redis://, rediss:// (TLS) or unix://; may hold user, password and options of
            redis-py, as `rediss://cache:6380/0?ssl_ca_certs=/etc/ca.pem`.
        username: ACL user, where the URL does not say.
        password: of the user, where the URL does not say.
        prefix: first part of every key; deployments that share a Redis differ in it.
        answers_ms: how long the answer to a request id can be looked up; at most the dedupe window
            is worth while. Less saves memory.
        http_port: /live, /ready and /metrics on loopback; 0 for none.

    """

    redis_url: Annotated[str, Meta(pattern=r"^(rediss?|unix)://")]
    username: str = ""
    password: str = ""
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")] = "holdfast"
    answers_ms: Annotated[int, Meta(ge=1_000)] = DEDUPE_WINDOW_MS
    http_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    log_format: LogFormat = "console"

    def __post_init__(self) -> None:
        """What no single field can say, so that no connection fails on it later.

        Raises:
            ValueError: a file that the URL names is not there.

        """
        options = parse_qs(urlsplit(self.redis_url).query)
        for option in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            for path in options.get(option, ()):
                if not Path(path).is_file():
                    raise ValueError(f"REDIS_URL: {option}: there is no file {path}")

    def __repr__(self) -> str:
        place = self.redis_url.rpartition("@")[2].partition("?")[0]
        return f"ViewSettings({place}, {self.prefix})"

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

    def connection(self) -> dict[str, Any]:
        """Keyword arguments of redis-py's `from_url`, plain and asyncio."""
        given: dict[str, Any] = {
            "url": self.redis_url,
            "decode_responses": False,
            "socket_connect_timeout": ANSWER_WITHIN_S,
            "socket_timeout": ANSWER_WITHIN_S,
            "health_check_interval": 30,
            "client_name": "holdfast-view",
        }
        if self.username:
            given["username"] = self.username
        if self.password:
            given["password"] = self.password
        return given
