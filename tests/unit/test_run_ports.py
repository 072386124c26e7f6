"""Where `holdfast run` puts the gateway."""

import socket

from compose.ports import LOOPBACK, free_port
from holdfast.commands.run import GATEWAY_PORT_USUAL, gateway_port


def test_the_port_that_was_asked_for_is_kept_even_where_it_is_taken() -> None:
    """HOLDFAST_GATEWAY_PORT is where the gateway is: it is not exchanged for another."""
    asked = free_port()
    assert gateway_port(asked) == asked
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        assert gateway_port(taken.getsockname()[1]) == taken.getsockname()[1]


def test_nought_is_any_free_port() -> None:
    """Port 0 is a port that is known before the gateway starts, so that it can be told."""
    assert gateway_port(0) not in {0, GATEWAY_PORT_USUAL}
