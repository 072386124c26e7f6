"""The compiled twins answer as the pure functions do, or leave the answer to them."""

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import example, given, settings, strategies as st

from schemas import quick, reading, writing
from schemas.codec import FRAME_BYTES, Codec, Undecodable
from schemas.limits import QUANTITY_SUM_MAX
from schemas.messages import RequestLine, ReservationRequest
from schemas.registry import FixedSchemaIds
from tests.contract import golden, samples

RECORDS: Final = (
    "ReservationRequest",
    "ReservationResult",
    "InventoryTransaction",
    "InventoryEvent",
)
PURE: Final = Codec(FixedSchemaIds(), compiled=False)
COMPILED: Final = Codec(FixedSchemaIds())
SUFFIX: Final = {
    "ReservationRequest": "request",
    "ReservationResult": "result",
    "InventoryTransaction": "transaction",
    "InventoryEvent": "event",
}


def _frame(record: str) -> bytes:
    return b"\x00" + FixedSchemaIds().id_of(record).to_bytes(4, "big")


def _reader(record: str) -> quick.Twin:
    return quick.compiled_twin(getattr(reading, f"read_{SUFFIX[record]}"))


def _writer(record: str) -> quick.Twin:
    return quick.compiled_twin(getattr(writing, f"write_{SUFFIX[record]}"))


def _outcome(function: Callable[[Any], object], argument: object) -> object:
    """What a function returns, or how it refuses, in comparable form."""
    try:
        return function(argument)
    except Undecodable as refusal:
        return refusal.code, refusal.reason
    except (TypeError, ValueError, AttributeError) as error:
        return type(error), str(error)


def _decoded(record: str, value: bytes) -> tuple[object, object]:
    pure = _outcome(golden.decoders(PURE)[record], value)
    return _outcome(golden.decoders(COMPILED)[record], value), pure


def test_the_compiled_twins_were_built() -> None:
    """The tests below are about compiled code: install gcc, then run `make setup` again."""
    assert quick.COMPILED


@pytest.mark.parametrize("record", RECORDS)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_every_record_that_we_write_takes_the_quick_way(record: str, data: st.DataObject) -> None:
    """Written by either twin it is the same bytes, and the compiled reader knows them all."""
    struct = data.draw(samples.any_record(record))
    whole = golden.encoders(PURE)[record](struct)
    assert _writer(record)(struct, _frame(record)) == whole
    assert _reader(record)(whole, _frame(record)) == struct


@pytest.mark.parametrize("record", RECORDS)
def test_golden_bytes_take_the_quick_way(record: str) -> None:
    """The last recorded version of every record is read and written by the compiled twins."""
    last = golden.recorded(record)[-1]
    for struct, recorded in zip(samples.chosen()[record], last.examples, strict=True):
        whole = _frame(record) + bytes.fromhex(recorded.body)
        assert _writer(record)(struct, _frame(record)) == whole
        assert _reader(record)(whole, _frame(record)) == struct


@pytest.mark.parametrize("record", RECORDS)
def test_a_record_cut_at_any_byte_is_left_to_the_pure_reader(record: str) -> None:
    """No prefix of a record is taken for a record, and both codecs refuse in the same words."""
    for struct in samples.chosen()[record]:
        whole = golden.encoders(PURE)[record](struct)
        for length in range(len(whole)):
            assert _reader(record)(whole[:length], _frame(record)) is None
            compiled, pure = _decoded(record, whole[:length])
            assert compiled == pure


@pytest.mark.parametrize("record", RECORDS)
def test_every_single_byte_changed_gives_the_same_outcome(record: str) -> None:
    """Each byte of the chosen records, set to each telling value: the same struct or refusal."""
    for struct in samples.chosen()[record]:
        whole = golden.encoders(PURE)[record](struct)
        for at in range(len(whole)):
            for put in (0x00, 0x01, 0x02, 0x03, 0x22, 0x7F, 0x80, 0xC3, 0xFE, 0xFF):
                damaged = whole[:at] + bytes((put,)) + whole[at + 1 :]
                compiled, pure = _decoded(record, damaged)
                assert compiled == pure


@pytest.mark.parametrize("record", RECORDS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_records_give_the_same_outcome(record: str, data: st.DataObject) -> None:
    """Bytes dropped, doubled, changed or put in anywhere: the same struct or refusal."""
    whole = golden.encoders(PURE)[record](data.draw(samples.any_record(record)))
    start = data.draw(st.integers(FRAME_BYTES, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 12)))
    damaged = whole[:start] + data.draw(st.binary(max_size=12)) + whole[end:]
    compiled, pure = _decoded(record, damaged)
    assert compiled == pure


