"""Ports on loopback.

A free port is taken from below the range from which the system gives ports to outgoing
connections. Within that range a client that keeps reconnecting to a server that is down would,
sooner or later, be given the server's own port, connect to itself, and keep the server from coming
back.
"""

import random
import socket

LOOPBACK = "127.0.0.1"
FREE_PORT_MIN = 12_000
FREE_PORT_MAX = 31_999  # Linux hands out 32768 and up.
TRIES_MAX = 200

_chance = random.SystemRandom()  # Not the shared generator: a seeded test must not choose ports.
_given: set[int] = set()  # By this process: its servers may not listen yet.


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port on which nothing listens, another one each time.

    Two processes may get the same one; starts retry.
    """
    for _ in range(TRIES_MAX):
        port = _chance.randint(FREE_PORT_MIN, FREE_PORT_MAX)
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise OSError(f"no free port between {FREE_PORT_MIN} and {FREE_PORT_MAX}")


def choose_port(usual: int | None) -> int:
    """Return the usual port when nobody listens there, else a free one."""
    if usual is not None and is_free(usual):
        return usual
    return free_port()
