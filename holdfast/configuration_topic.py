"""The `configuration` topic: every version that was applied, and how another one is put to work.

The rule: a version reaches the topic and every partition of reservation-requests in one Kafka
transaction. So each partition switches at one record of its own, at the same record in every
replay, and no partition is left out. Versions only grow; two people who apply at once are one after
the other, for the second fences the first.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from holdfast.connection import HOW_TO_START, Stop
from processor.inventory.configuration import Configuration, from_json, to_json
from producers.settings import Settings
from schemas.access import refusal
from schemas.codec import Codec, Undecodable
from schemas.codes import Code
from schemas.messages import RequestOptions, ReservationRequest
from schemas.topics import CONFIGURATION, REQUESTS, RESULTS

TRANSACTIONAL_ID: Final = "holdfast-config-apply"
KAFKA_TIMEOUT_S: Final = 15.0
POLL_S: Final = 0.5
CHANNEL: Final = "configuration"


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One version in the topic: when it was written (broker time) and what it says.

    `configuration` is None where a newer or older program wrote what this one cannot read.
    """

    version: int
    written_at_ms: int
    document: bytes
    configuration: Configuration | None


def history(settings: Settings) -> list[Version]:
    """Every version that was applied, oldest first.

    Raises:
        Stop: the broker or the topic is not there.

    """
    with _consumer(settings) as consumer:
        # Of a topic that it does not know yet the library takes half a second to fetch.
        with contextlib.suppress(KafkaException):
            consumer.list_topics(CONFIGURATION, timeout=POLL_S)
        consumer.assign([TopicPartition(CONFIGURATION, 0, OFFSET_BEGINNING)])
        found = [_version(message) for message in _to_the_end(settings, consumer)]
    by_version = {one.version: one for one in found}
    return [by_version[number] for number in sorted(by_version)]


def request_of(
    configuration: Configuration, actor: str, *, dry_run: bool = False
) -> ReservationRequest:
    """Control record of a document; the same person with the same document asks once.

    A dry run only asks whether it would be put to work; it is asked anew each time.
    """
    document = to_json(configuration)
    digest = hashlib.blake2b(document + actor.encode(), digest_size=8).hexdigest()
    name = f"ask-{time.time_ns()}" if dry_run else "configure"
    return ReservationRequest(
        request_id=f"{name}-{configuration.version}-{digest}",
        action="CONFIGURE",
        organization_id="",
        channel=CHANNEL,
        lines=[],
        options=RequestOptions(configuration=document, actor=actor, dry_run=dry_run),
    )


