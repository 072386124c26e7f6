"""Record batches as aiokafka reads them, but for header keys that are not text, and lighter.

Kafka says that a header key is UTF-8 and does not check it. aiokafka's parser (0.14.0, pinned)
raises at such a record, before anything of ours has seen it: one record would end every worker that
comes to its offset. The rule: a header key is not looked at here. Where the compiled parser gives
up, the batch is read again by the pure one, which writes the odd bytes out as backslash escapes;
aiokafka's `PartitionRecords` passes the records by that it has had.

A record is what `ports.Record` asks for and no more: aiokafka's own, a dataclass with a dict and
eleven fields, costs 2 us a record more to make and to throw away.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8  # Behind the base offset; what it counts begins behind it.
_MAGIC_AT: Final = 16
_MAGIC: Final = 2  # Older batches have no headers.
_LOG_APPEND_TIME: Final = 1


class _Bytes(bytearray):
    """Bytes whose parts decode whatever they are."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _Bytes(found) if isinstance(index, slice) else found

    def decode(self, *_: Any, **__: Any) -> str:
        return super().decode("utf-8", "backslashreplace")


class _LenientBatch(_DefaultRecordBatchPy):
    """The pure parser over such bytes."""

    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Bytes(self._buffer)


class _Batch:
    """The compiled parser's batch, and the bytes to read again."""

    __slots__ = ("_batch", "_bytes")

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._bytes = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self._batch
        except UnicodeDecodeError:
            yield from _LenientBatch(self._bytes)


class RecordBatches:
    """What one fetch gave of one partition: stands in for aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = memoryview(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        """Length of it all."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Whether there is a further whole batch."""
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        """The next batch, None behind the last."""
        batch = self._records.next_batch()
        if batch is None:
            return None
        start = self._at
        (length,) = _LENGTH.unpack_from(self._data, start + _LENGTH_AT)
        self._at = start + _LENGTH_AT + _LENGTH.size + length
        if self._data[start + _MAGIC_AT] < _MAGIC:
            return batch
        return _Batch(batch, self._data[start : self._at])


class ConsumedRecord(msgspec.Struct, gc=False):
    """One record as it is handed to the decider (`ports.Record`).

    Attributes:
        timestamp: milliseconds since 1970 UTC by the broker's clock; 0 where its topic has those of
            the senders: the clock of a partition goes by them, and never back.

    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class _PartitionRecords(fetcher.PartitionRecords):
    """What the fetcher holds of one partition."""

    def _consumer_record(self, tp: Any, record: Any) -> ConsumedRecord:
        return ConsumedRecord(
            tp.topic,
            tp.partition,
            record.offset,
            record.timestamp if record.timestamp_type == _LOG_APPEND_TIME else 0,
            record.key,
            record.value,
            tuple(record.headers),
        )


def partition_records(tp: Any, data: bytes, aborted: Any, offset: int) -> fetcher.PartitionRecords:
    """The committed records from `offset` on, of what a fetch gave of one partition.

    `next_fetch_offset` of it, once all were taken, is where to read on. Raises
    `CorruptRecordException` at a batch with a wrong checksum.
    """
    return _PartitionRecords(
        tp,
        RecordBatches(data),
        aborted,
        offset,
        None,
        None,
        True,
        fetcher.READ_COMMITTED,
    )


def replace_parsing() -> None:
    """From here on every aiokafka consumer of this process reads batches and records so."""
    fetcher.MemoryRecords = RecordBatches
    fetcher.PartitionRecords = _PartitionRecords
