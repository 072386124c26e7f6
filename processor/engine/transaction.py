"""One Kafka transaction for a batch over all partitions a worker owns.

The rule: rows, outputs and offsets become visible together or not at all, and every error has one
of two consequences: the transaction is known to be aborted, and its records are read again, or the
process ends (`Fault`). A retry is never a guess: records carry sequence numbers, so the broker
takes a batch that comes twice once, and the end of a transaction may be asked for twice.

It is our own producer, because of what a transaction costs. A library that queues message by
message sends a request for each partition of each topic; here all that one broker leads goes in one
request, and with transactions that protect themselves (KIP-890, Kafka 4) a commit is three requests
in all: records, offsets, end. Four partitions and three topics: 2 ms instead of 8, and a fifth of
the CPU, on both sides. On older clusters two more requests name the partitions and the group.

If the process dies: before the end was asked for, the coordinator aborts the transaction, when it
times out or the next incarnation fences this one; after it was answered, the markers are written
whatever happens here. Between the two the next owner finds out which by the committed offsets.

The generation sent along is the one under which the batch was fetched (KIP-447), captured with the
batch. Read again at commit time, a zombie's stale batch would carry a fresh generation and pass.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError

from processor.engine import metrics
from processor.engine.brokers import (
    GROUP,
    RETRIABLE,
    TRANSACTION,
    Brokers,
    Unreachable,
    worded,
)
from processor.engine.faults import Fault
from processor.engine.membership import Membership
from processor.engine.ports import Outputs
from processor.engine.producing import BATCH_BYTES_MAX, SEQUENCES, Batches, PlainEncoder, encoder
from processor.engine.rows import Changes
from processor.engine.transaction_wire import (
    NO_TAGS,
    AddOffsetsToTxn,
    AddPartitionsToTxn,
    EndTxn,
    EndTxnNext,
    InitProducerId,
    Produce,
    ProduceImplied,
    TxnOffsetCommit,
    TxnOffsetCommitImplied,
)

# The markers of a transaction are written after its commit was answered. Who begins the next one
# sooner is sent away, and comes again 20 ms later (add.partitions.to.txn.retry.backoff.ms of the
# broker): one transaction in twenty took 25 ms instead of 4. So two producers take turns.
PRODUCERS: Final = 2
RETRY_SECONDS: Final = 0.001  # The first pause; each next one is twice as long, up to
RETRY_SECONDS_MAX: Final = 0.1
ANSWER_SECONDS_MAX: Final = 3.0  # One request; then the connection is given up, to ask again.
CALL_SECONDS_MAX: Final = 10.0  # One step of a transaction, all its retries; then it is a fault.
# Records, then offsets, of which each may have to wait until a dead broker's part is taken over.
WRITE_SECONDS_MAX: Final = 20.0
REQUEST_BYTES_MAX: Final = 16 * 1024 * 1024  # Of records; a broker's own bound is 100 MiB.

_ALL_REPLICAS: Final = -1
_NOBODY: Final = (-1, -1)  # Producer id and epoch of who has none yet.
_NO_LEADER_EPOCH: Final = -1

# The transaction before is being completed: nothing has moved, and it takes milliseconds.
_WAITS: Final = KafkaError.CONCURRENT_TRANSACTIONS
_AGAIN: Final = RETRIABLE | {_WAITS}
# The transaction cannot be committed, but the next one may be: the group gave the partitions away,
# or the broker does not know the producer as it says it is. Whether that is because somebody else
# fenced it comes out when it asks for its next epoch.
_ABORTABLE: Final = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        120,  # TRANSACTION_ABORTABLE (KIP-890): librdkafka has no name for it yet.
    }
)
Place = tuple[str, int]  # Topic and partition.


class Aborted(Exception):
    """The transaction was aborted.

    Nothing of the batch is visible, and its records are to be read again.
    """


class _Lost(Exception):
    """The transaction cannot be committed any more."""


class SealedBatch(msgspec.Struct, frozen=True):
    """What one transaction carries.

    Attributes:
        membership: membership under which the records were fetched.
        offsets: (source topic, partition) to the next offset to read.
        rows: partition to changed rows, changelog order; the watermark row is the last of each.
        outputs: source partition to the messages to produce.
        records: number of source records decided.

    """

    membership: Membership
    offsets: Mapping[Place, int]
    rows: Mapping[int, Changes]
    outputs: Mapping[int, Outputs]
    records: int


class _Identity:
    """One of the producers that take turns: what the coordinator knows it by."""

    __slots__ = ("is_astray", "name", "producer", "sequences")

    def __init__(self, name: str) -> None:
        self.name = name  # Its transactional id.
        self.producer = _NOBODY  # Producer id and epoch.
        self.sequences: dict[Place, int] = defaultdict(int)  # Of the next record.
        self.is_astray = False  # A request of this epoch may still arrive, having been asked again.

    def begin_epoch(self, response: Any) -> None:
        """Write under this id and epoch from now on; sequence numbers begin at 0 again."""
        self.producer = (response.producer_id, response.producer_epoch)
        self.sequences.clear()
        self.is_astray = False


class _Piece(msgspec.Struct, frozen=True, gc=False):
    """One record batch on its way."""

    place: Place
    records: bytes
    count: int


class _Round:
    """Pieces of different partitions that go out together, and what is left of them.

    Attributes:
        waiting: pieces that are not written yet.
        ends: the next offset of every partition that is.
        offsets: the request that commits the batch's offsets, until it was done.
        is_last: there is one; no other round of the batch comes behind.

    """

    __slots__ = ("ends", "is_last", "offsets", "waiting")

    def __init__(
        self, pieces: Iterable[_Piece], ends: dict[Place, int], offsets: Any = None
    ) -> None:
        self.waiting = {piece.place: piece for piece in pieces}
        self.ends = ends
        self.offsets = offsets
        self.is_last = offsets is not None


class TransactionWriter:
    """The worker's transactional producer.

    All public methods block. `start` is called first; then they run on the commit thread.
    """

    def __init__(
        self,
        brokers: Brokers,
        *,
        transactional_id: str,
        transaction_timeout_ms: int,
        changelog: str,
        output_topics: tuple[str, ...],
        dead_letters: str,
        local_kinds: frozenset[int],
        reach: Callable[[str], None],
    ) -> None:
        # No name of a worker: `worker` and `worker-2` would end each other.
        names = (transactional_id, *(f"{transactional_id}~{n}" for n in range(2, PRODUCERS + 1)))
        self._identities = deque(map(_Identity, names))  # Whose turn it is comes first.
        self._timeout_ms = transaction_timeout_ms
        self._changelog = changelog
        self._topics = {changelog, *output_topics}
        self._dead_letters = dead_letters
        self._local_kinds = bytes(sorted(local_kinds))
        self._reach = reach
        self._loop = asyncio.new_event_loop()
        self._brokers = brokers
        self._protected = False  # KIP-890: the epoch goes up with every transaction.
        self._moved = False  # Somebody else leads or coordinates than is known here.
        self._why = ""  # What is left of the step under way.

    def start(self, timeout_s: float) -> None:
        """Fence an earlier incarnation of this worker and abort what it left open.

        Raises:
            Fault: no answer within `timeout_s`, or a refusal.

        """
        try:
            self._loop.run_until_complete(self._start(timeout_s))
        except Fault:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections; a transaction that is open is left to the coordinator."""
        if self._loop.is_closed():
            return
        self._loop.run_until_complete(self._brokers.close())
        self._loop.close()

    def commit(self, batch: SealedBatch) -> dict[int, int]:
        """Produce and commit the batch; returns the next changelog offset of every partition in it.

        Raises:
            Aborted: nothing of it is visible.
            Fault: the outcome is unknown, or the producer was fenced.

        """
        self._reach("before-produce")
        self._identities.rotate()
        if self._now.is_astray and not self._protected:
            # It could act on the transaction that begins now: the epoch would be the same.
            self._loop.run_until_complete(self._renew(self._now))
        try:
            return self._loop.run_until_complete(self._commit(batch, self._pieces(batch)))
        except Aborted as aborted:
            # Where it has come along refers to it, and to the batch: both would stay for ever.
            raise aborted.with_traceback(None) from None

    @property
    def _now(self) -> _Identity:
        """The producer whose turn it is."""
        return self._identities[0]

    async def _start(self, timeout_s: float) -> None:
        async def connect() -> str:
            await self._brokers.connect(self._topics)
            self._protected = await self._brokers.protect_transactions()
            return ""

        await self._patiently("connect", connect, timeout_s)
        for identity in self._identities:
            await self._renew(identity, timeout_s)

    async def _renew(self, identity: _Identity, timeout_s: float = CALL_SECONDS_MAX) -> None:
        """Get an epoch that nobody wrote with.

        Who had one is given the next only if it was the last there is (KIP-360).
        """
        name = identity.name
        request = InitProducerId(name, self._timeout_ms, *identity.producer, NO_TAGS)

        async def ask() -> str:
            response = await self._brokers.ask_coordinator(TRANSACTION, name, request)
            left = self._left(response.error_code, f"transactional id {name}")
            if not left:
                identity.begin_epoch(response)
            return left

        try:
            await self._patiently("init-producer-id", ask, timeout_s)
        except _Lost as lost:
            raise Fault(f"another worker uses the transactional id of this one: {lost}") from lost

    async def _commit(
        self, batch: SealedBatch, pieces: Mapping[Place, list[_Piece]]
    ) -> dict[int, int]:
        await asyncio.sleep(0)  # Connections that were closed meanwhile are found to be.
        try:
            ends = await self._write(batch, pieces)
        except _Lost as lost:
            await self._abort()
            raise Aborted(str(lost)) from lost
        self._reach("before-commit")
        await self._end()
        self._reach("after-commit")
        return {number: ends[self._changelog, number] for number in batch.rows}

    # What a transaction consists of.

    def _pieces(self, batch: SealedBatch) -> dict[Place, list[_Piece]]:
        encode = encoder(*self._now.producer, int(time.time() * 1000))
        pieces: dict[Place, list[_Piece]] = {}
        for number, rows in batch.rows.items():
            place = (self._changelog, number)
            encoded = encode.batches_of_rows(rows, self._local_kinds, self._now.sequences[place])
            self._add(pieces, place, encoded)
        for number, outputs in batch.outputs.items():
            for topic, messages in outputs.messages.items():
                place = (topic, 0 if topic == self._dead_letters else number)
                if messages:
                    self._add(pieces, place, encode.batches(messages, self._now.sequences[place]))
        self._add_addressed(pieces, batch)
        return pieces

    def _add_addressed(self, pieces: dict[Place, list[_Piece]], batch: SealedBatch) -> None:
        """Messages with headers: the topics of the requesters' choice."""
        found: dict[Place, list[Any]] = defaultdict(list)
        for outputs in batch.outputs.values():
            for topic, number, key, value, headers in outputs.addressed:
                found[topic, number].append((key, value, headers))
        encode = PlainEncoder(*self._now.producer, int(time.time() * 1000), BATCH_BYTES_MAX)
        for place, messages in found.items():
            encoded = encode.batches_with_headers(messages, self._now.sequences[place])
            self._add(pieces, place, encoded)

    def _add(self, pieces: dict[Place, list[_Piece]], place: Place, batches: Batches) -> None:
        there = pieces.setdefault(place, [])
        there += (_Piece(place, records, count) for records, count in batches)
        count = sum(count for _, count in batches)
        self._now.sequences[place] = (self._now.sequences[place] + count) % SEQUENCES

    async def _write(
        self, batch: SealedBatch, pieces: Mapping[Place, list[_Piece]]
    ) -> dict[Place, int]:
        """Write records and offsets; returns the next offset of every partition."""
        new = {topic for topic, _ in pieces} - self._topics
        if new:
            await self._patiently("topics", partial(self._know, new))
        if not self._protected:
            await self._add_partitions(pieces)
            await self._add_group(batch.membership.group_id)
        ends: dict[Place, int] = {}
        *rounds, last = _rounds(pieces)
        for together in rounds:
            await self._write_round(_Round(together, ends))
        await self._write_round(_Round(last, ends, self._offsets_request(batch)))
        return ends

    async def _write_round(self, there: _Round) -> None:
        await self._patiently("write", partial(self._attempt, there), WRITE_SECONDS_MAX)

    async def _know(self, topics: set[str]) -> str:
        for topic in topics:
            await self._brokers.follow(topic)
            self._topics.add(topic)
        return ""

    async def _attempt(self, there: _Round) -> str:
        """Write what is left of a round; why something still is.

        One broker after the other: each names its partitions to the coordinator, which takes one
        at a time and sends the others away for 20 ms. The one that coordinates the group comes
        last, and is sent the offsets without waiting for its answer about records: it takes what
        comes by one connection in turn. A small transaction takes a tenth less time so. Offsets
        may be in before the records then; until the end of the transaction nobody sees either.
        """
        left = ""
        home = beside = None
        if there.offsets is not None:
            home = await self._brokers.coordinator(GROUP, there.offsets.group_id)
            # Without KIP-890 what comes late, behind the end, would be taken: so never side by
            # side with what that end may be asked for.
            beside = home if self._protected else None
        for node, led in self._by_leader(there.waiting.values(), beside).items():
            await self._brokers.open(node)  # So that what is asked now is sent in this order.
            asked = [self._produce(there, node, led)] if led else []
            if node == beside:
                asked.append(self._send_offsets(there, node))
            left = await _all_done(asked) or left
        if home is not None and beside is None and not there.waiting:
            return await self._send_offsets(there, home)
        return left or ("no answer for all partitions" if there.waiting else "")

    def _by_leader(self, pieces: Iterable[_Piece], last: int | None) -> dict[int, list[_Piece]]:
        """The pieces that each broker leads; `last` comes last, also where it leads none."""
        by_leader: dict[int, list[_Piece]] = defaultdict(list)
        for piece in pieces:
            node = self._brokers.leader(*piece.place)
            if node is None:
                raise Unreachable(f"{_name(piece.place)} has no leader")
            by_leader[node].append(piece)
        if last is not None:
            by_leader[last] = by_leader.pop(last, [])
        return by_leader

    async def _produce(self, there: _Round, node: int, led: list[_Piece]) -> str:
        left = ""
        response = await self._brokers.ask(node, self._produce_request(led))
        for place, code, base_offset in _produced(response):
            why = self._left(code, _name(place))
            left = left or why
            if why:
                continue
            if base_offset < 0:
                raise Fault(f"{_name(place)}: written, but the broker does not say where")
            there.ends[place] = base_offset + there.waiting.pop(place).count
        if there.is_last and not there.waiting:
            self._reach("after-produce")
        return left

    def _produce_request(self, pieces: list[_Piece]) -> Produce:
        kind = ProduceImplied if self._protected else Produce
        topics = _by_topic(
            (piece.place[0], (piece.place[1], piece.records, NO_TAGS)) for piece in pieces
        )
        return kind(self._now.name, _ALL_REPLICAS, int(ANSWER_SECONDS_MAX * 1000), topics, NO_TAGS)

    async def _add_partitions(self, pieces: Mapping[Place, list[_Piece]]) -> None:
        request = AddPartitionsToTxn(
            self._now.name, *self._now.producer, _by_topic(pieces), NO_TAGS
        )

        async def add() -> str:
            response = await self._brokers.ask_coordinator(TRANSACTION, self._now.name, request)
            return self._first_left(response)

        await self._patiently("add-partitions", add)

    def _offsets_request(self, batch: SealedBatch) -> TxnOffsetCommit:
        member = batch.membership
        kind = TxnOffsetCommitImplied if self._protected else TxnOffsetCommit
        return kind(
            self._now.name,
            member.group_id,
            *self._now.producer,
            member.generation,
            member.member_id,
            member.instance_id,
            _by_topic(
                (topic, (number, offset, _NO_LEADER_EPOCH, None, NO_TAGS))
                for (topic, number), offset in batch.offsets.items()
            ),
            NO_TAGS,
        )

    async def _send_offsets(self, there: _Round, node: int) -> str:
        left = self._first_left(await self._brokers.ask(node, there.offsets))
        if not left:
            there.offsets = None
        return left

    async def _add_group(self, group_id: str) -> None:
        request = AddOffsetsToTxn(self._now.name, *self._now.producer, group_id, NO_TAGS)

        async def add() -> str:
            response = await self._brokers.ask_coordinator(TRANSACTION, self._now.name, request)
            return self._left(response.error_code, f"group {group_id}")

        await self._patiently("add-group", add)

    async def _end(self) -> None:
        """Commit. Asked again, a coordinator that has committed says so again."""

        async def end() -> str:
            return self._left(await self._ask_end(committed=True), "commit")

        try:
            await self._patiently("commit", end)
        except _Lost as lost:
            raise Fault(f"the transaction was given up before its commit came: {lost}") from lost

    async def _abort(self) -> None:
        """Abort, and get an epoch that nothing of it can come in with any more."""
        ended = False

        async def end() -> str:
            nonlocal ended
            code = await self._ask_end(committed=False)
            ended = code == KafkaError.NO_ERROR
            return self._left(code, "abort") if code in _AGAIN else ""

        await self._patiently("abort", end)
        if not (ended and self._protected):
            # An end that is refused is one that there is nothing for: given up, or never begun.
            await self._renew(self._now)

    async def _ask_end(self, *, committed: bool) -> int:
        kind = EndTxnNext if self._protected else EndTxn
        request = kind(self._now.name, *self._now.producer, committed, NO_TAGS)
        response = await self._brokers.ask_coordinator(TRANSACTION, self._now.name, request)
        if response.error_code == KafkaError.NO_ERROR and self._protected:
            self._now.begin_epoch(response)
        return int(response.error_code)

    # What errors call for.

    def _first_left(self, response: Any) -> str:
        """Why any partition of the response is to be tried again; "" when none is."""
        why = [
            self._left(code, _name((topic, number)))
            for topic, partitions, _ in response.topics
            for number, code, _ in partitions
        ]
        return next(filter(None, why), "")

    def _left(self, code: int, of_what: str) -> str:
        """Why it is to be tried again; "" when it was done.

        Raises:
            _Lost: the transaction cannot be committed.
            Fault: any other error.

        """
        if code == KafkaError.NO_ERROR:
            return ""
        why = f"{of_what}: {worded(code)}"
        if code in _AGAIN:
            self._moved = self._moved or code != _WAITS
            return why
        if code in _ABORTABLE:
            raise _Lost(why)
        raise Fault(f"transaction failed: {why}")

    async def _patiently(
        self, step: str, attempt: Callable[[], Awaitable[str]], timeout_s: float = CALL_SECONDS_MAX
    ) -> None:
        """Attempt it until nothing is left.

        Raises:
            Fault: that takes longer than `timeout_s`.

        """
        self._why = "no answer"
        try:
            async with asyncio.timeout(timeout_s):
                await self._repeat(step, attempt)
        except TimeoutError as error:
            raise Fault(f"{step}: not done within {timeout_s:.0f} s: {self._why}") from error

    async def _repeat(self, step: str, attempt: Callable[[], Awaitable[str]]) -> None:
        pause = RETRY_SECONDS
        while True:
            try:
                left = await attempt()
            except Unreachable as error:
                left, self._moved, self._now.is_astray = str(error), True, True
            if not left:
                return
            self._why = left
            metrics.TRANSACTION_RETRIES.labels(step).inc()
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)
            if self._moved:
                await self._brokers.look_again()
                self._moved = False


