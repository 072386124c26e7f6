"""A stack whose worker answers on reply topics, too."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import msgspec
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console

from compose.progress import silent
from compose.settings import Settings as StackSettings
from compose.stack import Stack
from holdfast.commands.topics import ensure_topics
from holdfast.service_process import worker_process
from producers.settings import Settings

ALLOWED = "shop-replies"
FORBIDDEN = "not-allowed-replies"
PARTITIONS = 3


@contextmanager
def replying() -> Iterator[tuple[Settings, int]]:
    """Settings of such a stack, and the worker's health port."""
    home = Path(tempfile.mkdtemp(prefix="holdfast-replies-"))
    stack = msgspec.structs.replace(StackSettings.from_environment(), home=home, external={})
    try:
        addresses = Stack.up(home, ("kafka", "registry"), "free", silent, stack)
        assert addresses.kafka_bootstrap is not None
        assert addresses.registry_url is not None
        ensure_topics(addresses, 2, Console(stderr=True, quiet=True))
        admin = AdminClient({"bootstrap.servers": addresses.kafka_bootstrap})
        made = admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in (ALLOWED, FORBIDDEN)])
        for future in made.values():
            future.result(30)
        settings = Settings(
            bootstrap_servers=addresses.kafka_bootstrap,
            registry_url=addresses.registry_url,
            schema_cache=str(home / "schemas.json"),
        )
        with ExitStack() as entered:
            # This worker alone is told: those that tests start elsewhere have no such topic.
            with patch.dict(os.environ, {"HOLDFAST_REPLY_TOPICS": ALLOWED}):
                worker = entered.enter_context(
                    worker_process(
                        bootstrap=settings.bootstrap_servers,
                        registry_url=settings.registry_url,
                        data_dir=home / "worker",
                    )
                )
            worker.wait_until_ready()
            yield settings, worker.http_port
    finally:
        Stack.down(home, wipe=True)
        shutil.rmtree(home, ignore_errors=True)
