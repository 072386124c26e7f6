"""Record batches as the brokers give them, in place of aiokafka's own reading of them.

aiokafka decides which batches are read (`read_committed`: no markers, nothing that was aborted);
the records are read by `processor.engine.records`: quicker, and whatever bytes their header keys
are. Written for aiokafka 0.14.0 (pinned), whose fetcher takes these two classes for its own.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import _DefaultRecordBatchPy
from crc32c import crc32c
from faust.types import TP

from processor.engine.records import Damaged, Place, Record, read_records

# Base offset, length of what follows, leader epoch, magic, checksum, attributes, offset of the last
# record behind the first, time of the first and of the latest record, producer, its epoch, sequence
# number, count of records.
_HEAD: Final = struct.Struct(">qiibIhiqqqhii")
_START: Final = struct.Struct(">qi")
_CHECKED_FROM: Final = 21  # The attributes.
_MAGIC: Final = 2

_COMPRESSION: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20


class Batch:
    """One batch: its head, by the names that aiokafka's fetcher knows, and its records.

    Raises:
        CorruptRecordException: it is of a format older than Kafka 0.11.

    """

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data = data
        self._start = start
        self._end = end
        (
            self.base_offset,
            _,
            _,
            magic,
            self._checksum,
            self._attributes,
            last,
            _,
            self._latest_ms,
            self.producer_id,
            _,
            _,
            self._count,
        ) = _HEAD.unpack_from(data, start)
        self.next_offset: int = self.base_offset + last + 1
        if magic != _MAGIC:
            raise CorruptRecordException(f"a batch in format {magic}, of Kafka before 0.11")

    @property
    def is_control_batch(self) -> bool:
        """Whether it is the end of a transaction, and no records."""
        return bool(self._attributes & _CONTROL)

    @property
    def is_transactional(self) -> bool:
        """Whether a transaction's end decides about it."""
        return bool(self._attributes & _TRANSACTIONAL)

    def validate_crc(self) -> bool:
        """Whether it is as its producer made it."""
        checked = memoryview(self._data)[self._start + _CHECKED_FROM : self._end]
        return bool(crc32c(checked) == self._checksum)

    def records(self, tp: TP, begin: int) -> list[Record]:
        """Its records from offset `begin` on.

        Raises:
            CorruptRecordException: there are not as many as it says, or they do not end with it.

        """
        timestamp = self._latest_ms if self._attributes & _LOG_APPEND_TIME else 0
        place = Place(tp.topic, tp.partition, self.base_offset, begin, timestamp)
        try:
            return read_records(self._body(), self._count, place)
        except Damaged as damage:
            raise CorruptRecordException(
                f"{tp.topic}-{tp.partition}, batch of offset {self.base_offset}: {damage}"
            ) from damage

    def _body(self) -> bytes:
        """What is behind the head, as its producer had it before it was compressed."""
        if not self._attributes & _COMPRESSION:
            return self._data[self._start + _HEAD.size : self._end]
        packed = _DefaultRecordBatchPy(memoryview(self._data)[self._start : self._end])
        packed._maybe_uncompress()  # noqa: SLF001 - no public access
        return bytes(packed._buffer)  # noqa: SLF001


class RecordBatches:
    """What one fetch gave of one partition: stands in for aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def size_in_bytes(self) -> int:
        """Length of it all."""
        return len(self._data)

    def has_next(self) -> bool:
        """Whether there is a further whole batch; the last one may have been cut off."""
        return self._end() <= len(self._data)

    def next_batch(self) -> Batch:
        """The next batch."""
        start, self._at = self._at, self._end()
        if self._at - start < _HEAD.size:
            raise CorruptRecordException("a batch is shorter than its head")
        return Batch(self._data, start, self._at)

    def _end(self) -> int:
        head = self._at + _START.size
        if head > len(self._data):
            return head
        _, length = _START.unpack_from(self._data, self._at)
        return head + int(length)


class PartitionRecords(fetcher.PartitionRecords):
    """What the fetcher holds of one partition."""

    next_fetch_offset: int

    def read(self) -> list[Record]:
        """All of it at once; `next_fetch_offset` is then where to read on.

        Raises:
            CorruptRecordException: a batch is damaged.

        """
        self._records_iterator = None  # It refers to this, and nothing would part them.
        found: list[Record] = []
        for batch in self._committed():
            found += batch.records(self._tp, self.next_fetch_offset)
            self.next_fetch_offset = batch.next_offset
        return found

    def _unpack_records(self) -> Iterator[Record]:
        """One by one, as aiokafka's consumers take them: what is left stays for the next poll."""
        for batch in self._committed():
            for record in batch.records(self._tp, self.next_fetch_offset):
                self.next_fetch_offset = record.offset + 1
                yield record
            self.next_fetch_offset = batch.next_offset

    def _committed(self) -> Iterator[Batch]:
        """Batches of records that are to be read, in order; the position moves past all others."""
        while self._records.has_next():
            batch: Batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"{self._tp}: a batch has a wrong checksum")
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch:
                self._pass_marker(batch)
            elif not (batch.is_transactional and batch.producer_id in self._aborted_producers):
                yield batch
                continue
            self.next_fetch_offset = batch.next_offset

    def _pass_marker(self, batch: Batch) -> None:
        """The end of a transaction; one that compaction has emptied says nothing."""
        for marker in batch.records(self._tp, batch.base_offset):
            if marker.key is not None and ControlRecord.parse(marker.key) == ABORT_MARKER:
                self._aborted_producers.discard(batch.producer_id)


def partition_records(tp: TP, data: bytes, aborted: Any, offset: int) -> PartitionRecords:
    """The committed records from `offset` on, of what a fetch gave of one partition."""
    return PartitionRecords(
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
    fetcher.PartitionRecords = PartitionRecords
