"""Where the stack's folders and addresses come from, and how ports are chosen."""

import socket
from pathlib import Path

from compose.ports import FREE_PORT_MAX, FREE_PORT_MIN, LOOPBACK, choose_port, free_port, is_free
from compose.settings import CHECKOUT, Settings


def test_defaults_stay_in_the_checkout_and_the_users_cache() -> None:
    """With an empty environment the home is in the checkout, and nothing is external."""
    settings = Settings.from_environment({})
    assert settings.home == CHECKOUT / ".holdfast"
    assert settings.cache == Path.home() / ".cache" / "holdfast"
    assert settings.external == {}


def test_the_environment_names_folders_and_addresses() -> None:
    """Each variable reaches its setting; an empty one counts as not set."""
    settings = Settings.from_environment(
        {
            "HOLDFAST_HOME": "/a",
            "HOLDFAST_CACHE": "/b",
            "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
            "REDIS_URL": "",
        }
    )
    assert (settings.home, settings.cache) == (Path("/a"), Path("/b"))
    assert settings.external == {"kafka": "broker:9092"}


def test_a_usual_port_that_is_taken_is_replaced() -> None:
    """Whether taken on loopback or on all addresses, another port is chosen."""
    for where in (LOOPBACK, "0.0.0.0"):  # noqa: S104  # As a careless program would.
        with socket.socket() as holder:
            holder.bind((where, 0))
            holder.listen()
            taken = holder.getsockname()[1]
            assert not is_free(taken)
            assert choose_port(taken) != taken


def test_a_free_usual_port_is_kept() -> None:
    """The usual port is the one people expect, so it is taken whenever it is free."""
    usual = free_port()
    assert choose_port(usual) == usual


def test_free_ports_are_not_ones_the_system_gives_to_clients() -> None:
    """Else a client of a stopped server could be given its port and connect to itself."""
    ports = {free_port() for _ in range(500)}
    assert len(ports) == 500, "one was given twice: its first server may not listen yet"
    assert all(FREE_PORT_MIN <= port <= FREE_PORT_MAX for port in ports)
    assert FREE_PORT_MAX < 32_768  # Where Linux begins, unless told otherwise.
