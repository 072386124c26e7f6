"""Steps of a change of the partition rule that a broker can refuse, without a broker."""

from typing import Any

import pytest
from confluent_kafka import KafkaError

from holdfast import migration
from holdfast.migration import Migration, Stop
from producers.settings import Settings
from schemas.codec import Codec
from schemas.registry import FixedSchemaIds


class Refusing:
    """Stands for a producer whose user may not write the topic."""

    def __init__(self, _: object) -> None:
        self._told: list[Any] = []

    def produce(self, *_: object, on_delivery: Any, **__: object) -> None:
        """Take the record."""
        self._told.append(on_delivery)

    def flush(self, _: float) -> int:
        """Tell that it was refused for good: nothing is left."""
        for told in self._told:
            told(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), None)
        return 0


def test_a_configuration_that_may_not_be_written_is_no_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Producers would key by the old rule and workers by the new one: it stops, and says why."""
    monkeypatch.setattr(migration, "Producer", Refusing)
    nowhere = Settings(bootstrap_servers="127.0.0.1:9", registry_url="http://127.0.0.1:9")
    moving = Migration(nowhere, Codec(FixedSchemaIds()), print)
    with pytest.raises(Stop, match="authorization"):
        moving._produce_configuration(b"2", b"{}")
