"""The channel client: ask a question on the topics, get its answer. Plain (threads) and asyncio.

    with ChannelClient(settings, channel="web-shop") as client:
        answer = client.reserve(item, 1, order_id="SO-1")

An outcome is never hidden in an exception: a refusal is an answer, and no answer in time is
`Unknown`, to be settled with `lookup`. Exceptions mean that nothing was sent.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Generator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar, cast

import msgspec

from producers.channel.basket import HOLD_MS, BasketOutcome, BasketPlan, converse
from producers.channel.ids import new_request_id
from producers.channel.key_rule import key_rule_in_force
from producers.channel.link import Link, Outcome, Slot
from producers.channel.outcomes import Answer, ChannelError, EventAnswer, Undecided
from producers.channel.requests import (
    BasketLine,
    Item,
    KeyRule,
    as_sent,
    item_of,
    request,
)
from producers.channel.verbs import Verbs
from producers.settings import Settings
from schemas import topics
from schemas.codec import Codec
from schemas.messages import (
    InventoryTransaction,
    RequestOptions,
    ReservationRequest,
    ReservationResult,
)
from schemas.registry import SchemaIds

CLOSE_S: Final = 10.0  # How long closing waits for outcomes under way.
_T = TypeVar("_T")
_Coming = Coroutine[Any, Any, _T]


class Packed(NamedTuple):
    """A record to send; `name` is the id to answer it under, where it goes under another one."""

    slot: Slot
    key: bytes
    value: bytes
    name: str = ""

    def told(self, outcome: Outcome) -> Outcome:
        """Its outcome for who asked. An unknown one keeps the id that `lookup` finds it by."""
        if self.name and isinstance(outcome, ReservationResult | Undecided):
            return msgspec.structs.replace(outcome, request_id=self.name)
        return outcome


def connect_codec(settings: Settings) -> Codec:
    """Codec with the registry's ids, or the remembered ones when the registry is down.

    Raises:
        RegistryError: the registry does not answer and nothing is remembered.

    """
    return Codec(SchemaIds(settings.registry_url, Path(settings.schema_cache)))


class _Packer:
    """Turns requests into records; knows the link, so also what is unsettled."""

    def __init__(self, link: Link, codec: Codec, key_rule: KeyRule) -> None:
        self._link = link
        self._codec = codec
        self.key_rule = key_rule

    def control(self, asked: ReservationRequest) -> list[Packed]:
        """The request for every partition: it goes to partitions, not to a key."""
        value = self._codec.encode_request(asked)
        return [
            Packed(Slot(topics.REQUESTS, partition, asked.request_id), b"", value)
            for partition in range(self._link.partitions[topics.REQUESTS])
        ]

    def request(self, asked: ReservationRequest, key: bytes | None) -> Packed:
        if key is None:
            key = self.key_rule(item_of(asked)) if asked.lines else b""
        sent = as_sent(asked)
        value = self._codec.encode_request(sent)
        packed = self._pack(topics.REQUESTS, sent.request_id, key, value)
        return packed if sent is asked else packed._replace(name=asked.request_id)

    def transaction(self, told: InventoryTransaction, key: bytes | None) -> Packed:
        if key is None:
            key = self.key_rule(
                Item(
                    told.organization_id,
                    told.product_id,
                    told.dimensions,
                    told.dimension_data_source,
                )
            )
        return self._pack(
            topics.TRANSACTIONS, told.event_id, key, self._codec.encode_transaction(told)
        )

    def pack(self, asked: ReservationRequest | InventoryTransaction, key: bytes | None) -> Packed:
        """The record of a request or transaction; its key by the rule in force when None."""
        if isinstance(asked, ReservationRequest):
            return self.request(asked, key)
        return self.transaction(asked, key)

    def _pack(self, topic: str, request_id: str, key: bytes, value: bytes) -> Packed:
        return Packed(Slot(topic, self._link.partition(topic, key), request_id), key, value)

    def unsettled(self, request_id: str) -> Packed | Outcome:
        """The record to send again, or the outcome that came late."""
        found = self._link.unsettled(topics.REQUESTS, request_id) or self._link.unsettled(
            topics.TRANSACTIONS, request_id
        )
        if found is None:
            raise ChannelError(
                f"no unsettled request {request_id} here: ask the same request again with its id"
            )
        slot, record = found
        return record.outcome or Packed(slot, record.key, record.value)


def _open(link: Link, codec: Codec, settings: Settings, key_rule: KeyRule | None) -> _Packer:
    """Open the link, and pack by the given rule or the one in force."""
    link.open()
    try:
        return _Packer(link, codec, key_rule or key_rule_in_force(settings))
    except BaseException:
        link.close(0)
        raise


class ChannelClient(Verbs[Answer, EventAnswer]):
    """Asks and waits; safe to use from many threads. `submit` asks without waiting."""

    def __init__(
        self,
        settings: Settings,
        channel: str = "",
        *,
        codec: Codec | None = None,
        key_rule: KeyRule | None = None,
    ) -> None:
        self.channel = channel
        self._timeout_ms = settings.timeout_ms
        codec = codec or connect_codec(settings)
        self._link = Link(settings, codec)
        self._free = threading.BoundedSemaphore(settings.in_flight_max)
        self._packer = _open(self._link, codec, settings, key_rule)

    def submit(
        self,
        asked: ReservationRequest | InventoryTransaction,
        *,
        key: bytes | None = None,
        timeout_ms: int | None = None,
    ) -> "Future[Any]":
        """Ask without waiting: a future of the answer. Waits only while too many are in flight."""
        return self._send(self._packer.pack(asked, key), timeout_ms)

    def ask(
        self,
        asked: ReservationRequest,
        *,
        key: bytes | None = None,
        timeout_ms: int | None = None,
    ) -> Answer:
        """See `Verbs.ask`."""
        return cast("Answer", self.submit(asked, key=key, timeout_ms=timeout_ms).result())

    def tell(
        self,
        transaction: InventoryTransaction,
        *,
        key: bytes | None = None,
        timeout_ms: int | None = None,
    ) -> EventAnswer:
        """See `Verbs.tell`."""
        future = self.submit(transaction, key=key, timeout_ms=timeout_ms)
        return cast("EventAnswer", future.result())

    def lookup(self, request_id: str, *, timeout_ms: int | None = None) -> Answer:
        """See `Verbs.lookup`."""
        found = self._packer.unsettled(request_id)
        if not isinstance(found, tuple):
            return cast("Answer", found)
        return cast("Answer", self._send(found, timeout_ms).result())

    def configure(self, document: bytes, *, actor: str = "") -> list[Answer]:
        """Ask every partition to put a configuration document to work; its answer per partition.

        Each partition switches at its own record. What one of them refused (it keeps the old one)
        or did not answer is asked again under the same version.
        """
        asked = request(
            "CONFIGURE",
            [],
            request_id=new_request_id(),
            organization_id="",
            channel=self.channel,
            options=RequestOptions(configuration=document, actor=actor),
        )
        futures = [self._send(packed, None) for packed in self._packer.control(asked)]
        return [cast("Answer", future.result()) for future in futures]

    def basket(
        self,
        lines: Sequence[BasketLine],
        *,
        basket_id: str = "",
        expires_in_ms: int | None = None,
        hold_ms: int = HOLD_MS,
        actor: str = "",
    ) -> BasketOutcome:
        """Hold all lines, over any number of partitions, or none; see `producers.channel.basket`.

        `hold_ms` is how long the parts are held while the basket is decided; `expires_in_ms` how
        long all of it is held afterwards (None: until it is released or offset).
        """
        plan = BasketPlan(
            basket_id=basket_id or new_request_id(),
            channel=self.channel,
            lines=tuple(lines),
            expires_in_ms=expires_in_ms,
            hold_ms=hold_ms,
            actor=actor,
        )
        conversation = converse(plan, self._packer.key_rule)
        answers: Sequence[Answer] | None = None
        while True:
            asking, outcome = _next(conversation, answers)
            if outcome is not None:
                return outcome
            futures = [self.submit(asked, key=key) for asked, key in asking]
            answers = [future.result() for future in futures]

    def _send(self, packed: Packed, timeout_ms: int | None) -> "Future[Any]":
        future: Future[Outcome] = Future()

        def deliver(outcome: Outcome) -> None:
            self._free.release()
            future.set_result(packed.told(outcome))

        slot, key, value, _ = packed
        self._free.acquire()
        try:
            self._link.send(slot, key, value, deliver, timeout_ms=timeout_ms or self._timeout_ms)
        except BaseException:
            self._free.release()
            raise
        return future

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Wait for outcomes under way, call the rest unknown, let go of the broker."""
        self._link.close(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncChannelClient(Verbs[_Coming[Answer], _Coming[EventAnswer]]):
    """The same for asyncio: verbs give awaitables. Made with `async with` or `await open()`."""

    def __init__(
        self,
        settings: Settings,
        channel: str = "",
        *,
        codec: Codec | None = None,
        key_rule: KeyRule | None = None,
    ) -> None:
        self.channel = channel
        self._settings = settings
        self._given = codec
        self._key_rule = key_rule
        self._free = asyncio.Semaphore(settings.in_flight_max)
        self._arrived: deque[tuple[asyncio.Future[Outcome], Outcome]] = deque()

    async def open(self) -> Self:
        """Connect.

        Raises:
            ChannelError: no broker answers, or the topics are not there.

        """
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._open)
        return self

    def _open(self) -> None:
        codec = self._given or connect_codec(self._settings)
        self._link = Link(self._settings, codec)
        self._packer = _open(self._link, codec, self._settings, self._key_rule)

    async def ask(
        self,
        asked: ReservationRequest,
        *,
        key: bytes | None = None,
        timeout_ms: int | None = None,
    ) -> Answer:
        """See `Verbs.ask`."""
        return cast("Answer", await self._send(self._packer.pack(asked, key), timeout_ms))

    async def tell(
        self,
        transaction: InventoryTransaction,
        *,
        key: bytes | None = None,
        timeout_ms: int | None = None,
    ) -> EventAnswer:
        """See `Verbs.tell`."""
        packed = self._packer.pack(transaction, key)
        return cast("EventAnswer", await self._send(packed, timeout_ms))

    async def lookup(self, request_id: str, *, timeout_ms: int | None = None) -> Answer:
        """See `Verbs.lookup`."""
        found = self._packer.unsettled(request_id)
        if not isinstance(found, tuple):
            return cast("Answer", found)
        return cast("Answer", await self._send(found, timeout_ms))

    async def basket(
        self,
        lines: Sequence[BasketLine],
        *,
        basket_id: str = "",
        expires_in_ms: int | None = None,
        hold_ms: int = HOLD_MS,
        actor: str = "",
    ) -> BasketOutcome:
        """Hold all lines, over any number of partitions, or none; see `producers.channel.basket`.

        `hold_ms` is how long the parts are held while the basket is decided; `expires_in_ms` how
        long all of it is held afterwards (None: until it is released or offset).
        """
        plan = BasketPlan(
            basket_id=basket_id or new_request_id(),
            channel=self.channel,
            lines=tuple(lines),
            expires_in_ms=expires_in_ms,
            hold_ms=hold_ms,
            actor=actor,
        )
        conversation = converse(plan, self._packer.key_rule)
        answers: Sequence[Answer] | None = None
        while True:
            asking, outcome = _next(conversation, answers)
            if outcome is not None:
                return outcome
            answers = await asyncio.gather(*(self.ask(asked, key=key) for asked, key in asking))

    async def _send(self, packed: Packed, timeout_ms: int | None) -> Outcome:
        slot, key, value, _ = packed
        async with self._free:
            if not self._link.listening(slot):
                await asyncio.to_thread(self._link.listen_for, slot)
            future: asyncio.Future[Outcome] = self._loop.create_future()

            def deliver(outcome: Outcome) -> None:
                self._arrived.append((future, outcome))
                # One wake-up serves every outcome that arrived until it runs.
                if len(self._arrived) == 1:
                    self._loop.call_soon_threadsafe(self._drain)

            self._link.send(
                slot, key, value, deliver, timeout_ms=timeout_ms or self._settings.timeout_ms
            )
            return packed.told(await future)

    def _drain(self) -> None:
        while self._arrived:
            future, outcome = self._arrived.popleft()
            if not future.done():
                future.set_result(outcome)

    async def close(self, timeout_s: float = CLOSE_S) -> None:
        """Wait for outcomes under way, call the rest unknown, let go of the broker."""
        await asyncio.to_thread(self._link.close, timeout_s)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.close()


def _next(
    conversation: Generator[Any, Sequence[Answer], BasketOutcome], answers: Sequence[Answer] | None
) -> tuple[Sequence[tuple[ReservationRequest, bytes]], BasketOutcome | None]:
    """The next requests of a basket, or its outcome."""
    try:
        if answers is None:
            return next(conversation), None
        return conversation.send(answers), None
    except StopIteration as end:
        return (), end.value