@pytest.mark.parametrize("record", RECORDS)
@settings(max_examples=300, deadline=None)
@given(garbage=st.binary(max_size=200))
@example(garbage=b"")
@example(garbage=b"\x80" * 40)
@example(garbage=b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01")
def test_garbage_gives_the_same_outcome(record: str, garbage: bytes) -> None:
    """Random bytes after a good frame, and random bytes alone."""
    for value in (_frame(record) + garbage, garbage):
        compiled, pure = _decoded(record, value)
        assert compiled == pure


def _request_body(dimensions: bytes = b"\x00", quantity: bytes = b"\x02\x01") -> bytes:
    line = b"\x02p\x00" + dimensions + b"\x00" + quantity + b"\x01\x00"
    return b"\x02r\x00\x02o\x00" + b"\x02" + line + b"\x00" + b"\x00"


@pytest.mark.parametrize(
    "body",
    [
        _request_body(),
        _request_body(dimensions=b"\x02\x02a\x02b\x02\x02c\x02d\x00"),
        _request_body(dimensions=b"\x01\x08\x02a\x02b\x00"),
        _request_body(dimensions=b"\x04\x02a\x02b\x02a\x02c\x00"),
        _request_body(dimensions=b"\x82\x00\x82\x00a\x82\x80\x00b\x00"),
        _request_body(quantity=b"\x00"),
        _request_body(quantity=b"\x08\x00\x00\x00\x05"),
        _request_body(quantity=b"\x14" + bytes(9) + b"\x05"),
        _request_body(quantity=b"\x12\xff" + bytes(8)),
        _request_body(quantity=b"\x22" + bytes(17)),
        b"\x02\xff\x00\x02o\x00\x00\x00",
        b"\x02r\x00\x04\xc3\xa9\x06\xe2\x82\xac\x00\x00",
        b"\x02r\x00\x06\xed\xa0\x80\x00\x00\x00",
        b"\x02r\x1a\x02o\x00\x00\x00",
    ],
    ids=[
        "plain",
        "map in two blocks",
        "block with its size",
        "key twice",
        "long forms of small numbers",
        "quantity of no bytes",
        "quantity with leading zeros",
        "quantity of 10 bytes",
        "quantity of 9 bytes, negative",
        "quantity of 17 bytes",
        "no UTF-8",
        "text beyond ASCII",
        "surrogate",
        "no such symbol",
    ],
)
def test_unusual_avro_gives_the_same_outcome(body: bytes) -> None:
    """What other writers may send, and what none may."""
    compiled, pure = _decoded("ReservationRequest", _frame("ReservationRequest") + body)
    assert compiled == pure


class _Number(IntEnum):
    SEVEN = 7
    HUGE = 2**70


class _Word(str):
    __slots__ = ()


class _Mapping(dict[str, str]):
    pass


ODD_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 1.5, "", "x", "\ud800", b"x", [], (), {}, {"a": 1}, {1: "a"}),
    *(2**31, -(2**31) - 1, 2**63, 2**63 - 1, -(2**63), -(2**63) - 1, 2**200),
    *(QUANTITY_SUM_MAX, QUANTITY_SUM_MAX + 1, -QUANTITY_SUM_MAX - 1),
    *(_Number.SEVEN, _Number.HUGE, _Word("RESERVE"), _Word("w"), _Mapping(a="b"), bytearray(b"x")),
    *([None], ["x"], (RequestLine("p", "", {}, "", 1),), object),
)


def _with_odd_values(struct: msgspec.Struct) -> list[msgspec.Struct]:
    """Copies of a record, each with one field, at any depth, set to one odd value."""
    found: list[msgspec.Struct] = []
    for field in struct.__struct_fields__:
        value = getattr(struct, field)
        found += [msgspec.structs.replace(struct, **{field: odd}) for odd in ODD_VALUES]
        if isinstance(value, msgspec.Struct):
            deeper = _with_odd_values(value)
            found += [msgspec.structs.replace(struct, **{field: odd}) for odd in deeper]
        if isinstance(value, list) and value:
            last = [[*value[:-1], odd] for odd in _with_odd_values(value[-1])]
            found += [msgspec.structs.replace(struct, **{field: odd}) for odd in last]
    return found


@pytest.mark.parametrize("record", RECORDS)
def test_a_value_out_of_place_is_written_or_refused_alike(record: str) -> None:
    """Every field with a value of another type or range: the same bytes, or the same error."""
    compiled, pure = golden.encoders(COMPILED)[record], golden.encoders(PURE)[record]
    for struct in samples.chosen()[record]:
        for odd in _with_odd_values(struct):
            assert _outcome(compiled, odd) == _outcome(pure, odd), odd


