"""What changes between two documents, and whether it may change while stock and holds exist.

The rule it keeps: a change is refused when rows that are already stored would come to mean
something else: a measure or a dimension name that goes away or is renamed, a partition rule that
moves stock to another owner. Formulas, levels, policies and times change online: the levels are
derived again from holds and leaves.
"""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from processor.inventory.configuration.document import Configuration

Verdict = Literal["safe online", "refused: would corrupt"]
SAFE: Verdict = "safe online"
REFUSED: Verdict = "refused: would corrupt"
PARTITION = "partition"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: its place, both values (JSON-like, None for absent), verdict and reason."""

    path: str
    old: Any
    new: Any
    verdict: Verdict
    reason: str


def diff(old: Configuration, new: Configuration) -> list[Change]:
    """Return every difference from `old` to `new`, in document order."""
    return [*_head(old, new), *_sources(old, new), *_reservation(old, new), *_rest(old, new)]


def refused(changes: list[Change], *, may_move: bool = False) -> list[Change]:
    """Those that may not be made in place.

    With `may_move` the partition rule may change: there is nothing to move, or somebody moves it.
    """
    allowed = {PARTITION} if may_move else set()
    return [one for one in changes if one.verdict == REFUSED and one.path not in allowed]


def _change(path: str, old: object, new: object, verdict: Verdict, reason: str) -> Change:
    plain = [None if value is None else msgspec.to_builtins(value) for value in (old, new)]
    return Change(path=path, old=plain[0], new=plain[1], verdict=verdict, reason=reason)


def _head(old: Configuration, new: Configuration) -> Iterator[Change]:
    if old.environment != new.environment:
        reason = "a document of another environment"
        yield _change("environment", old.environment, new.environment, REFUSED, reason)
    if new.version < old.version:
        reason = f"versions grow: the next is {old.version + 1}"
        yield _change("version", old.version, new.version, REFUSED, reason)
    if old.partition != new.partition:
        reason = "stock and holds would get other owners: `holdfast migrate` moves them"
        yield _change(PARTITION, old.partition, new.partition, REFUSED, reason)


def _sources(old: Configuration, new: Configuration) -> Iterator[Change]:
    for name in _names(old.data_sources, new.data_sources):
        path = f"data_sources.{name}"
        before, after = old.data_sources.get(name), new.data_sources.get(name)
        if before is None:
            yield _change(path, None, after, SAFE, "a new data source")
        elif after is None:
            reason = "its stored quantities would be left without a name"
            yield _change(path, before, None, REFUSED, reason)
        else:
            yield from _dimension_names(path, before.dimension_mappings, after.dimension_mappings)
            yield from _measures(path, before.physical_measures, after.physical_measures)
            yield from _formulas(path, before.calculated_measures, after.calculated_measures)


def _dimension_names(path: str, old: dict[str, str], new: dict[str, str]) -> Iterator[Change]:
    for name in _names(old, new):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        place = f"{path}.dimension_mappings.{name}"
        if before is None:
            yield _change(place, None, after, SAFE, "a new name")
        else:
            reason = "later changes would go to other stock rows than the earlier ones"
            yield _change(place, before, after, REFUSED, reason)


def _measures(path: str, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Change]:
    for measure in old:
        if measure not in new:
            reason = "its stored quantities would be left without a name; leave it unused instead"
            yield _change(f"{path}.physical_measures.{measure}", measure, None, REFUSED, reason)
    for measure in new:
        if measure not in old:
            yield _change(
                f"{path}.physical_measures.{measure}", None, measure, SAFE, "a new measure"
            )


def _formulas(
    path: str, old: dict[str, tuple[str, ...]], new: dict[str, tuple[str, ...]]
) -> Iterator[Change]:
    for name in _names(old, new):
        before, after = old.get(name), new.get(name)
        if before != after:
            reason = "availability is derived again from the stored measures"
            yield _change(f"{path}.calculated_measures.{name}", before, after, SAFE, reason)


def _reservation(old: Configuration, new: Configuration) -> Iterator[Change]:
    before, after = old.reservation, new.reservation
    for measure in _names(before.mapping, after.mapping):
        was, becomes = before.mapping.get(measure), after.mapping.get(measure)
        path = f"reservation.mapping.{measure}"
        if was == becomes:
            continue
        if becomes is None:
            reason = "its live holds would be charged to nothing; keep it mapped"
            yield _change(path, was, None, REFUSED, reason)
        else:
            yield _change(path, was, becomes, SAFE, "levels are derived again from holds")
    reasons = {
        "enabled": "later requests only",
        "dimensions": "levels are derived again from holds and leaves; a hold keeps the dimension "
        "values it was made with, but is told apart by those that are left alone: take a dimension "
        "out when no live hold names it",
        "mode": "levels are derived again; holds made before stay as they are",
        "filter_unconfigured_dimensions": "later requests only",
        "cross_level": "levels are derived again; availability may turn out below zero where "
        "stock was promised twice",
    }
    yield from _fields("reservation", before, after, reasons)


def _rest(old: Configuration, new: Configuration) -> Iterator[Change]:
    reasons = {
        "enabled": "later status changes only",
        "modifier": "later status changes only; what is offset stays offset",
        "match": "later status changes only",
        "reversal": "later status changes only",
        "cancellation": "later status changes only",
    }
    yield from _fields("offset", old.offset, new.offset, reasons)
    for name in _names(old.channels, new.channels):
        before, after = old.channels.get(name), new.channels.get(name)
        if before != after:
            yield _change(f"channels.{name}", before, after, SAFE, "later requests only")
    reasons = {
        "comment": "for people",
        "index_sets": "read views only",
        "other_channels": "later requests only",
        "grace_ms": "holds in their grace are judged by the new one",
        "protected_sources": "later events only",
        "supply_shrink": "later shortages only",
        "dedupe_window_ms": "a longer window fills up from now on; a shorter one forgets at once",
    }
    yield from _fields("", old, new, reasons)


def _fields(
    path: str, old: msgspec.Struct, new: msgspec.Struct, reasons: dict[str, str]
) -> Iterator[Change]:
    for field, reason in reasons.items():
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            place = f"{path}.{field}" if path else field
            yield _change(place, before, after, SAFE, reason)


def _names(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys([*old, *new]))
