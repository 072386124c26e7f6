"""Settings of the gateway, and that every Kafka client is made from a connection's settings."""

import ast
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faust
import msgspec
import pytest

from processor.settings import KafkaConnection
from producers.gateway.settings import GatewaySettings
from producers.settings import Settings
from tests.support.certificate import certificate

CHECKOUT = Path(__file__).resolve().parents[2]
CLIENTS = frozenset({"Consumer", "Producer", "AdminClient", "AIOKafkaConsumer"})
LOCAL = {"HOLDFAST_TOKEN_LOCAL_KEYS": "/nowhere"}


def secured(folder: Path) -> dict[str, str]:
    """Environment of a cluster with SASL, TLS and client certificates."""
    chain, key = certificate(folder)
    return {
        "KAFKA_BOOTSTRAP_SERVERS": "broker:9093",
        "SCHEMA_REGISTRY_URL": "https://registry",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "holdfast",
        "KAFKA_SASL_PASSWORD": "hunter2",
        "KAFKA_SSL_CAFILE": str(chain),
        "KAFKA_SSL_CERTFILE": str(chain),
        "KAFKA_SSL_KEYFILE": str(key),
    }


def expected(environment: Mapping[str, str]) -> dict[str, str]:
    """What librdkafka must be told of it."""
    names = {
        "security.protocol": "KAFKA_SECURITY_PROTOCOL",
        "sasl.mechanism": "KAFKA_SASL_MECHANISM",
        "sasl.username": "KAFKA_SASL_USERNAME",
        "sasl.password": "KAFKA_SASL_PASSWORD",
        "ssl.ca.location": "KAFKA_SSL_CAFILE",
        "ssl.certificate.location": "KAFKA_SSL_CERTFILE",
        "ssl.key.location": "KAFKA_SSL_KEYFILE",
    }
    return {name: environment[variable] for name, variable in names.items()}


def connection(environment: Mapping[str, str]) -> KafkaConnection:
    """The worker's connection of that environment."""
    from processor.settings import from_environment  # noqa: PLC0415 - its twin is imported above

    found = from_environment({"data_dir": "/nowhere"}, environment=environment)
    return found.kafka


def test_security_reaches_every_kind_of_client(tmp_path: Path) -> None:
    """SASL, TLS and client certificates arrive at librdkafka, aiokafka and Faust alike."""
    environment = secured(tmp_path)
    producer = Settings.from_environment(environment=environment)
    worker = connection(environment)
    for told in (producer.librdkafka(), worker.librdkafka()):
        assert {name: told[name] for name in expected(environment)} == expected(environment)
    asynchronous = worker.aiokafka()
    assert asynchronous["security_protocol"] == "SASL_SSL"
    assert asynchronous["sasl_plain_password"] == "hunter2"
    assert isinstance(asynchronous["ssl_context"], ssl.SSLContext)
    credentials = worker.faust_credentials()
    assert isinstance(credentials, faust.SASLCredentials)
    assert credentials.ssl_context is not None
    assert "hunter2" not in repr(producer) + repr(worker)


def test_plain_cluster_gets_no_security(tmp_path: Path) -> None:
    """Without any of it, no client is told of SASL or certificates."""
    environment = {"KAFKA_BOOTSTRAP_SERVERS": "b:1", "SCHEMA_REGISTRY_URL": "http://r"}
    for told in (
        Settings.from_environment(environment=environment).librdkafka(),
        connection(environment).librdkafka(),
    ):
        assert not [name for name in told if name.startswith(("sasl", "ssl"))]
    assert connection(environment).faust_credentials() is None


def test_every_client_is_made_from_a_connection() -> None:
    """No module but the settings says where the brokers are: security cannot be forgotten."""
    offenders = [
        f"{path.relative_to(CHECKOUT)}:{node.lineno}"
        for room in ("holdfast", "processor", "producers", "schemas")
        for path in (CHECKOUT / room).rglob("*.py")
        if path.name != "settings.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in CLIENTS
        and any(_names_brokers(inner) for inner in ast.walk(node))
    ]
    assert offenders == []


def _names_brokers(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value == "bootstrap.servers"


def test_settings_come_from_the_environment_and_options_win() -> None:
    """Environments and styles are read from one variable; an option wins over it."""
    settings = GatewaySettings.from_environment(
        {"port": 9_000, "host": None},
        {
            **LOCAL,
            "HOLDFAST_GATEWAY_PORT": "1",
            "HOLDFAST_GATEWAY_HOST": "0.0.0.0",  # noqa: S104 - a value like any other
            "HOLDFAST_GATEWAY_ENVIRONMENTS": "prod=honest, old, new=compatible",
        },
    )
    assert settings.port == 9_000
    assert settings.host.startswith("0.")
    assert settings.environments == {"prod": "honest", "old": "compatible", "new": "compatible"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HOLDFAST_TOKEN_JWKS_URL": "https://identity/keys"},
        {**LOCAL, "HOLDFAST_GATEWAY_TLS_KEY": "key.pem"},
        {**LOCAL, "HOLDFAST_GATEWAY_ENVIRONMENTS": "prod=polite"},
        {**LOCAL, "HOLDFAST_GATEWAY_ENVIRONMENTS": ","},
        {**LOCAL, "HOLDFAST_GATEWAY_PORT": "70000"},
        {**LOCAL, "HOLDFAST_GATEWAY_RATE_PER_S": "-1"},
    ],
)
def test_settings_that_cannot_work_are_refused(environment: dict[str, Any]) -> None:
    """No identity provider, half of TLS, an unknown style: said at start, not at the first call."""
    with pytest.raises(msgspec.ValidationError):
        GatewaySettings.from_environment(environment=environment)


def test_local_keys_are_a_default_only_without_a_provider() -> None:
    """Where a provider is configured, development tokens get nobody in."""
    folder = Path("/nowhere")
    alone = GatewaySettings.from_environment(environment={}, default_local_keys=folder)
    assert alone.local_keys == folder
    provider = {
        "HOLDFAST_TOKEN_JWKS_URL": "https://identity/keys",
        "HOLDFAST_TOKEN_ISSUER": "https://identity",
    }
    served = GatewaySettings.from_environment(environment=provider, default_local_keys=folder)
    assert served.local_keys is None


@pytest.mark.parametrize(
    "half",
    [
        {"HOLDFAST_TOKEN_ISSUER": "https://login.example"},
        {"HOLDFAST_TOKEN_JWKS_URL": "https://login.example/keys"},
        {"HOLDFAST_TOKEN_ISSUER": "https://login.example", **LOCAL},
    ],
)
def test_half_an_identity_provider_is_refused(half: dict[str, str]) -> None:
    """The development one never takes its place: whoever can read its folder can be anybody."""
    with pytest.raises(msgspec.ValidationError, match="HOLDFAST_TOKEN_JWKS_URL"):
        GatewaySettings.from_environment(
            environment=half, default_local_keys=Path("/nowhere/identity")
        )
