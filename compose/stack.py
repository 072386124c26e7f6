"""The stack as a whole: up, down, status, and a throw-away one for tests.

Per server the first of these that can be had: an address from the environment; a container, when
a Docker daemon answers; a local process. What is up stays up: a second `up` of the same home starts
only what is missing, and data stays in the home until somebody wipes it.
"""

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, Protocol, Self

import msgspec

from compose.docker import Compose, address_of, daemon_answers
from compose.errors import ServerFailedError, StackError
from compose.install import locked
from compose.kafka_server import PORT_USUAL as KAFKA_PORT, KafkaServer
from compose.ports import choose_port
from compose.postgres_server import PORT_USUAL as POSTGRES_PORT, PostgresServer
from compose.process import Launch, LocalServer
from compose.progress import Progress, silent
from compose.redis_server import PORT_USUAL as REDIS_PORT, RedisServer
from compose.registry_server import PORT_USUAL as REGISTRY_PORT, RegistryServer
from compose.settings import Settings

Server = Literal["kafka", "registry", "redis", "postgres"]
Source = Literal["environment", "docker", "local"]
Ports = Literal["usual", "free"]

SERVERS: Final[tuple[Server, ...]] = ("kafka", "registry", "redis")
"""What the main job needs. PostgreSQL comes when it is asked for."""

ALL_SERVERS: Final[tuple[Server, ...]] = (*SERVERS, "postgres")
STOP_ORDER: Final[tuple[Server, ...]] = ("registry", "redis", "postgres", "kafka")
PORTS_USUAL: Final[dict[Server, int]] = {
    "kafka": KAFKA_PORT,
    "registry": REGISTRY_PORT,
    "redis": REDIS_PORT,
    "postgres": POSTGRES_PORT,
}
START_TRIES_MAX = 3  # Each with another port, when somebody took the chosen one in between.


class _Installed(Protocol):
    def launch(self, directory: Path, *, port: int | None) -> Launch: ...


class Addresses(msgspec.Struct, frozen=True, kw_only=True):
    """Where the servers of a stack are. None: that server is not part of it.

    `started` names the servers that this very call started; what was up before is not among them.
    """

    kafka_bootstrap: str | None = None
    registry_url: str | None = None
    redis_url: str | None = None
    postgres_dsn: str | None = None
    started: tuple[Server, ...] = ()


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One server of a stack: who provides it and what clients are given."""

    source: Source
    address: str


class ServerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `holdfast stack status`."""

    server: Server
    state: Literal["up", "down", "silent"]
    source: Source | None = None
    address: str | None = None
    pid: int | None = None
    log: str | None = None


def _addresses(entries: dict[Server, Entry], started: Sequence[Server] = ()) -> Addresses:
    address = {server: entry.address for server, entry in entries.items()}
    return Addresses(
        kafka_bootstrap=address.get("kafka"),
        registry_url=address.get("registry"),
        redis_url=address.get("redis"),
        postgres_dsn=address.get("postgres"),
        started=tuple(started),
    )


def _install(server: Server, settings: Settings, progress: Progress) -> _Installed:
    if server == "kafka":
        return KafkaServer.install(settings, progress)
    if server == "registry":
        return RegistryServer.install(settings, progress)
    if server == "redis":
        return RedisServer.install(settings, progress)
    return PostgresServer.install(settings, progress)


