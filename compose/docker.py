"""The same servers by Docker compose, when a Docker daemon answers."""

import functools
import hashlib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from compose.ports import LOOPBACK

DAEMON_ANSWERS_WITHIN_S = 10.0
UP_WITHIN_S = 900.0  # Images are pulled on the first run.
DOWN_WITHIN_S = 120.0


@functools.cache
def daemon_answers() -> bool:
    """Whether a daemon answers and `docker compose` is there. A client alone proves nothing."""
    if shutil.which("docker") is None:
        return False
    try:
        for question in (
            ["docker", "info", "--format", "{{.ID}}"],
            ["docker", "compose", "version"],
        ):
            answer = subprocess.run(
                question, capture_output=True, check=False, timeout=DAEMON_ANSWERS_WITHIN_S
            )
            if answer.returncode != 0:
                return False
    except (OSError, subprocess.TimeoutExpired):
        return False
    return True


def address_of(server: str, port: int) -> str:
    """Return what clients on this machine use for a container published on this port."""
    return {
        "kafka": f"{LOOPBACK}:{port}",
        "registry": f"http://{LOOPBACK}:{port}/apis/ccompat/v7",
        "redis": f"redis://{LOOPBACK}:{port}/0",
        "postgres": f"postgresql://holdfast@{LOOPBACK}:{port}/holdfast",
    }[server]


class Compose:
    """One compose project: the containers of one home."""

    def __init__(self, home: Path) -> None:
        digest = hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]
        self.project = f"holdfast-{digest}"
        self.file = str(resources.files("compose") / "compose.yaml")

    def up(self, servers: Sequence[str], ports: Mapping[str, int]) -> str:
        """Start these servers and wait until healthy; "" or why it did not work.

        `ports` names those of running servers too: Docker makes a container anew when its port
        would differ.
        """
        return self._run(["up", "--detach", "--wait", *servers], ports, UP_WITHIN_S)

    def stop(self, servers: Sequence[str]) -> str:
        """Stop these servers and keep their data; "" or why it did not work."""
        return self._run(["rm", "--stop", "--force", *servers], {}, DOWN_WITHIN_S)

    def wipe(self) -> str:
        """Stop everything and delete its data; "" or why it did not work."""
        return self._run(["down", "--volumes"], {}, DOWN_WITHIN_S)

    def running(self) -> set[str]:
        """Return the servers of this project that run now."""
        answer = subprocess.run(
            [*self._command(), "ps", "--services", "--status", "running"],
            capture_output=True,
            text=True,
            check=False,
            timeout=DOWN_WITHIN_S,
        )
        return set(answer.stdout.split()) if answer.returncode == 0 else set()

    def _command(self) -> list[str]:
        return ["docker", "compose", "--project-name", self.project, "--file", self.file]

    def _run(self, verb: list[str], ports: Mapping[str, int], within_s: float) -> str:
        named = [f"HOLDFAST_{server.upper()}_PORT={port}" for server, port in ports.items()]
        try:
            answer = subprocess.run(
                ["env", *named, *self._command(), *verb],
                capture_output=True,
                text=True,
                check=False,
                timeout=within_s,
            )
        except subprocess.TimeoutExpired:
            return f"docker compose {verb[0]} took longer than {within_s:.0f} s"
        return "" if answer.returncode == 0 else answer.stderr.strip()[-2000:]
