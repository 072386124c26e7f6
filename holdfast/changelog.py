"""Committed rows of the changelog, read once from its beginning to its present end.

The rule: only committed rows, the last value of each key, and nothing is joined or committed to;
any number of people may read at once.
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from holdfast.connection import HOW_TO_START, Stop
from producers.settings import Settings
from schemas.access import refusal
from schemas.topics import CHANGELOG

READ_WITHIN_S: Final = 300.0  # One partition; a table of 10 million rows takes about a minute.
KAFKA_TIMEOUT_S: Final = 30.0
ROWS_A_POLL: Final = 10_000
POLL_S: Final = 0.05  # Waited for in full whenever the end comes sooner than as many rows.

Rows = dict[bytes, bytes]


def committed_rows(
    settings: Settings, wanted: Callable[[bytes], bool], topic: str = CHANGELOG
) -> Iterator[tuple[int, Rows]]:
    """Every partition with its live rows whose key is `wanted`.

    Raises:
        Stop: the broker or the topic is not there, or a partition cannot be read in time.

    """
    consumer = _consumer(settings, "read_committed")
    # The true end, what is being committed included: reading to it waits until that is decided.
    ends = _consumer(settings, "read_uncommitted")
    try:
        found = consumer.list_topics(topic, timeout=KAFKA_TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise Stop(f"There is no topic {topic}: run `holdfast topics create`.")
        for partition in sorted(found.partitions):
            place = TopicPartition(topic, partition, OFFSET_BEGINNING)
            begin, end = ends.get_watermark_offsets(place, timeout=KAFKA_TIMEOUT_S)
            # The position in an empty partition never becomes known.
            yield partition, _latest(consumer, place, end, wanted) if begin < end else {}
    except KafkaException as error:
        why = refusal(settings.librdkafka()) or error.args[0].str()
        raise Stop(f"The changelog cannot be read: {why}.\n{HOW_TO_START}") from error
    finally:
        consumer.close()
        ends.close()


def _consumer(settings: Settings, isolation_level: str) -> Consumer:
    return Consumer(
        {
            **settings.librdkafka(),
            "group.id": "holdfast-changelog",  # The library asks for one; none is joined.
            "enable.auto.commit": False,
            "isolation.level": isolation_level,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 10,  # The end is told after a fetch that found nothing.
            "log_level": 0,
        }
    )


def _latest(
    consumer: Consumer, place: TopicPartition, end: int, wanted: Callable[[bytes], bool]
) -> Rows:
    consumer.assign([place])
    latest: Rows = {}
    until = time.monotonic() + READ_WITHIN_S
    while (position := consumer.position([place])[0].offset) < end:
        if time.monotonic() > until:
            raise Stop(
                f"{place.topic}, partition {place.partition}: read to {position} of {end} in time"
            )
        for message in consumer.consume(num_messages=ROWS_A_POLL, timeout=POLL_S):
            if message.error() is not None:
                raise KafkaException(message.error())
            key, value = message.key(), message.value()
            if key is None or not wanted(key):
                continue
            if value is None:
                latest.pop(key, None)
            else:
                latest[key] = value
    return latest
