"""What people put on the source topics, for tests that say that nothing was."""

from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from producers.channel.client import connect_codec
from producers.settings import Settings
from schemas import topics

WITHIN_S: Final = 20.0


class Source:
    """Counts what people put on the source topics; ticks of the worker are nobody's."""

    def __init__(self, settings: Settings) -> None:
        self._codec = connect_codec(settings)
        self._consumer = Consumer(
            {**settings.librdkafka(), "group.id": "bad-input", "enable.partition.eof": False}
        )
        self._places = [
            TopicPartition(topic, partition)
            for topic in topics.SOURCES
            for partition in self._consumer.list_topics(topic).topics[topic].partitions
        ]

    def ends(self) -> list[TopicPartition]:
        """The present ends."""
        return [
            TopicPartition(
                place.topic, place.partition, self._consumer.get_watermark_offsets(place)[1]
            )
            for place in self._places
        ]

    def written_since(self, starts: list[TopicPartition]) -> list[Any]:
        """Records between then and now, ticks left out."""
        ends = {(one.topic, one.partition): one.offset for one in self.ends()}
        self._consumer.assign(starts)
        left = {
            (one.topic, one.partition)
            for one in starts
            if one.offset < ends[one.topic, one.partition]
        }
        found: list[Any] = []
        while left:
            message = self._consumer.poll(WITHIN_S)
            assert message is not None
            assert message.error() is None
            place = (message.topic(), message.partition())
            if place[0] == topics.REQUESTS:
                request = self._codec.decode_request(message.value())
                found += [] if request.action == "TICK" else [request]
            else:
                found.append(self._codec.decode_transaction(message.value()))
            if message.offset() + 1 >= ends[place]:
                left.discard(place)
        return found

    def close(self) -> None:
        """Let go."""
        self._consumer.close()
