"""One record with an odd header must not end a worker."""

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from faust.types import TP

from processor.engine.record_batches import RecordBatches, partition_records

KEYS = ("fine", "odd", "fine again")


class _Odd(str):
    """A header key whose bytes are not UTF-8."""

    __slots__ = ()

    def encode(self, *_: object, **__: object) -> bytes:
        return b"\xff\xfeodd"


def batch(compression: int, *, odd: bool) -> bytes:
    """Three records in one batch; the second has an odd header key, if told so."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=compression,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=999_999,
    )
    for offset, name in enumerate(KEYS):
        key = _Odd("odd") if odd and name == "odd" else name
        builder.append(offset, timestamp=7, key=b"k", value=name.encode(), headers=[(key, b"v")])
    return bytes(builder.build())


@pytest.mark.parametrize("compression", [0, 1, 3])
def test_a_header_key_that_is_not_text_is_escaped(compression: int) -> None:
    """All records of its batch are read, in order, and those of the batches around it."""
    data = batch(0, odd=False) + batch(compression, odd=True) + batch(0, odd=False)
    records = RecordBatches(data)
    assert records.size_in_bytes() == len(data)
    found: list[tuple[bytes, str]] = []
    while records.has_next():
        one = records.next_batch()
        assert one.validate_crc()
        assert not one.is_control_batch
        seen = -1
        for record in one:
            if record.offset > seen:  # As the fetcher does.
                found.append((record.value, record.headers[0][0]))
                seen = record.offset
    odd = [(b"fine", "fine"), (b"odd", r"\xff\xfeodd"), (b"fine again", "fine again")]
    plain = [(name.encode(), name) for name in KEYS]
    assert found == plain + odd + plain
    assert records.next_batch() is None


def test_the_parser_of_aiokafka_gives_up() -> None:
    """What this is for is still so in the pinned release."""
    records = MemoryRecords(batch(0, odd=True))
    with pytest.raises(UnicodeDecodeError):
        list(records.next_batch())


def appended_at(data: bytes, timestamp_ms: int) -> bytes:
    """The batch as a broker rewrites it in a topic that has its own timestamps."""
    attributes = int.from_bytes(data[21:23], "big") | 8
    since = attributes.to_bytes(2, "big") + data[23:35] + timestamp_ms.to_bytes(8, "big")
    checked = since + data[43:]
    return data[:17] + calc_crc32c(checked).to_bytes(4, "big") + checked


def test_a_timestamp_of_a_sender_is_none() -> None:
    """The clock of a partition goes by the broker's alone: it never goes back."""
    senders, brokers = batch(0, odd=False), appended_at(batch(0, odd=False), 99)
    found = [
        {record.timestamp for record in partition_records(TP("a", 0), data, (), 0)}
        for data in (senders, brokers)
    ]
    assert found == [{0}, {99}]