class _Bringup:
    """One attempt to bring servers up: all that are asked for, or none of those it started."""

    def __init__(self, home: Path, ports: Ports, settings: Settings, progress: Progress) -> None:
        self._home = home.resolve()
        self._ports = ports
        self._settings = settings
        self._progress = progress
        self._abandon = threading.Event()

    def provide(
        self, servers: Sequence[Server], up_before: dict[Server, Entry]
    ) -> dict[Server, Entry]:
        """By Docker when its daemon answers and the images can be had, else local processes."""
        provided: dict[Server, Entry] = {}
        if servers and self._settings.docker == "auto" and daemon_answers():
            provided = self._containers(servers, up_before)
        missing = [server for server in servers if server not in provided]
        for server, local in self.processes(missing).items():
            provided[server] = Entry(source="local", address=local.address)
        return provided

    def processes(self, servers: Sequence[Server]) -> dict[Server, LocalServer]:
        """Start these servers as local processes, side by side."""
        if not servers:
            return {}
        with ThreadPoolExecutor(len(servers), "stack") as pool:
            futures = {server: pool.submit(self._process, server) for server in servers}
            try:
                return {server: future.result() for server, future in futures.items()}
            except BaseException:
                self._abandon.set()
                for future in futures.values():
                    with contextlib.suppress(Exception):
                        future.result().stop()
                raise

    def _port(self, server: Server) -> int | None:
        return PORTS_USUAL[server] if self._ports == "usual" else None

    def _process(self, server: Server) -> LocalServer:
        installed = _install(server, self._settings, self._progress)
        for attempt in range(1, START_TRIES_MAX + 1):
            launch = installed.launch(self._home / server, port=self._port(server))
            self._progress(server, f"starting on port {launch.port}")
            local = LocalServer(launch)
            local.abandon = self._abandon
            try:
                local.start()
            except ServerFailedError as failure:
                if not failure.port_taken or attempt == START_TRIES_MAX:
                    raise
                continue
            self._progress(server, f"ready at {launch.address}")
            return local
        raise AssertionError("the last attempt returns or raises")

    def _containers(
        self, servers: Sequence[Server], up_before: dict[Server, Entry]
    ) -> dict[Server, Entry]:
        """Start containers for these servers; none when Docker cannot have them."""
        ports = {str(s): _port_of(e) for s, e in up_before.items() if e.source == "docker"}
        # The registry's container keeps its schemas in the broker's container.
        with_broker = "kafka" in servers or "kafka" in ports
        wanted = [server for server in servers if server != "registry" or with_broker]
        if not wanted:
            return {}
        for server in wanted:
            ports[server] = choose_port(self._port(server))
        self._progress("docker", "starting containers (images are pulled once)")
        project = Compose(self._home)
        failure = project.up(wanted, ports)
        if failure:
            last = failure.splitlines()[-1]
            self._progress("docker", f"not usable, starting local processes: {last}")
            project.stop(wanted)
            return {}
        return {
            server: Entry(source="docker", address=address_of(server, ports[server]))
            for server in wanted
        }


def _port_of(entry: Entry) -> int:
    """Return the port in an address: the digits after its last colon."""
    return int(entry.address.rsplit(":", 1)[1].split("/", 1)[0])


class Stack:
    """The stack of one home folder, shared by every command that names that home."""

    @staticmethod
    def up(
        home: Path,
        servers: Sequence[Server] = SERVERS,
        ports: Ports = "usual",
        progress: Progress = silent,
        settings: Settings | None = None,
    ) -> Addresses:
        """Have these servers up and say where they are; start what is not up yet.

        Raises StackError with the reason; then nothing that this call started is left running.
        """
        settings = settings or Settings.from_environment()
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / "stack.lock"):
            entries = {
                server: entry
                for server, entry in _read(home).items()
                if _is_up(home, server, entry)
            }
            for server in [server for server in servers if server in settings.external]:
                address = settings.external[server]
                if server in entries and entries[server].address == address:
                    continue  # Its own, as an `up` before has told this shell.
                entries[server] = Entry(source="environment", address=address)
                progress(server, f"taken from the environment: {address}")
            missing = [server for server in servers if server not in entries]
            started = _Bringup(home, ports, settings, progress).provide(missing, entries)
            entries |= started
            _write(home, entries)
        return _addresses({s: entries[s] for s in servers}, started=list(started))

    @staticmethod
    def down(
        home: Path,
        servers: Sequence[Server] = ALL_SERVERS,
        *,
        wipe: bool = False,
        progress: Progress = silent,
    ) -> tuple[Server, ...]:
        """Stop what this home started, of these servers, and say what was stopped.

        Data stays, unless `wipe`. Servers that came from the environment are left alone.
        """
        if not home.exists():
            return ()
        stopped: list[Server] = []
        with locked(home / "stack.lock"):
            entries = _read(home)
            for server in [server for server in STOP_ORDER if server in servers]:
                if _stop(home, server, entries.pop(server, None)):
                    progress(server, "stopped")
                    stopped.append(server)
            _write(home, entries)
            if wipe:
                _wipe(home, servers, progress)
        return tuple(stopped)

    @staticmethod
    def status(home: Path) -> tuple[ServerStatus, ...]:
        """How each server is now."""
        entries = _read(home)
        return tuple(_status(home, server, entries.get(server)) for server in ALL_SERVERS)

    @staticmethod
    def addresses(home: Path, settings: Settings | None = None) -> Addresses:
        """Where the servers that are up are, without starting anything.

        An address in the environment wins, then those of the latest `up`.
        """
        settings = settings or Settings.from_environment()
        entries = {
            server: entry
            for server, entry in _read(home).items()
            if entry.source == "environment" or _is_up(home, server, entry)
        }
        for server in [server for server in ALL_SERVERS if server in settings.external]:
            entries[server] = Entry(source="environment", address=settings.external[server])
        return _addresses(entries)


