"""The wire of a channel client: one producer, one consumer, one thread that matches answers.

Results are read from reservation-results, or from a reply topic of the channel's own, to which the
worker copies them because every request asks for it in its headers (`kafka_replyTopic`, its
partition, and a correlation id that tells clients of one partition apart).

Many records are sent, and many answers taken in, under one lock and in one call of the library: one
by one, that was most of what a record of a bulk cost.

The consumer belongs to no group: partitions are assigned, from an offset that was asked for
*before* the first request to that partition is sent, so that no answer can be missed. It reads
committed records only: an answer that is seen here is true for good.

Whatever happens, every question that was sent is delivered exactly one outcome: its answer,
`Undecided` when it went to the dead letters, or `Unknown` at its deadline, at a delivery error, or
when the link ends. The bytes of an unknown one are kept (bounded), because only the same bytes
under the same id are the same request.
"""

import contextlib
import heapq
import itertools
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from producers.channel.outcomes import (
    Answer,
    ChannelError,
    EventAnswer,
    InFlightError,
    RecordTooLargeError,
    Undecided,
    Unknown,
)
from producers.settings import Settings
from schemas import limits, topics
from schemas.access import refusal
from schemas.codec import Codec, Undecodable
from schemas.partitioning import partition_of

UNSETTLED_MAX: Final = (
    10_000  # Unknown requests whose bytes are kept for a look-up; oldest go first.
)
WAKE_S: Final = 0.05  # The thread looks at deadlines at least this often.
REPLIES_A_TURN: Final = 1_000
CLIENT_ID_BYTES: Final = 16  # Random: no two clients that share a reply topic have the same.

Outcome = Answer | EventAnswer
Deliver = Callable[[Outcome], None]
DeliverNumbered = Callable[[int, Outcome], None]

REPLY_TOPIC: Final = {topics.REQUESTS: topics.RESULTS, topics.TRANSACTIONS: topics.EVENTS}
SOURCE_TOPIC: Final = {reply: source for source, reply in REPLY_TOPIC.items()}

log = structlog.get_logger()


class Slot(NamedTuple):
    """What an answer is matched by."""

    topic: str
    partition: int
    request_id: str


Place = tuple[str, int, str]  # A slot, or a plain tuple that equals it and costs less to make.


class Parcel(msgspec.Struct, gc=False):
    """A record to send, and who is told its outcome; remembered while it is under way.

    Not looked at by the garbage collector: a bulk makes hundreds, and none leads back to itself.

    Attributes:
        deliver: called with `number` and the outcome.
        joined: others who sent the same meanwhile.

    """

    slot: Slot
    key: bytes
    value: bytes
    deliver: DeliverNumbered
    number: int = 0
    joined: list["Parcel"] | None = None


class Forbidden(Unknown, frozen=True, kw_only=True):
    """The broker does not let this client write to the topic: what it refused was not appended.

    Still unknown to who asks by `lookup`: the same record is sent again, once it is let.
    """


class Unsettled:
    """A record whose outcome was called unknown; `outcome` is set if it came after all."""

    __slots__ = ("key", "outcome", "value")

    def __init__(self, key: bytes, value: bytes) -> None:
        self.key = key
        self.value = value
        self.outcome: Outcome | None = None


