"""The connector's page is true: its commands run, in the order in which they stand."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from compose.ports import choose_port
from compose.probes import http_answers
from producers.settings import Settings
from tests.support.eventually import eventually
from tests.support.scm import Reader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "producers" / "scm" / "README.md").read_text()
SQL, OUTBOX, ORDERS, WEBHOOK, POST, FILE = re.findall(
    r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
)


class Shell:
    """Runs blocks of the page, with free ports and a product of their own instead of the page's."""

    def __init__(
        self, environment: dict[str, str], folder: Path, of_its_own: Callable[[str], str]
    ) -> None:
        self._environment = {**os.environ, **environment}
        self._folder = folder
        self._of_its_own = of_its_own
        (folder / ".venv").symlink_to(CHECKOUT / ".venv")
        self.health, self.webhook = choose_port(None), choose_port(None)

    def _words(self, block: str) -> list[str]:
        block = block.replace("8096", str(self.health)).replace("8095", str(self.webhook))
        return ["bash", "-euo", "pipefail", "-c", self._of_its_own(block)]

    def run(self, block: str) -> str:
        """What a block printed; it must end well."""
        done = subprocess.run(
            self._words(block),
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def background(self, block: str, ready: Callable[[], object]) -> Iterator[None]:
        """A block that runs until it is interrupted, as by Ctrl-C."""
        process = subprocess.Popen(
            self._words(block), env=self._environment, cwd=self._folder, start_new_session=True
        )
        try:
            eventually(ready)
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)


@pytest.fixture
def shell(
    postgres_dsn: str,
    running: Settings,
    tmp_path: Path,
    fresh: Callable[[str], str],
    of_its_own: Callable[[str], str],
) -> Shell:
    """A shell with the addresses that the page speaks of."""
    name = fresh("erp")
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    environment = {
        "ERP": f"{postgres_dsn.rsplit('/', 1)[0]}/{name}",
        "KAFKA_BOOTSTRAP_SERVERS": running.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": running.registry_url,
        "HOLDFAST_SCHEMA_CACHE": running.schema_cache,
    }
    return Shell(environment, tmp_path, of_its_own)


def test_the_outbox_of_the_page(shell: Shell, running: Settings) -> None:
    """The sample order is created, reserved and cancelled: three records."""
    reader = Reader(running, "SO-1")
    shell.run(SQL)
    with shell.background(OUTBOX, lambda: http_answers(f"http://127.0.0.1:{shell.health}/ready")):
        shell.run(ORDERS)
        eventually(lambda: sum(reader.count().values()) == 3)
    reader.close()


def test_the_webhook_of_the_page(shell: Shell) -> None:
    """The signature that openssl makes is taken."""

    def listens() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{shell.webhook}/").status_code == 404
        except httpx.TransportError:
            return False

    with shell.background(WEBHOOK, listens):
        assert '"published":1' in shell.run(POST)


def test_the_file_of_the_page(shell: Shell) -> None:
    """One row is told on, the other stands in the report."""
    assert "STATUS_UNMAPPED" in shell.run(FILE)
