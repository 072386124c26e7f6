"""PostgreSQL as one local process, for who asks for it: it is not part of the main job.

The server refuses to run as root, so as root it runs under an existing unprivileged account, with
its data where that account can reach it. It listens on loopback only and trusts whoever connects
there: it holds a developer's test data, nothing else.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
from pathlib import Path

from compose import install
from compose.errors import ServerFailedError, ServerMissingError
from compose.ports import LOOPBACK, choose_port
from compose.process import Launch
from compose.progress import Progress
from compose.settings import Settings

PORT_USUAL = 5432
ROLE = "holdfast"
DATABASE = "holdfast"
INITDB_WITHIN_S = 120.0
ACCOUNTS = ("postgres", "nobody")  # Tried in this order when we are root.
STOP_SIGNAL = 2  # SIGINT: a fast shutdown, which does not wait for clients to leave.
MISSING = (
    "postgres needs the PostgreSQL server, and there is none: `apt-get install postgresql`, "
    "or start Docker, or set POSTGRES_DSN to one that runs."
)


class PostgresServer:
    """Which executables to run, and how."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries

    @classmethod
    def install(cls, _settings: Settings, progress: Progress) -> "PostgresServer":
        """Return the system's binaries, else by apt when we are root."""
        found = _find()
        if found is None and install.apt_install("postgres", "postgresql", progress):
            found = _find()
        if found is None:
            raise ServerMissingError(MISSING)
        return cls(found)

    def launch(self, directory: Path, *, port: int | None) -> Launch:
        """Make the database when it is new, and say how to start it.

        `port` is the usual port to try first; None takes a free one.
        """
        directory.mkdir(parents=True, exist_ok=True)
        chosen = choose_port(port)
        user = _account()
        data = _data_folder(directory, user)
        if not (data / "PG_VERSION").exists():
            self._initialise(directory, data, user)
        options = ["-D", str(data), "-p", str(chosen), "-h", LOOPBACK, "-k", ""]
        return Launch(
            name="postgres",
            argv=(str(self._binaries / "postgres"), *options, "-c", "shared_buffers=64MB"),
            directory=str(directory),
            address=f"postgresql://{ROLE}@{LOOPBACK}:{chosen}/{DATABASE}",
            port=chosen,
            probe="postgres",
            ready_line="database system is ready to accept connections",
            user=user,
            stop_signal=STOP_SIGNAL,
            elsewhere=None if data.parent == directory else str(data),
        )

    def _initialise(self, directory: Path, data: Path, user: str | None) -> None:
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True)
        if user is not None:
            shutil.chown(data, user)
        data.chmod(0o700)
        initdb = [str(self._binaries / "initdb"), "-D", str(data), "-U", ROLE, "-A", "trust"]
        initdb += ["-E", "UTF8", "--locale=C", "--no-sync"]
        self._run(directory, initdb, user)
        single = [str(self._binaries / "postgres"), "--single", "-D", str(data), "postgres"]
        try:
            self._run(directory, single, user, typed=f"CREATE DATABASE {DATABASE}\n")
        except ServerFailedError:
            shutil.rmtree(data, ignore_errors=True)  # Half made would count as made.
            raise

    def _run(self, directory: Path, argv: list[str], user: str | None, typed: str = "") -> None:
        answer = subprocess.run(
            argv,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=INITDB_WITHIN_S,
            cwd="/",
            user=user,
            extra_groups=[] if user else None,
            group=pwd.getpwnam(user).pw_gid if user else None,
        )
        output = answer.stdout + answer.stderr
        if answer.returncode != 0 or "ERROR:" in output:
            raise ServerFailedError(
                "postgres",
                f"{Path(argv[0]).name} ended with exit code {answer.returncode}",
                "`holdfast stack down --wipe` deletes the data of this stack",
                str(directory),
                output[-4000:],
            )


def _data_folder(directory: Path, user: str | None) -> Path:
    """Return `data` in the server's folder, or one in /var/tmp where the account can reach it.

    Root's home and the temporary folders of tests are closed to everybody else.
    """
    here = directory / "data"
    if user is None:
        return here
    reachable = subprocess.run(
        ["test", "-x", str(directory)],
        check=False,
        user=user,
        group=pwd.getpwnam(user).pw_gid,
        extra_groups=[],
    )
    if reachable.returncode == 0:
        return here
    name = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    return Path("/var/tmp") / f"holdfast-postgres-{name}"  # noqa: S108  # Closed: mode 0700.


def _find() -> Path | None:
    """Return the folder that holds `postgres` and `initdb`, the newest version first."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = sorted(versions, key=lambda path: float(path.parent.parent.name), reverse=True)
    on_path = shutil.which("postgres")
    candidates = [*newest, *([Path(on_path).resolve()] if on_path else [])]
    for candidate in candidates:
        if (candidate.parent / "initdb").exists():
            return candidate.parent
    return None


def _account() -> str | None:
    """Return the account to run under: our own, or as root an existing unprivileged one."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    for name in ACCOUNTS:
        if name in names:
            return name
    raise ServerMissingError(
        "postgres does not run as root and there is no account `postgres` or `nobody` to run it "
        "under: `adduser --system postgres`, or set POSTGRES_DSN to one that runs."
    )
