"""When Docker is used and how it is called, with a stand-in for the `docker` program.

No daemon is needed: what is checked is the decision and the command line, not Docker.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from compose import docker
from compose.settings import Settings
from compose.stack import Stack

PROGRAM = """#!/bin/sh
echo "$HOLDFAST_KAFKA_PORT $*" >> {calls}
case "$*" in
    info*) exit {info} ;;
    *" up "*) echo "manifest unknown" >&2; exit {up} ;;
    *" ps "*) printf 'kafka\\nregistry\\nredis\\n' ;;
esac
"""


class StandIn:
    """A `docker` on PATH that notes how it was called."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def install(self, *, info: int = 0, up: int = 0) -> None:
        """Put it there, with these exit codes."""
        program = self._folder / "docker"
        program.write_text(PROGRAM.format(calls=self._folder / "calls", info=info, up=up), "utf-8")
        program.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """Return how it was called."""
        return (self._folder / "calls").read_text("utf-8").splitlines()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Give a stand-in that is first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    docker.daemon_answers.cache_clear()
    yield StandIn(folder)
    docker.daemon_answers.cache_clear()


def settings(tmp_path: Path) -> Settings:
    """Give settings of an empty environment."""
    return Settings.from_environment({"HOLDFAST_HOME": str(tmp_path / "home")})


def test_a_client_without_a_daemon_is_not_docker(stand_in: StandIn) -> None:
    """The program on PATH proves nothing; the daemon must answer."""
    stand_in.install(info=1)
    assert not docker.daemon_answers()


def test_containers_are_used_when_the_daemon_answers(stand_in: StandIn, tmp_path: Path) -> None:
    """All servers come from one project of this home, on the ports that are reported."""
    stand_in.install()
    home = tmp_path / "home"
    addresses = Stack.up(home, ports="free", settings=settings(tmp_path))
    assert addresses.started == ("kafka", "registry", "redis")
    (call,) = [call for call in stand_in.calls if " up " in call]
    port = call.split(" ", 1)[0]
    assert addresses.kafka_bootstrap == f"127.0.0.1:{port}"
    assert docker.Compose(home).project in call
    assert call.endswith("up --detach --wait kafka registry redis")


def test_running_containers_are_reused_and_keep_their_ports(
    stand_in: StandIn, tmp_path: Path
) -> None:
    """A second call starts what is missing, and names the broker's port so Docker leaves it be."""
    stand_in.install()
    home = tmp_path / "home"
    first = Stack.up(home, ("kafka",), "free", settings=settings(tmp_path))
    second = Stack.up(home, ("kafka", "postgres"), "free", settings=settings(tmp_path))
    assert second.kafka_bootstrap == first.kafka_bootstrap
    assert second.started == ("postgres",)
    assert stand_in.calls[-1].endswith("up --detach --wait postgres")
    assert first.kafka_bootstrap == f"127.0.0.1:{stand_in.calls[-1].split(' ', 1)[0]}"


def test_an_address_in_the_environment_wins_over_what_is_up(
    stand_in: StandIn, tmp_path: Path
) -> None:
    """Whoever names a broker gets that one, though this home has one running."""
    stand_in.install()
    home = tmp_path / "home"
    Stack.up(home, ("kafka",), "free", settings=settings(tmp_path))
    given = Settings.from_environment({"KAFKA_BOOTSTRAP_SERVERS": "broker:9092"})
    assert Stack.up(home, ("kafka",), settings=given).kafka_bootstrap == "broker:9092"
    assert Stack.addresses(home, given).kafka_bootstrap == "broker:9092"


def test_down_stops_the_containers_of_this_home_only(stand_in: StandIn, tmp_path: Path) -> None:
    """Containers are named by project and service, and removed without their volumes."""
    stand_in.install()
    home = tmp_path / "home"
    Stack.up(home, ("kafka",), "free", settings=settings(tmp_path))
    assert Stack.down(home) == ("kafka",)
    assert docker.Compose(home).project in stand_in.calls[-1]
    assert stand_in.calls[-1].endswith("rm --stop --force kafka")


def test_an_image_that_cannot_be_had_means_local_processes(
    stand_in: StandIn, tmp_path: Path
) -> None:
    """A daemon that answers but cannot start the image does not stop anybody."""
    stand_in.install(up=1)
    home = tmp_path / "home"
    said: list[str] = []
    addresses = Stack.up(
        home,
        ("redis",),
        "free",
        lambda server, message: said.append(f"{server} {message}"),
        settings(tmp_path),
    )
    try:
        assert addresses.started == ("redis",)
        assert any("manifest unknown" in line for line in said)
        assert [s.source for s in Stack.status(home) if s.server == "redis"] == ["local"]
    finally:
        Stack.down(home)


def test_an_address_in_the_environment_wins_over_docker(stand_in: StandIn, tmp_path: Path) -> None:
    """Nothing is started in place of a server that somebody named."""
    stand_in.install()
    given = Settings.from_environment(
        {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "HOLDFAST_HOME": str(tmp_path / "home")}
    )
    addresses = Stack.up(tmp_path / "home", ("kafka",), settings=given)
    assert addresses.kafka_bootstrap == "broker:9092"
    assert addresses.started == ()
    assert Stack.down(tmp_path / "home") == ()
    assert not (stand_in._folder / "calls").exists()
