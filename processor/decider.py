"""The stock domain, as the engine is given it: bytes in, the pure decision, bytes out.

The rule: every record of reservation-requests gets exactly one result or one dead letter, every
record of inventory-transactions exactly one TRANSACTION event (and what followed from it) or one
dead letter; a tick gets neither. Each of them, ticks and dead letters too, takes the next sequence
number of its partition. A refusal is never an exception; what raises here is a broken invariant,
and the engine stops for it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from processor.engine import metrics
from processor.engine.faults import Fault
from processor.engine.ports import Outputs, Rows, TickWish
from processor.engine.records import Record
from processor.inventory import expiry, rows as row
from processor.inventory.auditor import Auditor
from processor.inventory.configuration import Configuration, default
from processor.inventory.holds import Outcome
from processor.inventory.lines import Refusal, Target, base_dimensions, record_key_of
from processor.inventory.plain import decide_plain, remember_spelling
from processor.inventory.reconfigure import rules_of
from processor.inventory.requests import decide_request, resolve_line, target_of
from processor.inventory.rules import Rules
from processor.inventory.state import PartitionState
from processor.inventory.transactions import decide_transaction
from processor.replies import Replies
from schemas import limits, topics
from schemas.codec import Codec, Undecodable
from schemas.codes import Code
from schemas.messages import (
    DeadLetter,
    InventoryEvent,
    InventoryTransaction,
    RequestLine,
    ReservationRequest,
)
from schemas.partitioning import partition_of
from schemas.quick import Plain

KEYS_CHECKED_MAX: Final = 100_000  # Record keys whose partition is known; a key is a location.
CONTROL_ACTIONS: Final = frozenset({"TICK", "CONFIGURE"})  # Sent to a partition, not to a key.


class Misplaced(Exception):
    """A record that must not be decided here."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StockDecider:
    """Decides the records of one partition (`engine.ports.PartitionDecider`)."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        state: PartitionState,
        *,
        auditor: Auditor,
        codec: Codec,
        replies: Replies,
    ) -> None:
        self._partition = partition
        self._partitions = partitions
        self._state = state
        self._auditor = auditor
        self._codec = codec
        self._replies = replies
        self._own_keys: set[bytes] = set()
        self._read_plain = codec.read_plain
        self._write_plain = codec.write_plain
        self._request_frame = codec.request_frame
        self._result_frame = codec.result_frame

    def decide(self, records: Sequence[Record], outputs: Outputs, /) -> None:
        """Decide records of one source topic, in offset order."""
        topic = records[0].topic
        self._state.source_topic = topic
        if topic == topics.REQUESTS:
            for record in records:
                self._begin(record)
                self._decide_request(record, outputs)
        else:
            for record in records:
                self._begin(record)
                self._decide_transaction(record, outputs)
        if self._state.clock_ms >= self._auditor.next_ms:
            self._audit(outputs)

    def checkpoint(self) -> bytes:
        """Write the totals that changed; returns clock and sequence."""
        return self._state.checkpoint()

    def wants_tick(self) -> TickWish:
        """Tell whether a hold comes due, or came due and was not reached by the last slice."""
        if self._state.behind:
            return TickWish.AT_ONCE
        never = self._state.next_sweep_ms >= row.NEVER_MS
        return TickWish.NONE if never else TickWish.WHEN_IDLE

    def committed(self) -> None:
        """Trim caches."""
        self._state.trim()

    def let_go(self) -> bool:
        """Free some of what is remembered; tells whether there is more."""
        return self._state.let_go()

    def _begin(self, record: Record) -> None:
        state = self._state
        state.sequence += 1
        state.clock_ms = max(state.clock_ms, record.timestamp)
        state.source_offset = record.offset

    def _decide_request(self, record: Record, outputs: Outputs) -> None:
        plain: Plain | None = self._read_plain(record.value, record.key, self._request_frame)
        if plain is None or not self._grant_plain(plain, record, outputs):
            self._decide_long(plain, record, outputs)

    def _grant_plain(self, plain: Plain, record: Record, outputs: Outputs) -> bool:
        """Answer a plain request that is granted; False where the long way is needed."""
        state = self._state
        grant = decide_plain(state, plain)
        if grant is None:
            return False
        request_id, quantity = plain[0], plain[3]
        state.source_id = request_id.decode()
        said = (grant.number, quantity, grant.available)
        when = (state.sequence, state.clock_ms, state.source_offset)
        value = self._write_plain(request_id, grant.reservation, said + when, self._result_frame)
        self._answer(request_id, value, record, outputs)
        return True

    def _decide_long(self, plain: Plain | None, record: Record, outputs: Outputs) -> None:
        state = self._state
        try:
            request = self._codec.decode_request(record.value)
            first = self._known_target(plain) or self._first_target(record, request, plain)
        except (Undecodable, Misplaced) as refusal:
            self._bury(record, refusal, outputs)
            return
        state.source_id = request.request_id
        if request.action == "TICK":
            self._tidy(expiry.TICK_EFFORT if state.behind else expiry.RECORD_EFFORT, outputs)
            return
        if plain is not None and isinstance(first, Target):
            is_new = remember_spelling(state, plain[2], first)
            if is_new and self._grant_plain(plain, record, outputs):
                return
        result = decide_request(state, request, first)
        value = self._codec.encode_result(result)
        self._answer(result.request_id.encode(), value, record, outputs)

    def _answer(self, key: bytes, value: bytes, record: Record, outputs: Outputs) -> None:
        outputs.messages[topics.RESULTS].append((key, value))
        if record.headers:
            self._replies.copy(record.headers, key, value, outputs)
        state = self._state
        clock = state.clock_ms
        if clock >= state.next_sweep_ms or clock >= state.next_forget_ms or state.events:
            self._tidy(expiry.RECORD_EFFORT, outputs)

    def _known_target(self, plain: Plain | None) -> Target | None:
        """What a plain request names, when it was found before, by a record in its place."""
        return None if plain is None else self._state.targets.get(plain[2])

    def _first_target(
        self, record: Record, request: ReservationRequest, plain: Plain | None
    ) -> Target | Outcome | None:
        """What the first line resolves to, when the record is in its place.

        A plain request is remembered by its spelling (`remember_spelling`), others by their words.

        Raises:
            Misplaced: it has no key, another key than its first line, or lies in another partition.

        """
        if request.action in CONTROL_ACTIONS:
            return None
        key = self._key_of(record)
        first: Target | Outcome | None = None
        if request.lines:
            find = target_of if plain is None else resolve_line
            first = find(self._state, request, 0)
            if isinstance(first, Target):
                self._check_key(key, first.record_key)
            else:
                self._check_words(key, request.organization_id, request.lines[0])
        self._check_partition(key)
        return first

    def _check_words(
        self,
        key: bytes,
        organization_id: str,
        words: RequestLine | InventoryTransaction,
        *,
        is_stock: bool = False,
    ) -> dict[str, str] | Refusal:
        """The dimensions by base name, when the key is the one that these words must carry."""
        rules = self._state.rules
        base = base_dimensions(rules, words.dimension_data_source, words.dimensions)
        expected = record_key_of(rules, organization_id, words.product_id, base, is_stock=is_stock)
        if expected is not None:
            self._check_key(key, expected)
        return base

    @staticmethod
    def _key_of(record: Record) -> bytes:
        if record.key is None:
            raise Misplaced(Code.KEY_MISSING, "the record has no key")
        return record.key

    @staticmethod
    def _check_key(key: bytes, expected: bytes) -> None:
        if key != expected:
            raise Misplaced(Code.KEY_MISMATCH, f"key {key[:200]!r}, by its body {expected[:200]!r}")

    def _check_partition(self, key: bytes) -> None:
        if key in self._own_keys:
            return
        partition = partition_of(key, self._partitions)
        if partition != self._partition:
            raise Misplaced(
                Code.PARTITION_MISMATCH, f"the key belongs to partition {partition} (murmur2)"
            )
        if len(self._own_keys) >= KEYS_CHECKED_MAX:
            self._own_keys.clear()
        self._own_keys.add(key)

    def _decide_transaction(self, record: Record, outputs: Outputs) -> None:
        state = self._state
        try:
            event = self._codec.decode_transaction(record.value)
            key = self._key_of(record)
            is_stock = event.transaction is None
            base = self._check_words(key, event.organization_id, event, is_stock=is_stock)
            self._check_partition(key)
        except (Undecodable, Misplaced) as refusal:
            self._bury(record, refusal, outputs)
            return
        state.source_id = event.event_id
        self._tell(decide_transaction(state, event, base), outputs)
        state.events = []
        if state.clock_ms >= min(state.next_sweep_ms, state.next_forget_ms):
            self._tidy(expiry.RECORD_EFFORT, outputs)

    def _tidy(self, effort: int, outputs: Outputs) -> None:
        """Sweep a slice, forget old ids, tell what happened besides the answer."""
        state = self._state
        expiry.sweep(state, effort)
        expiry.forget(state)
        if state.events:
            self._tell(state.events, outputs)
            state.events = []

    def _audit(self, outputs: Outputs) -> None:
        """Look at the next few product-locations, behind the last record."""
        state, auditor = self._state, self._auditor
        passes = auditor.passes
        metrics.DRIFTS.inc(auditor.step(state))
        metrics.AUDIT_PASSES.inc(auditor.passes - passes)
        self._tell(state.events, outputs)
        state.events = []

    def _tell(self, events: Iterable[InventoryEvent], outputs: Outputs) -> None:
        messages = outputs.messages[topics.EVENTS]
        for event in events:
            messages.append((event.source_id.encode(), self._codec.encode_event(event)))

    def _bury(self, record: Record, refusal: Undecodable | Misplaced, outputs: Outputs) -> None:
        if isinstance(refusal, Undecodable) and refusal.may_pass:
            raise Fault(  # A dead letter is for good, and the record may be a good one.
                f"{record.topic}/{record.partition}, offset {record.offset}: {refusal.reason}"
            )
        letter = DeadLetter(
            code=int(refusal.code),
            reason=refusal.reason,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            key=record.key,
            value=record.value,
        )
        # A huge key unpacked from a small batch must not stop the partition.
        key = record.key and record.key[: limits.DEAD_LETTER_KEY_BYTES_MAX]
        message = (key, self._codec.encode_dead_letter(letter))
        outputs.messages[topics.DEAD_LETTERS].append(message)


class StockDomain:
    """What the engine is given (`engine.ports.Domain`)."""

    output_topics: Sequence[str] = (topics.RESULTS, topics.EVENTS, topics.DEAD_LETTERS)
    dead_letter_topic: str = topics.DEAD_LETTERS
    group_length: Mapping[int, int] = row.GROUP_LENGTH
    local_kinds: frozenset[int] = row.LOCAL_KINDS
    indexed_kinds: frozenset[int] = row.INDEXED_KINDS
    rewritten_kinds: Mapping[int, int] = row.REWRITTEN_KINDS

    def __init__(
        self,
        codec: Codec,
        configuration: Configuration | None = None,
        reply_topics: Mapping[str, int] | None = None,
    ) -> None:
        """Open the domain.

        `configuration` is what a partition starts with (default: 2023-11); `reply_topics` are those
        that a request may name for a copy of its result, with their partitions (default: none).
        """
        self._codec = codec
        self._replies = Replies(reply_topics or {})
        self._rules = Rules(configuration or default())

    def tick(self) -> tuple[str, bytes, bytes]:
        """A request that asks nothing; it is sent to a partition, not to a key."""
        request = ReservationRequest("tick", "TICK", "", "", [], None)
        return topics.REQUESTS, b"", self._codec.encode_request(request)

    def derive(self, key: bytes, value: bytes, /) -> Iterable[tuple[bytes, bytes]]:
        """Index rows that belong to a restored row."""
        return row.index_rows(key, value)

    def open(
        self,
        partition: int,
        partitions: int,
        rows: Rows,
        checkpoint: bytes | None,
        /,
        *,
        memory_bytes: int = limits.CACHE_MB << 20,
    ) -> StockDecider:
        """Decider over restored rows."""
        locations_max = max(1, memory_bytes // limits.PRODUCT_LOCATION_BYTES)
        state = PartitionState(rules_of(rows, self._rules), rows, checkpoint, locations_max)
        return StockDecider(
            partition,
            partitions,
            state,
            auditor=Auditor(rows),
            codec=self._codec,
            replies=self._replies,
        )
