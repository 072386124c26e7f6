"""What the brokers give is read as aiokafka reads it, and what it gives up at is read too."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from faust.types import TP
from hypothesis import given, strategies as st

from processor.engine.record_batches import (
    PartitionRecords,
    RecordBatches,
    partition_records,
    replace_parsing,
)
from processor.engine.records import Damaged, Place, Record, read_records

KEYS = ("fine", "odd", "fine again")
PLACE = TP("a", 3)
HEAD_BYTES = 61
TRANSACTIONAL, CONTROL, LOG_APPEND_TIME = 0x10, 0x20, 8
ABORT, COMMIT = bytes((0, 0, 0, 0)), bytes((0, 0, 0, 1))
PLAIN, GZIP, LZ4 = 0, 1, 3

Headers = tuple[tuple[str, bytes | None], ...]
Fields = tuple[bytes | None, bytes | None, Headers]


class _Odd(str):
    """A header key whose bytes are not UTF-8."""

    __slots__ = ()

    def encode(self, *_: object, **__: object) -> bytes:
        return b"\xff\xfeodd"


def batch(
    records: list[Fields], *, compression: int = PLAIN, first: int = 0, producer: int = -1
) -> bytes:
    """One batch, the first of its records at offset `first`."""
    builder = _DefaultRecordBatchBuilderPy(
        magic=2,
        compression_type=compression,
        is_transactional=int(producer >= 0),
        producer_id=producer,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=999_999,
    )
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, timestamp=7 * number, key=key, value=value, headers=list(headers))
    return first.to_bytes(8, "big") + bytes(builder.build())[8:]


def rewritten(data: bytes, *, more: int, latest_ms: int | None = None) -> bytes:
    """The batch with more attributes, and the time of its latest record, as a broker does it."""
    attributes = int.from_bytes(data[21:23], "big") | more
    latest = data[35:43] if latest_ms is None else latest_ms.to_bytes(8, "big")
    checked = attributes.to_bytes(2, "big") + data[23:35] + latest + data[43:]
    return data[:17] + calc_crc32c(checked).to_bytes(4, "big") + checked


def marker(kind: bytes, first: int, producer: int) -> bytes:
    """The end of a transaction."""
    return rewritten(batch([(kind, b"", ())], first=first, producer=producer), more=CONTROL)


def values(data: bytes, aborted: list[tuple[int, int]], begin: int = 0) -> list[bytes | None]:
    """What a reader of committed records gets, at once and one by one; both leave it equally."""
    at_once = partition_records(PLACE, data, aborted, begin)
    one_by_one = partition_records(PLACE, data, aborted, begin)
    found = [record.value for record in at_once.read()]
    assert [record.value for record in one_by_one] == found
    assert at_once.next_fetch_offset == one_by_one.next_fetch_offset
    return found


field = st.none() | st.binary(max_size=200) | st.integers(8_000, 9_000).map(bytes)
headers = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=70)), max_size=3)
records = st.lists(st.tuples(field, field, headers.map(tuple)), min_size=1, max_size=150)


@given(records, st.sampled_from([PLAIN, GZIP, LZ4]), st.integers(0, 2**40))
def test_records_are_those_that_aiokafka_reads(
    sent: list[Fields], compression: int, first: int
) -> None:
    """Offsets, keys, values and headers, whatever they are, compressed or not."""
    data = batch(sent, compression=compression, first=first)
    theirs = MemoryRecords(data).next_batch()
    assert theirs is not None
    ours = partition_records(PLACE, data, (), first).read()
    assert [(one.offset, one.key, one.value, list(one.headers)) for one in ours] == [
        (one.offset, one.key, one.value, one.headers) for one in theirs
    ]
    assert {(one.topic, one.partition) for one in ours} == {(PLACE.topic, PLACE.partition)}


@pytest.mark.parametrize("compression", [PLAIN, GZIP, LZ4])
def test_a_header_key_that_is_not_text_is_escaped(compression: int) -> None:
    """All records of its batch are read, in order, and those of the batches around it."""
    odd: list[Fields] = [
        (b"k", name.encode(), ((_Odd("odd") if name == "odd" else name, b"v"),)) for name in KEYS
    ]
    fine: list[Fields] = [(b"k", name.encode(), ((name, b"v"),)) for name in KEYS]
    data = batch(fine) + batch(odd, compression=compression, first=3) + batch(fine, first=6)
    found = [
        (record.offset, record.value, record.headers[0][0])
        for record in partition_records(PLACE, data, (), 0).read()
    ]
    escaped = [("odd" if name == "odd" else name) for name in KEYS]
    escaped[1] = r"\xff\xfeodd"
    assert found == [
        (offset, KEYS[offset % 3].encode(), (KEYS if offset // 3 != 1 else escaped)[offset % 3])
        for offset in range(9)
    ]


def test_a_timestamp_of_a_sender_is_none() -> None:
    """The clock of a partition goes by the broker's alone: it never goes back."""
    senders = batch([(b"k", b"a", ()), (b"k", b"b", ())])
    brokers = rewritten(senders, more=LOG_APPEND_TIME, latest_ms=99)
    found = [
        [record.timestamp for record in partition_records(PLACE, data, (), 0).read()]
        for data in (senders, brokers)
    ]
    assert found == [[0, 0], [99, 99]]