class Applying:
    """One application of a version, from fencing others to the partitions' answers."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        """Fence whoever applies at the same time.

        Raises:
            Stop: the broker is not there, or has no topics.

        """
        self._settings = settings
        self._codec = codec
        self._producer = Producer(
            {
                **settings.librdkafka(),
                "transactional.id": TRANSACTIONAL_ID,
                "transaction.timeout.ms": int(KAFKA_TIMEOUT_S * 1000),
                "log_level": 0,
                # With a callback, errors reach the call that they concern, as its exception.
                "error_cb": lambda _error: None,
            }
        )
        try:
            self._producer.init_transactions(KAFKA_TIMEOUT_S)
        except KafkaException as error:
            why = refusal(settings.librdkafka()) or _words(error)
            raise Stop(f"The broker does not answer: {why}.\n{HOW_TO_START}") from error
        self.partitions = _partitions(settings)

    def write(self, configuration: Configuration, actor: str) -> "Answers":
        """Commit the version and its control records; return where the answers will come.

        Raises:
            Stop: somebody else applied at the same time, or the broker refused; says whether
                anything was written.

        """
        return self._send(request_of(configuration, actor), configuration)

    def ask(self, configuration: Configuration, actor: str) -> "Answers":
        """Ask every partition whether it would put the version to work; nothing is changed.

        Raises:
            Stop: as `write`.

        """
        return self._send(request_of(configuration, actor, dry_run=True), None)

    def _send(self, request: ReservationRequest, version: Configuration | None) -> "Answers":
        value = self._codec.encode_request(request)
        answers = Answers(self._settings, self._codec, request.request_id, self.partitions)
        try:
            self._producer.begin_transaction()
            if version is not None:
                self._producer.produce(
                    CONFIGURATION,
                    value=to_json(version),
                    key=str(version.version).encode(),
                    partition=0,
                )
            for partition in range(self.partitions):
                self._producer.produce(REQUESTS, value=value, partition=partition)
            self._producer.commit_transaction(KAFKA_TIMEOUT_S)
        except KafkaException as error:
            answers.close()
            # An open transaction would hold back every reader of these topics. A fenced producer
            # has none any more, and says so.
            with contextlib.suppress(KafkaException):
                self._producer.abort_transaction(KAFKA_TIMEOUT_S)
            # A commit that was not answered may have happened; anything else has not.
            known = not error.args[0].retriable()
            state = "Nothing was written" if known else "It is not known whether it was written"
            raise Stop(
                f"{state}: {_words(error)}. Look at `holdfast config history`, then apply again; "
                "the same document twice does no harm."
            ) from error
        return answers


class Answers:
    """Answers of the partitions to one control record, read from the end of their results."""

    def __init__(self, settings: Settings, codec: Codec, request_id: str, partitions: int) -> None:
        self._codec = codec
        self._request_id = request_id
        self._partitions = partitions
        self._consumer = _consumer(settings)
        ends = [
            TopicPartition(RESULTS, number, _end(self._consumer, RESULTS, number))
            for number in range(partitions)
        ]
        self._consumer.assign(ends)

    def wait(self, timeout_s: float) -> dict[int, tuple[Code, str]]:
        """Partition to code and words, for those that answered within the time."""
        found: dict[int, tuple[Code, str]] = {}
        until = time.monotonic() + timeout_s
        while len(found) < self._partitions and time.monotonic() < until:
            message = self._consumer.poll(POLL_S)
            if message is None or message.error() is not None:
                continue
            if message.key() != self._request_id.encode():
                continue
            try:
                result = self._codec.decode_result(message.value())
            except Undecodable:
                continue
            code = Code(result.code)
            found[message.partition()] = (code, code.name)
        return found

    def close(self) -> None:
        """Let go of the broker."""
        self._consumer.close()


def _consumer(settings: Settings) -> Consumer:
    return Consumer(
        {
            **settings.librdkafka(),
            "group.id": "holdfast-config",  # Never committed to; the library wants a name.
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,  # The end is told after a fetch that found nothing.
            "log_level": 0,
        }
    )


def _to_the_end(settings: Settings, consumer: Consumer) -> Iterator[Message]:
    """What the consumer is assigned of the configuration topic, up to its end."""
    until = time.monotonic() + KAFKA_TIMEOUT_S
    while True:
        if time.monotonic() > until:
            why = refusal(settings.librdkafka())
            raise Stop(f"The broker does not answer{why and f': {why}'}.\n{HOW_TO_START}")
        message = consumer.poll(POLL_S)
        if message is None:
            continue
        error = message.error()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name has none
            return
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise Stop(f"There is no topic {CONFIGURATION}: run `holdfast topics create`.")
        elif not error.retriable():
            why = refusal(settings.librdkafka()) or error.str()
            raise Stop(f"The broker does not answer: {why}.\n{HOW_TO_START}")


def _version(message: Message) -> Version:
    document = message.value() or b""
    try:
        configuration = from_json(document)
    except msgspec.DecodeError:
        configuration = None
    return Version(
        version=int(message.key()),
        written_at_ms=message.timestamp()[1],
        document=document,
        configuration=configuration,
    )


def _end(consumer: Consumer, topic: str, partition: int) -> int:
    place = TopicPartition(topic, partition)
    try:
        return int(consumer.get_watermark_offsets(place, timeout=KAFKA_TIMEOUT_S)[1])
    except KafkaException as error:
        raise Stop(f"No end of {topic}-{partition}: {_words(error)}.") from error


def _partitions(settings: Settings) -> int:
    with _consumer(settings) as consumer:
        try:
            known: Mapping[str, Any] = consumer.list_topics(timeout=KAFKA_TIMEOUT_S).topics
        except KafkaException as error:
            why = refusal(settings.librdkafka()) or _words(error)
            raise Stop(f"The broker does not answer: {why}.\n{HOW_TO_START}") from error
    missing = [name for name in (CONFIGURATION, REQUESTS, RESULTS) if name not in known]
    if missing:
        raise Stop(f"There is no topic {', '.join(missing)}: run `holdfast topics create`.")
    return len(known[REQUESTS].partitions)


def _words(error: KafkaException) -> str:
    return str(error.args[0].str())
