"""The publisher's transactions, over a producer that refuses as a broker may."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from producers.scm import publisher
from producers.scm.publisher import Outgoing, Publisher
from producers.scm.settings import ConnectorSettings
from producers.settings import Settings
from schemas.codec import Codec
from schemas.registry import FixedSchemaIds
from schemas.topics import TRANSACTIONS

ABORT = KafkaError(KafkaError._TIMED_OUT, "aborted", False, False, True)


class Refusing:
    """A producer whose first commits the broker wants aborted; keeps what was committed."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.calls: list[str] = []
        self.committed: list[tuple[str, bytes]] = []
        self._open: list[tuple[str, bytes]] = []

    def begin_transaction(self) -> None:
        """Begin one."""
        self._open = []

    def produce(self, topic: str, *, value: bytes, key: bytes, partition: int) -> None:
        """Add a record to it."""
        assert key
        assert partition >= 0
        self._open.append((topic, value))

    def flush(self, within_s: float) -> int:
        """Nothing waits."""
        assert within_s
        return 0

    def commit_transaction(self, within_s: float) -> None:
        """Refuse, or keep what was produced."""
        assert within_s
        if self.refusals:
            self.refusals -= 1
            raise KafkaException(ABORT)
        self.calls.append("commit")
        self.committed += self._open

    def abort_transaction(self, within_s: float) -> None:
        """Forget it."""
        assert within_s
        self.calls.append("abort")


def test_what_was_aborted_goes_out_again_with_its_position(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only when rows and position are committed, once and together, the batch is done."""
    producer = Refusing(2)
    monkeypatch.setattr(publisher, "Producer", lambda _settings: producer)
    kafka = Settings(bootstrap_servers="nowhere:1", registry_url="nowhere")
    publishing = Publisher(ConnectorSettings(name="erp", kafka=kafka), Codec(FixedSchemaIds()))
    rows = [Outgoing(TRANSACTIONS, 0, b"k", value) for value in (b"1", b"2")]
    publishing.commit(rows, {"": b"at 2"})
    told = [(TRANSACTIONS, b"1"), (TRANSACTIONS, b"2"), (publisher.POSITIONS, b"at 2")]
    assert producer.committed == told
    assert producer.calls == ["abort", "abort", "commit"]
