"""The ground a campaign is fought on: broker, traffic, and the workers under it.

Also their supervisor: a worker that ended by itself (fail-stop is how the engine handles faults) is
started again, as systemd or Kubernetes would.
"""

import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from compose.ports import free_port
from compose.stack import LocalStack
from schemas import topics
from tests.support.history import committed_offsets, end_offsets
from tests.support.traffic import QUIET, Feeder, Reader
from tests.support.worker_process import WorkerProcess

PROGRESS_WITHIN_S: Final = 120.0
MEMBERS_WITHIN_S: Final = 120.0
POLL_S: Final = 0.05
REVIVED_MAX: Final = 40  # In a whole campaign; each ends at most a few times by itself.
LOG_LINES: Final = 25


class StuckError(Exception):
    """No progress within the bound."""


class Site(msgspec.Struct, kw_only=True):
    """Everything a fault may touch.

    Attributes:
        command: command line of a worker, from its name, data directory and a port of its own.
        group: consumer group of the workers.
        kills: workers ended by a signal 9 or a crash point so far.
        starts: worker processes started so far.
        revived: of these, those started because a worker had ended by itself: how many from each
            fault on, until the next.
        fault: name of the fault that struck last.
        stops_failed: graceful stops of a worker that listened, with another exit code than 0.

    """

    servers: LocalStack
    command: Callable[[Path, int], Sequence[str]]
    environment: Mapping[str, str]
    directory: Path
    group: str
    bootstrap: str
    session_timeout_ms: int
    feeder: Feeder
    reader: Reader
    random: random.Random
    say: Callable[[str], None]
    workers: list[WorkerProcess] = []
    kills: int = 0
    starts: int = 0
    revived: dict[str, int] = {}
    fault: str = "start"
    slowest_stop_s: float = 0.0
    stops_failed: int = 0
    ends: dict[str, dict[int, int]] = {}

    def start_worker(self, **environment: str) -> WorkerProcess:
        """Start one worker more, with a disk of its own."""
        name = f"worker-{len(self.workers) + 1}"
        disk = self.directory / name
        command = self.command(disk, free_port())
        worker = WorkerProcess(name, command, disk, self.environment)
        self.workers.append(worker)
        self.start_again(worker, **environment)
        return worker

    def start_again(self, worker: WorkerProcess, **environment: str) -> None:
        """Start a worker that has ended, on the disk it had."""
        worker.wanted = True
        worker.start(**environment)
        self.starts += 1

    def kill(self, worker: WorkerProcess) -> None:
        """End a worker at once."""
        worker.wanted = False
        worker.kill()
        self.kills += 1

    def stop(self, worker: WorkerProcess, *, starting: bool = False) -> None:
        """End a worker gracefully. `starting`: it may not listen yet, and end as by a kill."""
        worker.wanted = False
        self.slowest_stop_s = max(self.slowest_stop_s, worker.stop())
        if worker.exit_code and not (starting and worker.exit_code == -signal.SIGTERM):
            self.stops_failed += 1
            self.say(f"{worker.name} was asked to stop and ended with {worker.exit_code}")

    def end(self) -> None:
        """End traffic and workers at once, whatever state they are in."""
        self.feeder.abandon()
        self.reader.close()
        for worker in self.workers:
            worker.wanted = False
            worker.kill()

    def revive(self) -> None:
        """Start every worker again that should run and has ended."""
        for worker in self.workers:
            if worker.wanted and not worker.alive:
                self.count_revival(worker)
                self.start_again(worker)

    def count_revival(self, worker: WorkerProcess) -> None:
        """Say that a worker ended by itself and is started again.

        Raises:
            StuckError: they end too often.

        """
        self.say(f"{worker.name} ended by itself with {worker.exit_code}: started again")
        self.revived[self.fault] = self.revived.get(self.fault, 0) + 1
        if sum(self.revived.values()) > REVIVED_MAX:
            raise StuckError(f"workers keep ending\n{self.describe()}")

    def wait(self, what: str, condition: Callable[[], bool], within_s: float) -> None:
        """Wait for a condition, as a supervisor.

        Raises:
            StuckError: it did not come in time; with the ends of the workers' logs.

        """
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                raise StuckError(f"{what}: not within {within_s} s\n{self.describe()}")
            self.revive()
            time.sleep(POLL_S)

    def wait_answers(self, more: int, within_s: float = PROGRESS_WITHIN_S) -> None:
        """Wait until so many further answers have been committed, or no request is left."""
        target = self.reader.count + more

        def answered() -> bool:  # What is left is known only once the feeder has sent it all.
            return self.reader.count >= min(target, self.feeder.promised())

        self.wait(f"{more} more answers", answered, within_s)

    def owning(self, count: int) -> bool:
        """Whether exactly so many workers are in the group and each owns partitions."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, **QUIET})
        described = admin.describe_consumer_groups([self.group], request_timeout=10)
        try:
            members = described[self.group].result(timeout=15).members
        except KafkaException:
            return False  # A broker that is away, or a group nobody has joined yet.
        owning = [one for one in members if one.assignment.topic_partitions]
        return len(members) == len(owning) == count

    def wait_members(self, count: int) -> None:
        """Wait until exactly so many workers are in the group and each owns partitions."""
        what = f"{count} members that own partitions"
        self.wait(what, lambda: self.owning(count), MEMBERS_WITHIN_S)

    def wait_applied(self) -> None:
        """Wait until the group has committed everything that lies in the source topics."""

        def applied() -> bool:
            try:
                committed = committed_offsets(self.bootstrap, self.group)
            except KafkaException:
                return False  # Not to be had just now: offsets that are not stable yet.
            return all(
                committed.get((topic, partition), 0) >= end
                for topic in topics.SOURCES
                for partition, end in self.ends[topic].items()
            )

        self.ends = {topic: end_offsets(self.bootstrap, topic) for topic in topics.SOURCES}
        self.wait("everything committed", applied, PROGRESS_WITHIN_S)

    def describe(self) -> str:
        """State of everything, for the report of a campaign that is stuck."""
        lines = [f"{self.reader.count} answers of {self.feeder.answerable} requests sent"]
        for worker in self.workers:
            state = "alive" if worker.alive else f"ended with {worker.exit_code}"
            lines += [f"--- {worker.name}: {state}", worker.log_tail(LOG_LINES)]
        return "\n".join(lines)
