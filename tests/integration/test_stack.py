"""The local stack with real servers: what is up, what survives, what is left behind.

Local processes only, whatever Docker says: their life cycle is what is checked here.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from compose.errors import ServerFailedError, ServerMissingError
from compose.ports import LOOPBACK, free_port
from compose.process import LocalServer
from compose.settings import Settings
from compose.stack import PORTS_USUAL, Addresses, LocalStack, Server, Stack
from tests.support.eventually import eventually

pytestmark = pytest.mark.kafka

HOLDFAST = [sys.executable, "-c", "from holdfast.commands.stack import app; app()"]


def local_settings(**environ: str) -> Settings:
    """Give settings that look at neither Docker nor addresses, with the usual cache."""
    cache = str(Settings.from_environment().cache)
    return Settings.from_environment({"HOLDFAST_DOCKER": "off", "HOLDFAST_CACHE": cache} | environ)


@pytest.fixture(scope="module")
def local() -> Iterator[LocalStack]:
    """One throw-away stack for the tests that do not bring their own."""
    with LocalStack(settings=local_settings()) as stack:
        yield stack


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose servers are stopped at the end, whatever happened."""
    yield tmp_path / "home"
    Stack.down(tmp_path / "home", wipe=True)


def create_topic(bootstrap: str, topic: str) -> None:
    """Create a topic of one partition and wait until it is there."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)


def produce(bootstrap: str, topic: str, value: bytes) -> None:
    """Write one record in a transaction, which is how the engine writes."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "transactional.id": topic, "retry.backoff.ms": 5}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, value)
    producer.commit_transaction(30)


def consume(bootstrap: str, topic: str) -> bytes | None:
    """Read the first committed record of a topic."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": topic, "isolation.level": "read_committed"}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        value: bytes | None = eventually(lambda: consumer.poll(1.0)).value()
        return value
    finally:
        consumer.close()


def register(registry_url: str, name: str) -> int:
    """Register a schema and return the id it was given."""
    schema = json.dumps({"type": "record", "name": name, "fields": [{"name": "x", "type": "int"}]})
    request = urllib.request.Request(  # noqa: S310  # Our own registry, on loopback.
        f"{registry_url}/subjects/{name}-value/versions",
        json.dumps({"schema": schema}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return int(json.load(answer)["id"])


def of(addresses: Addresses) -> tuple[str, str, str]:
    """Give the three addresses of the main job, each of which must be there."""
    assert addresses.kafka_bootstrap
    assert addresses.registry_url
    assert addresses.redis_url
    return addresses.kafka_bootstrap, addresses.registry_url, addresses.redis_url


def test_the_servers_do_their_work(local: LocalStack, fresh: Callable[[str], str]) -> None:
    """A transaction commits and is read, a schema gets an id, Redis answers."""
    bootstrap, registry_url, redis_url = of(local.addresses)
    topic = fresh("works")
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, b"here")
    assert consume(bootstrap, topic) == b"here"
    assert register(registry_url, "Works") == register(registry_url, "Works")
    assert redis.Redis.from_url(redis_url).ping()


def test_the_broker_survives_a_kill_with_its_records(
    local: LocalStack, fresh: Callable[[str], str]
) -> None:
    """After kill -9 and a start it is at the same address, and what was committed is there."""
    bootstrap, _, _ = of(local.addresses)
    topic = fresh("killed")
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, b"kept")
    # Seen once, so the commit's marker is written too: a commit is answered a moment before that,
    # and a broker killed within that moment is a matter for the fault campaign.
    assert consume(bootstrap, topic) == b"kept"
    local.kafka.kill()
    assert not local.kafka.alive
    local.kafka.start()
    assert consume(bootstrap, topic) == b"kept"


def test_the_broker_can_be_paused_and_resumed(local: LocalStack) -> None:
    """Paused it is alive and silent; resumed it answers."""
    local.kafka.pause()
    assert local.kafka.alive
    assert not local.kafka.answers()
    local.kafka.resume()
    eventually(local.kafka.answers)


def test_schema_ids_survive_a_kill_of_the_registry(local: LocalStack) -> None:
    """An id is inside every record; after a crash it must mean the same schema, and no other."""
    _, registry_url, _ = of(local.addresses)
    first = [register(registry_url, name) for name in ("KillA", "KillB")]
    registry = local.servers["registry"]
    registry.kill()
    registry.start()
    new = register(registry_url, "KillC")
    assert new not in first
    assert [register(registry_url, name) for name in ("KillA", "KillB")] == first


def test_postgres_comes_when_it_is_asked_for(local: LocalStack) -> None:
    """It accepts the role and database of its address without a password."""
    assert local.addresses.postgres_dsn is None
    dsn = local.add("postgres").postgres_dsn
    assert dsn is not None
    port = local.servers["postgres"].launch.port
    parameters = b"user\x00holdfast\x00database\x00holdfast\x00\x00"
    with socket.create_connection((LOOPBACK, port), timeout=10) as connection:
        connection.sendall(struct.pack("!ii", 8 + len(parameters), 196_608) + parameters)
        assert connection.recv(9) == b"R" + struct.pack("!ii", 8, 0)  # AuthenticationOk.


def test_deleting_a_server_deletes_data_kept_elsewhere() -> None:
    """As root, PostgreSQL's data may be outside its folder; it goes with the rest."""
    with LocalStack(servers=("postgres",), settings=local_settings()) as stack:
        launch = stack.servers["postgres"].launch
        data = Path(launch.argv[launch.argv.index("-D") + 1])
        assert (data / "PG_VERSION").exists()
        assert launch.elsewhere in {None, str(data)}
    assert not data.exists()
    assert not Path(launch.directory).exists()