@pytest.mark.parametrize("record", RECORDS)
def test_another_record_is_written_or_refused_alike(record: str) -> None:
    """A struct of another kind, or none at all, is not taken for one of this kind."""
    compiled, pure = golden.encoders(COMPILED)[record], golden.encoders(PURE)[record]
    others = [struct for structs in samples.chosen().values() for struct in structs]
    for other in [*others, None, "text", {}]:
        assert _outcome(compiled, other) == _outcome(pure, other)


class _Meddler:
    """Looks like a request, and has another one encoded while it is being encoded itself."""

    def __init__(self, request: ReservationRequest) -> None:
        self.request = request

    def __getattr__(self, name: str) -> object:
        COMPILED.encode_request(samples.chosen()["ReservationRequest"][1])
        return getattr(self.request, name)


def test_python_code_that_runs_amid_a_record_does_not_spoil_it() -> None:
    """The one output buffer is used only where no Python code can come in between."""
    request = samples.chosen()["ReservationRequest"][0]
    meddler: Any = _Meddler(request)
    assert COMPILED.encode_request(meddler) == PURE.encode_request(request)


def test_another_frame_is_left_to_the_pure_reader() -> None:
    """A schema id of another record or version, a short frame, an empty value, no value."""
    struct = samples.chosen()["ReservationRequest"][0]
    whole = golden.encoders(PURE)["ReservationRequest"](struct)
    read = _reader("ReservationRequest")
    for value in (None, b"", whole[:4], whole[:5], b"\x01" + whole[1:], bytearray(whole), "text"):
        assert read(value, whole[:FRAME_BYTES]) is None
    assert read(whole, b"\x00\x00\x00\x00\x63") is None
    assert read(whole, whole[:4]) is None
    assert _writer("ReservationRequest")(struct, whole[:4]) is None


def test_a_record_longer_than_the_output_buffer_is_written_whole() -> None:
    """Near and past the buffer's end both codecs write the same bytes."""
    for size in (262_000, *range(262_100, 262_160), 300_000):
        line = RequestLine("p", "", {}, "", 1)
        request = ReservationRequest("r", "RESERVE", "o", "c" * size, [line])
        assert COMPILED.encode_request(request) == PURE.encode_request(request)


def test_texts_that_share_a_slot_are_never_mistaken_for_each_other() -> None:
    """Far more short texts than are remembered, alike at both ends: each reads as itself."""
    for number in range(20_000):
        middle = f"{number:x}"
        texts = {middle: f"locationid-{middle}-warehouse", "é" + middle: f"{middle}é"}
        line = RequestLine(f"product-{middle}-aaaaaaaa", middle[:1], texts, middle[-3:], number)
        request = ReservationRequest(middle, "RESERVE", middle[1:], middle[:2], [line])
        whole = COMPILED.encode_request(request)
        assert COMPILED.decode_request(whole) == request == COMPILED.decode_request(whole)


def test_dimensions_of_two_records_are_two_dicts() -> None:
    """Who changes the dimensions of one record does not change those of the next."""
    whole = COMPILED.encode_request(samples.chosen()["ReservationRequest"][0])
    first, second = COMPILED.decode_request(whole), COMPILED.decode_request(whole)
    first.lines[0].dimensions["siteid"] = "other"
    assert second.lines[0].dimensions["siteid"] == "1"


@pytest.mark.parametrize("record", RECORDS)
def test_nothing_is_left_behind(record: str) -> None:
    """Reading, refusing and writing the same record again and again takes no more memory."""
    struct = samples.chosen()[record][1]
    whole = golden.encoders(PURE)[record](struct)
    damaged = [whole[:length] for length in range(FRAME_BYTES, len(whole))]
    read, write, frame = _reader(record), _writer(record), _frame(record)
    wrong = msgspec.structs.replace(struct, **{struct.__struct_fields__[-1]: object()})

    def use() -> None:
        for _ in range(20):
            read(whole, frame)
            write(struct, frame)
            write(wrong, frame)
            for value in damaged:
                read(value, frame)

    use()
    tracemalloc.start()
    try:
        use()
        before, _ = tracemalloc.get_traced_memory()
        use()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2_000


def test_a_build_for_other_structs_steps_aside() -> None:
    """A struct that gained a field since the build: the pure codec does the work."""
    program = (
        "import msgspec; from schemas import messages\n"
        "class Term(msgspec.Struct, frozen=True):\n"
        "    measure: str\n"
        "    quantity: int\n"
        "    unit: str = ''\n"
        "messages.Term = Term\n"
        "from schemas import quick\n"
        "raise SystemExit(quick.COMPILED)\n"
    )
    folder = Path(quick.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, timeout=60, check=False)
    assert done.returncode == 0
