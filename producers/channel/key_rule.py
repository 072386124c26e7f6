"""The key rule in force, read from the configuration topic: partition rule and dimension names.

The rule: the key of a record must be the one the workers compute, and they compute it from the
newest configuration. A producer that guessed would be answered with KEY_MISMATCH in the dead
letters, so it asks the topic once, when it opens. Where there is no topic or no version, workers
begin by location, and so does it. A partition rule never changes while anything runs; who has
another name for site or location in a newer version opens the client again.
"""

import time
from typing import Final

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from producers.channel.outcomes import ChannelError
from producers.channel.requests import KeyRule, Keys, key_by_location
from producers.settings import Settings
from schemas.access import refusal
from schemas.topics import CONFIGURATION

POLL_S: Final = 0.1
RULES: Final = frozenset({"by-location", "by-product", "by-location-and-product"})


class _Partition(msgspec.Struct, frozen=True):
    rule: str = "by-location"
    buckets: int = 64


class _DataSource(msgspec.Struct, frozen=True):
    dimension_mappings: dict[str, str] = {}


class _Document(msgspec.Struct, frozen=True):
    """The part of a configuration document that decides the key."""

    version: int = 0
    partition: _Partition = _Partition()
    data_sources: dict[str, _DataSource] = {}


def key_rule_of(document: bytes) -> KeyRule:
    """Key rule of a configuration document.

    Raises:
        ChannelError: it has a partition rule that this release does not know.

    """
    try:
        found = msgspec.json.decode(document, type=_Document)
    except msgspec.DecodeError as error:
        raise ChannelError(f"The configuration in force cannot be read: {error}") from error
    rule, buckets = found.partition.rule, found.partition.buckets
    if rule not in RULES:
        raise ChannelError(
            f"The partition rule in force, {rule}, is not known to this release: use a newer one, "
            "or give key_rule."
        )
    names = {source: content.dimension_mappings for source, content in found.data_sources.items()}
    return Keys(rule, buckets, names).key_of


def key_rule_in_force(settings: Settings) -> KeyRule:
    """Key rule of the newest version in the configuration topic.

    Raises:
        ChannelError: the broker does not answer in time, or the rule is not known.

    """
    newest: bytes | None = None
    for document in _documents(settings):
        newest = document
    return key_by_location if newest is None else key_rule_of(newest)


def _documents(settings: Settings) -> list[bytes]:
    """Values of the topic, oldest first; none where there is no topic."""
    timeout_s = settings.connect_timeout_ms / 1000
    consumer = Consumer(
        {
            **settings.librdkafka(),
            "group.id": "holdfast-channel",  # The library asks for one; none is joined.
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "allow.auto.create.topics": False,
            "log_level": 0,
        }
    )
    try:
        told = consumer.list_topics(CONFIGURATION, timeout=timeout_s).topics[CONFIGURATION].error
        if told is not None and told.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return []
        if told is not None:  # Who may not see it must not guess.
            raise ChannelError(f"topic {CONFIGURATION} cannot be read: {told.str()}")
        place = TopicPartition(CONFIGURATION, 0, OFFSET_BEGINNING)
        begin, end = consumer.get_watermark_offsets(place, timeout=timeout_s)
        found: list[bytes] = []
        if begin == end:
            return found
        consumer.assign([place])
        until = time.monotonic() + timeout_s
        while consumer.position([place])[0].offset < end:
            if time.monotonic() > until:
                raise ChannelError("The configuration topic cannot be read to its end in time.")
            message = consumer.poll(POLL_S)
            if message is not None and message.error() is None and message.value():
                found.append(message.value())
    except KafkaException as error:
        why = refusal(settings.librdkafka()) or error.args[0].str()
        raise ChannelError(f"The configuration cannot be read: {why}") from error
    else:
        return found
    finally:
        consumer.close()
