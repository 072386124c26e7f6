"""The order in which a partition's records were decided, put together from what was written.

Every consumed record of both source topics takes the next sequence number of its partition. Answers
and events carry theirs; ticks and dead letters do not, so they are put into the numbers left over.
A number that nothing fits, or one too few of them, means that a record was skipped or decided
twice.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tests.support.wire import SourceRecord

Position = tuple[str, int]  # source topic, offset


class Order(NamedTuple):
    """Records by sequence, and what does not add up."""

    by_sequence: dict[int, SourceRecord]
    faults: list[str]


class _Unnumbered(NamedTuple):
    """A record whose number is known only to lie between its neighbours' numbers."""

    latest: int  # it was decided before this sequence
    record: SourceRecord


def put_in_order(
    records: Iterable[SourceRecord], numbered: Mapping[Position, int], topics: Iterable[str]
) -> Order:
    """Find every record's sequence.

    Args:
        records: all source records of one partition, in offset order within each topic.
        numbered: the sequences that answers and events carry.
        topics: the source topics.

    """
    faults: list[str] = []
    by_sequence: dict[int, SourceRecord] = {}
    queues: dict[str, list[_Unnumbered]] = {}
    held = list(records)
    last = max(numbered.values(), default=0)
    for topic in topics:
        own = [record for record in held if record.topic == topic]
        queues[topic] = _bounds(own, numbered, last + len(held) + 1, faults)
        for record in own:
            sequence = numbered.get((topic, record.offset))
            if sequence is None:
                continue
            if sequence in by_sequence:
                faults.append(f"sequence {sequence} was given twice")
            by_sequence[sequence] = record
    _fill(by_sequence, queues, numbered, len(held), faults)
    return Order(by_sequence, faults)


def _bounds(
    own: list[SourceRecord], numbered: Mapping[Position, int], end: int, faults: list[str]
) -> list[_Unnumbered]:
    """The unnumbered records of a topic, in offset order, and what each must come before."""
    found: list[_Unnumbered] = []
    latest = end
    for record in reversed(own):
        sequence = numbered.get((record.topic, record.offset))
        if sequence is None:
            found.append(_Unnumbered(latest, record))
        elif sequence >= latest:
            faults.append(f"{record.topic}@{record.offset} was decided after the record behind it")
        else:
            latest = sequence
    found.reverse()
    return found


def _fill(
    by_sequence: dict[int, SourceRecord],
    queues: dict[str, list[_Unnumbered]],
    numbered: Mapping[Position, int],
    total: int,
    faults: list[str],
) -> None:
    """Put the unnumbered records into the numbers left over: the one that has least room first."""
    reached = dict.fromkeys(queues, -1)
    heads = dict.fromkeys(queues, 0)
    for sequence in range(1, total + 1):
        present = by_sequence.get(sequence)
        if present is not None:
            reached[present.topic] = present.offset
            continue
        ready = [
            (queue[heads[topic]].latest, topic)
            for topic, queue in queues.items()
            if heads[topic] < len(queue)
            and _is_next(queue[heads[topic]].record, reached[topic], numbered)
        ]
        if not ready:
            faults.append(f"sequence {sequence} belongs to no record")
            continue
        latest, topic = min(ready)
        if latest < sequence:
            faults.append(f"no sequence is left for a record of {topic} before {latest}")
        record = queues[topic][heads[topic]].record
        heads[topic] += 1
        by_sequence[sequence] = record
        reached[topic] = record.offset


def _is_next(record: SourceRecord, reached: int, numbered: Mapping[Position, int]) -> bool:
    """Whether no numbered record lies between what was reached in the topic and this record."""
    return all(
        (record.topic, offset) not in numbered for offset in range(reached + 1, record.offset)
    )
