"""The servers of one test session, wherever they come from, behind one interface."""

import subprocess
import uuid
from pathlib import Path
from typing import Literal

from testcontainers.compose import DockerCompose

from compose.docker import address_of, daemon_answers
from compose.ports import free_port
from compose.settings import Settings
from compose.stack import ALL_SERVERS, SERVERS, Addresses, LocalStack, Server

COMPOSE_FOLDER = Path(__file__).resolve().parent.parent.parent / "compose"


class SessionServers:
    """Servers for a test session, started when a test first asks for one.

    Per server the first of these: an address in the environment; a container, when a Docker daemon
    answers and the images can be had; a local process. StackError when none can be had.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._external = settings.external
        self._folder = folder
        self._containers: list[DockerCompose] = []
        self._docker_refused = settings.docker == "off"
        self._local = LocalStack(servers=(), settings=settings).start()
        self._addresses: dict[Server, str] = {}

    def address(self, server: Server) -> str:
        """Return where this server is; start it, and the rest of the main job, if need be."""
        if server not in self._addresses:
            self._start(SERVERS if server in SERVERS else (server,))
        return self._addresses[server]

    @property
    def addresses(self) -> Addresses:
        """Return where the servers of the main job are; start them if need be."""
        return Addresses(
            kafka_bootstrap=self.address("kafka"),
            registry_url=self.address("registry"),
            redis_url=self.address("redis"),
        )

    def stop(self) -> None:
        """Stop what was started; servers named by the environment are left alone."""
        for project in self._containers:
            project.stop()
        self._local.stop()

    def _start(self, servers: tuple[Server, ...]) -> None:
        mine = tuple(server for server in servers if server not in self._external)
        for server in set(servers) - set(mine):
            self._addresses[server] = self._external[server]
        if not mine:
            return
        if not self._docker_refused and daemon_answers() and self._start_containers(mine):
            return
        self._local.add(*mine)
        for server in mine:
            self._addresses[server] = self._local.servers[server].address

    def _start_containers(self, servers: tuple[Server, ...]) -> bool:
        """Start these servers as containers of a project of their own; False when refused."""
        # All ports, not only those of `servers`: Docker starts what a service depends on as well.
        ports = {server: free_port() for server in ALL_SERVERS}
        project = f"holdfast-test-{uuid.uuid4().hex[:8]}"
        names = self._folder / f"{project}.env"
        lines = [f"COMPOSE_PROJECT_NAME={project}"]
        lines += [f"HOLDFAST_{server.upper()}_PORT={port}" for server, port in ports.items()]
        names.write_text("\n".join(lines) + "\n", encoding="utf-8")
        containers = DockerCompose(
            COMPOSE_FOLDER, "compose.yaml", env_file=str(names), services=list(servers)
        )
        self._containers.append(containers)
        try:
            containers.start()
        except subprocess.CalledProcessError:
            self._docker_refused = True
            return False
        for server in servers:
            self._addresses[server] = address_of(server, ports[server])
        return True


def choice(settings: Settings) -> str:
    """Say where the servers of this session come from, for the head of the test report."""
    named = ", ".join(f"{server} at {where}" for server, where in settings.external.items())
    rest: Literal["containers", "local processes"] = (
        "containers" if settings.docker != "off" and daemon_answers() else "local processes"
    )
    return f"servers: {f'{named}; others as ' if named else ''}{rest}"
