"""Results on a topic of the requester's own, by the headers of the ecosystem."""

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from holdfast.wiring import reply_partitions
from processor.engine.faults import Fault
from processor.settings import KafkaConnection, from_environment
from producers.channel import AsyncChannelClient, ChannelClient, Item, granted
from producers.channel.client import connect_codec
from producers.channel.requests import request, request_line
from producers.settings import Settings
from schemas import topics
from schemas.messages import ReservationResult
from tests.support.eventually import eventually
from tests.support.replying import ALLOWED, FORBIDDEN, PARTITIONS
from tests.support.scm import metric

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

PLACE = {"siteid": "1", "locationid": "11", "colorid": "red", "sizeid": "small"}
KEY = b"usmf|1|11"


@pytest.fixture
def item(product: str) -> Item:
    """A product nobody else uses."""
    return Item("usmf", product, PLACE)


class Asker:
    """A requester of its own: raw records with headers."""

    def __init__(self, settings: Settings) -> None:
        self.codec = connect_codec(settings)
        self._producer = Producer(
            {"bootstrap.servers": settings.bootstrap_servers, "partitioner": "murmur2_random"}
        )
        self._settings = settings

    def ask(self, item: Item, request_id: str, headers: dict[str, bytes]) -> None:
        """Ask to hold a piece."""
        asked = request(
            "RESERVE",
            [request_line(item, 1)],
            request_id=request_id,
            organization_id=item.organization_id,
            channel="",
        )
        value = self.codec.encode_request(asked)
        self._producer.produce(topics.REQUESTS, value, KEY, headers=list(headers.items()))
        self._producer.poll(0)

    def flush(self) -> None:
        """Have all of them sent."""
        assert self._producer.flush(30) == 0

    def read(self, topic: str, prefix: str, count: int) -> list[Any]:
        """Committed records of a topic with such keys, once there are as many."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._settings.bootstrap_servers,
                "group.id": "reads-replies",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        try:
            parts = consumer.list_topics(topic).topics[topic].partitions
            consumer.assign([TopicPartition(topic, part, 0) for part in parts])
            found: list[Any] = []

            def enough() -> bool:
                records = consumer.consume(1_000, 0.05)
                found.extend(one for one in records if one.key().startswith(prefix.encode()))
                return len(found) >= count

            eventually(enough)
            return found
        finally:
            consumer.close()


def test_a_result_comes_to_the_place_that_was_asked_for(running: Settings, item: Item) -> None:
    """On that partition, with the correlation id as it was, and the same bytes as elsewhere."""
    asker = Asker(running)
    headers = {
        "kafka_replyTopic": ALLOWED.encode(),
        "kafka_replyPartition": (2).to_bytes(4, "big"),
        "kafka_correlationId": b"\x00\xffanything",
    }
    asker.ask(item, f"{item.product_id}-1", headers)
    asker.flush()
    (result,) = asker.read(topics.RESULTS, item.product_id, 1)
    (reply,) = asker.read(ALLOWED, item.product_id, 1)
    assert reply.partition() == 2
    assert reply.headers() == [("kafka_correlationId", b"\x00\xffanything")]
    assert (reply.key(), reply.value()) == (result.key(), result.value())
    assert asker.codec.decode_result(reply.value()).request_id == f"{item.product_id}-1"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"kafka_replyTopic": FORBIDDEN.encode()}, "topic"),
        ({"kafka_replyTopic": topics.REQUESTS.encode()}, "topic"),
        ({"kafka_replyTopic": b"\xff\xfe"}, "topic"),
        (
            {
                "kafka_replyTopic": ALLOWED.encode(),
                "kafka_replyPartition": PARTITIONS.to_bytes(4, "big"),
            },
            "partition",
        ),
        (
            {"kafka_replyTopic": ALLOWED.encode(), "kafka_replyPartition": b"\xff\xff\xff\xff"},
            "partition",
        ),
        ({"kafka_replyTopic": ALLOWED.encode(), "kafka_replyPartition": b"1"}, "partition"),
        (
            {"kafka_replyTopic": ALLOWED.encode(), "kafka_correlationId": b"x" * 2_000},
            "correlation",
        ),
    ],
)
def test_what_is_not_allowed_is_counted_and_answered_all_the_same(
    stack_that_replies: tuple[Settings, int], item: Item, headers: dict[str, bytes], reason: str
) -> None:
    """The request is decided, its result stands on reservation-results, no copy is made."""
    settings, port = stack_that_replies
    name = f'holdfast_replies_refused_total{{reason="{reason}"}}'

    def refused() -> float:
        try:
            return metric(port, name)
        except StopIteration:
            return 0.0

    before = refused()
    with ChannelClient(settings) as client:
        client.on_hand(item, {"fno.physicalinvent": 5}, source="fno")
        asker = Asker(settings)
        asker.ask(item, f"{item.product_id}-1", headers)
        asker.flush()
        eventually(lambda: client.availability(item).lines[0].available == 4_000_000)
    assert refused() == before + 1
    asker.ask(item, f"{item.product_id}-2", {"kafka_replyTopic": ALLOWED.encode()})
    asker.flush()
    (reply,) = asker.read(ALLOWED, item.product_id, 1)
    assert reply.key() == f"{item.product_id}-2".encode()


async def test_clients_share_a_reply_topic(running: Settings, item: Item) -> None:
    """Both clients, plain and asyncio, get their own answers from one topic; ids may be equal."""
    own = msgspec.structs.replace(running, reply_topic=ALLOWED)
    with ChannelClient(own, "shop") as plain:
        plain.on_hand(item, {"fno.physicalinvent": 100}, source="fno")
        async with AsyncChannelClient(own, "till") as other:
            futures = [plain.submit(asking(item, f"{item.product_id}-{n}")) for n in range(30)]
            async_answers = await asyncio.gather(
                *(
                    other.reserve(item, 1, request_id=f"{item.product_id}-{n}")
                    for n in range(30, 60)
                )
            )
        answers = [future.result() for future in futures]
        assert all(granted(answer) for answer in [*answers, *async_answers])
        again = plain.reserve(item, 1, request_id=f"{item.product_id}-0")
        assert isinstance(again, ReservationResult)
        assert again.lines == answers[0].lines
        refused = plain.reserve(item, 1_000)
        assert not granted(refused)


def asking(item: Item, request_id: str) -> Any:
    """A request to hold a piece, as a plain client submits it."""
    return request(
        "RESERVE",
        [request_line(item, 1)],
        request_id=request_id,
        organization_id=item.organization_id,
        channel="shop",
    )


def test_a_slow_reader_holds_up_nobody(running: Settings, item: Item) -> None:
    """Thousands of replies that nobody reads; others are answered meanwhile, and none is lost."""
    asker = Asker(running)
    count = 3_000
    headers = {"kafka_replyTopic": ALLOWED.encode(), "kafka_replyPartition": bytes(4)}
    with ChannelClient(running) as client:
        client.on_hand(item, {"fno.physicalinvent": count}, source="fno")
        for number in range(count):
            asker.ask(item, f"{item.product_id}-{number}", headers)
        asker.flush()
        for _ in range(20):
            assert isinstance(client.availability(item), ReservationResult)
        eventually(lambda: client.availability(item).lines[0].available == 0)
    replies = asker.read(ALLOWED, item.product_id, count)
    counts = Counter(reply.key() for reply in replies)
    assert (len(counts), set(counts.values())) == (count, {1})


def test_a_worker_does_not_start_on_a_reply_topic_that_would_stop_it(running: Settings) -> None:
    """Missing, or one of Holdfast's own: words, before anything is decided."""
    connection = KafkaConnection(bootstrap_servers=running.bootstrap_servers)
    assert reply_partitions(connection, [ALLOWED, FORBIDDEN]) == {ALLOWED: 3, FORBIDDEN: 3}
    with pytest.raises(Fault, match="there is no nowhere"):
        reply_partitions(connection, ["nowhere"])
    with pytest.raises(Fault, match="belong to Holdfast"):
        reply_partitions(connection, [topics.RESULTS])


def test_the_allow_list_comes_from_the_environment() -> None:
    """Names joined by commas; a name that cannot be a topic's is refused."""
    known = {
        "KAFKA_BOOTSTRAP_SERVERS": "k:1",
        "SCHEMA_REGISTRY_URL": "http://r",
        "HOLDFAST_DATA_DIR": "d",
    }
    named = from_environment({}, environment={**known, "HOLDFAST_REPLY_TOPICS": "a,b.c,"})
    assert named.reply_topics == ("a", "b.c")
    with pytest.raises(msgspec.ValidationError):
        from_environment({}, environment={**known, "HOLDFAST_REPLY_TOPICS": "a b"})
