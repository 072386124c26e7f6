"""A run's history: everything the topics say afterwards, and nothing else.

Read with `read_committed`, so that what a reader of ours would see is what is judged.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)

from schemas import topics
from tests.support.wire import SourceRecord

READ_WITHIN_S: Final = (
    300.0  # For one topic; an open transaction of a dead worker ends well before.
)
Rows = dict[int, dict[bytes, bytes]]  # by partition


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What lay in the topics when the run was over.

    Attributes:
        rows: last value of every row, by partition, from the changelog; None: not to be judged.
        committed: offsets the worker group committed, by topic and partition.
        hidden: records of aborted transactions, which only `read_uncommitted` sees.

    """

    partitions: int
    requests: list[SourceRecord]
    transactions: list[SourceRecord]
    results: list[SourceRecord]
    events: list[SourceRecord]
    dead_letters: list[SourceRecord]
    rows: Rows | None = None
    committed: Mapping[tuple[str, int], int] = {}
    hidden: int = 0


def _consumer(bootstrap: str, isolation: str, group: str = "checker") -> Consumer:
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,  # Never joined: the partitions are assigned by hand.
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": isolation,
            "auto.offset.reset": "error",
            "fetch.message.max.bytes": 8_388_608,
            "fetch.wait.max.ms": 20,  # Of many topics the end is waited for.
        }
    )


def end_offsets(bootstrap: str, topic: str) -> dict[int, int]:
    """End of every partition, open and aborted transactions included."""
    consumer = _consumer(bootstrap, "read_uncommitted")
    try:
        known = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ends: dict[int, int] = {}
        for partition in known:
            place = TopicPartition(topic, partition)
            ends[partition] = consumer.get_watermark_offsets(place, timeout=30)[1]
        return ends
    finally:
        consumer.close()


def _as_record(message: Message) -> SourceRecord:
    return SourceRecord(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        timestamp=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
    )


def scan_topic(
    bootstrap: str, topic: str, isolation: str = "read_committed"
) -> Iterator[SourceRecord]:
    """Walk over all records of a topic up to its present end, each partition in offset order.

    Raises:
        TimeoutError: the end was not reached in time: behind a transaction that never ends?

    """
    ends = {part: end for part, end in end_offsets(bootstrap, topic).items() if end > 0}
    reached = dict.fromkeys(ends, 0)
    consumer = _consumer(bootstrap, isolation)
    deadline = time.monotonic() + READ_WITHIN_S
    try:
        consumer.assign([TopicPartition(topic, part, OFFSET_BEGINNING) for part in ends])
        while any(reached[part] < end for part, end in ends.items()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: read to {reached} of {ends}")
            yield from _records(consumer.consume(num_messages=10_000, timeout=0.05), reached)
    finally:
        consumer.close()


def _records(messages: Iterable[Message], reached: dict[int, int]) -> Iterator[SourceRecord]:
    """Records of one poll; notes how far each partition has been read."""
    for message in messages:
        error = message.error()
        if error is None:
            reached[message.partition()] = message.offset() + 1
            yield _as_record(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            reached[message.partition()] = message.offset()
        elif not error.retriable():
            raise RuntimeError(f"{message.topic()}: {error}")


def read_topic(bootstrap: str, topic: str) -> list[SourceRecord]:
    """All committed records of a topic, by partition and offset."""
    records = list(scan_topic(bootstrap, topic))
    records.sort(key=lambda record: (record.partition, record.offset))
    return records


def last_rows(records: Iterable[SourceRecord]) -> tuple[Rows, int]:
    """The rows a changelog stands for, the last value of every key; and how many records it had."""
    rows: Rows = {}
    count = 0
    for record in records:
        assert record.key is not None
        count += 1
        of_partition = rows.setdefault(record.partition, {})
        if record.value is None:
            of_partition.pop(record.key, None)
        else:
            of_partition[record.key] = record.value
    return rows, count


def committed_offsets(bootstrap: str, group: str) -> dict[tuple[str, int], int]:
    """Offsets a group has committed for the source topics, open transactions left out."""
    consumer = _consumer(bootstrap, "read_committed", group)
    try:
        metadata = consumer.list_topics(timeout=30)
        places = [
            TopicPartition(topic, partition)
            for topic in topics.SOURCES
            for partition in metadata.topics[topic].partitions
        ]
        known = consumer.committed(places, timeout=30)
    finally:
        consumer.close()
    return {(one.topic, one.partition): one.offset for one in known if one.offset >= 0}


def read_history(bootstrap: str, group: str, partitions: int, changelog: str) -> History:
    """Read everything a run left behind; its workers have stopped."""
    results = read_topic(bootstrap, topics.RESULTS)
    events = read_topic(bootstrap, topics.EVENTS)
    dead_letters = read_topic(bootstrap, topics.DEAD_LETTERS)
    rows, changes = last_rows(scan_topic(bootstrap, changelog))
    visible = len(results) + len(events) + len(dead_letters) + changes
    written_to = (topics.RESULTS, topics.EVENTS, topics.DEAD_LETTERS, changelog)
    everything = sum(
        1 for name in written_to for _ in scan_topic(bootstrap, name, "read_uncommitted")
    )
    return History(
        partitions=partitions,
        requests=read_topic(bootstrap, topics.REQUESTS),
        transactions=read_topic(bootstrap, topics.TRANSACTIONS),
        results=results,
        events=events,
        dead_letters=dead_letters,
        rows=rows,
        committed=committed_offsets(bootstrap, group),
        hidden=everything - visible,
    )
