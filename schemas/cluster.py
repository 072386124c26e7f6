"""The topics on a cluster: made as `schemas.topics` declares them, and compared with it.

The rule: an existing topic is never altered here. A partition count cannot be taken back, and it
decides who owns which stock; so what differs is refused, and a person decides.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.topics import PARTITIONS_DEFAULT, TOPICS, Topic

ANSWER_WITHIN_S: Final = 15.0
_LOOK_AGAIN_S: Final = 0.05

# Names of a topic's configuration that hold a bound: more than declared is as good.
_AT_LEAST: Final = frozenset({"max.message.bytes"})


class ClusterError(Exception):
    """The cluster did not do what was asked; the message says what to do."""


class TopicsDifferError(ClusterError):
    """Topics exist that are not as declared.

    Attributes:
        differences: one sentence each.

    """

    def __init__(self, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        listed = "\n".join(f"  {difference}" for difference in differences)
        super().__init__(
            f"These topics exist and differ from what is declared:\n{listed}\n"
            "Nothing was changed. Configuration can be set with kafka-configs; a partition count "
            "is fixed for life, so delete the topics (and their data), or give the count they have."
        )


def create(
    admin: AdminClient,
    partitions: int | None = None,
    replication: int = 1,
    *,
    topics: Sequence[Topic] = tuple(TOPICS.values()),
    progress: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Create the topics that are missing, and return their names once every broker call sees them.

    `partitions`: of the co-partitioned topics; None for the count of those that exist, else the
    default. `progress` is told each topic's name when it has been made.

    Raises:
        TopicsDifferError: one exists and differs; then none is created.
        ClusterError: the cluster does not answer, or refuses.

    """
    wanted = partitions or partitions_found(admin, topics) or PARTITIONS_DEFAULT
    existing = _partition_counts(admin)
    differences = check(admin, wanted, topics=[t for t in topics if t.name in existing])
    if differences:
        raise TopicsDifferError(differences)
    new = [
        NewTopic(
            topic.name,
            num_partitions=wanted if topic.co_partitioned else 1,
            replication_factor=replication,
            config={**topic.config(), **_durability(replication)},
        )
        for topic in topics
        if topic.name not in existing
    ]
    if not new:
        return []
    for name, future in admin.create_topics(new, request_timeout=ANSWER_WITHIN_S).items():
        _created(name, future)
        progress(name)
    _wait_until_there(admin, wanted, topics)
    return [topic.topic for topic in new]


def check(
    admin: AdminClient,
    partitions: int | None = None,
    *,
    topics: Sequence[Topic] = tuple(TOPICS.values()),
) -> list[str]:
    """Differences between the cluster and the declaration, one sentence each; empty when it fits.

    Compared are presence, partition count, timestamp type, cleanup policy and message size.
    `partitions` None: the co-partitioned topics must agree with the first declared, the requests.

    Raises:
        ClusterError: the cluster does not answer.

    """
    existing = _partition_counts(admin)
    wanted = partitions or partitions_found(admin, topics)
    differences = [
        f"{topic.name}: is missing (holdfast topics create)"
        for topic in topics
        if topic.name not in existing
    ]
    present = [topic for topic in topics if topic.name in existing]
    settings = configurations(admin, [topic.name for topic in present])
    for topic in present:
        count = wanted if topic.co_partitioned else 1
        if count is not None and existing[topic.name] != count:
            differences.append(f"{topic.name}: has {existing[topic.name]} partitions, not {count}")
        for name, value in topic.required().items():
            found = settings[topic.name].get(name, "")
            if not _fits(name, found, value):
                differences.append(f"{topic.name}: {name} is {found}, not {value}")
    return differences


def configurations(admin: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Configuration of each topic as the broker applies it.

    Raises:
        ClusterError: the cluster does not answer.

    """
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for resource, future in admin.describe_configs(
        resources, request_timeout=ANSWER_WITHIN_S
    ).items():
        try:
            found[resource.name] = {name: entry.value for name, entry in future.result().items()}
        except KafkaException as error:
            raise ClusterError(f"{resource.name}: {error.args[0].str()}") from error
    return found


def _partition_counts(admin: AdminClient) -> dict[str, int]:
    try:
        metadata = admin.list_topics(timeout=ANSWER_WITHIN_S)
    except KafkaException as error:
        raise ClusterError(
            f"Kafka does not answer within {ANSWER_WITHIN_S:.0f} s ({error.args[0].str()}). Start "
            "the stack (holdfast stack up), or name a broker with --bootstrap or "
            "KAFKA_BOOTSTRAP_SERVERS."
        ) from error
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def partitions_found(
    admin: AdminClient, topics: Sequence[Topic] = tuple(TOPICS.values())
) -> int | None:
    """Partition count of the co-partitioned topics that exist: of the first one declared.

    Raises:
        ClusterError: the cluster does not answer.

    """
    counts = _partition_counts(admin)
    shared = [counts[t.name] for t in topics if t.co_partitioned and t.name in counts]
    return shared[0] if shared else None


def _durability(replication: int) -> dict[str, str]:
    """With three replicas a write needs two: then losing one broker loses nothing."""
    return {"min.insync.replicas": str(max(1, replication - 1))}


def _fits(name: str, found: str, declared: str) -> bool:
    if name in _AT_LEAST:
        return found.isdigit() and int(found) >= int(declared)
    return found == declared


def _created(name: str, future: Any) -> None:
    try:
        future.result()
    except KafkaException as error:
        kafka_error = error.args[0]
        if kafka_error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return  # Somebody else is at the same work; the check that follows looks at theirs.
        raise ClusterError(f"{name} was not created: {kafka_error.str()}") from error


def _wait_until_there(admin: AdminClient, partitions: int, topics: Sequence[Topic]) -> None:
    """A created topic reaches the broker's own view a moment later."""
    deadline_s = time.monotonic() + ANSWER_WITHIN_S
    names = {topic.name for topic in topics}
    while not names <= _partition_counts(admin).keys():
        if time.monotonic() > deadline_s:
            raise ClusterError(f"The topics were created but did not appear in {ANSWER_WITHIN_S} s")
        time.sleep(_LOOK_AGAIN_S)
    differences = check(admin, partitions, topics=topics)
    if differences:
        raise TopicsDifferError(differences)
