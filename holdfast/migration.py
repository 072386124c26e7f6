"""Another partition rule or partition count: the state put into new topics, proved equal, switched.

A partition count is fixed for the life of a topic, so the topics themselves are replaced. In order:

1. Nothing runs: no worker is in the group, and no record waits to be decided. The topics that stay
   are as they are declared.
2. The changelog is read whole, and every row is put where its records will go from now on.
3. All rows are written to the staging topic, in one transaction, and read back: totals must be
   those of the changelog, and reserved totals the sum of their holds. From here on the state exists
   twice, and no worker starts.
4. Still nothing runs: the group is deleted, with the positions it committed. The topics that share
   the partition count are deleted and made anew; the staged rows become the changelog, in one
   transaction with a mark beside them in the staging topic, are read back and compared once more.
   The configuration topic gets the new version.
5. The staging topic is deleted.

The rule: until step 4 nothing that workers read has changed, and whatever ends the program leaves
either the old topics whole or the staging topic whole. The same command then goes on from there;
until it is known by the mark that the new changelog is there, the new topics are made once more.
Producers must be quiet all the while: what they send meanwhile is lost with the topics, and the
history in the old topics (answers, events) goes with them.
"""

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from holdfast.changelog import committed_rows
from holdfast.connection import Stop
from processor.engine.cycle import WATERMARK_KEY, Watermark
from processor.inventory.audit import audit
from processor.inventory.configuration import Configuration, from_json, to_json
from processor.inventory.lines import base_dimensions, record_key_of
from processor.inventory.rekey import Rekeyed, Rows, Totals, Unplaceable, checkpoint_of, totals
from processor.inventory.rules import Rules
from producers.settings import Settings
from schemas import cluster, topics
from schemas.codec import Codec, Undecodable
from schemas.limits import MESSAGE_BYTES_MAX
from schemas.partitioning import partition_of

STAGED_KEY: Final = b"\x00staged"  # Of the row that says what is staged; no kind of row is zero.
SWITCHED_KEY: Final = b"\x00switched"  # Of the mark that the new changelog has all of it.
KAFKA_TIMEOUT_S: Final = 30.0
READ_WITHIN_S: Final = 600.0
COMMIT_WITHIN_S: Final = 600.0
WAIT_S: Final = 0.2
POLL_S: Final = 0.05  # Waited for in full whenever a partition's end comes sooner than a batch.
BATCH: Final = 10_000
SHOWN_MAX: Final = 10
REMEMBERED_IDS: Final = frozenset({b"R", b"E"})
HOW_TO_BE_QUIET: Final = (
    "stop the producers, wait until everything is answered, then stop all workers."
)
STATE_IS_STAGED: Final = (
    f"All of the state is in the topic {topics.STAGING}: leave it, put right what is said above, "
    "and run the same command again. Until then no worker can start."
)

Say = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True):
    """What is to be: configuration with the new rule, and the new partition count."""

    configuration: Configuration
    partitions: int


class Staged(msgspec.Struct, frozen=True):
    """What lies whole in the staging topic.

    Attributes:
        changelog_id: incarnation of the changelog it was made from.

    """

    configuration: Configuration
    partitions: int
    changelog_id: str

    @property
    def plan(self) -> Plan:
        """What it was made for."""
        return Plan(self.configuration, self.partitions)


class State(msgspec.Struct, frozen=True):
    """Everything the workers knew, as it was found.

    Attributes:
        partitions: rows by partition.
        ends: source topic and partition to the end of its log when it was read.
        answered: old partition and row key of a remembered id to the new partition of its record.

    """

    partitions: list[Rows]
    ends: dict[tuple[str, int], int]
    answered: dict[tuple[int, bytes], int]