class Link:
    """Sends encoded records and delivers their outcomes; see the module's text."""

    def __init__(
        self, settings: Settings, codec: Codec, *, delivered: Callable[[], None] | None = None
    ) -> None:
        """Nothing is connected yet. `delivered` is called after outcomes, once for many of them."""
        self._settings = settings
        self._codec = codec
        self._delivered = delivered
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._waiting: dict[Place, Parcel] = {}
        self._unsettled: dict[Place, Unsettled] = {}
        self._deadlines: list[tuple[float, int, list[Parcel]]] = []
        self._numbers = itertools.count()  # Breaks ties between equal deadlines.
        self._listen_lock = threading.Lock()
        self._listening: set[tuple[str, int]] = set()
        self._places_asked: queue.SimpleQueue[tuple[str, int, Future[None]]] = queue.SimpleQueue()
        self._ended = ""  # Why nothing can be sent any more; empty while it can.
        self._closed = False
        self._client_id = secrets.token_bytes(CLIENT_ID_BYTES)
        self._reply_place: tuple[str, int] | None = None
        self._trouble = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="holdfast-channel", daemon=True)
        self._producer = self._make_producer()
        self._consumer = self._make_consumer()
        self.partitions: dict[str, int] = {}

    def _make_producer(self) -> Producer:
        settings = self._settings
        return Producer(
            {
                **settings.librdkafka(),
                "enable.idempotence": True,  # No duplicates or reordering from retries.
                "acks": "all",
                "partitioner": "murmur2_random",  # As Java; every record names its partition.
                "linger.ms": settings.linger_ms,
                # Past its deadline nobody waits for the record; delivering it later would only
                # surprise.
                "delivery.timeout.ms": max(1_000, settings.timeout_ms),
                "delivery.report.only.error": True,
                "on_delivery": self._on_delivery,
                "error_cb": self._on_error,
            }
        )

    def _make_consumer(self) -> Consumer:
        return Consumer(
            {
                **self._settings.librdkafka(),
                "group.id": "holdfast-channel",  # The library asks for one; none is joined.
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                # A newly assigned partition waits for the fetch under way to return, and the end of
                # a transaction does not end a fetch: an answer would be seen this much later.
                "fetch.wait.max.ms": 10,
                "error_cb": self._on_error,
            }
        )

    def open(self) -> None:
        """Look the topics up, listen to dead letters, start the thread.

        Raises:
            ChannelError: no broker answers, or the topics are not there.

        """
        try:
            for topic in topics.SOURCES:
                self.partitions[topic] = self._count_partitions(topic)
            self.listen(topics.DEAD_LETTERS, 0)
            if self._settings.reply_topic:
                name = self._settings.reply_topic
                chosen = int.from_bytes(self._client_id, "big") % self._count_partitions(name)
                self._reply_place = (name, chosen)
        except BaseException:
            self._let_go(0)
            raise
        self._thread.start()

    def _count_partitions(self, topic: str) -> int:
        timeout_s = self._settings.connect_timeout_ms / 1000
        try:
            found = self._consumer.list_topics(topic, timeout=timeout_s).topics[topic]
        except KafkaException as error:
            raise ChannelError(
                refusal(self._settings.librdkafka())
                or f"no Kafka broker answers at {self._settings.bootstrap_servers} within "
                f"{timeout_s:g} s ({error.args[0].str()})"
            ) from error
        if found.error is not None and found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            raise ChannelError(_words(found.error, topic))
        if found.error is not None or not found.partitions:
            raise ChannelError(
                f"the broker has no topic {topic}: make the topics with `holdfast topics create`, "
                "and a reply topic by hand"
            )
        return len(found.partitions)

    def partition(self, topic: str, key: bytes) -> int:
        """Partition of a key in a source topic."""
        return partition_of(key, self.partitions[topic])

    def listening(self, slot: Slot) -> bool:
        """Whether answers of the slot's partition are read already."""
        return self._place_of(slot) in self._listening

    def listen_for(self, slot: Slot) -> None:
        """Read the answers of the slot's partition from now on; raises as `listen`."""
        self.listen(*self._place_of(slot))

    def _place_of(self, slot: Slot) -> tuple[str, int]:
        """Topic and partition on which the slot's answer will come."""
        if self._reply_place is not None and slot.topic == topics.REQUESTS:
            return self._reply_place
        return REPLY_TOPIC[slot.topic], slot.partition

    def _headers_of(self, slot: Slot) -> list[tuple[str, bytes]] | None:
        if self._reply_place is None or slot.topic != topics.REQUESTS:
            return None
        topic, partition = self._reply_place
        return [
            ("kafka_replyTopic", topic.encode()),
            ("kafka_replyPartition", partition.to_bytes(4, "big")),
            ("kafka_correlationId", self._client_id + slot.partition.to_bytes(4, "big")),
        ]

    def listen(self, topic: str, partition: int) -> None:
        """Read a topic's partition from its present end. Waits for the broker the first time.

        Raises:
            ChannelError: the broker does not say where the end is.

        """
        if (topic, partition) in self._listening:  # As of nearly every request: no lock for it.
            return
        with self._listen_lock:
            if (topic, partition) in self._listening:
                return
            if self._thread.is_alive():
                # On the reading thread: a poll under way keeps every other call on the consumer
                # waiting, for as long as it is repeated (confluent-kafka 2.16).
                asked: Future[None] = Future()
                self._places_asked.put((topic, partition, asked))
                try:
                    asked.result(self._settings.connect_timeout_ms / 1000 + WAKE_S)
                except TimeoutError as error:
                    raise ChannelError(f"{topic}, partition {partition}: no broker") from error
            else:
                self._assign(topic, partition)

    def _assign(self, topic: str, partition: int) -> None:
        if (topic, partition) in self._listening:  # By one who has not waited so long.
            return
        place = TopicPartition(topic, partition)
        try:
            _, end = self._consumer.get_watermark_offsets(
                place, timeout=self._settings.connect_timeout_ms / 1000
            )
            self._consumer.incremental_assign([TopicPartition(topic, partition, end)])
        except KafkaException as error:
            raise ChannelError(
                f"{topic}, partition {partition} cannot be read: {error.args[0].str()}"
            ) from error
        self._listening.add((topic, partition))

    def _assign_asked(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                topic, partition, asked = self._places_asked.get_nowait()
                try:
                    self._assign(topic, partition)
                except ChannelError as error:
                    asked.set_exception(error)
                else:
                    asked.set_result(None)

    def send(
        self, slot: Slot, key: bytes, value: bytes, deliver: Deliver, *, timeout_ms: int
    ) -> None:
        """Send a record and have its outcome delivered, once, at the deadline at the latest.

        The same record under way already is not sent twice: both callers get the one outcome.

        Raises:
            ChannelError: the link has ended, or takes no more records.
            InFlightError: the id is under way or unsettled with other content.
            RecordTooLargeError: the record exceeds `limits.RECORD_BYTES_MAX`.

        """
        parcel = Parcel(slot, key, value, lambda _, outcome: deliver(outcome))
        for reason in self.send_many((parcel,), timeout_ms=timeout_ms).values():
            raise reason

    def send_many(
        self, parcels: Sequence[Parcel], *, timeout_ms: int
    ) -> Mapping[int, ChannelError | InFlightError | RecordTooLargeError]:
        """Send records as `send` does; what it would have raised, by index of the parcel."""
        refused: dict[int, Any] = self._listen_for_all(parcels)
        taken: list[Parcel] = []
        with self._lock:
            if self._ended:
                return {index: ChannelError(self._ended) for index in range(len(parcels))}
            self._take(parcels, taken, refused)
            if taken:
                deadline_s = time.monotonic() + timeout_ms / 1000
                heapq.heappush(self._deadlines, (deadline_s, next(self._numbers), taken))
        not_queued = self._produce(taken)
        if not_queued:
            self._take_back(parcels, not_queued, refused)
        return refused

    def _listen_for_all(self, parcels: Sequence[Parcel]) -> dict[int, Any]:
        """Read the answers of all these parcels' partitions; those that cannot be, by index."""
        deaf: dict[tuple[str, int], ChannelError] = {}
        for topic, partition in {parcel.slot[:2] for parcel in parcels}:
            try:
                self.listen_for(Slot(topic, partition, ""))
            except ChannelError as error:
                deaf[topic, partition] = error
        if not deaf:
            return {}
        places = [parcel.slot[:2] for parcel in parcels]
        return {index: deaf[place] for index, place in enumerate(places) if place in deaf}

    def _take(
        self, parcels: Sequence[Parcel], taken: list[Parcel], refused: dict[int, Any]
    ) -> None:
        """Have outcomes waited for, under the lock; what is under way already is not sent again."""
        under_way, unsettled = self._waiting, self._unsettled
        for index, parcel in enumerate(parcels):
            slot, value = parcel.slot, parcel.value
            present = under_way.get(slot) or unsettled.get(slot)
            if refused and index in refused:
                continue
            if len(value) > limits.RECORD_BYTES_MAX:
                refused[index] = RecordTooLargeError(
                    f"{len(value)} bytes exceed {limits.RECORD_BYTES_MAX}: split the request"
                )
            elif present is not None and present.value != value:
                words = f"{slot.request_id} is under way with other content"
                refused[index] = InFlightError(words)
            elif isinstance(present, Parcel):
                present.joined = [*(present.joined or ()), parcel]
            else:
                under_way[slot] = parcel
                taken.append(parcel)

    def _produce(self, taken: Sequence[Parcel]) -> dict[Slot, str]:
        """Queue records; why not, for those that were not queued."""
        if len(taken) == 1 or self._reply_place is not None:  # A batch has no headers.
            return self._produce_each(taken)
        places: dict[tuple[str, int], list[Parcel]] = {}
        for parcel in taken:
            places.setdefault(parcel.slot[:2], []).append(parcel)
        not_queued: dict[Slot, str] = {}
        for (topic, partition), there in places.items():
            messages: list[dict[str, Any]] = [
                {"value": parcel.value, "key": parcel.key} for parcel in there
            ]
            try:
                queued = self._producer.produce_batch(topic, messages, partition)
            except (BufferError, KafkaException) as error:
                for parcel in there:  # It does not say which of them were queued before.
                    self._give_up(parcel.slot, f"perhaps not sent: {error}")
                continue
            if queued == len(messages):
                continue
            for parcel, message in zip(there, messages, strict=True):
                if "_error" in message:
                    not_queued[parcel.slot] = _words(message["_error"], topic)
        return not_queued

    def _produce_each(self, taken: Sequence[Parcel]) -> dict[Slot, str]:
        not_queued: dict[Slot, str] = {}
        for parcel in taken:
            slot = parcel.slot
            try:
                self._producer.produce(
                    slot.topic,
                    value=parcel.value,
                    key=parcel.key,
                    partition=slot.partition,
                    headers=self._headers_of(slot),
                )
            except BufferError as error:
                not_queued[slot] = str(error)
            except KafkaException as error:
                not_queued[slot] = _words(error.args[0], slot.topic)
        return not_queued

    def _take_back(
        self, parcels: Sequence[Parcel], not_queued: dict[Slot, str], refused: dict[int, Any]
    ) -> None:
        """Forget records that were not queued; who joined them from elsewhere is told so."""
        with self._lock:
            forgotten = [self._waiting.pop(slot, None) for slot in not_queued]
        ours = {id(parcel) for parcel in parcels}
        for parcel in forgotten:
            for other in (parcel and parcel.joined) or ():
                if id(other) not in ours:
                    reason = f"not sent: {not_queued[other.slot]}"
                    _deliver(other, Unknown(request_id=other.slot.request_id, reason=reason))
        for index, parcel in enumerate(parcels):
            if parcel.slot in not_queued:
                refused[index] = ChannelError(f"not sent: {not_queued[parcel.slot]}")
        self._tell()

    def unsettled(self, topic: str, request_id: str) -> tuple[Slot, Unsettled] | None:
        """A record of that id whose outcome was called unknown, if its bytes are still kept."""
        with self._lock:
            for (source, partition, known_id), record in self._unsettled.items():
                if known_id == request_id and source == topic:
                    return Slot(source, partition, known_id), record
        return None

    @property
    def in_flight(self) -> int:
        """Records sent whose outcome has not been delivered."""
        return len(self._waiting)

    @property
    def ended(self) -> str:
        """Why nothing can be sent any more, for good; empty while it can."""
        return self._ended

    def close(self, timeout_s: float) -> None:
        """Take nothing more, wait for outcomes, call the rest unknown, let go of the broker."""
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._ended = self._ended or "the client is closed"
            self._idle.wait_for(lambda: not self._waiting, timeout_s)
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._fail_all("the client was closed before the answer came")
        self._tell()
        self._let_go(max(0.0, deadline_s - time.monotonic()))

    def _let_go(self, flush_s: float) -> None:
        """End both clients; what the broker has not confirmed by then is dropped."""
        if self._producer.flush(flush_s):
            self._producer.purge()
            self._producer.flush(1)
        self._producer.close()
        self._consumer.close()

    # The thread.

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
        except Exception as error:
            log.exception("channel client stopped")
            with self._lock:
                self._ended = self._ended or f"the client's thread ended: {error!r}"
            self._fail_all(f"the client's thread ended: {error!r}")
            self._tell()

    def _turn(self) -> None:
        self._producer.poll(0)
        self._assign_asked()
        first = self._consumer.poll(WAKE_S)
        if first is not None:
            self._take_in([first, *self._consumer.consume(REPLIES_A_TURN, 0)])
        self._look_at_deadlines()
        self._tell()

    def _look_at_deadlines(self) -> None:
        now_s = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now_s:
            with self._lock:
                _, _, sent = heapq.heappop(self._deadlines)
            for parcel in sent:
                if self._waiting.get(parcel.slot) is parcel:
                    self._give_up(parcel.slot, "no answer within the time given")

    def _tell(self) -> None:
        """Tell that outcomes may have been delivered."""
        if self._delivered is not None:
            with contextlib.suppress(Exception):  # As a caller's `deliver`: it stops no other.
                self._delivered()

    def _take_in(self, messages: Iterable[Message]) -> None:
        """Deliver the outcomes that messages bring, in their order."""
        found: list[tuple[Place, Outcome]] = []
        for message in messages:
            error = message.error()
            if error is not None:
                self._on_error(error, message.topic())
                continue
            try:
                one = self._outcome_in(message)
            except Undecodable as error_:
                # A newer schema that this client cannot read: the deadline will say "unknown".
                topic, offset = message.topic(), message.offset()
                self._trouble = f"a record of {topic} cannot be read: {error_}"
                log.warning("unreadable reply", topic=topic, offset=offset, reason=str(error_))
                continue
            self._trouble = ""
            if one is not None:
                found.append(one)
        if found:
            self._settle(found)

    def _outcome_in(self, message: Message) -> tuple[Place, Outcome] | None:
        """The outcome that somebody here waits for, if the message is one."""
        topic = message.topic()
        source = SOURCE_TOPIC.get(topic)
        place: Place | None
        if source is not None:
            place = source, message.partition(), (message.key() or b"").decode("utf-8", "replace")
        elif topic == topics.DEAD_LETTERS:
            return self._dead_letter_in(message.value())
        else:
            source, place = topics.REQUESTS, self._place_replied_to(message)
        if place is None or (place not in self._waiting and place not in self._unsettled):
            return None  # Somebody else's.
        if source == topics.REQUESTS:
            return place, self._codec.decode_result(message.value())
        event = self._codec.decode_event(message.value())
        if event.event_type == "TRANSACTION" and event.source_topic == source:
            return place, event
        return None

    def _place_replied_to(self, message: Message) -> Place | None:
        """What an answer on a shared reply topic belongs to; None for somebody else's."""
        correlation = dict(message.headers() or ()).get("kafka_correlationId") or b""
        if correlation[:-4] != self._client_id:
            return None
        request_id = (message.key() or b"").decode("utf-8", "replace")
        return topics.REQUESTS, int.from_bytes(correlation[-4:], "big"), request_id

    def _dead_letter_in(self, value: bytes) -> tuple[Place, Outcome] | None:
        if not self._waiting and not self._unsettled:
            return None
        letter = self._codec.decode_dead_letter(value)
        if letter.topic not in REPLY_TOPIC or letter.value is None:
            return None
        try:
            request_id = self._id_in(letter.topic, letter.value)
        except Undecodable:
            return None  # Not of our making: what is sent here can be read.
        slot = Slot(letter.topic, letter.partition, request_id)
        record = self._waiting.get(slot) or self._unsettled.get(slot)
        if record is None or record.value != letter.value:
            return None
        reason = f"set aside as a dead letter: {letter.reason}"
        return slot, Undecided(request_id=request_id, code=letter.code, reason=reason)

    def _id_in(self, topic: str, value: bytes) -> str:
        if topic == topics.REQUESTS:
            return self._codec.decode_request(value).request_id
        return self._codec.decode_transaction(value).event_id

    def _settle(self, found: Iterable[tuple[Place, Outcome]]) -> None:
        ended: list[tuple[Parcel, Outcome]] = []
        with self._lock:
            for slot, outcome in found:
                parcel = self._waiting.pop(slot, None)
                if parcel is not None:
                    ended.append((parcel, outcome))
                    if self._unsettled:
                        self._unsettled.pop(slot, None)
                elif (late := self._unsettled.get(slot)) is not None:
                    late.outcome = outcome
            if not self._waiting:
                self._idle.notify_all()
        for parcel, outcome in ended:
            _deliver(parcel, outcome)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """Take in the broker's word on a record; only a refusal is told."""
        if error is not None:
            topic = message.topic()
            slot = Slot(topic, message.partition(), self._id_in(topic, message.value()))
            if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                self._give_up(slot, f"not sent: {_words(error, topic)}", Forbidden)
            else:
                self._give_up(slot, f"the broker did not confirm it: {error.str()}")

    def _give_up(self, slot: Slot, reason: str, kind: type[Unknown] = Unknown) -> None:
        with self._lock:
            parcel = self._waiting.pop(slot, None)
            if parcel is None:
                return
            self._unsettled[slot] = Unsettled(parcel.key, parcel.value)
            while len(self._unsettled) > UNSETTLED_MAX:
                self._unsettled.pop(next(iter(self._unsettled)))
            if not self._waiting:
                self._idle.notify_all()
        if self._trouble:
            reason = f"{reason}; last trouble: {self._trouble}"
        _deliver(parcel, kind(request_id=slot.request_id, reason=reason))

    def _fail_all(self, reason: str) -> None:
        for place in list(self._waiting):
            self._give_up(Slot(*place), reason)

    def _on_error(self, error: Any, topic: str | None = None) -> None:
        self._trouble = _words(error, topic)
        if error.fatal():
            with self._lock:
                self._ended = self._ended or f"Kafka: {error.str()}"
            log.error("channel client cannot go on", error=error.str())


def _words(error: Any, topic: str | None) -> str:
    """What an error says; of a right that is missing, also on what and where to look."""
    said = str(error.str())
    if topic and error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return f"topic {topic}: {said} (see docs/security.md)"
    return said


def _deliver(parcel: Parcel, outcome: Outcome) -> None:
    for one in (parcel,) if parcel.joined is None else (parcel, *parcel.joined):
        try:
            one.deliver(one.number, outcome)
        except Exception:  # noqa: BLE001, S112 - a caller that went away stops no other
            continue
