"""Addresses that are listened on: had before anything else is begun, or said to be taken."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Final

LOOPBACK: Final = "127.0.0.1"


class NotListening(Exception):
    """An address cannot be had: it is taken, or not this machine's; the text says which."""


@contextlib.contextmanager
def said_if_taken(host: str, port: int) -> Iterator[None]:
    """Say of an address that cannot be listened on which it is, and why.

    Raises:
        NotListening: the address cannot be had.

    """
    try:
        yield
    except OSError as error:
        raise NotListening(f"{host}:{port}: {error.strerror or error}") from error


def listener(host: str, port: int, *, backlog: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        NotListening: the address cannot be had.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with said_if_taken(host, port):
        return socket.create_server((host, port), family=family, backlog=backlog)
