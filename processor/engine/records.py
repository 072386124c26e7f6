"""Records, and how they lie in a batch of Kafka's (format version 2, KIP-98).

Read straight from the bytes that were fetched, and compiled with the core (`processor.compiled`): a
record costs a fifth of what aiokafka's parser and a copy of its record did, 1.2 us. The rule: a
record is what the decider asks for and no more. Kafka says that a header key is UTF-8 and does not
check it; bytes that are not are escaped here, since one such record would otherwise end every
worker that comes to its offset.
"""

from typing import Final, final

from mypy_extensions import i64, mypyc_attr

Headers = tuple[tuple[str, bytes | None], ...]

_NO_HEADERS: Final[Headers] = ()
_SHIFT_MAX: Final = 63  # Of the last bit of a number.
_MOST: Final = 2**63 - 1


class Damaged(Exception):
    """The bytes are not the records that the head of their batch promises."""


@final
@mypyc_attr(acyclic=True)
class Record:
    """One consumed record.

    Attributes:
        timestamp: milliseconds since 1970 UTC by the broker's clock; 0 where its topic has those of
            the senders: the clock of a partition goes by them, and never back.

    """

    __slots__ = ("headers", "key", "offset", "partition", "timestamp", "topic", "value")

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp: int,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = _NO_HEADERS,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self.headers = headers


@final
class Place:
    """Where the records of a batch belong, and which of them are wanted.

    Attributes:
        base_offset: offset of the batch, to which each record's is relative.
        begin: offset of the first record that is wanted.
        timestamp: of all of them.

    """

    __slots__ = ("base_offset", "begin", "partition", "timestamp", "topic")

    def __init__(
        self, topic: str, partition: int, base_offset: int, begin: int, timestamp: int
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.base_offset = base_offset
        self.begin = begin
        self.timestamp = timestamp


def read_records(data: bytes, count: int, place: Place) -> list[Record]:
    """Those of the `count` records of a batch that are wanted; `data` is all behind its head.

    Raises:
        Damaged: it is not so many records.

    """
    try:
        return _read_records(data, count, place)
    except IndexError as error:
        raise Damaged("a record ends behind the end of its batch") from error


def _read_records(data: bytes, count: i64, place: Place) -> list[Record]:
    topic, partition, timestamp = place.topic, place.partition, place.timestamp
    base: i64 = place.base_offset
    begin: i64 = place.begin
    records: list[Record] = []
    at: i64 = 0
    for _ in range(count):
        length, at = _varint(data, at)
        end = at + length
        _, at = _varint(data, at + 1)  # Behind the attributes: by how much its time is later.
        offset, at = _varint(data, at)
        key, at = _bytes(data, at)
        value, at = _bytes(data, at)
        headed, at = _varint(data, at)
        headers = _NO_HEADERS
        if headed:
            headers, at = _headers(data, at, headed)
        if at != end or headed < 0:
            raise Damaged("a record is not as long as it says")
        offset += base
        if offset >= begin:
            record = Record(
                topic, partition, offset, timestamp, key=key, value=value, headers=headers
            )
            records.append(record)
    if at != len(data):
        raise Damaged("there is something behind the last record of a batch")
    return records


def _headers(data: bytes, at: i64, count: i64) -> tuple[Headers, i64]:
    headers: list[tuple[str, bytes | None]] = []
    for _ in range(count):
        name, at = _bytes(data, at)
        value, at = _bytes(data, at)
        headers.append(((name or b"").decode("utf-8", "backslashreplace"), value))
    return tuple(headers), at


def _bytes(data: bytes, at: i64) -> tuple[bytes | None, i64]:
    """Bytes with their length in front; None where that is -1. What follows is behind them."""
    length, at = _varint(data, at)
    if length < 0:
        return None, at
    if length > len(data) - at:
        raise Damaged("bytes end behind the end of their batch")
    end = at + length
    return data[at:end], end


def _varint(data: bytes, at: i64) -> tuple[i64, i64]:
    """A number in zigzag form, seven bits a byte, and where what follows begins."""
    byte: i64 = data[at]
    at += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), at
    found = byte & 0x7F
    shift: i64 = 7
    while byte >= 0x80:
        byte = data[at]
        at += 1
        if shift > _SHIFT_MAX or (shift == _SHIFT_MAX and byte > 1):
            raise Damaged("a number has more than 64 bits")
        found |= (byte & 0x7F) << shift
        shift += 7
    return ((found >> 1) & _MOST) ^ -(found & 1), at