async def _all_done(asked: Iterable[Coroutine[Any, Any, str]]) -> str:
    """Why any of it is to be asked again; returns when each was answered, or given up."""
    left = ""
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, BaseException):
            try:
                raise answer
            finally:
                del answer  # It would refer to itself, and to the batch, for ever.
        left = left or answer
    return left


def _rounds(pieces: Mapping[Place, list[_Piece]]) -> Iterator[list[_Piece]]:
    """What may go out together: one piece a partition, within the bound of a request."""
    for turn in range(max(map(len, pieces.values()), default=0)):
        together: list[_Piece] = []
        size = 0
        for there in pieces.values():
            if turn >= len(there):
                continue
            if together and size + len(there[turn].records) > REQUEST_BYTES_MAX:
                yield together
                together, size = [], 0
            together.append(there[turn])
            size += len(there[turn].records)
        yield together


def _by_topic(entries: Iterable[tuple[str, Any]]) -> list[tuple[str, list[Any], dict[int, bytes]]]:
    """Topic and entry of each partition, laid out as requests have them."""
    found: dict[str, list[Any]] = defaultdict(list)
    for topic, entry in entries:
        found[topic].append(entry)
    return [(topic, there, NO_TAGS) for topic, there in found.items()]


def _produced(response: Any) -> Iterator[tuple[Place, int, int]]:
    """Place, error code and offset of the first record."""
    for topic, partitions, _ in response.topics:
        for number, code, base_offset, *_rest in partitions:
            yield (topic, number), code, base_offset


def _name(place: Place) -> str:
    return f"{place[0]}-{place[1]}"
