"""The codec against fastavro as an independent reader and writer, and against bad input."""

import tracemalloc
from collections.abc import Callable
from decimal import Context, localcontext
from io import BytesIO
from typing import Any, Final

import fastavro
import msgspec
import pytest
from hypothesis import example, given, settings, strategies as st

from schemas import avro
from schemas.binary import read_int, read_long, write_long
from schemas.codec import Codec, Undecodable
from schemas.codes import Code
from schemas.limits import (
    DEAD_LETTER_KEY_BYTES_MAX,
    DEAD_LETTER_VALUE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    QUANTITY_MAX,
    QUANTITY_SUM_MAX,
    RECORD_BYTES_MAX,
)
from schemas.messages import DeadLetter, RequestLine, ReservationRequest, ResultLine
from schemas.registry import FixedSchemaIds
from tests.contract import golden, samples

# The pure codec: that its compiled twins say the same is in tests/contract/test_compiled_twin.py.
CODEC: Final = Codec(FixedSchemaIds(), compiled=False)
ENCODE: Final = golden.encoders(CODEC)
DECODE: Final = golden.decoders(CODEC)
PARSED: Final = {r: fastavro.parse_schema(avro.schema(r), named_schemas={}) for r in avro.RECORDS}
HUGE: Final = b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"  # 2^63 - 1 as a varint.
HUGE_NEGATIVE: Final = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"  # -2^63.


def _frame(record: str) -> bytes:
    return b"\x00" + FixedSchemaIds().id_of(record).to_bytes(4, "big")


def _request(**changes: Any) -> ReservationRequest:
    request: ReservationRequest = samples.chosen()["ReservationRequest"][0]
    return msgspec.structs.replace(request, **changes)


def _line(**changes: Any) -> RequestLine:
    return msgspec.structs.replace(_request().lines[0], **changes)


def _code_of(decode: Callable[[bytes | None], object], value: bytes | None) -> Code:
    with pytest.raises(Undecodable) as caught:
        decode(value)
    assert caught.value.reason
    return caught.value.code


@pytest.mark.parametrize("record", avro.RECORDS)
@settings(max_examples=50)
@given(data=st.data())
def test_what_is_encoded_decodes_to_itself(record: str, data: st.DataObject) -> None:
    """Every value the schema allows comes back equal, extreme quantities included."""
    struct = data.draw(samples.any_record(record))
    assert DECODE[record](ENCODE[record](struct)) == struct


@pytest.mark.parametrize("record", avro.RECORDS)
@settings(max_examples=50)
@given(data=st.data())
def test_fastavro_reads_what_we_write(record: str, data: st.DataObject) -> None:
    """An independent reader with the published schema sees the same fields and decimals."""
    struct = data.draw(samples.any_record(record, QUANTITY_MAX))
    body = BytesIO(ENCODE[record](struct)[5:])
    fields = fastavro.schemaless_reader(body, PARSED[record], None)
    assert body.read() == b""
    with localcontext(Context(prec=40)):
        assert fields == samples.with_decimals(samples.fields_of(struct), avro.schema(record))


@pytest.mark.parametrize("record", avro.RECORDS)
@settings(max_examples=50)
@given(data=st.data())
def test_we_read_what_fastavro_writes(record: str, data: st.DataObject) -> None:
    """Bytes of an independent writer read as the fields that went in."""
    struct = data.draw(samples.any_record(record, QUANTITY_MAX))
    out = BytesIO()
    with localcontext(Context(prec=40)):
        fields = samples.with_decimals(samples.fields_of(struct), avro.schema(record))
        fastavro.schemaless_writer(out, PARSED[record], fields)
    assert DECODE[record](_frame(record) + out.getvalue()) == struct


@pytest.mark.parametrize("record", avro.RECORDS)
def test_a_record_cut_at_any_byte_is_refused(record: str) -> None:
    """No prefix of a record is taken for a record."""
    for struct in samples.chosen()[record]:
        whole = ENCODE[record](struct)
        for length in range(len(whole)):
            code = _code_of(DECODE[record], whole[:length])
            assert code == (Code.RECORD_NOT_AVRO if length else Code.RECORD_EMPTY)


