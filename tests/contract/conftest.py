"""A stack with a worker, the read view and a gateway in front, once for the HTTP contract."""

import uuid
from collections.abc import Iterator

import httpx
import pytest

from compose.progress import silent
from compose.stack import LocalStack
from holdfast.demo.place import throw_away
from producers.settings import Settings
from tests.support.gateway import GatewayProcess, Shop, gateway_process, view_process
from tests.support.source import Source


@pytest.fixture(scope="session")
def http_stack() -> Iterator[Settings]:
    """Servers and a worker."""
    with throw_away(silent) as settings:
        yield settings


@pytest.fixture(scope="session")
def view_url(http_stack: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Redis with the view of that worker's decisions."""
    with LocalStack(servers=("redis",)) as stack:
        url = stack.addresses.redis_url
        assert url is not None
        with view_process(http_stack, url, tmp_path_factory.mktemp("view")):
            yield url


@pytest.fixture(scope="session")
def gateway(
    http_stack: Settings, view_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """The gateway that all tests ask."""
    settings = {"HOLDFAST_GATEWAY_WIPE_ALLOWED": "true", "REDIS_URL": view_url}
    with gateway_process(http_stack, tmp_path_factory.mktemp("gateway"), settings) as process:
        yield process


@pytest.fixture(scope="session")
def client(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    """A client that may do everything."""
    with gateway.client() as client:
        yield client


@pytest.fixture
def shop(client: httpx.Client) -> Shop:
    """A product nobody else uses, without stock."""
    return Shop(client=client, product=f"P-{uuid.uuid4().hex[:10]}")


@pytest.fixture
def nothing_written(http_stack: Settings) -> Iterator[None]:
    """Whatever the test does, it must write nothing."""
    source = Source(http_stack)
    starts = source.ends()
    yield
    written = source.written_since(starts)
    source.close()
    assert written == []
