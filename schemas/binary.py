"""Avro's binary encoding, the few types the contract uses, read and written by plain functions.

Readers take (data, position) and return (value, position after it). They refuse what Avro's own
readers let pass (a negative length or index, a boolean of 2, a number of more than 64 bits) with
ValueError, and run out of data with IndexError. A string or bytes cut short is not noticed here:
its position then lies past the end, where the caller, who compares the last position with the
length of the data, sees it. Nothing is allocated by a count or length before the data for it is
there, so a crafted one costs no memory.

Writers append to a bytearray, and refuse a value of another type with TypeError and one out of
range with ValueError: what does not follow the schema must never reach a topic.
"""

from collections.abc import Mapping
from typing import Final

from schemas.limits import QUANTITY_SUM_MAX

QUANTITY_BYTES_MAX: Final = 16  # A decimal(18,6) takes 8; more than 16 is no quantity at all.
_LONG_BYTES_MAX: Final = 10
_LONG_OR_NEGATIVE: Final = 0x81  # Bits of a number's first byte: more bytes follow, or a sign.
_LONG_LIMIT: Final = 2**63
_INT_LIMIT: Final = 2**31


def read_long(data: bytes, position: int) -> tuple[int, int]:
    """Signed 64-bit number (zigzag, base 128)."""
    byte = data[position]
    position += 1
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), position
    raw = byte & 0x7F
    for shift in range(7, 7 * _LONG_BYTES_MAX, 7):
        byte = data[position]
        position += 1
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            if raw >= 2 * _LONG_LIMIT:
                break
            return (raw >> 1) ^ -(raw & 1), position
    raise ValueError("a number of more than 64 bits")


def read_int(data: bytes, position: int) -> tuple[int, int]:
    """Signed 32-bit number."""
    value, position = read_long(data, position)
    if not -_INT_LIMIT <= value < _INT_LIMIT:
        raise ValueError("an int of more than 32 bits")
    return value, position


def read_length(data: bytes, position: int) -> tuple[int, int]:
    """Length, or branch or symbol index: a number that may not be negative."""
    byte = data[position]
    if not byte & _LONG_OR_NEGATIVE:
        return byte >> 1, position + 1
    value, position = read_long(data, position)
    if value < 0:
        raise ValueError("a negative length or index")
    return value, position


def read_boolean(data: bytes, position: int) -> tuple[bool, int]:
    """One byte, 0 or 1."""
    byte = data[position]
    if byte > 1:
        raise ValueError(f"{byte} for a boolean")
    return byte == 1, position + 1


def read_present(data: bytes, position: int) -> tuple[bool, int]:
    """Branch of a union of null and something: False for null."""
    byte = data[position]
    if byte not in {0, 2}:
        raise ValueError("no such branch of a union")
    return byte == 2, position + 1


def read_text(data: bytes, position: int) -> tuple[str, int]:
    """UTF-8 string."""
    length = data[position]
    if not length & _LONG_OR_NEGATIVE:
        end = position + 1 + (length >> 1)
        return data[position + 1 : end].decode(), end
    length, position = read_length(data, position)
    end = position + length
    return data[position:end].decode(), end


def read_bytes(data: bytes, position: int) -> tuple[bytes, int]:
    """Bytes."""
    length, position = read_length(data, position)
    end = position + length
    return data[position:end], end


def read_quantity(data: bytes, position: int) -> tuple[int, int]:
    """Decimal with scale 6, as its unscaled integer: two's complement, big-endian."""
    length = data[position]
    if length & 1 or length > 2 * QUANTITY_BYTES_MAX:
        raise ValueError(f"no quantity: more than {QUANTITY_BYTES_MAX} bytes, or a negative length")
    position += 1
    end = position + (length >> 1)
    return int.from_bytes(data[position:end], "big", signed=True), end


def read_count(data: bytes, position: int) -> tuple[int, int]:
    """Item count of the next block of an array or map; 0 ends it."""
    byte = data[position]
    if not byte & _LONG_OR_NEGATIVE:
        return byte >> 1, position + 1
    count, position = read_long(data, position)
    if count < 0:  # Then the block's size in bytes follows, for readers that skip it.
        count = -count
        _, position = read_length(data, position)
    return count, position


def read_text_map(data: bytes, position: int) -> tuple[dict[str, str], int]:
    """Map of strings; of a repeated key the last value counts."""
    texts: dict[str, str] = {}
    count, position = read_count(data, position)
    while count:
        for _ in range(count):
            # Short names and values in place: this loop is half of reading a request.
            length = data[position]
            if length & _LONG_OR_NEGATIVE:
                name, position = read_text(data, position)
            else:
                end = position + 1 + (length >> 1)
                name = data[position + 1 : end].decode()
                position = end
            length = data[position]
            if length & _LONG_OR_NEGATIVE:
                texts[name], position = read_text(data, position)
            else:
                end = position + 1 + (length >> 1)
                texts[name] = data[position + 1 : end].decode()
                position = end
        count, position = read_count(data, position)
    return texts, position


def write_long(out: bytearray, value: int) -> None:
    """Signed 64-bit number."""
    if not isinstance(value, int) or value.__class__ is bool:
        raise TypeError(f"{value!r} for a number")
    if not -_LONG_LIMIT <= value < _LONG_LIMIT:
        raise ValueError(f"{value} has more than 64 bits")
    raw = (value << 1) ^ (value >> 63)
    while raw > 0x7F:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)


def write_int(out: bytearray, value: int) -> None:
    """Signed 32-bit number."""
    if value.__class__ is int and 0 <= value < 0x40:
        out.append(value << 1)
        return
    if not isinstance(value, int) or not -_INT_LIMIT <= value < _INT_LIMIT:
        raise ValueError(f"{value!r} is no number of 32 bits")
    write_long(out, value)


def write_boolean(out: bytearray, value: bool) -> None:  # noqa: FBT001 - the value itself
    """One byte, 0 or 1."""
    if value.__class__ is not bool:
        raise TypeError(f"{value!r} for a boolean")
    out.append(value)


def write_text(out: bytearray, value: str) -> None:
    """UTF-8 string."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} for a string")
    raw = value.encode()
    length = len(raw)
    if length < 0x40:
        out.append(length << 1)
    else:
        write_long(out, length)
    out += raw


def write_bytes(out: bytearray, value: bytes) -> None:
    """Bytes."""
    if not isinstance(value, bytes):
        raise TypeError(f"{value!r} for bytes")
    write_long(out, len(value))
    out += value


def write_quantity(out: bytearray, value: int) -> None:
    """Decimal with scale 6 from its unscaled integer, in the fewest bytes."""
    if not isinstance(value, int) or value.__class__ is bool:
        raise TypeError(f"{value!r} for a quantity")
    if not -QUANTITY_SUM_MAX <= value <= QUANTITY_SUM_MAX:
        raise ValueError(f"{value} is beyond the largest quantity")
    length = ((value + (value < 0)).bit_length() >> 3) + 1
    out.append(length << 1)
    out += value.to_bytes(length, "big", signed=True)


def write_text_map(out: bytearray, value: Mapping[str, str]) -> None:
    """Map of strings, as one block, in the map's own order."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{value!r} for a map")
    if value:
        write_long(out, len(value))
        for name, text in value.items():
            write_text(out, name)
            write_text(out, text)
    out.append(0)
