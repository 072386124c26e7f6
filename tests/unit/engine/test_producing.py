"""Both ways of making record batches make the same bytes, and aiokafka reads what was put in."""

import sys

import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, strategies as st

from processor.engine import producing
from processor.engine.producing import SEQUENCES, Batches, PlainEncoder, encoder

PRODUCER_ID, EPOCH, NOW_MS = 77, 3, 1_795_693_581_418
LARGEST = 2**31 - 1
BASE_SEQUENCE = slice(53, 57)  # Of a batch.

Pair = tuple[bytes | None, bytes | None]

lengths = st.one_of(st.integers(0, 80), st.sampled_from([63, 64, 127, 128, 8_191, 8_192]))
field = st.one_of(st.none(), lengths.map(lambda length: b"x" * length))
pairs = st.lists(st.tuples(field, field), max_size=40)


def read(batches: Batches) -> list[Pair]:
    """Keys and values, as a consumer gets them."""
    found: list[Pair] = []
    for data, count in batches:
        batch = MemoryRecords(data).next_batch()
        assert batch is not None
        assert batch.validate_crc()
        records = [(record.key, record.value) for record in batch]
        assert len(records) == count
        found += records
    return found


@given(pairs, st.sampled_from([200, 9_000, 1_000_000]), st.sampled_from([0, 5, LARGEST - 3]))
def test_both_ways_make_the_same_bytes(messages: list[Pair], bytes_max: int, sequence: int) -> None:
    """Whatever the messages, the bound and the sequence number, that wraps as well."""
    quick = encoder(PRODUCER_ID, EPOCH, NOW_MS, bytes_max).batches(messages, sequence)
    plain = PlainEncoder(PRODUCER_ID, EPOCH, NOW_MS, bytes_max).batches(messages, sequence)
    assert quick == plain
    assert read(quick) == messages


def test_here_the_quick_way_is_taken() -> None:
    """The compiled module was built; else the property above compares a thing with itself."""
    assert not isinstance(encoder(PRODUCER_ID, EPOCH, NOW_MS), PlainEncoder)


def test_without_the_compiled_module_the_plain_way_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no compiler was."""
    monkeypatch.setitem(sys.modules, "processor.engine._producing", None)
    assert isinstance(encoder(PRODUCER_ID, EPOCH, NOW_MS), PlainEncoder)


@pytest.mark.parametrize("quick", [True, False])
def test_more_than_one_chunk_of_rows_comes_in_order_and_without_local_kinds(
    quick: bool,
) -> None:
    """Rows that are an index stay behind, tombstones do not; sequence numbers go on."""
    rows: dict[bytes, bytes | None] = {
        **{b"R%d" % number: b"value" * (number % 7) for number in range(5_000)},
        b"Xlocal": b"",
        b"Ylocal": b"z",
        b"Hgone": None,
        b"W": b"watermark",
    }
    make = encoder if quick else PlainEncoder
    batches = make(PRODUCER_ID, EPOCH, NOW_MS, 50_000).batches_of_rows(rows, b"XY", LARGEST)
    kept = [(key, value) for key, value in rows.items() if key[:1] not in {b"X", b"Y"}]
    assert read(batches) == kept
    assert len(batches) > 1
    assert all(len(data) <= 50_000 for data, _ in batches)
    sequence = LARGEST
    for data, count in batches:
        batch = MemoryRecords(data).next_batch()
        assert batch is not None
        assert (batch.producer_id, batch.producer_epoch) == (PRODUCER_ID, EPOCH)
        assert batch.is_transactional
        assert int.from_bytes(data[BASE_SEQUENCE], "big") == sequence
        sequence = (sequence + count) % SEQUENCES


def test_headers_come_along() -> None:
    """Those of a copied result, as they were."""
    messages = [(b"k", b"v", [("kafka_correlationId", b"\xff\x00")]), (b"k2", b"v2", [])]
    plain = PlainEncoder(PRODUCER_ID, EPOCH, NOW_MS, producing.BATCH_BYTES_MAX)
    ((data, count),) = plain.batches_with_headers(messages, 0)
    batch = MemoryRecords(data).next_batch()
    assert batch is not None
    assert [list(record.headers) for record in batch] == [messages[0][2], []]
    assert count == 2


def test_what_is_not_bytes_is_refused() -> None:
    """A text among rows is a broken invariant, in both ways."""
    wrong: list[Pair] = [(b"k", "v")]  # type: ignore[list-item]
    for make in (encoder, PlainEncoder):
        with pytest.raises(TypeError):
            make(PRODUCER_ID, EPOCH, NOW_MS, 1_000).batches(wrong, 0)