def test_data_stays_when_the_stack_goes_down_and_up(
    home: Path, fresh: Callable[[str], str]
) -> None:
    """Down and up again keeps records and schema ids; a second up starts nothing; wipe deletes."""
    topic = fresh("stays")
    first = Stack.up(home, ports="free", settings=local_settings())
    bootstrap, registry_url, _ = of(first)
    create_topic(bootstrap, topic)
    produce(bootstrap, topic, b"stock")
    schema_id = register(registry_url, "Stays")
    again = Stack.up(home, ports="free", settings=local_settings())
    assert again.started == ()
    assert again.kafka_bootstrap == bootstrap
    assert Stack.addresses(home, local_settings()).registry_url == registry_url

    assert set(Stack.down(home)) == {"kafka", "registry", "redis"}
    assert {server.state for server in Stack.status(home)} == {"down"}
    bootstrap, registry_url, _ = of(Stack.up(home, ports="free", settings=local_settings()))
    assert consume(bootstrap, topic) == b"stock"
    assert register(registry_url, "Stays") == schema_id

    Stack.down(home, wipe=True)
    assert sorted(path.name for path in home.iterdir()) == ["stack.json", "stack.lock"]


def test_a_server_that_died_is_started_again_and_the_others_are_left(home: Path) -> None:
    """`up` repairs: it starts what is missing, on what is there."""
    servers: tuple[Server, ...] = ("redis", "registry")
    Stack.up(home, servers, "free", settings=local_settings())
    registry = LocalServer.attach(home / "registry")
    dead = LocalServer.attach(home / "redis")
    assert registry is not None
    assert dead is not None
    dead.kill()
    assert [s.state for s in Stack.status(home) if s.server == "redis"] == ["down"]
    repaired = Stack.up(home, servers, "free", settings=local_settings())
    assert repaired.started == ("redis",)
    assert registry.alive


def test_its_own_address_in_the_environment_leaves_a_server_its_own(home: Path) -> None:
    """After `eval "$(holdfast stack up)"` another `up`, and a `down`, still know whose it is."""
    first = Stack.up(home, ("redis",), "free", settings=local_settings())
    told = local_settings(REDIS_URL=str(first.redis_url))
    assert Stack.up(home, ("redis",), "free", settings=told).redis_url == first.redis_url
    (status,) = [one for one in Stack.status(home) if one.server == "redis"]
    assert (status.source, status.state) == ("local", "up")
    assert Stack.up(home, ("redis",), "free", settings=local_settings()).started == ()
    assert Stack.down(home) == ("redis",)