@pytest.mark.parametrize("record", avro.RECORDS)
@given(garbage=st.binary(max_size=300))
@example(garbage=b"")
def test_garbage_is_refused_or_read_but_never_fails(record: str, garbage: bytes) -> None:
    """Any bytes after our frame end in a record or in Undecodable."""
    assert golden.outcome(DECODE[record], _frame(record) + garbage) in {None, Code.RECORD_NOT_AVRO}


@pytest.mark.parametrize("record", avro.RECORDS)
@settings(max_examples=50)
@given(data=st.data())
def test_a_damaged_record_is_refused_or_read_but_never_fails(
    record: str, data: st.DataObject
) -> None:
    """A record with one byte changed, dropped or put in ends in a record or in Undecodable."""
    whole = ENCODE[record](data.draw(st.sampled_from(samples.chosen()[record])))
    at = data.draw(st.integers(0, len(whole) - 1))
    put = data.draw(st.binary(max_size=2))
    found = golden.outcome(DECODE[record], whole[:at] + put + whole[at + 1 :])
    assert found is None or found >= Code.RECORD_EMPTY


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, Code.RECORD_EMPTY),
        (b"", Code.RECORD_EMPTY),
        (b'{"request_id": "r-1"}', Code.RECORD_NOT_AVRO),
        (b"\x00\x00", Code.RECORD_NOT_AVRO),
        (b"\x00\x00\x00\x12\x67\x00", Code.SCHEMA_UNKNOWN),
        (b"\x01" + bytes(4) + b"\x00", Code.RECORD_NOT_AVRO),
        (ENCODE["ReservationResult"](samples.chosen()["ReservationResult"][0]), None),
        (ENCODE["ReservationRequest"](_request()) + b"\x00", Code.RECORD_NOT_AVRO),
        (b"\x00" * 300_000, Code.RECORD_TOO_LARGE),
        (ENCODE["ReservationRequest"](_request(channel="c" * 300_000)), Code.RECORD_TOO_LARGE),
        (_frame("ReservationRequest") + b"\x04\xff\xfe", Code.RECORD_NOT_AVRO),
        (_frame("ReservationRequest") + b"\x00\x01\x00\x00\x00\x00", Code.RECORD_NOT_AVRO),
        (_frame("ReservationRequest") + b"\x00\x7e\x00\x00\x00\x00", Code.RECORD_NOT_AVRO),
        (_frame("ReservationRequest") + b"\x00\x00\x00\x00\x00\x04", Code.RECORD_NOT_AVRO),
    ],
    ids=[
        "null",
        "empty",
        "json",
        "half a frame",
        "unknown id",
        "another magic byte",
        "another record",
        "a byte too many",
        "300 kB of nothing",
        "300 kB string",
        "no UTF-8",
        "negative symbol",
        "unknown symbol",
        "unknown branch",
    ],
)
def test_each_kind_of_bad_record_has_its_code(value: bytes | None, code: Code | None) -> None:
    """What cannot be read says why, by the numbered list."""
    assert _code_of(CODEC.decode_request, value) == (code or Code.SCHEMA_UNEXPECTED)


@pytest.mark.parametrize("count", [HUGE, HUGE_NEGATIVE + HUGE, HUGE_NEGATIVE + b"\x00"])
@pytest.mark.parametrize(
    "before",
    [
        b"",  # length of the request id
        b"\x00\x00\x00\x00",  # count of the lines
        b"\x00\x00\x00\x00\x02\x00\x00",  # count of a line's dimensions
        b"\x00\x00\x00\x00\x02\x00\x00\x00\x00",  # length of a quantity
    ],
)
def test_a_crafted_count_takes_no_memory(before: bytes, count: bytes) -> None:
    """A length or count of billions is refused with no more memory than the record has bytes."""
    value = _frame("ReservationRequest") + before + count + bytes(1_000)
    tracemalloc.start()
    try:
        assert _code_of(CODEC.decode_request, value) == Code.RECORD_NOT_AVRO
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_record_full_of_tiny_lines_is_bounded() -> None:
    """The most lines that fit in one record take memory in proportion, and none is dropped."""
    line = bytes((0, 0, 0, 0, 2, 0, 1, 0))
    count = (RECORD_BYTES_MAX - 100) // len(line)
    head = ENCODE["ReservationRequest"](_request(lines=[]))
    block = bytearray()
    write_long(block, count)
    value = head[:-2] + bytes(block) + line * count + b"\x00\x00"
    tracemalloc.start()
    try:
        assert len(CODEC.decode_request(value).lines) == count
        assert tracemalloc.get_traced_memory()[1] < 64_000_000
    finally:
        tracemalloc.stop()


