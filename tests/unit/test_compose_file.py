"""The Docker file and the local processes are the same servers with the same settings."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import yaml

from compose import kafka_server, registry_server
from compose.settings import CHECKOUT
from compose.stack import ALL_SERVERS, PORTS_USUAL

COMPOSE = CHECKOUT / "compose"

# Set by where the broker runs, so different on purpose.
BY_PLACE = {
    "controller.quorum.voters",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "inter.broker.listener.name",
    "log.dirs",
}


def services() -> dict[str, Any]:
    """Read the services of the Docker file."""
    parsed: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text("utf-8"))
    return dict(parsed["services"])


def local_settings() -> dict[str, str]:
    """Read the broker's settings as a local process."""
    lines = Path(COMPOSE / "kafka" / "server.properties").read_text("utf-8").splitlines()
    pairs = [line.split("=", 1) for line in lines if line and not line.startswith("#")]
    return {name: value for name, value in pairs if name not in BY_PLACE}


def container_settings() -> dict[str, str]:
    """Read the broker's settings as a container, in the spelling of a properties file."""
    names = services()["kafka"]["environment"].items()
    settings = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in names
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    return {name: value for name, value in settings.items() if name not in BY_PLACE}


def test_the_broker_has_the_same_settings_in_docker() -> None:
    """No setting is given in one place only, or differently."""
    assert container_settings() == local_settings()


def test_versions_are_the_same_in_docker() -> None:
    """The images are those of the versions that run as local processes."""
    images = {name: service["image"] for name, service in services().items()}
    assert images["kafka"] == f"apache/kafka:{kafka_server.VERSION}"
    assert images["registry"].endswith(f"-kafkasql:{registry_server.VERSION}")


def test_images_are_pinned() -> None:
    """Each image names a version; none follows whatever is newest."""
    for service in services().values():
        assert re.search(r":\d", service["image"])
        assert "latest" not in service["image"]


def test_every_server_is_published_on_loopback_only_and_has_a_health_check() -> None:
    """Nobody else on the network reaches a developer's broker."""
    assert set(services()) == set(ALL_SERVERS)
    for name, service in services().items():
        usual = PORTS_USUAL[name]  # type: ignore[index]
        variable = f"HOLDFAST_{name.upper()}_PORT"
        (published,) = service["ports"]
        assert published.startswith(f"127.0.0.1:${{{variable}:-{usual}}}:")
        assert service["healthcheck"]["test"]


def test_the_pom_names_the_version_that_is_started() -> None:
    """Maven is told the version twice, and it is the same."""
    root = ET.parse(COMPOSE / "kafka" / "pom.xml").getroot()  # noqa: S314  # Our own file.
    namespace = {"m": "http://maven.apache.org/POM/4.0.0"}
    assert root.findtext("m:properties/m:kafka.version", namespaces=namespace) == (
        kafka_server.VERSION
    )