def test_what_was_aborted_and_markers_are_passed_by() -> None:
    """Of a producer's transactions the aborted one alone; the position moves past everything."""
    data = (
        batch([(b"k", b"none's", ())], first=10)
        + batch([(b"k", b"aborted", ())], first=11, producer=5)
        + batch([(b"k", b"another's", ())], first=12, producer=6)
        + marker(ABORT, first=13, producer=5)
        + batch([(b"k", b"the next of it", ())], first=14, producer=5)
        + marker(COMMIT, first=15, producer=6)
        + marker(COMMIT, first=16, producer=5)
    )
    assert values(data, [(5, 11)]) == [b"none's", b"another's", b"the next of it"]
    assert values(data, []) == [b"none's", b"aborted", b"another's", b"the next of it"]
    reader = partition_records(PLACE, data, [(5, 11)], 10)
    reader.read()
    assert reader.next_fetch_offset == 17


def test_a_commit_does_not_end_the_abort_of_the_same_producer() -> None:
    """What the broker says of aborts goes by offsets, and a marker is read for its kind."""
    data = (
        marker(COMMIT, first=3, producer=5)
        + batch([(b"k", b"aborted", ())], first=4, producer=5)
        + marker(ABORT, first=5, producer=5)
    )
    assert values(data, [(5, 2)]) == []


def test_a_marker_that_compaction_has_emptied_is_passed_by() -> None:
    """The log keeps the head of such a batch, for the sake of its producer's epoch."""
    whole = rewritten(batch([(ABORT, b"", ())], first=3, producer=5), more=CONTROL)
    body = whole[21:57] + (0).to_bytes(4, "big")
    size = len(body) + 9
    head = whole[:8] + size.to_bytes(4, "big") + whole[12:17]
    emptied = head + calc_crc32c(body).to_bytes(4, "big") + body
    data = emptied + batch([(b"k", b"behind", ())], first=4)
    assert values(data, []) == [b"behind"]


def test_records_before_the_offset_that_was_asked_for_are_left_out() -> None:
    """A broker gives whole batches; the rest of one that was begun comes with the next reading."""
    data = batch([(b"k", b"%d" % number, ()) for number in range(5)], first=20)
    assert values(data, [], begin=23) == [b"3", b"4"]
    some = partition_records(PLACE, data, (), 20)
    assert [next(some).value for _ in range(2)] == [b"0", b"1"]
    assert some.next_fetch_offset == 22


def test_what_was_read_is_let_go() -> None:
    """Nothing is collected between batches: bytes that refer to each other would stay."""
    data = batch([(b"k", b"v", ())])
    reader = partition_records(PLACE, data, (), 0)
    there = weakref.ref(reader)
    gc.disable()
    try:
        reader.read()
        del reader
        assert there() is None
    finally:
        gc.enable()


def test_a_batch_that_is_shorter_than_its_head_is_damage() -> None:
    """Whatever it says of its length."""
    for length in (0, 48, 2**32 - 100):
        data = bytes(8) + length.to_bytes(4, "big") + bytes(60)
        with pytest.raises(CorruptRecordException, match="shorter than its head"):
            partition_records(PLACE, data, (), 0).read()


