"""Rows of any source, told on or set aside: what every source does with what it read."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from producers.scm import metrics
from producers.scm.mapping import Mapping
from producers.scm.publisher import Outgoing, Publisher
from producers.scm.translate import Refused, Row, translate


class Raw(NamedTuple):
    """One row as it came. `place`: its number in the source; `read`: gives it in words."""

    place: int
    text: bytes
    read: Callable[[], Row]


class Result(NamedTuple):
    """What became of one row: its records, or none, and why it was refused, if it was."""

    raw: Raw
    records: tuple[Outgoing, ...]
    refused: Refused | None


def translated(publisher: Publisher, mapping: Mapping, rows: Iterable[Raw]) -> list[Result]:
    """Every row's records: the transaction, a dead letter, or nothing where nothing changes."""
    return [_one(publisher, mapping, raw) for raw in rows]


def records_of(results: Iterable[Result]) -> list[Outgoing]:
    """The records to write, in the order of the rows."""
    return [record for result in results for record in result.records]


def count(results: Iterable[Result]) -> None:
    """Count what was committed."""
    for result in results:
        if not result.records:
            metrics.IGNORED.inc()
        elif result.refused is None:
            metrics.PUBLISHED.inc()


def _one(publisher: Publisher, mapping: Mapping, raw: Raw) -> Result:
    try:
        told = translate(mapping, raw.read())
        return Result(raw, () if told is None else publisher.tell(told), None)
    except Refused as refused:
        return Result(raw, (publisher.bury(refused, raw.text, raw.place),), refused)
