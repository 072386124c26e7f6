"""A broker made warm before anything is measured: small transactions written and read for a while.

The Java machine of a fresh broker compiles what it runs often, for the first half minute with
most of a core, later with less. What runs often here is what every contestant asks of it: appends
inside transactions, offsets in them, and fetches of what is committed.
"""

import threading
import time
from typing import Final

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from benchmarks import broker
from benchmarks.broker import Progress

TOPIC: Final = "warm-up"
PARTITIONS: Final = 4
MESSAGES: Final = 200  # Of one partition in one transaction.
PAUSE_S: Final = 0.005  # Between transactions: the compiler needs a part of the machine, too.


def warm_up(bootstrap: str, seconds: float, progress: Progress) -> None:
    """Write and read transactions for so long, in a topic of its own."""
    broker.create_topics(bootstrap, [NewTopic(TOPIC, PARTITIONS, 1)])
    ended = threading.Event()
    reading = threading.Thread(target=_read, args=(bootstrap, ended), name="warm-up reader")
    reading.start()
    try:
        _write(bootstrap, seconds, progress)
    finally:
        ended.set()
        reading.join()


def _write(bootstrap: str, seconds: float, progress: Progress) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": broker.LOG_ERRORS_ONLY,
            "transactional.id": TOPIC,
            "retry.backoff.ms": 1,
            "linger.ms": 5,
        }
    )
    group = broker.reader(bootstrap, TOPIC)
    producer.init_transactions(broker.ANSWER_WITHIN_S)
    value = bytes(200)
    began = time.monotonic()
    written = 0
    while (passed := time.monotonic() - began) < seconds:
        progress("warming the broker up", int(passed), int(seconds))
        producer.begin_transaction()
        for number in range(PARTITIONS):
            for _ in range(MESSAGES):
                producer.produce(TOPIC, value, b"key", number)
        written += MESSAGES
        offsets = [TopicPartition(TOPIC, number, written) for number in range(PARTITIONS)]
        producer.send_offsets_to_transaction(offsets, group.consumer_group_metadata())
        producer.commit_transaction()
        time.sleep(PAUSE_S)
    group.close()


def _read(bootstrap: str, ended: threading.Event) -> None:
    consumer = broker.reader(bootstrap, TOPIC)
    consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(PARTITIONS)])
    while not ended.is_set():
        consumer.consume(broker.CONSUME_RECORDS_MAX, timeout=0.2)
    consumer.close()
