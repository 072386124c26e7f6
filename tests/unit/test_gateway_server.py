"""How a gateway's process ends: `serve` itself, over a writer that does as it is told."""

import asyncio
import gc
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from compose.ports import free_port
from holdfast.no_view import NoView
from processor.inventory.configuration import default, to_json
from producers.gateway.server import EXIT_FAULT, serve
from producers.gateway.settings import GatewaySettings
from producers.gateway.state import Gateway
from producers.security.issuer import ISSUER, LocalIssuer
from producers.security.verify import Verifier

WITHIN_S = 5.0  # A gateway that goes on would serve for ever: it is asked to stop then, which is 0.


class Writer:
    """Stands for a writer whose link ended once it was open."""

    in_flight = 0
    ended = ""
    closed = False

    async def open(self) -> None:
        """Connected, and then no more."""
        self.ended = "Kafka: fenced"
        asyncio.get_running_loop().call_later(WITHIN_S, signal.raise_signal, signal.SIGTERM)

    async def close(self) -> None:
        """Let go."""
        self.closed = True


@pytest.fixture(autouse=True)
def _interpreter_as_before() -> Iterator[None]:
    """A gateway sets up the interpreter for itself; here others use it afterwards."""
    interval_s, threshold = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(interval_s)
    gc.set_threshold(*threshold)
    gc.unfreeze()


def test_a_gateway_that_can_write_no_more_ends(tmp_path: Path) -> None:
    """With code 70, the reason in the log and everything let go: a supervisor starts it again."""
    issuer = LocalIssuer(tmp_path, audience="holdfast")
    writer = Writer()
    gateway = Gateway(
        GatewaySettings(local_keys=tmp_path, port=free_port()),
        writer=writer,  # type: ignore[arg-type]
        queries=NoView(),
        configurations=object(),  # type: ignore[arg-type]
        document=msgspec.json.decode(to_json(default())),
        verifier=Verifier(issuer.keys, issuer=ISSUER, audience="holdfast"),
        issuer=issuer,
    )
    with capture_logs() as logs, pytest.raises(SystemExit) as ended:
        serve(gateway)
    assert ended.value.code == EXIT_FAULT == 70
    assert [one["reason"] for one in logs if one["log_level"] == "critical"] == ["Kafka: fenced"]
    assert writer.closed
