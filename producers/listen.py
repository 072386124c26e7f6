"""Addresses that are listened on: had before anything else is begun, or said to be taken."""

import socket


class NotListening(Exception):
    """An address cannot be had: it is taken, or not this machine's; the text says which."""


def listener(host: str, port: int, *, backlog: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        NotListening: the address cannot be had.

    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        raise NotListening(f"{host}:{port}: {error.strerror or error}") from error
