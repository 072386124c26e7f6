"""The peer `redis`: a Lua script on a Redis that fsyncs every write before it answers.

The client is one epoll loop over plain sockets that writes prepared bytes: a full client library
would cost more than the server. 64 clients with one request each under way, or 8 with 100.
"""

import select
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlparse

import redis

from benchmarks.broker import Progress
from benchmarks.check import totals
from benchmarks.figures import Run, percentiles
from benchmarks.load import Work
from benchmarks.programs import CpuSampler
from compose.stack import LocalStack

SCRIPT: Final = Path(__file__).with_name("reserve.lua")
REPLY_LINES: Final = 4  # An array header and three integers.
ANSWER_WITHIN_S: Final = 30.0
RECEIVE_BYTES: Final = 65_536
KEYS_SCANNED: Final = 10_000


class _Client:
    """One connection with a bounded number of requests under way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines_due = 0
        self._sent_at = 0.0
        self._requests = 0

    def send(self, requests: Sequence[bytes]) -> None:
        """Send requests as one pipeline."""
        self._requests = len(requests)
        self._lines_due = REPLY_LINES * self._requests
        self._sent_at = time.perf_counter()
        self.socket.sendall(b"".join(requests))

    def receive(self) -> tuple[int, float] | None:
        """Number of answers and milliseconds they took, once all of the pipeline are here."""
        received = self.socket.recv(RECEIVE_BYTES)
        if not received or received.startswith(b"-"):
            raise ConnectionError(f"redis answered {received[:200]!r}")
        self._lines_due -= received.count(b"\r\n")
        if self._lines_due:
            return None
        return self._requests, (time.perf_counter() - self._sent_at) * 1000


class RedisPeer:
    """`clients` connections, each with `pipeline` requests under way."""

    requests_max = 60_000

    def __init__(self, *, clients: int = 64, pipeline: int = 1) -> None:
        self._clients = clients
        self._pipeline = pipeline
        self.name = f"redis ({clients} clients, {pipeline} under way each)"

    def run(self, work: Work, progress: Progress) -> Run:
        """Load, drive, check, figure."""
        with (
            tempfile.TemporaryDirectory(prefix="holdfast-bench-") as folder,
            LocalStack(Path(folder), servers=("redis",)) as stack,
        ):
            url = stack.addresses.redis_url
            pid = stack.servers["redis"].pid
            assert url is not None
            assert pid is not None
            server = redis.Redis.from_url(url)
            server.config_set("appendonly", "yes")
            server.config_set("appendfsync", "always")
            pipelines = list(self._prepared(work, server))
            with CpuSampler([pid]) as cpu:
                start = time.time()
                answered, times_ms = self._drive(url, pipelines, progress)
                end = time.time()
            self._check(server, work, answered)
        used_s = cpu.between_s(start * 1000, end * 1000)
        p50, p95, p99 = percentiles(times_ms)
        return Run(
            contestant=self.name,
            decisions=answered,
            seconds=round(end - start, 3),
            decisions_per_s=round(answered / (end - start), 1),
            cpu_us_per_decision=round(used_s * 1e6 / answered, 2),
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
        )

    def _prepared(self, work: Work, server: "redis.Redis") -> Iterator[list[bytes]]:
        """The requests as the bytes that go over the wire, one list a pipeline."""
        sha = str(server.script_load(SCRIPT.read_text()))
        requests = [
            _command("EVALSHA", sha, "2", f"s:{leaf}", f"r:{request_id}", quantity, work.supply)
            for request_id, leaf, quantity in work.asks
        ]
        for first in range(0, len(requests), self._pipeline):
            yield requests[first : first + self._pipeline]

    def _drive(
        self, url: str, pipelines: list[list[bytes]], progress: Progress
    ) -> tuple[int, list[float]]:
        """Answers received and the milliseconds of every pipeline."""
        address = urlparse(url)
        poll = select.epoll()
        clients: dict[int, _Client] = {}
        waiting = iter(pipelines)
        for pipeline in (next(waiting, None) for _ in range(self._clients)):
            if pipeline is not None:
                client = _Client((address.hostname or "", address.port or 0))
                clients[client.socket.fileno()] = client
                poll.register(client.socket, select.EPOLLIN)
                client.send(pipeline)
        answered, times_ms = 0, list[float]()
        while len(times_ms) < len(pipelines):
            events = poll.poll(ANSWER_WITHIN_S)
            if not events:
                raise TimeoutError(f"redis: no answer within {ANSWER_WITHIN_S:.0f} s")
            for number, _ in events:
                done = clients[number].receive()
                if done is None:
                    continue
                answered += done[0]
                times_ms.append(done[1])
                following = next(waiting, None)
                if following is not None:
                    clients[number].send(following)
            if len(times_ms) % 64 == 0:
                progress(f"{self.name}: deciding", len(times_ms), len(pipelines))
        for client in clients.values():
            client.socket.close()
        poll.close()
        return answered, times_ms

    @staticmethod
    def _check(server: "redis.Redis", work: Work, answered: int) -> None:
        """Read every counter and record back."""
        reserved, records, held = dict[int, int](), 0, 0
        keys = list(server.scan_iter(count=KEYS_SCANNED))
        for first in range(0, len(keys), KEYS_SCANNED):
            some = keys[first : first + KEYS_SCANNED]
            pipe = server.pipeline(transaction=False)
            for key in some:
                pipe.get(key) if key.startswith(b"s:") else pipe.hget(key, "granted")
            for key, value in zip(some, pipe.execute(), strict=True):
                if key.startswith(b"s:"):
                    reserved[int(key[2:])] = int(value)
                else:
                    records += 1
                    held += int(value)
        totals(work, reserved=reserved, held=held, records=records)
        totals(work, reserved=reserved, held=held, records=answered)


def _command(*words: object) -> bytes:
    """One command in the Redis protocol."""
    encoded = [str(word).encode() for word in words]
    parts = [f"*{len(encoded)}\r\n".encode()]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded]
    return b"".join(parts)
