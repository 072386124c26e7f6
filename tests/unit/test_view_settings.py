"""The view's settings: where they come from, what is refused, and that secrets stay secret."""

import msgspec
import pytest
import redis

from processor.view.settings import ANSWER_WITHIN_S, ViewSettings
from schemas.limits import DEDUPE_WINDOW_MS

CA = __file__  # Any file that is there.


def test_the_environment_wins_over_what_the_caller_knows() -> None:
    """The running stack's address is a default; everything may be said by a variable."""
    known = {"redis_url": "redis://127.0.0.1:1/0"}
    assert ViewSettings.from_environment(known, {}).redis_url == "redis://127.0.0.1:1/0"
    said = {
        "REDIS_URL": f"rediss://cache:6380/2?ssl_ca_certs={CA}",
        "REDIS_USERNAME": "view",
        "REDIS_PASSWORD": "secret",
        "HOLDFAST_VIEW_PREFIX": "shop",
        "HOLDFAST_VIEW_ANSWERS_MS": "60000",
        "HOLDFAST_VIEW_HTTP_PORT": "8091",
    }
    settings = ViewSettings.from_environment(known, said)
    assert (settings.prefix, settings.answers_ms, settings.http_port) == ("shop", 60_000, 8_091)
    assert ViewSettings.from_environment(known, {}).answers_ms == DEDUPE_WINDOW_MS


def test_an_option_wins_over_the_environment_and_keeps_the_rest_of_it() -> None:
    """Whoever names another Redis logs in there as the environment says."""
    said = {"REDIS_URL": "redis://cache", "REDIS_USERNAME": "view", "REDIS_PASSWORD": "secret"}
    given = {"redis_url": "redis://other", "http_port": None}
    settings = ViewSettings.from_environment({}, said, given=given)
    assert (settings.redis_url, settings.http_port) == ("redis://other", 0)
    assert (settings.username, settings.password) == ("view", "secret")


def test_tls_and_user_reach_the_connection() -> None:
    """The scheme, the authority's file and the ACL user are those redis-py connects with."""
    settings = ViewSettings(
        redis_url=f"rediss://cache:6380/2?ssl_ca_certs={CA}", username="view", password="x"
    )
    client = redis.Redis.from_url(**settings.connection())
    given = client.connection_pool.connection_kwargs
    assert client.connection_pool.connection_class is redis.SSLConnection
    assert (given["ssl_ca_certs"], given["username"], given["password"]) == (
        CA,
        "view",
        "x",
    )
    assert (given["host"], given["port"], given["db"]) == ("cache", 6_380, 2)
    assert given["socket_timeout"] == ANSWER_WITHIN_S  # Whatever the library's own is.
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
        {"REDIS_URL": "rediss://cache?ssl_ca_certs=/nowhere/ca.pem"},
        {"REDIS_URL": "redis://cache", "HOLDFAST_VIEW_PREFIX": "a*b"},
        {"REDIS_URL": "redis://cache", "HOLDFAST_VIEW_ANSWERS_MS": "soon"},
        {"REDIS_URL": "redis://cache", "HOLDFAST_VIEW_HTTP_PORT": "70000"},
    ],
)
def test_wrong_settings_are_refused_at_start(wrong: dict[str, str]) -> None:
    """The message names the field."""
    with pytest.raises(msgspec.ValidationError):
        ViewSettings.from_environment({}, wrong)
