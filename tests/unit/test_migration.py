"""Steps of a change of the partition rule that a broker can refuse, without a broker."""

from typing import Any

import pytest
from confluent_kafka import KafkaError

from holdfast import migration
from holdfast.migration import Migration, Plan, State, Stop
from processor.inventory.configuration import default
from processor.inventory.rows import encode_answer
from producers.settings import Settings
from schemas.codec import Codec
from schemas.registry import FixedSchemaIds

NOWHERE = Settings(bootstrap_servers="127.0.0.1:9", registry_url="http://127.0.0.1:9")


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
    moving = Migration(NOWHERE, Codec(FixedSchemaIds()), print)
    with pytest.raises(Stop, match="authorization"):
        moving._produce_configuration(b"2", b"{}")


def test_it_says_of_how_many_ids_one_answer_is_kept() -> None:
    """Those that two partitions remember and one has by the new rule; one copied to both is one."""
    said: list[str] = []
    moving = Migration(NOWHERE, Codec(FixedSchemaIds()), said.append)
    rows = [{b"R1": encode_answer(ms, bytes(8), ()), b"Ecopied": bytes(16)} for ms in (1, 2)]
    places = {(0, b"R1"): 0, (1, b"R1"): 0}
    (moved,) = moving.rekeyed(Plan(default(), 1), State(rows, {}, places))
    assert (moved[b"R1"], moved[b"Ecopied"]) == (rows[1][b"R1"], bytes(16))
    assert said == ["1 id(s) were remembered by several partitions: the newest answer stays"]
