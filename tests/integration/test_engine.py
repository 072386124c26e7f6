"""The engine alone, on a real broker: a counter per key shows one lost or doubled record."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_END, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from compose.ports import free_port
from compose.stack import LocalStack
from processor.engine.faults import CRASH_POINTS, EXIT_CRASH_POINT, EXIT_FAULT
from schemas import limits, topics
from schemas.partitioning import partition_of
from tests.support.eventually import eventually

pytestmark = pytest.mark.kafka

PARTITIONS = 2
SESSION_TIMEOUT_MS = 3_000
ANSWERS_WITHIN_S = 60.0
HUNG_AFTER_S = 30.0  # A stop takes a second; on a busy machine, a few.


class Cluster:
    """A throw-away broker with our topics, workers over the counting domain, and a reader."""

    def __init__(self, bootstrap: str, directory: Path) -> None:
        self.bootstrap = bootstrap
        self.directory = directory
        self.sent = 0
        self.counts: dict[bytes, int] = {}
        self.answers = 0
        self._workers: list[subprocess.Popen[bytes]] = []
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for topic in topics.TOPICS.values():
            partitions = PARTITIONS if topic.co_partitioned else 1
            new = NewTopic(topic.name, partitions, 1, config=topic.config())
            for future in admin.create_topics([new]).values():
                future.result(30)
        self._producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
        self._reader = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "reader",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        self._reader.assign([TopicPartition(topics.RESULTS, p, 0) for p in range(PARTITIONS)])

    def worker(self, name: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a worker with its own data directory."""
        log = (self.directory / f"{name}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.counting_worker"],
            env={
                **os.environ,
                "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
                "SCHEMA_REGISTRY_URL": "http://127.0.0.1:1",
                "HOLDFAST_DATA_DIR": str(self.directory / name),
                "HOLDFAST_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
                **environment,
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        self._workers.append(process)
        return process

    def send(self, records: int, value: bytes = b"v", keys: int = 50) -> None:
        """Produce records, spread over keys."""
        for _ in range(records):
            self._producer.produce(topics.REQUESTS, key=b"k%d" % (self.sent % keys), value=value)
            self.sent += 1
        self._producer.flush(30)

    def read_answers(self) -> int:
        """Read what is committed; every answer must be the next count of its key."""
        for message in self._reader.consume(10_000, 0.05):
            assert message.error() is None
            key, count = message.value().split(b"@")[0].split(b"=")
            assert message.partition() == partition_of(key, PARTITIONS)
            assert int(count) == self.counts.get(key, 0) + 1, f"{key!r} jumped to {count!r}"
            self.counts[key] = int(count)
            self.answers += 1
        return self.answers

    def all_answered(self) -> None:
        """Every record sent has its one answer."""
        eventually(lambda: self.read_answers() >= self.sent, within_s=ANSWERS_WITHIN_S)
        self.read_answers()
        assert self.answers == self.sent

    def is_passed_by(self) -> None:
        """The group has committed the end of every source partition, markers included."""
        places = [TopicPartition(topic, p) for topic in topics.SOURCES for p in range(PARTITIONS)]
        group = Consumer({"bootstrap.servers": self.bootstrap, "group.id": topics.APP_ID})

        def is_at_the_end() -> bool:
            committed = group.committed(places, timeout=30)
            ends = [group.get_watermark_offsets(place, timeout=30)[1] for place in places]
            return [max(place.offset, 0) for place in committed] == ends

        eventually(is_at_the_end, within_s=ANSWERS_WITHIN_S)
        group.close()

    def close(self) -> None:
        """End the workers by their pids."""
        for process in self._workers:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
        self._reader.close()


def metric(port: int, name: str) -> float:
    """A figure of a worker, 0 while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), 0.0)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Give a fresh broker to every test: they kill and restart."""
    with LocalStack(tmp_path / "stack", servers=("kafka",)) as stack:
        assert stack.addresses.kafka_bootstrap is not None
        cluster = Cluster(stack.addresses.kafka_bootstrap, tmp_path)
        try:
            yield cluster
        finally:
            cluster.close()


def test_every_crash_point_loses_and_doubles_nothing(cluster: Cluster) -> None:
    """Dying at any named step of the cycle, then going on with the same disk, counts exactly."""
    for point in CRASH_POINTS:
        doomed = cluster.worker("one", HOLDFAST_CRASH_AT=point, HOLDFAST_CRASH_AFTER="1")
        while doomed.poll() is None:
            cluster.send(20)
            cluster.read_answers()
        assert doomed.returncode == EXIT_CRASH_POINT, point
    cluster.worker("one")
    cluster.send(100)
    cluster.all_answered()


def test_a_zombie_gets_nothing_in_and_a_wiped_disk_is_rebuilt(cluster: Cluster) -> None:
    """A worker stopped past its session, its peer, and an empty disk: all count exactly."""
    zombie = cluster.worker("one")
    cluster.send(500)
    cluster.all_answered()
    cluster.worker("two")
    cluster.send(500)
    zombie.send_signal(signal.SIGSTOP)
    cluster.send(500)
    cluster.all_answered()  # The peer took over: the session has ended.
    zombie.send_signal(signal.SIGCONT)
    cluster.send(500)
    cluster.all_answered()
    zombie.kill()
    zombie.wait()
    shutil.rmtree(cluster.directory / "one")
    cluster.worker("one")
    cluster.send(500)
    cluster.all_answered()


def test_more_workers_than_partitions_stand_by(cluster: Cluster) -> None:
    """A worker without a partition waits, and takes over when an owner dies."""
    owners = [cluster.worker("one"), cluster.worker("two")]
    cluster.send(100)
    cluster.all_answered()
    spare = cluster.worker("three")
    cluster.send(100)
    cluster.all_answered()
    for owner in owners:
        owner.kill()
    cluster.send(100)
    cluster.all_answered()
    assert spare.poll() is None


def test_a_standby_takes_over_without_reading_the_changelog_again(cluster: Cluster) -> None:
    """What an owner committed lies on the standby's disk when the owner dies: it reads the rest."""
    owner = cluster.worker("one")
    cluster.send(4_000, keys=4_000)
    cluster.all_answered()
    port = free_port()
    cluster.worker("two", HOLDFAST_STANDBY="true", HOLDFAST_HTTP_PORT=str(port))
    eventually(lambda: metric(port, "holdfast_partitions_owned") == 1, within_s=ANSWERS_WITHIN_S)
    before = metric(port, "holdfast_restored_rows_total")
    eventually(lambda: before + metric(port, "holdfast_standby_rows_total") >= 4_000)
    cluster.send(500, keys=4_000)
    cluster.all_answered()
    owner.kill()
    cluster.send(500, keys=4_000)
    cluster.all_answered()
    assert metric(port, "holdfast_partitions_owned") == 2
    assert metric(port, "holdfast_restored_rows_total") - before <= 1_000


def test_a_named_member_that_restarts_moves_nothing(cluster: Cluster) -> None:
    """Static membership: at another address even, and the other worker is not disturbed."""

    def named(name: str, port: str = "6066") -> "subprocess.Popen[bytes]":
        return cluster.worker(
            name,
            HOLDFAST_GROUP_INSTANCE_ID=name,
            HOLDFAST_SESSION_TIMEOUT_MS="45000",  # Longer than a restart on a busy machine.
            WEB_PORT=port,  # Of Faust: with the host, the name of a member by default.
        )

    def assignments(name: str) -> int:
        return (cluster.directory / f"{name}.log").read_text().count("deciding")

    other = named("other")
    eventually(lambda: assignments("other") == 1, within_s=ANSWERS_WITHIN_S)
    restarted = named("restarted")
    eventually(lambda: assignments("restarted") == 1, within_s=ANSWERS_WITHIN_S)
    eventually(lambda: assignments("other") == 2, within_s=ANSWERS_WITHIN_S)
    cluster.send(500)
    cluster.all_answered()
    restarted.terminate()
    assert restarted.wait(HUNG_AFTER_S) == 0
    named("restarted", port="6067")
    cluster.send(500)
    cluster.all_answered()
    assert assignments("restarted") == 2
    assert assignments("other") == 2
    assert other.poll() is None


def test_a_quiet_partition_whose_log_was_all_deleted_is_read_on(cluster: Cluster) -> None:
    """Retention takes records that were decided, and the markers behind them, aborted ones too."""
    publisher = Producer(
        {"bootstrap.servers": cluster.bootstrap, "transactional.id": "connector-of-a-test"}
    )
    publisher.init_transactions(30)
    worker = cluster.worker("one")
    cluster.send(10)
    cluster.all_answered()
    for ends in (publisher.commit_transaction, publisher.abort_transaction):
        publisher.begin_transaction()
        for number in range(10):
            key = b"t%d" % number
            partition = partition_of(key, PARTITIONS)
            publisher.produce(topics.TRANSACTIONS, b"v", key, partition=partition)
        publisher.flush(30)
        ends(30)
    cluster.sent += 10
    cluster.all_answered()
    cluster.is_passed_by()
    worker.terminate()
    assert worker.wait(HUNG_AFTER_S) == 0
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    everything = [
        TopicPartition(topic, partition, OFFSET_END)
        for topic in topics.SOURCES
        for partition in range(PARTITIONS)
    ]
    for future in admin.delete_records(everything).values():
        future.result(30)
    cluster.worker("one")
    cluster.send(10)
    cluster.all_answered()


def test_a_topic_that_is_made_anew_under_a_worker_ends_it(cluster: Cluster) -> None:
    """Its next start reads the new one from the beginning, where it has no position of the old."""
    worker = cluster.worker("one")
    cluster.send(100)
    cluster.all_answered()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    for future in admin.delete_topics([topics.TRANSACTIONS]).values():
        future.result(30)
    topic = topics.TOPICS[topics.TRANSACTIONS]
    new = NewTopic(topic.name, PARTITIONS, 1, config=topic.config())

    def is_created() -> bool:
        try:
            admin.create_topics([new])[topic.name].result(30)
        except KafkaException:  # The old one is not quite gone.
            return False
        return True

    eventually(is_created, within_s=ANSWERS_WITHIN_S)
    assert worker.wait(ANSWERS_WITHIN_S) == EXIT_FAULT
    cluster.worker("one")
    cluster.send(100)
    cluster.all_answered()


def test_no_worker_begins_while_the_state_is_staged(cluster: Cluster) -> None:
    """A migration that was interrupted has it in a topic of its own: a worker would begin anew."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    staging = NewTopic(topics.STAGING, PARTITIONS, 1)
    for future in admin.create_topics([staging]).values():
        future.result(30)
    assert cluster.worker("one").wait(ANSWERS_WITHIN_S) != 0
    assert "`holdfast migrate` was begun" in (cluster.directory / "one.log").read_text()
    for future in admin.delete_topics([topics.STAGING]).values():
        future.result(30)
    cluster.worker("one")
    cluster.send(10)
    cluster.all_answered()


def test_sigterm_hands_over_and_exits(cluster: Cluster) -> None:
    """A graceful stop ends by itself with code 0, and the next worker goes on exactly."""
    worker = cluster.worker("one")
    cluster.send(2_000)
    eventually(lambda: cluster.read_answers() > 0, within_s=ANSWERS_WITHIN_S)
    cluster.send(2_000)
    worker.terminate()
    assert worker.wait(HUNG_AFTER_S) == 0
    cluster.worker("one")
    cluster.all_answered()


def test_a_run_of_dead_letters_stops_the_worker(cluster: Cluster) -> None:
    """A topic is not drained into the dead letters: past the run limit the worker ends."""
    worker = cluster.worker("one")
    cluster.send(2 * limits.DEAD_LETTER_RUN_MAX + 500, value=b"junk", keys=1)
    assert worker.wait(60.0) == EXIT_FAULT
