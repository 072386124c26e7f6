"""A connector as a child process, and what it committed to the topics."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

from compose.ports import choose_port
from compose.probes import http_answers
from producers.channel.client import connect_codec
from producers.settings import Settings
from schemas import topics
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from schemas.messages import DeadLetter, InventoryTransaction


class Connector:
    """Connectors of one name, one after the other; each in a session of its own."""

    def __init__(self, settings: Settings, folder: Path, name: str, source: Sequence[str]) -> None:
        self.name = name
        self.folder = folder
        self.runs = 0
        self._settings = settings
        self._source = source

    def start(self, *options: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start one."""
        self.runs += 1
        command = ["-m", "holdfast", "connector", "run", *self._source, "--name", self.name]
        with (self.folder / f"connector-{self.runs}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *command, *options],
                env={
                    **os.environ,
                    "KAFKA_BOOTSTRAP_SERVERS": self._settings.bootstrap_servers,
                    "SCHEMA_REGISTRY_URL": self._settings.registry_url,
                    "HOLDFAST_SCHEMA_CACHE": self._settings.schema_cache,
                    **environment,
                },
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self) -> str:
        """What the last one said."""
        return (self.folder / f"connector-{self.runs}.log").read_text()

    @contextmanager
    def followed(self, *options: str, **environment: str) -> Iterator[int]:
        """One that runs; gives its health port, and stops it gracefully."""
        port = choose_port(None)
        process = self.start("--http-port", str(port), *options, **environment)
        try:
            eventually(lambda: http_answers(f"http://127.0.0.1:{port}/ready"))
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
        assert code == 0, self.log()


class Reader:
    """Committed records of the sources that carry an ERP's event ids, and its dead letters."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._codec = connect_codec(settings)
        self._name = name
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.bootstrap_servers,
                "group.id": name,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        known = self._consumer.list_topics().topics
        self._consumer.assign(
            [
                TopicPartition(topic, partition, 0)
                for topic in (topics.TRANSACTIONS, topics.DEAD_LETTERS)
                for partition in known[topic].partitions
            ]
        )
        self.told: list[InventoryTransaction] = []
        self.letters: list[DeadLetter] = []

    def read(self) -> None:
        """Take in what is there now."""
        for message in self._consumer.consume(2_000, 0.05):
            assert message.error() is None, message.error()
            if message.topic() == topics.DEAD_LETTERS:
                letter = self._codec.decode_dead_letter(message.value())
                if letter.topic == f"scm:{self._name}":
                    self.letters.append(letter)
                continue
            told = self._codec.decode_transaction(message.value())
            if told.event_id.startswith(self._name):
                self.told.append(told)

    def count(self) -> Counter[str]:
        """How often each event id was committed, by now."""
        self.read()
        return Counter(told.event_id for told in self.told)

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()


def metric(port: int, name: str) -> float:
    """A metric of a connector, now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))
