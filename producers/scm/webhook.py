"""A signed webhook: an ERP posts its rows and is answered when they are committed.

The rule: nothing unsigned, stale or oversized is parsed. An answer of 200 means committed; any
other means that nothing of the request was written, or, for 503, that it is not known. The sender
repeats it in that case: rows carry their own ids, and an id counts once.

Signature: `Holdfast-Timestamp`, Unix seconds; `Holdfast-Signature: v1=` and the hexadecimal
HMAC-SHA256 of timestamp, a dot and the body. The clock of the sender may be off by five minutes.
"""

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from producers.scm import metrics
from producers.scm.batch import Raw, Result, count, records_of, translated
from producers.scm.mapping import Mapping
from producers.scm.publisher import Fault, Outgoing, Publisher
from producers.scm.settings import ConnectorSettings
from producers.scm.translate import ROW_BYTES_MAX, Refused, Row, loads_exact
from schemas.codes import Code

BODY_BYTES_MAX: Final = 1_048_576
ROWS_MAX: Final = 512
WINDOW_S: Final = 300  # How far the sender's clock may be off.
REMEMBERED_MAX: Final = 50_000  # Committed event ids that are answered without being sent again.
QUEUED_MAX: Final = 256  # Requests that wait for a transaction; the next one is told to come later.
RECORDS_A_COMMIT: Final = 2_000
ANSWER_WITHIN_S: Final = 30.0
RETRY_AFTER_S: Final = "1"

# A row as it came: numbers as numbers, exact.
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class _Queued(NamedTuple):
    records: list[Outgoing]
    done: "asyncio.Future[None]"


class Rejected(Exception):
    """A request that is not looked into; `status` is HTTP's."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Committer:
    """Commits what waits, together: one transaction serves all requests that came meanwhile."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._queue: asyncio.Queue[_Queued] = asyncio.Queue(QUEUED_MAX)
        self.fault: Fault | None = None

    async def commit(self, records: list[Outgoing]) -> None:
        """Return when the records are committed.

        Raises:
            Rejected: not now; nothing is known of the records.

        """
        if self.fault is not None:
            raise Rejected(503, "the connector is ending")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Queued(records, done))
        except asyncio.QueueFull as error:
            raise Rejected(503, "too many requests wait; come again") from error
        try:
            await asyncio.wait_for(done, ANSWER_WITHIN_S)
        except (TimeoutError, Fault) as error:
            raise Rejected(503, "not known to be committed; repeat the request") from error

    async def run(self, on_fault: Callable[[], None]) -> None:
        """Commit until cancelled, or until the publisher must not go on."""
        while True:
            batch = [await self._queue.get()]
            records = list(batch[0].records)
            while len(records) < RECORDS_A_COMMIT and not self._queue.empty():
                batch.append(self._queue.get_nowait())
                records += batch[-1].records
            try:
                await asyncio.to_thread(self._publisher.commit, records, {})
            except Fault as fault:
                self.fault = fault
                while not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                _finish(batch, fault)
                on_fault()
                return
            _finish(batch, None)


def _finish(batch: list[_Queued], fault: Fault | None) -> None:
    for queued in batch:
        if queued.done.done():
            continue
        if fault is None:
            queued.done.set_result(None)
        else:
            queued.done.set_exception(fault)


