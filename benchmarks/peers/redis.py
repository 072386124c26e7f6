"""The peer `redis`: a Lua script on a Redis that fsyncs every write before it answers.

The client is one epoll loop over plain sockets that writes prepared bytes: a full client library
would cost more than the server. 64 clients with one request each under way, or 8 with 100. Where
the client is busy all the time, it would be what is measured, and there is no figure.
"""

import select
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlparse

import redis
from redis.connection import Connection

from benchmarks import backlog
from benchmarks.broker import Progress
from benchmarks.check import Books, NoFigureError, totals
from benchmarks.collection import no_collection
from benchmarks.figures import Extra, Run
from benchmarks.load import Work
from benchmarks.programs import CpuSampler
from compose.stack import LocalStack
from schemas.codes import Code

SCRIPT: Final = Path(__file__).with_name("reserve.lua")
REPLY_LINES: Final = 4  # An array header and three integers.
ANSWER_WITHIN_S: Final = 30.0
RECEIVE_BYTES: Final = 65_536
KEYS_SCANNED: Final = 10_000
REQUESTS_MAX: Final = 100_000
CLIENT_SHARE_MAX: Final = 0.95  # Of a core.


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


class _Driven(NamedTuple):
    """When each answer was there, what each pipeline took (ms), and our own share of a core."""

    answered_ms: list[float]
    took_ms: list[float]
    client_share: float


class RedisPeer:
    """`clients` connections, each with `pipeline` requests under way."""

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
                driven = self._drive(url, pipelines, progress)
            totals(work, _books(server), as_asked=True)
        share = round(driven.client_share, 3)
        if share > CLIENT_SHARE_MAX:
            raise NoFigureError(f"{self.name}: its client took {share:.0%} of a core")
        extra: Extra = {"client_share": share}
        return backlog.figures(self.name, driven.answered_ms, driven.took_ms, cpu, extra=extra)

    @staticmethod
    def requests_max(_: str) -> int:
        """Requests after which its rate is known."""
        return REQUESTS_MAX

    def _prepared(self, work: Work, server: "redis.Redis") -> Iterator[list[bytes]]:
        """The requests as the bytes that go over the wire, one list a pipeline."""
        sha = str(server.script_load(SCRIPT.read_text()))
        pack: Callable[..., list[bytes]] = Connection().pack_command  # type: ignore[no-untyped-call]
        requests = [
            b"".join(pack("EVALSHA", sha, 2, f"s:{leaf}", f"r:{request_id}", quantity, work.supply))
            for request_id, leaf, quantity in work.asks
        ]
        for first in range(0, len(requests), self._pipeline):
            yield requests[first : first + self._pipeline]

    @no_collection()
    def _drive(self, url: str, pipelines: list[list[bytes]], progress: Progress) -> _Driven:
        """Send all pipelines, each client its next when the last is answered."""
        began_s, own_s = time.monotonic(), time.process_time()
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
        answered_ms, took_ms = list[float](), list[float]()
        while len(took_ms) < len(pipelines):
            events = poll.poll(ANSWER_WITHIN_S)
            if not events:
                raise TimeoutError(f"redis: no answer within {ANSWER_WITHIN_S:.0f} s")
            for number, _ in events:
                done = clients[number].receive()
                if done is None:
                    continue
                answered_ms += [time.time() * 1000] * done[0]
                took_ms.append(done[1])
                following = next(waiting, None)
                if following is not None:
                    clients[number].send(following)
            if len(took_ms) % 64 == 0:
                progress(f"{self.name}: deciding", len(took_ms), len(pipelines))
        for client in clients.values():
            client.socket.close()
        poll.close()
        share = (time.process_time() - own_s) / (time.monotonic() - began_s)
        return _Driven(answered_ms, took_ms, share)


def _books(server: "redis.Redis") -> Books:
    """Read every counter and record back."""
    books = Books(Counter(), Counter(), Counter(), Counter())
    keys = list(server.scan_iter(count=KEYS_SCANNED))
    for first in range(0, len(keys), KEYS_SCANNED):
        some = keys[first : first + KEYS_SCANNED]
        pipe = server.pipeline(transaction=False)
        for key in some:
            pipe.get(key) if key.startswith(b"s:") else pipe.hmget(key, "stock", "code", "granted")
        for key, value in zip(some, pipe.execute(), strict=True):
            if key.startswith(b"s:"):
                books.reserved[_leaf(key)] = int(value)
                continue
            stock, code, granted = value
            books.held[_leaf(stock)] += int(granted)
            kind = books.accepted if int(code) == Code.ACCEPTED else books.refused
            kind[_leaf(stock)] += 1
    return books


def _leaf(key: bytes) -> int:
    """Leaf index of a counter's key."""
    return int(key.removeprefix(b"s:"))
