"""Load on an HTTP server, in a process of its own, over connections that are kept alive.

Run by `benchmarks.http` as `python -m benchmarks.http_load`: a task as JSON on stdin, figures as
JSON on stdout. A connection is a bare asyncio protocol that writes prepared bytes and looks for the
end of the answer; nothing is parsed but the status, the length and one word, so that the load costs
less than what it measures. In an open loop time counts from the instant at which a request was due,
whether or not a connection was free then.
"""

import asyncio
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final, cast

import msgspec
import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_END: Final = b"\r\n\r\n"
LENGTH: Final = b"content-length: "
OK: Final = b"HTTP/1.1 200"
TURN_S: Final = 0.001
LATE_WITHIN_S: Final = 30.0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask.

    Attributes:
        kind: reserve, bulk or query.
        rate: requests a second in an open loop; 0: as fast as the connections are answered.
        seconds: how long.
        prefix: of the ids, so that no two tasks share one.
        lines: reservations of a bulk.

    """

    kind: str
    host: str
    port: int
    token: str
    path: str
    prefix: str
    connections: int
    rate: int
    seconds: float
    products: int
    lines: int = 1


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a task.

    Attributes:
        granted: reservations that were successful.
        wrong: answers that were not 200.
        late_ms: of each request, how long after it was due it was sent: the load's own share of
            `took_ms`, as long as there were connections to send it on.

    """

    requests: int
    granted: int
    wrong: int
    seconds: float
    cpu_s: float
    took_ms: list[float]
    late_ms: list[float]
    first_wrong: str = ""


class Requests:
    """Makes the bytes of the next request."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._number = 0
        self._head = (
            f"POST {task.path} HTTP/1.1\r\nHost: {task.host}\r\n"
            f"Authorization: Bearer {task.token}\r\nContent-Type: application/json\r\n"
            "Content-Length: %d\r\n\r\n"
        ).encode()
        self._make = {"reserve": self._one, "bulk": self._bulk, "query": self._query}[task.kind]

    def next(self) -> bytes:
        """The next one; each has ids of its own."""
        body = self._make()
        return self._head % len(body) + body

    def _reservation(self) -> str:
        number = self._number
        self._number += 1
        site = number % 4 + 1
        return (
            f'{{"id":"{self._task.prefix}{number}","organizationId":"usmf","productId":"bench-'
            f'{number % self._task.products}","quantityDataSource":"iv","modifier":"softreserved",'
            f'"quantity":1,"dimensions":{{"siteId":"{site}","locationId":"{site}1",'
            '"colorId":"red"}}'
        )

    def _one(self) -> bytes:
        return self._reservation().encode()

    def _bulk(self) -> bytes:
        return f"[{','.join(self._reservation() for _ in range(self._task.lines))}]".encode()

    def _query(self) -> bytes:
        self._number += 1
        product = self._number % self._task.products
        return (
            f'{{"filters":{{"organizationId":["usmf"],"productId":["bench-{product}"]}},'
            '"groupByValues":["colorId"],"returnNegative":true}'
        ).encode()


class Connection(asyncio.Protocol):
    """One request under way at a time."""

    def __init__(self, answered: "Callable[[Connection, bytes, bytes], None]") -> None:
        self._answered = answered
        self._head = b""
        self._parts: list[bytes] = []
        self._left = 0
        self.due_s = 0.0
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to write."""
        self.transport = cast("asyncio.WriteTransport", transport)

    def ask(self, request: bytes, due_s: float) -> None:
        """Send a request that was due at this time."""
        self.due_s = due_s
        assert self.transport is not None
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Gather the answer; tell when it is whole."""
        if not self._head:
            self._parts.append(data)
            data = b"".join(self._parts)
            head, end, rest = data.partition(HEAD_END)
            if not end:
                return
            lower = head.lower()
            at = lower.index(LENGTH) + len(LENGTH)
            length = int(lower[at:].partition(b"\r")[0])
            self._head, self._parts, self._left = head, [rest], length - len(rest)
        else:
            self._parts.append(data)
            self._left -= len(data)
        if self._left == 0:
            head, body = self._head, b"".join(self._parts)
            self._head, self._parts = b"", []
            self._answered(self, head, body)


class Load:
    """Carries a task out."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._requests = Requests(task)
        self._free: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._took_ms: list[float] = []
        self._late_ms: list[float] = []
        self._granted = 0
        self._wrong = 0
        self._first_wrong = ""
        self._until_s = 0.0
        self._ended_s = 0.0

    async def run(self) -> Figures:
        """Ask, and tell what came of it.

        Raises:
            TimeoutError: an answer did not come.

        """
        loop = asyncio.get_running_loop()
        task = self._task
        for _ in range(task.connections):
            _, one = await loop.create_connection(
                lambda: Connection(self._answer), task.host, task.port
            )
            self._free.append(one)
        started_s, cpu_s = time.perf_counter(), time.process_time()
        self._until_s = started_s + task.seconds
        if task.rate:
            await self._open(started_s)
        else:
            while self._free:
                self._free.popleft().ask(self._requests.next(), time.perf_counter())
            await asyncio.sleep(task.seconds)
        await self._rest()
        return Figures(
            requests=len(self._took_ms),
            granted=self._granted,
            wrong=self._wrong,
            seconds=self._ended_s - started_s,
            cpu_s=time.process_time() - cpu_s,
            took_ms=self._took_ms,
            late_ms=self._late_ms,
            first_wrong=self._first_wrong,
        )

    async def _open(self, started_s: float) -> None:
        sent = 0
        total = int(self._task.rate * self._task.seconds)
        while sent < total:
            passed = int((time.perf_counter() - started_s) * self._task.rate)
            for number in range(sent, min(total, passed + 1)):
                self._due.append(started_s + number / self._task.rate)
                sent = number + 1
            while self._due and self._free:
                self._ask(self._free.popleft(), self._due.popleft())
            await asyncio.sleep(TURN_S)

    def _ask(self, one: Connection, due_s: float) -> None:
        one.ask(self._requests.next(), due_s)
        self._late_ms.append((time.perf_counter() - due_s) * 1000)

    async def _rest(self) -> None:
        until_s = time.perf_counter() + LATE_WITHIN_S
        while len(self._free) < self._task.connections or self._due:
            if time.perf_counter() > until_s:
                raise TimeoutError(f"{len(self._took_ms)} answers, no more came")
            await asyncio.sleep(TURN_S)

    def _answer(self, one: Connection, head: bytes, body: bytes) -> None:
        now_s = self._ended_s = time.perf_counter()
        self._took_ms.append((now_s - one.due_s) * 1000)
        if not head.startswith(OK):
            self._wrong += 1
            self._first_wrong = self._first_wrong or (head[:12] + body[:300]).decode()
        self._granted += body.count(b'"success"')
        if self._due:
            self._ask(one, self._due.popleft())
        elif not self._task.rate and now_s < self._until_s:
            one.ask(self._requests.next(), now_s)
        else:
            self._free.append(one)


if __name__ == "__main__":
    _task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(Load(_task).run())))