class Webhook:
    """The application: `POST /rows` takes one row or a list of them."""

    def __init__(
        self,
        settings: ConnectorSettings,
        mapping: Mapping,
        publisher: Publisher,
        on_fault: Callable[[], None],
    ) -> None:
        self._secrets = [secret.encode() for secret in settings.secrets]
        self._mapping = mapping
        self._publisher = publisher
        self._on_fault = on_fault
        self._known: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        self._rows = 0
        self.committer = Committer(publisher)
        self.app = Starlette(
            routes=[Route("/rows", self.receive, methods=["POST"])], lifespan=self._lifespan
        )

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        committing = asyncio.create_task(self.committer.run(self._on_fault))
        yield
        committing.cancel()
        with suppress(asyncio.CancelledError):
            await committing

    async def receive(self, request: Request) -> Response:
        """Answer one request."""
        try:
            body = await _read_body(request)
            check_signature(self._secrets, request.headers, body, time.time())
            answer = await self._take(_rows_of(body))
            status = 200
        except Rejected as rejected:
            status, answer = rejected.status, {"error": str(rejected)}
        except ClientDisconnect:
            status, answer = 400, {"error": "the body did not arrive"}
        metrics.WEBHOOK.labels(str(status)).inc()
        headers = {"Retry-After": RETRY_AFTER_S} if status == 503 else {}
        return Response(orjson.dumps(answer), status, headers, "application/json")

    async def _take(self, rows: list[Row]) -> dict[str, Any]:
        raws = [self._raw(row) for row in rows]
        results = translated(self._publisher, self._mapping, raws)
        fresh = [result for result in results if self._key(result) not in self._known]
        records = records_of(fresh)
        if records:
            await self.committer.commit(records)
        for result in fresh:
            self._remember(result)
        count(fresh)
        return _answer(results, fresh)

    def _raw(self, row: Row) -> Raw:
        self._rows += 1
        try:
            text = _encode(row)
        except (RecursionError, ValueError) as error:  # Half a surrogate pair is no text.
            raise Rejected(400, f"a row cannot be written: {error}") from error
        return Raw(self._rows, text, partial(_bounded, row, len(text)))

    @staticmethod
    def _key(result: Result) -> tuple[str, bytes]:
        """What makes a row the same: all of it, as it is written to its topic."""
        if not result.records or result.refused is not None:
            return "", result.raw.text
        written = b"".join(record.value for record in result.records)
        return "told", hashlib.blake2b(written, digest_size=16).digest()

    def _remember(self, result: Result) -> None:
        if not result.records or result.refused is not None:
            return
        self._known[self._key(result)] = None
        while len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)


def _bounded(row: Row, length: int) -> Row:
    if length > ROW_BYTES_MAX:
        raise Refused(Code.ROW_INVALID, f"the row is larger than {ROW_BYTES_MAX} bytes")
    return row


def _answer(results: list[Result], fresh: list[Result]) -> dict[str, Any]:
    refused = [
        {
            "index": index,
            "code": int(result.refused.code),
            "outcome": result.refused.code.name,
            "reason": result.refused.reason,
        }
        for index, result in enumerate(results)
        if result.refused is not None
    ]
    told = sum(bool(one.records) and one.refused is None for one in fresh)
    ignored = sum(not one.records for one in fresh)
    return {
        "published": told,
        "ignored": ignored,
        "duplicates": len(results) - len(fresh),
        "refused": refused,
    }


async def _read_body(request: Request) -> bytes:
    """The body, never more of it than is allowed."""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > BODY_BYTES_MAX:
        raise Rejected(413, f"at most {BODY_BYTES_MAX} bytes")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise Rejected(413, f"at most {BODY_BYTES_MAX} bytes")
    return bytes(body)


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """Value of `Holdfast-Signature`."""
    digest = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return f"v1={digest.hexdigest()}"


def check_signature(secrets: list[bytes], headers: Headers, body: bytes, now_s: float) -> None:
    """Refuse a request that is not signed by one of the secrets, now.

    Raises:
        Rejected: 401; the words do not say which part was wrong beyond the clock.

    """
    timestamp = headers.get("holdfast-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise Rejected(401, "Holdfast-Timestamp: Unix seconds")
    if abs(now_s - int(timestamp)) > WINDOW_S:
        raise Rejected(401, f"Holdfast-Timestamp is more than {WINDOW_S} s away from now")
    given = headers.get("holdfast-signature", "").encode("ascii", "replace")
    # All are compared, each in constant time: which secret fitted must not show.
    fits = [hmac.compare_digest(sign(one, timestamp, body).encode(), given) for one in secrets]
    if not any(fits):
        raise Rejected(401, "Holdfast-Signature does not fit")


def _rows_of(body: bytes) -> list[Row]:
    try:
        found = loads_exact(body)
    except (ValueError, RecursionError) as error:
        raise Rejected(400, f"not JSON: {error}") from error
    rows = found if isinstance(found, list) else [found]
    if not 0 < len(rows) <= ROWS_MAX:
        raise Rejected(400, f"a row, or a list of 1 to {ROWS_MAX} of them")
    if not all(isinstance(row, dict) for row in rows):
        raise Rejected(400, "every row must be an object")
    return rows
