"""Does the server answer? One question per kind of server, asked of the server itself."""

import contextlib
import http.client
import socket
import urllib.parse
from typing import Literal

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from compose.ports import LOOPBACK

Probe = Literal["kafka", "registry", "redis", "postgres"]
ANSWER_WITHIN_S = 5.0


def answers(probe: Probe, port: int) -> bool:
    """Whether the server of this kind on this port of 127.0.0.1 does its work now."""
    if not _listens(port):
        return False
    if probe == "kafka":
        return kafka_answers(f"{LOOPBACK}:{port}")
    if probe == "registry":
        return _registry_answers(port)
    if probe == "redis":
        return _redis_answers(port)
    return True  # PostgreSQL listens before it is ready; its log line is the other half.


def kafka_answers(bootstrap: str) -> bool:
    """Whether a broker there gives out metadata that names at least one broker."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=ANSWER_WITHIN_S).brokers)
    except KafkaException:
        return False


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def _registry_answers(port: int) -> bool:
    return http_answers(f"http://{LOOPBACK}:{port}/apis/ccompat/v7/subjects")


def _redis_answers(port: int) -> bool:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=ANSWER_WITHIN_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def http_answers(url: str) -> bool:
    """Whether GET on this http URL is answered with 200 now."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_WITHIN_S)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
