"""Liveness, readiness and metrics of a connector, on loopback, in a daemon thread."""

import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app

from producers.listen import LOOPBACK, said_if_taken
from producers.scm import metrics

_StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        return None


class Health:
    """Serves /live, /ready and /metrics; ready once `set_ready` was called.

    Raises:
        NotListening: the port is taken.

    """

    def __init__(self, port: int) -> None:
        self._ready = threading.Event()
        self._metrics = make_wsgi_app()
        if port:
            with said_if_taken(LOOPBACK, port):
                server = make_server(LOOPBACK, port, self._serve, handler_class=_Quiet)
            threading.Thread(target=server.serve_forever, name="health", daemon=True).start()

    def set_ready(self) -> None:
        """Say from now on that the source is followed."""
        metrics.SOURCE_UP.set(1)
        self._ready.set()

    def _serve(self, environ: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            scraped: Iterable[bytes] = self._metrics(environ, start_response)
            return scraped
        known = path in {"/live", "/ready"}
        ok = path == "/live" or (path == "/ready" and self._ready.is_set())
        status = "200 OK" if ok else "503 Service Unavailable" if known else "404 Not Found"
        start_response(status, [("Content-Type", "text/plain")])
        return [b"ok\n" if ok else b"not ready\n"]
