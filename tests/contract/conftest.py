"""A stack with a worker and a gateway in front, once for all tests of the HTTP contract."""

import uuid
from collections.abc import Iterator

import httpx
import pytest

from compose.progress import silent
from holdfast.demo.place import throw_away
from producers.settings import Settings
from tests.support.gateway import GatewayProcess, Shop, gateway_process


@pytest.fixture(scope="session")
def http_stack() -> Iterator[Settings]:
    """Servers and a worker."""
    with throw_away(silent) as settings:
        yield settings


@pytest.fixture(scope="session")
def gateway(
    http_stack: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """The gateway that all tests ask."""
    home = tmp_path_factory.mktemp("gateway")
    with gateway_process(http_stack, home, {"HOLDFAST_GATEWAY_WIPE_ALLOWED": "true"}) as process:
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
