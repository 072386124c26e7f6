"""What is laid out by hand is what the schema lays out."""

from hypothesis import given, strategies as st

from processor.engine.transaction_wire import NO_TAGS, Produce, ProduceImplied

names = st.text(max_size=300)
partitions = st.lists(st.tuples(st.integers(0, 999), st.binary(max_size=300)), max_size=4)
topics = st.lists(st.tuples(names, partitions), max_size=4)


@given(names, topics, st.sampled_from([Produce, ProduceImplied]))
def test_records_are_copied_once_into_the_same_bytes(
    name: str, written: list[tuple[str, list[tuple[int, bytes]]]], kind: type[Produce]
) -> None:
    """Byte by byte, with any number of topics and partitions."""
    request = kind(
        name,
        -1,
        30_000,
        [
            (topic, [(number, records, NO_TAGS) for number, records in there], NO_TAGS)
            for topic, there in written
        ],
        NO_TAGS,
    )
    by_schema = kind.SCHEMA.encode([request.get_item(field) for field in kind.SCHEMA.names])
    assert request.encode() == by_schema
