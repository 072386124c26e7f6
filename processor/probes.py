"""What a worker or a view tells of itself over HTTP: /live, /ready and /metrics, on loopback."""

import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import make_wsgi_app


class NotListening(Exception):
    """The port cannot be had; the text says which and why."""


_StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        return None


def serve_probes(port: int, is_ready: Callable[[], bool]) -> None:
    """Serve in a daemon thread; what ready means the caller says.

    Raises:
        NotListening: the port is taken.

    """
    metrics = make_wsgi_app()

    def serve(environ: dict[str, Any], start_response: _StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            scraped: Iterable[bytes] = metrics(environ, start_response)
            return scraped
        ok = path == "/live" or (path == "/ready" and is_ready())
        missing = "503 Service Unavailable" if path == "/ready" else "404 Not Found"
        start_response("200 OK" if ok else missing, [("Content-Type", "text/plain")])
        return [b"ok\n" if ok else b"not ready\n"]

    try:
        server = make_server("127.0.0.1", port, serve, handler_class=_Quiet)
    except OSError as error:
        raise NotListening(f"127.0.0.1:{port}: {error.strerror}") from error
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
