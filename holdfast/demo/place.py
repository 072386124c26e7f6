"""A throw-away stack with a worker: free ports, a temporary folder, gone at the end.

Addresses in the environment are not looked at: the demo plays with stock, and must not do that on
anybody's broker.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from compose.progress import Progress
from compose.settings import Settings as StackSettings
from compose.stack import Addresses, Stack
from holdfast.commands.topics import ensure_topics
from holdfast.connection import Stop
from holdfast.service_process import ServiceEndedError, worker_process
from producers.settings import Settings

PARTITIONS: Final = 2
SERVERS: Final = ("kafka", "registry")


@contextlib.contextmanager
def throw_away(progress: Progress) -> Iterator[Settings]:
    """Servers, topics and one worker of their own; everything is stopped and deleted at the end.

    Raises:
        StackError: a server cannot be had; the message says which and why.
        Stop: the worker ended at once; the message ends with its log.

    """
    home = Path(tempfile.mkdtemp(prefix="holdfast-demo-"))
    stack = msgspec.structs.replace(StackSettings.from_environment(), home=home, external={})
    try:
        addresses = Stack.up(home, SERVERS, "free", progress, stack)
        settings = _producer_settings(addresses, home)
        progress("topics", f"making them with {PARTITIONS} partitions")
        ensure_topics(addresses, PARTITIONS, Console(stderr=True, quiet=True))
        progress("worker", "starting")
        with worker_process(
            bootstrap=settings.bootstrap_servers,
            registry_url=settings.registry_url,
            data_dir=home / "worker",
        ) as worker:
            worker.wait_until_ready()
            yield settings
    except ServiceEndedError as error:
        raise Stop(str(error)) from error
    finally:
        progress("stack", "stopping, and deleting what it kept")
        Stack.down(home, wipe=True)
        shutil.rmtree(home, ignore_errors=True)


def _producer_settings(addresses: Addresses, home: Path) -> Settings:
    assert addresses.kafka_bootstrap is not None
    assert addresses.registry_url is not None
    return Settings(
        bootstrap_servers=addresses.kafka_bootstrap,
        registry_url=addresses.registry_url,
        schema_cache=str(home / "schemas.json"),
    )