def test_the_last_batch_may_be_cut_off() -> None:
    """What is whole is read; the rest is asked for again."""
    data = batch([(b"k", b"whole", ())]) + batch([(b"k", b"cut", ())], first=1)
    for end in range(len(data) - 1, len(batch([(b"k", b"whole", ())])) - 1, -1):
        reader = partition_records(PLACE, data[:end], (), 0)
        assert [record.value for record in reader.read()] == [b"whole"]
        assert reader.next_fetch_offset == 1
    assert not RecordBatches(data[:70]).has_next()
    assert RecordBatches(data[:70]).size_in_bytes() == 70


def broken(data: bytes) -> Iterator[bytes]:
    """The same with one bit turned, every one behind the checksum in turn."""
    for at in range(17, len(data)):
        yield data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def test_a_damaged_batch_is_not_read() -> None:
    """Wherever the damage is: the checksum is looked at."""
    for data in broken(batch([(b"key", b"value", (("h", b"v"),))])):
        with pytest.raises(CorruptRecordException, match="checksum"):
            partition_records(PLACE, data, (), 0).read()


def test_a_batch_of_an_old_format_is_told() -> None:
    """Kafka before 0.11 wrote them; no topic of ours can have one."""
    data = batch([(b"k", b"v", ())])
    with pytest.raises(CorruptRecordException, match="format 1"):
        partition_records(PLACE, data[:16] + b"\x01" + data[17:], (), 0).read()


NUMBER = batch([(b"k", b"v", (("h", b"w"),))])[HEAD_BYTES:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[:-1],
        lambda body: body + b"\x00",
        lambda body: bytes([body[0] + 2]) + body[1:],  # The length of the record.
        lambda body: body[:4] + b"\x7e" + body[5:],  # That of its key: behind the end.
        lambda body: body[:4] + b"\x80" * 9 + b"\x01" + body[5:],  # 2 to the power of 62.
        lambda body: body[:4] + b"\xff" * 9 + b"\x03" + body[5:],  # Of 65 bits.
        lambda body: b"\xff" * 12 + body,  # A number without an end.
        lambda body: bytes([body[0] | 0x80]) + b"\x80" * 9 + b"\x00" + body[1:],  # Of 71 bits.
        lambda body: b"\x0e" + body[1:6] + b"\x01\x01",  # Less than no headers.
    ],
)
def test_bytes_that_are_no_records_are_damage(damage: Callable[[bytes], bytes]) -> None:
    """A checksum can be right for what a producer made wrongly; no record is made up of it."""
    place = Place("a", 0, 0, 0, 7)
    assert [record.value for record in read_records(NUMBER, 1, place)] == [b"v"]
    with pytest.raises(Damaged):
        read_records(damage(NUMBER), 1, place)


def test_a_batch_of_the_wrong_length_is_damage_by_its_name() -> None:
    """A fault names topic, partition and offset."""
    data = batch([(b"k", b"v", ())], first=8)
    count = (2).to_bytes(4, "big")
    promised = rewritten(data[:57] + count + data[61:], more=0)
    with pytest.raises(CorruptRecordException, match="a-3, batch of offset 8"):
        partition_records(PLACE, promised, (), 0).read()


def test_the_fetcher_takes_these_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pinned release makes them of a fetch and takes records out one by one."""
    for name in ("MemoryRecords", "PartitionRecords"):
        monkeypatch.setattr(fetcher, name, None)  # Put back as it was.
    replace_parsing()
    assert fetcher.MemoryRecords is RecordBatches
    assert fetcher.PartitionRecords is PartitionRecords


def test_the_parser_of_aiokafka_gives_up() -> None:
    """What this is for is still so in the pinned release."""
    theirs = MemoryRecords(batch([(b"k", b"v", ((_Odd("odd"), b"v"),))]))
    with pytest.raises(UnicodeDecodeError):
        list(theirs.next_batch())


def test_a_record_is_what_its_fields_say() -> None:
    """None of them has another's place."""
    record = Record("t", 1, 2, 3, key=b"k", value=b"v", headers=(("h", None),))
    assert (record.topic, record.partition, record.offset, record.timestamp) == ("t", 1, 2, 3)
    assert (record.key, record.value, record.headers) == (b"k", b"v", (("h", None),))