class Migration:
    """One change of the partition rule, from looking to the switch."""

    def __init__(self, settings: Settings, codec: Codec, say: Say) -> None:
        self._settings = settings
        self._codec = codec
        self._say = say
        self._admin = AdminClient({**settings.librdkafka(), "log_level": 0})
        self._staging_id = ""

    # Looking.

    def unfinished(self) -> Staged | None:
        """What an earlier run staged whole and began to switch to; then it alone is the truth.

        While the old topics are still whole, what was staged is worth nothing: workers may have
        decided since.
        """
        if topics.STAGING not in self._topics():
            return None
        self._end_what_was_left_open()
        told = self._noted(STAGED_KEY)
        if told is None:
            return None
        staged = _staged(told)
        old_is_whole = {*topics.SOURCES, topics.CHANGELOG} <= self._topics().keys() and (
            self._id_of(topics.CHANGELOG) == staged.changelog_id
        )
        return None if old_is_whole else staged

    def _end_what_was_left_open(self) -> None:
        """Abort the transaction of a run that was killed in it: what is read waits for its end."""
        try:
            self._producer().init_transactions(KAFKA_TIMEOUT_S)
        except KafkaException as error:
            raise Stop(f"An earlier run cannot be ended: {error.args[0].str()}") from error

    def _noted(self, key: bytes) -> bytes | None:
        """A row about the staged rows, which lies in partition 0."""
        _, noted = next(committed_rows(self._settings, lambda one: one == key, topics.STAGING))
        return noted.get(key)

    def require_ready(self) -> None:
        """Raise `Stop` while a worker is in the group, or a topic that stays is not as declared.

        With such a topic, the others would not be made anew.
        """
        self._require_no_workers()
        kept = [topic for topic in topics.TOPICS.values() if not topic.co_partitioned]
        differences = cluster.check(self._admin, topics=kept)
        if differences:
            listed = "\n".join(f"  {difference}" for difference in differences)
            raise Stop(f"These topics stay, and are not as they must be:\n{listed}")

    def _has_group(self) -> bool:
        """Where no worker ever was there is none, and perhaps nobody yet who could be asked of it.

        Raises:
            KafkaException: the broker does not say.

        """
        listed = self._admin.list_consumer_groups(request_timeout=KAFKA_TIMEOUT_S).result()
        if listed.errors:
            raise listed.errors[0]
        return topics.APP_ID in {group.group_id for group in listed.valid}

    def _require_no_workers(self) -> None:
        try:
            if not self._has_group():
                return
            described = self._admin.describe_consumer_groups(
                [topics.APP_ID], request_timeout=KAFKA_TIMEOUT_S
            )[topics.APP_ID].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return
            raise Stop(f"The group cannot be looked at: {error.args[0].str()}") from error
        if described.members:
            raise Stop(f"{len(described.members)} worker(s) are running: {HOW_TO_BE_QUIET}")

    def read(self, plan: Plan) -> State:
        """Everything that is committed.

        Raises:
            Stop: records wait to be decided, or something cannot be read.

        """
        found = dict(committed_rows(self._settings, lambda _: True))
        partitions = [found[number] for number in sorted(found)]
        self._say(f"{sum(map(len, partitions))} rows in {len(partitions)} partitions")
        reading = _Sources(self._settings, self._codec, plan)
        ends = reading.read(partitions)
        return State(partitions, ends, reading.answered)

    # Staging.

    def stage(self, plan: Plan, state: State) -> list[Rows]:
        """Put every row in its new place, in the staging topic, and prove that nothing changed.

        Raises:
            Stop: a row has no place, the totals differ, or the broker does not do its part.

        """
        wanted = self.rekeyed(plan, state)
        self._delete([topics.STAGING])
        self._create_staging(plan.partitions)
        self._staging_id = self._id_of(topics.STAGING)
        told = {
            "partitions": plan.partitions,
            "configuration": to_json(plan.configuration).decode(),
            "changelog_id": self._id_of(topics.CHANGELOG),
        }
        self._write(topics.STAGING, wanted, {STAGED_KEY: json.dumps(told).encode()})
        staged = self.staged_rows(plan)
        _require_same(totals(each.items() for each in state.partitions), staged, topics.STAGING)
        return staged

    @contextlib.contextmanager
    def taken_back_if_it_fails(self) -> Iterator[None]:
        """Delete what was staged if anything is raised inside, while the old topics are whole.

        No worker starts while it is there. That of another run, which may be further, stays.
        """
        try:
            yield
        except BaseException:
            if self._staging_id and self._staging_id == self._id_of(topics.STAGING):
                self._delete([topics.STAGING])
            raise

    def rekeyed(self, plan: Plan, state: State) -> list[Rows]:
        """Rows by new partition, with the watermark they begin with."""
        new = Rekeyed(plan.configuration, plan.partitions, state.answered)
        try:
            for number, rows in enumerate(state.partitions):
                new.add(number, rows.items())
        except Unplaceable as error:
            raise Stop(f"A row has no partition under the new rule: {error}") from error
        rows_of = new.finish()
        met = sum(key[:1] in REMEMBERED_IDS for key in new.met)
        if met:
            self._say(f"{met} id(s) were remembered by several partitions: the newest answer stays")
        marks = [rows[WATERMARK_KEY] for rows in state.partitions if WATERMARK_KEY in rows]
        before = [msgspec.msgpack.decode(mark, type=Watermark).checkpoint for mark in marks]
        start = Watermark(
            1, dict.fromkeys(topics.SOURCES, 0), checkpoint_of(before), {}, plan.partitions
        )
        for rows in rows_of:
            rows[WATERMARK_KEY] = msgspec.msgpack.encode(start)
        _require_sound(Rules(plan.configuration), rows_of)
        return rows_of

    def staged_rows(self, plan: Plan) -> list[Rows]:
        """Rows by new partition, as they lie in the staging topic."""
        noted = {STAGED_KEY, SWITCHED_KEY}
        found = dict(committed_rows(self._settings, lambda key: key not in noted, topics.STAGING))
        if len(found) != plan.partitions:
            raise Stop(f"{topics.STAGING} has {len(found)} partitions, not {plan.partitions}.")
        return [found[number] for number in range(plan.partitions)]

    # Switching.

    def require_unchanged(self, state: State) -> None:
        """Raise `Stop` if anything was sent since the state was read."""
        if _ends(self._settings, len(state.partitions)) != state.ends:
            raise Stop("Records were sent meanwhile: stop the producers, let a worker decide them.")

    def delete_group(self) -> None:
        """Delete the workers' group, which is refused while one is in it.

        What it committed are positions in the old topics: in new ones of the same names they would
        be taken for a state that is lost.

        Raises:
            Stop: a worker is running, or the broker does not do it.

        """
        try:
            if self._has_group():
                self._admin.delete_consumer_groups(
                    [topics.APP_ID], request_timeout=KAFKA_TIMEOUT_S
                )[topics.APP_ID].result()
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.NON_EMPTY_GROUP:
                raise Stop(f"A worker was started meanwhile: {HOW_TO_BE_QUIET}") from error
            if code != KafkaError.GROUP_ID_NOT_FOUND:
                raise Stop(f"The group was not deleted: {error.args[0].str()}") from error

    def switch(self, plan: Plan, staged: list[Rows]) -> None:
        """Replace the topics by new ones that begin with the staged rows.

        Raises:
            Stop: something was not done; the staging topic is whole.

        """
        try:
            if self._noted(SWITCHED_KEY) is None:
                self._replace(plan, staged)
            _require_same(totals(each.items() for each in staged), self._changelog(), "changelog")
            version = str(plan.configuration.version).encode()
            self._produce_configuration(version, to_json(plan.configuration))
            self._delete([topics.STAGING])
        except (Stop, cluster.ClusterError) as error:
            raise Stop(f"{error}\n{STATE_IS_STAGED}") from error

    def _replace(self, plan: Plan, staged: list[Rows]) -> None:
        """Make the topics anew, also those of an earlier run: others may have written to them."""
        shared = [topic.name for topic in topics.TOPICS.values() if topic.co_partitioned]
        self._say(f"deleting {', '.join(shared)}")
        # The changelog last: with it all the others are known to be there.
        self._delete([name for name in shared if name != topics.CHANGELOG])
        self._delete([topics.CHANGELOG])
        cluster.create(self._admin, plan.partitions, self._replication_of(topics.STAGING))
        self._write(topics.CHANGELOG, staged, {SWITCHED_KEY: b""})

    def _changelog(self) -> list[Rows]:
        found = dict(committed_rows(self._settings, lambda _: True))
        return [found[number] for number in sorted(found)]

    # The broker.

    def _topics(self) -> Mapping[str, Any]:
        try:
            known: Mapping[str, Any] = self._admin.list_topics(timeout=KAFKA_TIMEOUT_S).topics
        except KafkaException as error:
            raise Stop(f"The broker does not answer: {error.args[0].str()}") from error
        return known

    def _id_of(self, topic: str) -> str:
        """Incarnation of the topic; empty where there is none."""
        try:
            described = self._admin.describe_topics(
                TopicCollection([topic]), request_timeout=KAFKA_TIMEOUT_S
            )
            return str(described[topic].result().topic_id)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return ""
            raise Stop(f"{topic}: {error.args[0].str()}") from error

    def _replication_of(self, topic: str) -> int:
        return len(self._topics()[topic].partitions[0].replicas)

    def _create_staging(self, partitions: int) -> None:
        staging = topics.Topic(
            name=topics.STAGING,
            key="row key",
            schema=None,
            retention_ms=-1,
            message_bytes_max=MESSAGE_BYTES_MAX,
        )
        replication = self._replication_of(topics.CHANGELOG)
        cluster.create(self._admin, partitions, replication, topics=(staging,))

    def _delete(self, names: list[str]) -> None:
        there = [name for name in names if name in self._topics()]
        if not there:
            return
        for future in self._admin.delete_topics(there, operation_timeout=KAFKA_TIMEOUT_S).values():
            try:
                future.result()
            except KafkaException as error:
                raise Stop(f"Not deleted: {error.args[0].str()}") from error
        until = time.monotonic() + KAFKA_TIMEOUT_S
        while set(there) & self._topics().keys():
            if time.monotonic() > until:
                raise Stop(f"{', '.join(there)} did not go: run the command again.")
            time.sleep(WAIT_S)

    def _write(self, topic: str, partitions: list[Rows], note: Rows) -> None:
        """All rows in one transaction, and with them the note in the staging topic."""
        producer = self._producer()
        try:
            producer.init_transactions(KAFKA_TIMEOUT_S)
            producer.begin_transaction()
            for number, rows in enumerate(partitions):
                _produce(producer, topic, number, rows)
            _produce(producer, topics.STAGING, 0, note)
            producer.commit_transaction(COMMIT_WITHIN_S)
        except KafkaException as error:
            raise Stop(f"{topic} was not written: {error.args[0].str()}. Run it again.") from error
        self._say(f"{topic}: {sum(map(len, partitions))} rows in {len(partitions)} partitions")

    def _producer(self) -> Producer:
        return Producer(
            {
                **self._settings.librdkafka(),
                "transactional.id": topics.STAGING,
                "transaction.timeout.ms": int(COMMIT_WITHIN_S * 1000),
                "message.max.bytes": MESSAGE_BYTES_MAX,
                "queue.buffering.max.messages": 10 * BATCH,
                "log_level": 0,
            }
        )

    def _produce_configuration(self, version: bytes, document: bytes) -> None:
        refused: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                refused.append(error)

        producer = Producer({**self._settings.librdkafka(), "acks": "all", "log_level": 0})
        producer.produce(
            topics.CONFIGURATION, key=version, value=document, partition=0, on_delivery=delivered
        )
        if producer.flush(KAFKA_TIMEOUT_S) or refused:
            why = refused[0].str() if refused else "no answer"
            raise Stop(f"The configuration topic was not written: {why}. Run the command again.")