def test_a_usual_port_that_is_taken_does_not_stop_the_stack(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's server stays where it is, and ours gets another port."""
    with socket.socket() as other:
        other.bind((LOOPBACK, free_port()))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setitem(PORTS_USUAL, "redis", taken)
        addresses = Stack.up(home, ("redis",), "usual", settings=local_settings())
        assert addresses.redis_url is not None
        assert f":{taken}/" not in addresses.redis_url
        assert redis.Redis.from_url(addresses.redis_url).ping()


def test_a_broker_with_a_bad_setting_says_which(local: LocalStack, tmp_path: Path) -> None:
    """The error holds the reason and the log's own words, and no process is left."""
    broken = tmp_path / "server.properties"
    good = (local.directory / "kafka" / "server.properties").read_text("utf-8")
    broken.write_text(good.replace("node.id=1", "node.id=one"), "utf-8")
    base = local.kafka.launch
    argv = (*base.argv[:-1], str(broken))
    server = LocalServer(msgspec.structs.replace(base, argv=argv, directory=str(tmp_path)))
    with pytest.raises(ServerFailedError) as failure:
        server.start()
    assert "configuration was refused" in failure.value.reason
    assert "Invalid value one for configuration" in failure.value.log_tail
    assert not server.alive


def test_when_one_server_cannot_be_had_none_is_left_running(home: Path, tmp_path: Path) -> None:
    """What was started on the way is stopped again, and the message is one sentence."""
    (tmp_path / "bin").mkdir()
    old = tmp_path / "bin" / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n", "utf-8")
    old.chmod(0o755)
    settings = local_settings(JAVA_HOME=str(tmp_path))
    with pytest.raises(ServerMissingError, match="needs Java 17") as failure:
        Stack.up(home, ports="free", settings=settings)
    assert "\n" not in str(failure.value)
    redis_server = LocalServer.attach(home / "redis")
    assert redis_server is None or not redis_server.alive


def run(home: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run `holdfast stack` with this home."""
    environ = os.environ | {"HOLDFAST_HOME": str(home), "HOLDFAST_DOCKER": "off"}
    return subprocess.run(
        [*HOLDFAST, *argv], env=environ, capture_output=True, text=True, check=False, timeout=120
    )


def test_the_command_line_starts_shows_and_stops(home: Path) -> None:
    """Up tells addresses, status exits 0 while all is well and 1 when a server died, down stops."""
    up = run(home, "up", "--free-ports", "--json")
    assert up.returncode == 0, up.stderr
    addresses = json.loads(up.stdout.splitlines()[-1])
    assert addresses["started"] == ["kafka", "registry", "redis"]
    assert "ready at" in up.stderr
    exported = run(home, "up").stdout
    assert f"export KAFKA_BOOTSTRAP_SERVERS={addresses['kafka_bootstrap']}" in exported

    shown = run(home, "status", "--json")
    assert shown.returncode == 0
    servers = {s["server"]: s for s in json.loads(shown.stdout.splitlines()[-1])["servers"]}
    assert servers["kafka"]["state"] == "up"
    os.kill(servers["redis"]["pid"], signal.SIGKILL)
    eventually(lambda: run(home, "status").returncode == 1)

    down = run(home, "down", "--json")
    assert down.returncode == 0
    assert json.loads(down.stdout.splitlines()[-1])["stopped"] == ["registry", "kafka"]
    assert LocalServer.attach(home / "kafka").pid is None  # type: ignore[union-attr]


def test_ctrl_c_while_starting_leaves_nothing(home: Path) -> None:
    """Who gives up waiting finds no half-started servers afterwards."""
    environ = os.environ | {"HOLDFAST_HOME": str(home), "HOLDFAST_DOCKER": "off"}
    up = subprocess.Popen(
        [*HOLDFAST, "up", "--free-ports"], env=environ, stderr=subprocess.PIPE, text=True
    )
    try:
        assert up.stderr is not None
        lines = iter(up.stderr.readline, "")
        assert any("ready at redis" in line for line in lines)  # Kafka takes seconds longer.
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)
        assert up.returncode not in {0, None}
    finally:
        up.kill()
        up.communicate()
    for server in ("kafka", "registry", "redis"):
        left = LocalServer.attach(home / server)
        assert left is None or not left.alive
