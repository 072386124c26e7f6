from confluent_kafka import Producer

class QuickBatches:
    def __init__(
        self, producer: Producer, produce_batch: int, topic_new: int, topic_destroy: int
    ) -> None: ...
    def queue(
        self, topic: str, partition: int, messages: list[tuple[bytes | None, bytes | None]]
    ) -> tuple[int, int]: ...
    def queue_rows(
        self,
        topic: str,
        partition: int,
        rows: dict[bytes, bytes | None],
        local_kinds: bytes,
        omitted: bytes,
    ) -> tuple[int, int]: ...