class _Sources:
    """What lies in the source topics: nothing undecided, and where remembered ids belong."""

    def __init__(self, settings: Settings, codec: Codec, plan: Plan) -> None:
        self._settings = settings
        self._codec = codec
        self._rules = Rules(plan.configuration)
        self._partitions = plan.partitions
        self.answered: dict[tuple[int, bytes], int] = {}

    def read(self, partitions: list[Rows]) -> dict[tuple[str, int], int]:
        """Read both topics whole, beside the rows by partition; gives their ends."""
        ends = _ends(self._settings, len(partitions))
        undecided = 0
        for (topic, number), end in ends.items():
            decided = _positions(partitions[number]).get(topic, 0)
            since_ms = int(time.time() * 1000) - self._rules.dedupe_window_ms - topics.DAY_MS
            begin = min(_offset_of(self._settings, topic, number, since_ms), decided)
            for message in _records(self._settings, topic, number, begin, end):
                key, partition, is_tick = self._place(topic, message.value())
                undecided += message.offset() >= decided and not is_tick
                if key in partitions[number] and partition is not None:
                    self.answered[number, key] = partition
        if undecided:
            raise Stop(f"{undecided} record(s) wait to be decided: let a worker decide them first.")
        return ends

    def _place(self, topic: str, value: bytes | None) -> tuple[bytes, int | None, bool]:
        """Row key of the record's id, its partition to be, and whether it is a tick."""
        try:
            if topic == topics.TRANSACTIONS:
                told = self._codec.decode_transaction(value)
                key = b"E" + told.event_id.encode()
                source, dimensions = told.dimension_data_source, told.dimensions
                organization_id, product_id = told.organization_id, told.product_id
                is_stock = told.transaction is None
            else:
                asked = self._codec.decode_request(value)
                key = b"R" + asked.request_id.encode()
                if not asked.lines:
                    return key, None, asked.action == "TICK"
                line, is_stock = asked.lines[0], False
                source, dimensions = line.dimension_data_source, line.dimensions
                organization_id, product_id = asked.organization_id, line.product_id
        except Undecodable:
            return b"", None, False
        base = base_dimensions(self._rules, source, dimensions)
        record_key = record_key_of(
            self._rules, organization_id, product_id, base, is_stock=is_stock
        )
        partition = None if record_key is None else partition_of(record_key, self._partitions)
        return key, partition, False