class LocalStack:
    """A stack of local processes with free ports and a throw-away folder, for tests.

    `with LocalStack() as stack:` gives `stack.addresses`, and the servers themselves under their
    names in `stack.servers`, with `stop`, `kill`, `pause`, `resume` and `restart`. Neither Docker
    nor addresses in the environment are looked at. Everything is stopped and deleted at the end.
    """

    def __init__(
        self,
        directory: Path | None = None,
        servers: Sequence[Server] = SERVERS,
        progress: Progress = silent,
        settings: Settings | None = None,
    ) -> None:
        self._given = directory
        self._wanted = tuple(servers)
        self._progress = progress
        self._settings = settings or Settings.from_environment()
        self.directory = Path()
        self.servers: dict[Server, LocalServer] = {}
        self.addresses = Addresses()

    @property
    def kafka(self) -> LocalServer:
        """The broker."""
        return self.servers["kafka"]

    def add(self, *servers: Server) -> Addresses:
        """Start further servers, such as `postgres`, and say where all of them are."""
        missing = [server for server in servers if server not in self.servers]
        bringup = _Bringup(self.directory, "free", self._settings, self._progress)
        self.servers |= bringup.processes(missing)
        self.addresses = _addresses(
            {
                server: Entry(source="local", address=local.address)
                for server, local in self.servers.items()
            },
            started=list(self.servers),
        )
        return self.addresses

    def start(self) -> Self:
        """Start the servers that were asked for."""
        self.directory = (self._given or Path(tempfile.mkdtemp(prefix="holdfast-"))).resolve()
        try:
            self.add(*self._wanted)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop all servers and delete their data."""
        for server in [server for server in STOP_ORDER if server in self.servers]:
            local = self.servers.pop(server)
            local.delete()
        if self._given is None:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _is_up(home: Path, server: Server, entry: Entry) -> bool:
    return _status(home, server, entry).state == "up" and entry.source != "environment"


def _status(home: Path, server: Server, entry: Entry | None) -> ServerStatus:
    if entry is None:
        return ServerStatus(server=server, state="down")
    if entry.source == "environment":
        return ServerStatus(server=server, state="up", source="environment", address=entry.address)
    if entry.source == "docker":
        state: Literal["up", "down"] = "up" if server in Compose(home).running() else "down"
        return ServerStatus(server=server, state=state, source="docker", address=entry.address)
    local = LocalServer.attach(home / server)
    if local is None or local.pid is None:
        log = str(local.log_path) if local is not None else None
        return ServerStatus(server=server, state="down", source="local", log=log)
    return ServerStatus(
        server=server,
        state="up" if local.answers() else "silent",
        source="local",
        address=entry.address,
        pid=local.pid,
        log=str(local.log_path),
    )


def _stop(home: Path, server: Server, entry: Entry | None) -> bool:
    if entry is not None and entry.source == "docker":
        failure = Compose(home).stop([server])
        if failure:
            raise StackError(f"{server}: Docker did not stop it: {failure}")
        return True
    local = LocalServer.attach(home / server)
    if local is None or not local.alive:
        return False
    local.stop()
    return True


def _wipe(home: Path, servers: Sequence[Server], progress: Progress) -> None:
    for server in servers:
        local = LocalServer.attach(home / server)
        if local is not None:
            local.delete()
        if (home / server).exists():
            shutil.rmtree(home / server)
        progress(server, "data deleted")
    if set(servers) == set(ALL_SERVERS) and daemon_answers():
        Compose(home).wipe()


def _read(home: Path) -> dict[Server, Entry]:
    try:
        return msgspec.json.decode((home / "stack.json").read_bytes(), type=dict[Server, Entry])
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as failure:
        raise StackError(
            f"{home / 'stack.json'} cannot be read ({failure}): delete it; servers that still run "
            "are found again by `holdfast stack down`"
        ) from failure


def _write(home: Path, entries: dict[Server, Entry]) -> None:
    record = home / "stack.json"
    record.with_suffix(".new").write_bytes(msgspec.json.encode(entries))
    record.with_suffix(".new").replace(record)