def test_a_quantity_of_more_than_sixteen_bytes_is_no_quantity() -> None:
    """Digits without end are refused when read: nobody has to print or multiply them."""
    body = b"\x00\x00\x00\x00\x02\x00\x00\x00\x00"
    fits = _frame("ReservationRequest") + body + b"\x20" + b"\x7f" * 16 + b"\x01\x00\x00\x00"
    assert CODEC.decode_request(fits).lines[0].quantity == int.from_bytes(b"\x7f" * 16, "big")
    long = _frame("ReservationRequest") + body + b"\x22" + b"\x7f" * 17 + b"\x01\x00\x00\x00"
    assert _code_of(CODEC.decode_request, long) == Code.RECORD_NOT_AVRO


@pytest.mark.parametrize(
    "number",
    [
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x03",  # 65 bits
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",  # 11 bytes for 0
    ],
)
def test_a_number_of_more_than_64_bits_is_refused(number: bytes) -> None:
    """No number comes in that Avro has no type for."""
    with pytest.raises(ValueError, match="64 bits"):
        read_long(number, 0)


def test_an_int_of_more_than_32_bits_is_refused() -> None:
    """A long where the schema says int is not that schema's record."""
    written = bytearray()
    write_long(written, 2**31)
    with pytest.raises(ValueError, match="32 bits"):
        read_int(bytes(written), 0)


def test_blocks_with_their_size_are_read() -> None:
    """Java's blocking encoder announces a block as -count, size: that is Avro too."""
    value = ENCODE["ReservationRequest"](_request())
    counted = value.replace(b"\x02\x0aD0002", b"\x01\x80\x01\x0aD0002")
    assert counted != value
    assert CODEC.decode_request(counted) == _request()


@pytest.mark.parametrize(
    "wrong",
    [
        {"request_id": 7},
        {"request_id": None},
        {"request_id": b"r-1"},
        {"request_id": "\ud800"},
        {"action": "BUY"},
        {"lines": [_line(quantity=1.0)]},
        {"lines": [_line(quantity=True)]},
        {"lines": [_line(quantity="1")]},
        {"lines": [_line(quantity=QUANTITY_SUM_MAX + 1)]},
        {"lines": [_line(quantity=-QUANTITY_SUM_MAX - 1)]},
        {"lines": [_line(check_availability=1)]},
        {"lines": [_line(dimensions=[("siteid", "1")])]},
        {"lines": [_line(dimensions={"siteid": 1})]},
        {"lines": [_line(dimensions={1: "siteid"})]},
    ],
)
def test_a_value_of_the_wrong_type_is_never_written(wrong: dict[str, Any]) -> None:
    """Encoding refuses what the schema does not hold, instead of bending it."""
    with pytest.raises((TypeError, ValueError)):
        CODEC.encode_request(_request(**wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": 2**31},
        {"sequence": 1.5},
        {"sequence": 2**63},
        {"decided_at_ms": "now"},
        {"replayed": 0},
        {"code": None},
        {"lines": [ResultLine(True, "", "", 0, 0)]},
    ],
)
def test_a_number_of_the_wrong_kind_is_never_written(wrong: dict[str, Any]) -> None:
    """Encoding a result refuses floats, texts and booleans for numbers, and numbers too large."""
    result = samples.chosen()["ReservationResult"][0]
    with pytest.raises((TypeError, ValueError)):
        CODEC.encode_result(msgspec.structs.replace(result, **wrong))


def test_a_dead_letter_can_always_be_written() -> None:
    """However large key, value and reason are, the letter fits its topic and says what was cut."""
    letter = DeadLetter(
        code=101,
        reason="x" * 100_000,
        topic="reservation-requests",
        partition=0,
        offset=0,
        timestamp_ms=0,
        key=b"k" * 10_000_000,
        value=b"v" * 10_000_000,
    )
    written = CODEC.encode_dead_letter(letter)
    assert len(written) < MESSAGE_BYTES_MAX
    found = CODEC.decode_dead_letter(written)
    assert found.key == b"k" * DEAD_LETTER_KEY_BYTES_MAX
    assert found.value == b"v" * DEAD_LETTER_VALUE_BYTES_MAX
    assert "of the value's 10000000 bytes" in found.reason
