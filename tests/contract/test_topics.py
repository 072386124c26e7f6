"""The topics on a real broker: created as declared, and every difference is found."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from schemas import cluster, topics
from schemas.limits import MESSAGE_BYTES_MAX
from schemas.topics import Topic
from tests.support.eventually import eventually

README = Path(topics.__file__).parent / "README.md"
PARTITIONS = 3
CREATED_WITHIN_S = 30.0


@pytest.fixture
def admin(kafka_bootstrap: str) -> AdminClient:
    """Admin client of the session's broker."""
    return AdminClient({"bootstrap.servers": kafka_bootstrap})


@pytest.fixture
def declared(fresh: Callable[[str], str]) -> list[Topic]:
    """The declaration under names that no other test uses."""
    return [
        msgspec.structs.replace(topic, name=fresh(name)) for name, topic in topics.TOPICS.items()
    ]


def _make(admin: AdminClient, topic: Topic, partitions: int, **config: str) -> None:
    settings = {**topic.config(), **{name.replace("_", "."): v for name, v in config.items()}}
    new = NewTopic(topic.name, partitions, 1, config=settings)
    admin.create_topics([new])[topic.name].result(CREATED_WITHIN_S)
    eventually(
        lambda: topic.name in admin.list_topics(timeout=CREATED_WITHIN_S).topics,
        within_s=CREATED_WITHIN_S,
    )


@pytest.mark.kafka
def test_created_topics_are_as_declared(admin: AdminClient, declared: list[Topic]) -> None:
    """After `create`, `check` finds nothing, and creating again makes nothing."""
    made = cluster.create(admin, PARTITIONS, topics=declared)
    assert sorted(made) == sorted(topic.name for topic in declared)
    assert cluster.check(admin, PARTITIONS, topics=declared) == []
    assert cluster.create(admin, PARTITIONS, topics=declared) == []


@pytest.mark.kafka
def test_without_a_count_what_exists_decides(admin: AdminClient, declared: list[Topic]) -> None:
    """A lost topic is made anew with the partition count of the others, not with the default."""
    _make(admin, declared[0], PARTITIONS)
    cluster.create(admin, topics=declared)
    assert cluster.check(admin, PARTITIONS, topics=declared) == []


@pytest.mark.kafka
def test_a_missing_topic_is_a_difference(admin: AdminClient, declared: list[Topic]) -> None:
    """`check` names each topic that is not there."""
    cluster.create(admin, PARTITIONS, topics=declared[1:])
    (difference,) = cluster.check(admin, PARTITIONS, topics=declared)
    assert declared[0].name in difference
    assert "missing" in difference


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("partitions", "config", "said"),
    [
        (PARTITIONS + 1, {}, f"has {PARTITIONS + 1} partitions, not {PARTITIONS}"),
        (PARTITIONS, {"message_timestamp_type": "CreateTime"}, "message.timestamp.type"),
        (PARTITIONS, {"cleanup_policy": "compact"}, "cleanup.policy is compact, not delete"),
        (PARTITIONS, {"max_message_bytes": "1048588"}, f"not {MESSAGE_BYTES_MAX}"),
    ],
    ids=["partitions", "timestamp type", "cleanup policy", "message size"],
)
def test_a_topic_that_differs_is_refused(
    admin: AdminClient, declared: list[Topic], partitions: int, config: dict[str, str], said: str
) -> None:
    """`create` names topic and difference, and creates none of the others."""
    results = declared[list(topics.TOPICS).index(topics.RESULTS)]
    _make(admin, results, partitions, **config)
    with pytest.raises(cluster.TopicsDifferError) as caught:
        cluster.create(admin, PARTITIONS, topics=declared)
    (difference,) = caught.value.differences
    assert difference.startswith(results.name)
    assert said in difference
    missing = cluster.check(admin, PARTITIONS, topics=declared)
    assert sum("missing" in line for line in missing) == len(declared) - 1


@pytest.mark.kafka
def test_what_an_operator_may_tune_is_no_difference(
    admin: AdminClient, declared: list[Topic]
) -> None:
    """Longer retention or larger messages than declared pass."""
    events = declared[list(topics.TOPICS).index(topics.EVENTS)]
    larger = str(MESSAGE_BYTES_MAX * 2)
    _make(admin, events, PARTITIONS, retention_ms="-1", max_message_bytes=larger)
    assert cluster.check(admin, PARTITIONS, topics=[events]) == []


def test_a_broker_that_is_away_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trace and no endless wait: the message says how to start or name a broker."""
    monkeypatch.setattr(cluster, "ANSWER_WITHIN_S", 0.5)
    nobody = AdminClient({"bootstrap.servers": "127.0.0.1:9", "log_level": 0})
    with pytest.raises(cluster.ClusterError, match="holdfast stack up"):
        cluster.check(nobody)


def test_partition_n_of_every_shared_topic_has_one_owner() -> None:
    """Sources, results, events and changelog are co-partitioned; sources use broker time."""
    shared = {topic.name for topic in topics.TOPICS.values() if topic.co_partitioned}
    assert {*topics.SOURCES, topics.RESULTS, topics.EVENTS, topics.CHANGELOG} == shared
    for name in topics.SOURCES:
        assert topics.TOPICS[name].config()["message.timestamp.type"] == "LogAppendTime"


def test_the_page_shows_the_topics_as_they_are() -> None:
    """The table in schemas/README.md is the one that `holdfast topics list --markdown` prints."""
    assert topics.markdown_table() in README.read_text()
