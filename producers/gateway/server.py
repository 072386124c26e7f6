"""Runs a gateway: one process, uvicorn on uvloop and httptools, TLS where it is configured."""

import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Final

import structlog
import uvicorn
from prometheus_client import start_http_server

from producers.gateway.app import create_app
from producers.gateway.state import Gateway
from producers.gateway.straight import protocol
from producers.listen import LOOPBACK, listener, said_if_taken

BACKLOG: Final = 1_024
KEEP_ALIVE_S: Final = 30
STOP_WITHIN_S: Final = 10
HEADER_BYTES_MAX: Final = 65_536
GC_YOUNG_MAX: Final = 20_000
EXIT_NOT_STARTED: Final = 3
EXIT_FAULT: Final = 70  # As worker and connector: the supervisor should start it again.
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# The link's thread and the event loop share the interpreter: at the default of 5 ms one of them
# would wait that long for the other whenever both are busy.
SWITCH_INTERVAL_S: Final = 0.0005
log = structlog.get_logger()


def serve(gateway: Gateway) -> None:
    """Serve until SIGTERM or Ctrl-C; requests under way are answered first.

    Raises:
        NotListening: an address is taken.
        SystemExit: the broker did not answer at start (3), or nothing can be written any more (70).

    """
    settings = gateway.settings
    listening = listener(settings.host, settings.port, backlog=BACKLOG)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    app = create_app(gateway)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=protocol(app.original, settings.body_bytes_max),
        ws="none",
        lifespan="on",
        backlog=BACKLOG,
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,  # Nobody in front is trusted to say who calls.
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_WITHIN_S,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        ssl_certfile=settings.tls_certificate or None,
        ssl_keyfile=settings.tls_key or None,
    )
    if settings.metrics_port:
        with said_if_taken(LOOPBACK, settings.metrics_port):
            start_http_server(settings.metrics_port, LOOPBACK, gateway.metrics.registry)
    server = _Server(config, gateway)
    server.run([listening])
    if not server.started:
        raise SystemExit(EXIT_NOT_STARTED)
    if server.fault:
        raise SystemExit(EXIT_FAULT)


class _Server(uvicorn.Server):
    """Says where it is, once it is there; and a graceful stop ends with 0.

    Attributes:
        fault: why it stopped by itself; empty when it did not.

    """

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway
        self.fault = ""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, and leave it at that: uvicorn itself would die of it afterwards."""
        before = {one: signal.signal(one, self.handle_exit) for one in STOP_SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say where."""
        await super().startup(sockets)
        # What is there now stays: the collector need not walk it again. A bulk makes thousands of
        # objects that live for milliseconds, so young ones are looked at less often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_YOUNG_MAX, 20, 20)
        if self.started:
            settings = self.config
            log.info("gateway ready", host=settings.host, port=settings.port, tls=settings.is_ssl)

    async def on_tick(self, counter: int) -> bool:
        """Stop also when nothing can be written any more: every write would be 503 for ever."""
        self.fault = self._gateway.writer.ended
        if self.fault:
            log.critical("the gateway ends: nothing can be written", reason=self.fault)
            return True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; streams are ended first, since nobody would see their end."""
        self._gateway.end_streams()
        await super().shutdown(sockets)
