"""The view's settings: the only module of this room that reads the environment.

Read once, checked whole. How Kafka is reached is given by whoever starts the view.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta

from schemas.limits import DEDUPE_WINDOW_MS

_VARIABLES: Final[Mapping[str, str]] = {
    "REDIS_URL": "redis_url",
    "REDIS_USERNAME": "username",
    "REDIS_PASSWORD": "password",
    "HOLDFAST_VIEW_PREFIX": "prefix",
    "HOLDFAST_VIEW_ANSWERS_MS": "answers_ms",
    "HOLDFAST_VIEW_HTTP_PORT": "http_port",
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

    def __repr__(self) -> str:
        place = self.redis_url.rpartition("@")[2].partition("?")[0]
        return f"ViewSettings({place}, {self.prefix})"

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

    def connection(self) -> dict[str, Any]:
        """Keyword arguments of redis-py's `from_url`, plain and asyncio."""
        given: dict[str, Any] = {
            "url": self.redis_url,
            "decode_responses": False,
            "socket_connect_timeout": 5.0,
            "health_check_interval": 30,
            "client_name": "holdfast-view",
        }
        if self.username:
            given["username"] = self.username
        if self.password:
            given["password"] = self.password
        return given
