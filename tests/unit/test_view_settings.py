"""The view's settings: where they come from, what is refused, and that secrets stay secret."""

import msgspec
import pytest
import redis

from processor.view.settings import ViewSettings
from schemas.limits import DEDUPE_WINDOW_MS


def test_the_environment_wins_over_what_the_caller_knows() -> None:
    """The running stack's address is a default; everything may be said by a variable."""
    known = {"redis_url": "redis://127.0.0.1:1/0"}
    assert ViewSettings.from_environment(known, {}).redis_url == "redis://127.0.0.1:1/0"
    said = {
        "REDIS_URL": "rediss://cache:6380/2?ssl_ca_certs=/etc/ca.pem",
        "REDIS_USERNAME": "view",
        "REDIS_PASSWORD": "secret",
        "HOLDFAST_VIEW_PREFIX": "shop",
        "HOLDFAST_VIEW_ANSWERS_MS": "60000",
        "HOLDFAST_VIEW_HTTP_PORT": "8091",
    }
    settings = ViewSettings.from_environment(known, said)
    assert (settings.prefix, settings.answers_ms, settings.http_port) == ("shop", 60_000, 8_091)
    assert ViewSettings.from_environment(known, {}).answers_ms == DEDUPE_WINDOW_MS


def test_tls_and_user_reach_the_connection() -> None:
    """The scheme, the authority's file and the ACL user are those redis-py connects with."""
    settings = ViewSettings(
        redis_url="rediss://cache:6380/2?ssl_ca_certs=/etc/ca.pem", username="view", password="x"
    )
    client = redis.Redis.from_url(**settings.connection())
    given = client.connection_pool.connection_kwargs
    assert client.connection_pool.connection_class is redis.SSLConnection
    assert (given["ssl_ca_certs"], given["username"], given["password"]) == (
        "/etc/ca.pem",
        "view",
        "x",
    )
    assert (given["host"], given["port"], given["db"]) == ("cache", 6_380, 2)
    client.close()


def test_secrets_are_in_no_representation() -> None:
    """Neither the field nor the URL's part shows."""
    settings = ViewSettings(
        redis_url="redis://user:hidden1@cache:6379/0?password=hidden2", password="hidden3"
    )
    assert "hidden" not in repr(settings)
    assert "cache:6379" in repr(settings)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"REDIS_URL": "http://cache"},
        {"REDIS_URL": "redis://cache", "HOLDFAST_VIEW_PREFIX": "a*b"},
        {"REDIS_URL": "redis://cache", "HOLDFAST_VIEW_ANSWERS_MS": "soon"},
        {"REDIS_URL": "redis://cache", "HOLDFAST_VIEW_HTTP_PORT": "70000"},
    ],
)
def test_wrong_settings_are_refused_at_start(wrong: dict[str, str]) -> None:
    """The message names the field."""
    with pytest.raises(msgspec.ValidationError):
        ViewSettings.from_environment({}, wrong)
