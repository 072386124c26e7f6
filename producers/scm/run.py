"""Runs one connector until a signal, the end of its file, or a fault."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import structlog
import uvicorn

from producers.channel.client import connect_codec
from producers.listen import listener
from producers.scm.files import FileConnector, Position
from producers.scm.health import Health
from producers.scm.mapping import load
from producers.scm.outbox import OutboxConnector
from producers.scm.publisher import Publisher
from producers.scm.settings import ConnectorSettings
from producers.scm.webhook import Webhook

GRACE_S: Final = 15  # For webhook requests under way at a stop.
BACKLOG: Final = 1_024  # As many as are served at once.

log = structlog.get_logger()


def without_password(dsn: str) -> str:
    """The address of a database as it may be shown."""
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def run_outbox(settings: ConnectorSettings, dsn: str, *, from_start: bool = False) -> None:
    """Follow an outbox until SIGTERM or SIGINT.

    Raises:
        Fault, MappingError, NotListening, RegistryError: it cannot start or must not go on.

    """
    connector = OutboxConnector(
        dsn, settings, load(settings.mapping), _publisher(settings), _stop()
    )
    log.info("source", outbox=without_password(dsn), table=settings.table)
    connector.run(Health(settings.http_port).set_ready, from_start=from_start)


def run_file(
    settings: ConnectorSettings, path: Path, report: Path | None, *, from_start: bool = False
) -> tuple[Position, Path]:
    """Tell on one file, or as much of it as a signal allows; how far, and where the report is.

    Raises:
        FileError, Fault, MappingError, NotListening, RegistryError: it cannot start or must not go
            on.

    """
    mapping = load(settings.mapping)
    connector = FileConnector(path, settings, mapping, _publisher(settings), report=report)
    ready = Health(settings.http_port).set_ready
    return connector.run(_stop(), ready, from_start=from_start), connector.report


def run_webhook(settings: ConnectorSettings, host: str, port: int) -> None:
    """Serve the webhook until SIGTERM or SIGINT; requests under way are answered first.

    Raises:
        Fault, MappingError, NotListening, RegistryError: it cannot start or must not go on.

    """
    mapping = load(settings.mapping)
    # Both ports before `start`: it stops another one of this name, which should go on otherwise.
    listening = listener(host, port, backlog=BACKLOG)
    ready = Health(settings.http_port).set_ready
    publisher = _publisher(settings)
    publisher.start()

    def on_fault() -> None:
        server.should_exit = True

    webhook = Webhook(settings, mapping, publisher, on_fault)
    server = _Server(
        ready,
        uvicorn.Config(
            webhook.app,
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=BACKLOG,
            timeout_graceful_shutdown=GRACE_S,
            ssl_certfile=settings.certificate or None,
            ssl_keyfile=settings.certificate_key or None,
        ),
    )
    _stop()  # The server has handlers of its own, and then raises the signal once more.
    asyncio.run(server.serve([listening]))
    if webhook.committer.fault is not None:
        raise webhook.committer.fault


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, on_listening: Callable[[], None], config: uvicorn.Config) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_listening()


def _publisher(settings: ConnectorSettings) -> Publisher:
    return Publisher(settings, connect_codec(settings.kafka))


def _stop() -> threading.Event:
    """An event that SIGTERM and SIGINT set: what is under way is finished first."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop
