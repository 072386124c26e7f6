"""What the environment says about the local stack. The only module here that reads it.

An address in the environment always wins: whoever sets `KAFKA_BOOTSTRAP_SERVERS` runs a broker of
their own, and nothing of ours is started in its place.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec

CHECKOUT = Path(__file__).resolve().parent.parent

ADDRESS_VARIABLES = {
    "kafka": "KAFKA_BOOTSTRAP_SERVERS",
    "registry": "SCHEMA_REGISTRY_URL",
    "redis": "REDIS_URL",
    "postgres": "POSTGRES_DSN",
}
"""Per server, the variable that names an address to use instead of starting one."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Folders and addresses, read once.

    `home` holds the run state and data of one stack, `cache` what was downloaded (shared between
    checkouts). `external` maps a server's name to the address given for it. `docker` is `auto`,
    or `off` to start local processes even when a Docker daemon answers.
    """

    home: Path
    cache: Path
    external: dict[str, str]
    java_home: Path | None
    docker: str

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read `HOLDFAST_HOME`, `HOLDFAST_CACHE`, `HOLDFAST_DOCKER`, `JAVA_HOME` and addresses."""
        environ = os.environ if environ is None else environ
        checkout = CHECKOUT if (CHECKOUT / "pyproject.toml").exists() else Path.cwd()
        home = environ.get("HOLDFAST_HOME")
        cache = environ.get("HOLDFAST_CACHE")
        java_home = environ.get("JAVA_HOME")
        return cls(
            home=Path(home) if home else checkout / ".holdfast",
            cache=Path(cache) if cache else Path.home() / ".cache" / "holdfast",
            external={
                server: environ[variable]
                for server, variable in ADDRESS_VARIABLES.items()
                if environ.get(variable)
            },
            java_home=Path(java_home) if java_home else None,
            docker="off" if environ.get("HOLDFAST_DOCKER") == "off" else "auto",
        )