def _staged(told: bytes) -> Staged:
    words = json.loads(told)
    document = from_json(words["configuration"].encode())
    return Staged(document, words["partitions"], words["changelog_id"])


def _positions(rows: Rows) -> dict[str, int]:
    mark = rows.get(WATERMARK_KEY)
    return {} if mark is None else msgspec.msgpack.decode(mark, type=Watermark).offsets


def _consumer(settings: Settings, isolation_level: str = "read_committed") -> Consumer:
    return Consumer(
        {
            **settings.librdkafka(),
            "group.id": topics.STAGING,  # The library asks for one; none is joined.
            "enable.auto.commit": False,
            "isolation.level": isolation_level,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 10,  # The end is told after a fetch that found nothing.
            "log_level": 0,
        }
    )


def _ends(settings: Settings, partitions: int) -> dict[tuple[str, int], int]:
    # True ends, open transactions included: reading to them waits until these are decided.
    consumer = _consumer(settings, "read_uncommitted")
    try:
        return {
            (topic, number): consumer.get_watermark_offsets(
                TopicPartition(topic, number), timeout=KAFKA_TIMEOUT_S
            )[1]
            for topic in topics.SOURCES
            for number in range(partitions)
        }
    except KafkaException as error:
        raise Stop(f"The source topics cannot be read: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _offset_of(settings: Settings, topic: str, number: int, since_ms: int) -> int:
    """Offset of the first record not older; beyond everything if all are."""
    consumer = _consumer(settings)
    try:
        place = TopicPartition(topic, number, since_ms)
        found = consumer.offsets_for_times([place], timeout=KAFKA_TIMEOUT_S)[0].offset
    except KafkaException as error:
        raise Stop(f"{topic}-{number}: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return found if found >= 0 else sys.maxsize


def _records(settings: Settings, topic: str, number: int, begin: int, end: int) -> Iterable[Any]:
    consumer = _consumer(settings)
    place = TopicPartition(topic, number)
    until = time.monotonic() + READ_WITHIN_S
    try:
        low, _ = consumer.get_watermark_offsets(place, timeout=KAFKA_TIMEOUT_S)
        begin = max(begin, low)
        consumer.assign([TopicPartition(topic, number, begin)])
        while begin < end and consumer.position([place])[0].offset < end:
            if time.monotonic() > until:
                raise Stop(f"{topic}-{number} cannot be read to its end in {READ_WITHIN_S:.0f} s")
            for message in consumer.consume(num_messages=BATCH, timeout=POLL_S):
                if message.error() is not None:
                    raise Stop(f"{topic}-{number}: {message.error().str()}")
                yield message
    finally:
        consumer.close()


def _produce(producer: Producer, topic: str, number: int, rows: Rows) -> None:
    items = list(rows.items())
    for start in range(0, len(items), BATCH):
        batch = [{"key": key, "value": value} for key, value in items[start : start + BATCH]]
        if producer.produce_batch(topic, batch, number) != len(batch):
            raise Stop(f"{topic}: a row was refused by the client library")
        producer.flush(KAFKA_TIMEOUT_S)


def _require_same(before: Totals, rows: list[Rows], where: str) -> None:
    """Raise `Stop` unless the rows add up to the totals before."""
    after = totals(each.items() for each in rows)
    if before == after:
        return
    differing = [name for name in before.keys() | after.keys() if before[name] != after[name]]
    listed = "\n".join(
        f"  {' '.join(name)}: {before[name]} became {after[name]}"
        for name in sorted(differing)[:SHOWN_MAX]
    )
    raise Stop(f"The totals in {where} differ; what was read is whole elsewhere:\n{listed}")


def _require_sound(rules: Rules, partitions: list[Rows]) -> None:
    """Raise `Stop` if totals are not the sum of their holds under the new rule."""
    for number, rows in enumerate(partitions):
        found = audit(rules, rows.items(), 0, with_supply=False)
        if found:
            first = found[0]
            raise Stop(
                f"{len(found)} contradiction(s) in partition {number} to be, the first: "
                f"{first.kind} {first.place}: {first.found}, not {first.expected}. Nothing was "
                "switched; see `holdfast audit`."
            )
