"""The servers the tests run against: real ones, once per session, never skipped.

Where a server cannot be had, each test that needs it fails with the reason.
"""

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings

import processor
from compose.settings import Settings
from processor import compiled
from tests.support import spread
from tests.support.servers import SessionServers, choice

# A run in the background of a shell inherits an ignored SIGINT, and so would the commands that the
# tests interrupt as Ctrl-C does.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Servers live for seconds here: what Java's second compiler makes faster never pays its way.
QUICK_START = "-XX:TieredStopAtLevel=1"

# Timings belong in benchmarks: a busy machine must not fail a property.
hypothesis_settings.register_profile("holdfast", deadline=None)
hypothesis_settings.load_profile("holdfast")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer to test the core's sources where compiled modules would be used."""
    parser.addoption("--pure", action="store_true", help="the core from its sources, not compiled")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the core before any test imports it, and how the servers of the tests start."""
    given = os.environ.get("JAVA_TOOL_OPTIONS", "")
    if QUICK_START not in given:
        os.environ["JAVA_TOOL_OPTIONS"] = f"{given} {QUICK_START}".lstrip()
    if config.getoption("--pure"):
        compiled.pass_by()
    worker = getattr(config, "workerinput", None)  # Where pytest-xdist runs this as one of several.
    if worker is not None:
        spread.take_own_ports(int(worker["workerid"].removeprefix("gw")), worker["workercount"])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest, where several workers are to end together."""
    if hasattr(config, "workerinput"):
        spread.longest_first(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> spread.Spread:
    """Spread the tests over workers by the servers they share."""
    config.option.loadscopereorder = False  # It would begin with the scope of most tests.
    return spread.Spread(config, log)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say which core is tested, and where the servers come from."""
    built = processor.COMPILED and not config.getoption("--pure")
    core = "compiled" if built else "its sources"
    said = [f"core: {core}; {choice(Settings.from_environment())}"]
    if config.getoption("numprocesses", None):
        said.append("the longest tests begin first: their results take a minute or two")
    return said


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End a session of several workers after theirs."""
    spread.let_workers_stop_their_servers(session.config)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionServers]:
    """All servers of this session, started on demand."""
    session = SessionServers(Settings.from_environment(), tmp_path_factory.mktemp("servers"))
    yield session
    session.stop()


@pytest.fixture(scope="session")
def kafka_bootstrap(stack: SessionServers) -> str:
    """Address of the broker."""
    return stack.address("kafka")


@pytest.fixture(scope="session")
def registry_url(stack: SessionServers) -> str:
    """Address of the schema registry's Confluent API."""
    return stack.address("registry")


@pytest.fixture(scope="session")
def redis_url(stack: SessionServers) -> str:
    """Address of Redis."""
    return stack.address("redis")


@pytest.fixture(scope="session")
def postgres_dsn(stack: SessionServers) -> str:
    """Address of PostgreSQL, started only for who asks."""
    return stack.address("postgres")


@pytest.fixture
def fresh() -> Callable[[str], str]:
    """Make names that no other test uses: `fresh("requests")` gives `requests-4f2a9c1b`.

    Servers are shared by the session; topics, groups and key prefixes are not. All names of one
    test end alike.
    """
    suffix = uuid.uuid4().hex[:8]
    return lambda name: f"{name}-{suffix}"
