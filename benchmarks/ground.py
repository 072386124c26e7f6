"""The ground of all runs: one broker and registry, with fresh topics for every run.

A broker that was just started compiles itself for minutes, with up to a third of two cores, and a
run beside that measures the compiler. Brokers of production run for months; so the runs of a
session, ours and those of peers, share one, and only topics and consumer groups are made anew.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Self

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks import broker
from benchmarks.broker import Progress
from benchmarks.contestants import Site
from benchmarks.programs import thread_cpu_s
from benchmarks.warm import warm_up
from compose.stack import LocalStack
from schemas import topics
from schemas.codec import Codec
from schemas.registry import SchemaIds

INTERNAL: Final = "__"  # Topics of the broker itself begin with it.
WARM_UP_S: Final = 20.0
EMPTY_WITHIN_S: Final = 60.0  # Members that were killed leave their group by its session timeout.
RETRY_S: Final = 0.25
CLEANER: Final = "kafka-log-clean"  # The broker's thread that compacts, as Linux calls it.
CLEANER_SHARE_MAX: Final = 0.05  # Of a core: with less it has nothing to do for now.
CLEANER_LOOK_S: Final = 5.0
QUIET_LOOKS: Final = 3  # In a row: between two logs it rests a moment.
CLEANED_WITHIN_S: Final = 900.0


class Ground:
    """Broker and registry, started and warmed up when the first run needs them."""

    def __init__(self, progress: Progress, warm_up_s: float = WARM_UP_S) -> None:
        self._progress = progress
        self._warm_up_s = warm_up_s
        self._open = ExitStack()
        self._stack: LocalStack | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @contextmanager
    def fresh(self, partitions: int) -> Iterator[Site]:
        """A site with every topic empty, no group's position, and a folder of its own."""
        bootstrap, registry_url = self._addresses()
        _clear(AdminClient({"bootstrap.servers": bootstrap, "log_level": broker.LOG_ERRORS_ONLY}))
        _create(bootstrap, partitions)
        with _folder() as folder:
            ids = SchemaIds(registry_url, folder / "schema-ids.json", timeout_s=30.0)
            yield Site(bootstrap, registry_url, folder, Codec(ids), ids)

    def settle(self, progress: Progress) -> int:
        """Wait until the broker's cleaner takes next to nothing; returns the seconds it took.

        What millions of rows leave, made in minutes, takes it most of a core for longer than the
        run that is measured beside it. In production they come over weeks. After
        `CLEANED_WITHIN_S` it is waited for no longer.

        Raises:
            LookupError: this broker's thread that compacts has another name.

        """
        assert self._stack is not None
        pid = self._stack.kafka.pid
        assert pid is not None
        start = time.monotonic()
        used_s = thread_cpu_s(pid, CLEANER)
        waited_s, quiet = 0.0, 0
        while quiet < QUIET_LOOKS and waited_s < CLEANED_WITHIN_S:
            progress("the broker compacts its logs", int(waited_s), int(CLEANED_WITHIN_S))
            time.sleep(CLEANER_LOOK_S)
            waited_s = time.monotonic() - start
            before_s, used_s = used_s, thread_cpu_s(pid, CLEANER)
            quiet = quiet + 1 if used_s - before_s < CLEANER_SHARE_MAX * CLEANER_LOOK_S else 0
        return round(waited_s)

    def _addresses(self) -> tuple[str, str]:
        """Broker and registry, started if they are not yet."""
        is_new = self._stack is None
        if self._stack is None:
            self._progress("starting a broker", 0, 1)
            stack = LocalStack(self._open.enter_context(_folder()), servers=("kafka", "registry"))
            self._stack = self._open.enter_context(stack)
        addresses = self._stack.addresses
        assert addresses.kafka_bootstrap is not None
        assert addresses.registry_url is not None
        if is_new and self._warm_up_s:
            warm_up(addresses.kafka_bootstrap, self._warm_up_s, self._progress)
        return addresses.kafka_bootstrap, addresses.registry_url


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder:
        yield Path(folder)


def _create(bootstrap: str, partitions: int) -> None:
    wanted = [
        NewTopic(
            topic.name,
            num_partitions=partitions if topic.co_partitioned else 1,
            replication_factor=1,
            config=topic.config(),
        )
        for topic in topics.TOPICS.values()
    ]
    broker.create_topics(bootstrap, wanted)


def _clear(admin: AdminClient) -> None:
    """Delete what an earlier run left: groups first, so that none keeps a position."""
    for group in admin.list_consumer_groups(request_timeout=broker.ANSWER_WITHIN_S).result().valid:
        _delete_group(admin, group.group_id)
    left = [
        name
        for name in admin.list_topics(timeout=broker.ANSWER_WITHIN_S).topics
        if not name.startswith(INTERNAL)
    ]
    if left:
        for future in admin.delete_topics(left, operation_timeout=broker.ANSWER_WITHIN_S).values():
            future.result(broker.ANSWER_WITHIN_S)


def _delete_group(admin: AdminClient, group: str) -> None:
    deadline = time.monotonic() + EMPTY_WITHIN_S
    while True:
        try:
            admin.delete_consumer_groups([group])[group].result(broker.ANSWER_WITHIN_S)
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.GROUP_ID_NOT_FOUND:
                return
            if code != KafkaError.NON_EMPTY_GROUP or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_S)
        else:
            return
