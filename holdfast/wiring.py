"""Puts the rooms together: codec, configuration, decisions."""

from collections.abc import Sequence
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from processor.decider import StockDomain
from processor.engine.faults import Fault
from processor.settings import KafkaConnection, WorkerSettings
from schemas.access import refusal
from schemas.codec import Codec
from schemas.limits import REPLY_TOPIC_BYTES_MIN
from schemas.registry import SchemaIds
from schemas.topics import TOPICS

KAFKA_TIMEOUT_S: Final = 30.0


def stock_domain(settings: WorkerSettings) -> StockDomain:
    """Build the domain a worker decides with.

    Raises:
        Fault: a reply topic is not there, takes too little, or is one of Holdfast's own.

    """
    ids = SchemaIds(settings.registry_url, cache=settings.data_dir / "schema-ids.json")
    replies = reply_partitions(settings.kafka, settings.reply_topics)
    return StockDomain(Codec(ids), reply_topics=replies)


def reply_partitions(connection: KafkaConnection, names: Sequence[str]) -> dict[str, int]:
    """Partitions of every topic that may be replied to.

    Looked up before anything is decided: a reply that the broker refuses would be an aborted batch,
    again and again.

    Raises:
        Fault: one is not there, takes too little, or is one of Holdfast's own.

    """
    if not names:
        return {}
    own = sorted(name for name in names if name in TOPICS or name.startswith("__"))
    if own:
        raise Fault(f"reply topics: {', '.join(own)} belong to Holdfast or Kafka; make others")
    admin = AdminClient(connection.librdkafka())
    try:
        known = admin.list_topics(timeout=KAFKA_TIMEOUT_S).topics
        missing = [name for name in names if name not in known]
        if missing:
            raise Fault(f"reply topics: there is no {', '.join(missing)}; make it, then start")
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        for resource, future in admin.describe_configs(resources).items():
            most = int(future.result(KAFKA_TIMEOUT_S)["max.message.bytes"].value)
            if most < REPLY_TOPIC_BYTES_MIN:
                raise Fault(
                    f"reply topics: {resource.name} takes {most} bytes a message; set its "
                    f"max.message.bytes to {REPLY_TOPIC_BYTES_MIN} or more"
                )
    except (KafkaException, TimeoutError) as error:
        why = refusal(connection.librdkafka()) or error
        raise Fault(f"reply topics cannot be looked up: {why}") from error
    return {name: len(known[name].partitions) for name in names}
