"""What is wrong with a configuration document: errors refuse it, warnings tell what it will do.

The rule it keeps: every finding names its place in the document, the rule it breaks and the remedy.
The struct types have already seen to shapes, ranges and spelling; here is what they cannot see.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

import msgspec

from processor.inventory.configuration.document import (
    BASE_DIMENSIONS,
    Configuration,
    DataSource,
    Term,
    parse_terms,
)
from processor.inventory.crossing import WIDTH_MAX as CROSSING_DIMENSIONS_MAX

KNOWN: Final = frozenset(BASE_DIMENSIONS)

# Measures that carry the ERP's demand at a status, or already contain it with the other sign.
_AVAILABLE_NET_OF_PHYSICAL: Final = frozenset({"availphysical", "availordered"})
_AVAILABLE_NET_OF_ALL: Final = frozenset({"availordered"})


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finding.

    Attributes:
        severity: `error`: the document is refused. `warning`: it does what it says, which may not
            be what was meant.
        path: the place, for example `data_sources.iv.calculated_measures.onhand[2]`.
        rule: what is not so.
        remedy: what to write instead.
        line: in the file, from 1; None where there is no file.

    """

    severity: Literal["error", "warning"]
    path: str
    rule: str
    remedy: str
    line: int | None = None


def validate(configuration: Configuration) -> list[Problem]:
    """Return every finding, in document order. The document must be `normalised`."""
    return [
        *_sources(configuration),
        *_mapping(configuration),
        *_shared_supply(configuration),
        *_reservation_dimensions(configuration),
        *_offset(configuration),
        *_trigger_and_formula(configuration),
        *_index_sets(configuration),
        *_expiries(configuration),
        *_protection(configuration),
    ]


def errors(problems: Iterable[Problem]) -> list[Problem]:
    """Those that refuse the document."""
    return [problem for problem in problems if problem.severity == "error"]


def _error(path: str, rule: str, remedy: str) -> Problem:
    return Problem(severity="error", path=path, rule=rule, remedy=remedy)


def _warning(path: str, rule: str, remedy: str) -> Problem:
    return Problem(severity="warning", path=path, rule=rule, remedy=remedy)


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _unknown_dimensions(path: str, names: Sequence[str]) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if name not in KNOWN:
            yield _error(
                f"{path}[{index}]",
                f"`{name}` is not a base dimension",
                "use a base name such as colorid or extendeddimension1; external names belong in "
                "dimension_mappings",
            )
    for name in _repeated(names):
        yield _error(path, f"`{name}` is named twice", "name it once")


def _sources(configuration: Configuration) -> Iterator[Problem]:
    physical, calculated = configuration.physical_measures, configuration.calculated_measures
    for name, source in configuration.data_sources.items():
        path = f"data_sources.{name}"
        yield from _dimension_mappings(path, source)
        yield from _measure_names(path, source)
        for measure, formula in source.calculated_measures.items():
            place = f"{path}.calculated_measures.{measure}"
            yield from _formula(place, parse_terms(formula), physical, calculated)


def _dimension_mappings(path: str, source: DataSource) -> Iterator[Problem]:
    for external, base in source.dimension_mappings.items():
        place = f"{path}.dimension_mappings.{external}"
        if base not in KNOWN:
            yield _error(
                place,
                f"`{base}` is not a base dimension",
                "map to one of the 33 base names, for example colorid",
            )
        if external in KNOWN and external != base:
            yield _error(
                place,
                f"`{external}` is a base dimension itself, mapped to another one",
                "rename the external name: callers may use base names beside the source's own",
            )
    for base in _repeated(source.dimension_mappings.values()):
        yield _warning(
            f"{path}.dimension_mappings",
            f"several names map to `{base}`",
            "keep one: a request that names both is refused",
        )


def _measure_names(path: str, source: DataSource) -> Iterator[Problem]:
    for measure in _repeated(source.physical_measures):
        yield _error(f"{path}.physical_measures", f"`{measure}` is there twice", "name it once")
    for measure in source.calculated_measures:
        if measure in source.physical_measures:
            yield _error(
                f"{path}.calculated_measures.{measure}",
                f"`{measure}` is a physical measure of the same source too",
                "give the calculated measure another name",
            )


def _formula(
    path: str, terms: Sequence[Term], physical: frozenset[str], calculated: frozenset[str]
) -> Iterator[Problem]:
    for index, term in enumerate(terms):
        if term.measure in calculated and term.measure not in physical:
            yield _error(
                f"{path}[{index}]",
                f"`{term.measure}` is itself a calculated measure: they do not nest",
                "write out its terms",
            )
        elif term.measure not in physical:
            yield _error(
                f"{path}[{index}]",
                f"no data source has the physical measure `{term.measure}`",
                "add it to physical_measures of its source, or correct the name",
            )
    for measure in _repeated(term.measure for term in terms):
        yield _error(path, f"`{measure}` counts twice", "keep one of the terms")


def _mapping(configuration: Configuration) -> Iterator[Problem]:
    reservation = configuration.reservation
    if not reservation.mapping and reservation.enabled:
        yield _error(
            "reservation.mapping",
            "nothing can be reserved: no reservation measure is mapped to an availability",
            "map one, for example iv.softreserved: iv.availabletoreserve, or set enabled: false",
        )
    for measure, availability in reservation.mapping.items():
        path = f"reservation.mapping.{measure}"
        if measure not in configuration.physical_measures:
            yield _error(
                path,
                f"no data source has the physical measure `{measure}`",
                "add it to physical_measures of its source",
            )
        if measure.partition(".")[0] in configuration.protected_sources:
            yield _error(
                path,
                f"`{measure}` belongs to a protected source: only its senders may change it",
                "reserve on a measure of a source such as iv",
            )
        if availability not in configuration.calculated_measures:
            yield _error(
                path,
                f"no data source has the calculated measure `{availability}`",
                "define it under calculated_measures of its source",
            )
            continue
        yield from _own_term(path, measure, availability, configuration.terms(availability))


def _own_term(
    path: str, measure: str, availability: str, terms: Sequence[Term]
) -> Iterator[Problem]:
    signs = {term.sign for term in terms if term.measure == measure}
    if 1 in signs:
        yield _error(
            path,
            f"`{availability}` adds `{measure}`: every reservation would raise what is available",
            f"subtract it: -{measure}",
        )
    elif not signs:
        yield _warning(
            path,
            f"`{availability}` does not subtract `{measure}`: reservations never reduce it, and "
            "the same stock is promised again and again",
            f"add the term -{measure}",
        )


def _shared_supply(configuration: Configuration) -> Iterator[Problem]:
    """Two reservation measures that draw on one supply without seeing each other."""
    mapping = {
        measure: configuration.terms(availability)
        for measure, availability in configuration.reservation.mapping.items()
        if availability in configuration.calculated_measures
    }
    for measure, terms in mapping.items():
        supply = {term.measure for term in terms if term.sign > 0}
        subtracted = {term.measure for term in terms if term.sign < 0}
        for other, other_terms in mapping.items():
            shared = supply & {term.measure for term in other_terms if term.sign > 0}
            if other == measure or other in subtracted or not shared:
                continue
            yield _warning(
                f"reservation.mapping.{measure}",
                f"`{other}` is reserved out of the same supply ({', '.join(sorted(shared))}) and "
                "is not subtracted here: the two can promise the same stock twice",
                f"add -{other} to `{configuration.reservation.mapping[measure]}`",
            )


def _reservation_dimensions(configuration: Configuration) -> Iterator[Problem]:
    path = "reservation.dimensions"
    dimensions = configuration.reservation.dimensions
    own = configuration.partition.dimensions
    yield from _unknown_dimensions(path, dimensions)
    missing = [name for name in own if name not in dimensions]
    if missing:
        yield _error(
            path,
            f"the partition rule `{configuration.partition.rule}` needs {', '.join(missing)} here",
            f"begin with {', '.join(own)}",
        )
    elif configuration.reservation.mode == "prefix" and set(dimensions[: len(own)]) != set(own):
        yield _error(
            path,
            f"with mode prefix the partition's own dimensions come first: {', '.join(own)}",
            f"begin with {', '.join(own)}",
        )
    crossing = len(dimensions) - len(own)
    if configuration.reservation.mode == "subset" and crossing > CROSSING_DIMENSIONS_MAX:
        yield _error(
            path,
            f"{crossing} dimensions beside the partition's own: with mode subset their levels "
            f"cross, and {CROSSING_DIMENSIONS_MAX} is the most that can be checked exactly",
            "leave out those that nobody reserves by, or use mode prefix",
        )
    if configuration.reservation.cross_level == "independent":
        yield _warning(
            "reservation.cross_level",
            "independent levels do not see each other: the same stock can be promised twice",
            "use hierarchical, unless the numbers must equal the original's",
        )


def _offset(configuration: Configuration) -> Iterator[Problem]:
    offset, reservation = configuration.offset, configuration.reservation
    if offset.match is not None:
        yield from _unknown_dimensions("offset.match", offset.match)
        for index, name in enumerate(offset.match):
            if name in KNOWN and name not in reservation.dimensions:
                yield _warning(
                    f"offset.match[{index}]",
                    f"`{name}` is not a reservation dimension, so there is nothing to compare",
                    "leave it out",
                )
    if offset.enabled and not reservation.filter_unconfigured_dimensions:
        yield _warning(
            "reservation.filter_unconfigured_dimensions",
            "order lines of the ERP carry dimensions such as batch and status; unfiltered, a "
            "reservation that names one is refused",
            "set it to true where order lines are reserved",
        )


def _trigger_and_formula(configuration: Configuration) -> Iterator[Problem]:
    """Demand that the offset gives back before the formula sees it elsewhere."""
    if not configuration.offset.enabled:
        return
    statuses: tuple[tuple[str, str, frozenset[str]], ...]
    if configuration.offset.modifier == "on-order":
        statuses = (("On order", "onorder", _AVAILABLE_NET_OF_ALL),)
    else:
        statuses = (
            ("Reserved physical", "reservphysical", _AVAILABLE_NET_OF_PHYSICAL),
            ("Reserved ordered", "reservordered", _AVAILABLE_NET_OF_ALL),
        )
    for availability in dict.fromkeys(configuration.reservation.mapping.values()):
        if availability not in configuration.calculated_measures:
            continue
        terms = configuration.terms(availability)
        for status, carrier, net in statuses:
            if _carries(terms, carrier, net):
                continue
            yield _warning(
                f"data_sources.{availability.replace('.', '.calculated_measures.', 1)}",
                f"an offset at `{status}` gives the quantity back, and the formula does not "
                f"subtract {carrier}: until the next status the order's demand is not seen",
                f"subtract the ERP's measure, for example -fno.{carrier}",
            )


def _carries(terms: Iterable[Term], carrier: str, net: frozenset[str]) -> bool:
    for sign, measure in terms:
        name = measure.partition(".")[2]
        if (sign < 0 and name == carrier) or (sign > 0 and name in net):
            return True
    return False


def _index_sets(configuration: Configuration) -> Iterator[Problem]:
    if not configuration.index_sets:
        yield _error(
            "index_sets",
            "no index set: on-hand queries have nothing to group by",
            "list at least one, for example [colorid, sizeid]; [] alone is a set without "
            "dimensions",
        )
    for index, names in enumerate(configuration.index_sets):
        path = f"index_sets[{index}]"
        yield from _unknown_dimensions(path, names)
        for name in names:
            if name in configuration.partition.dimensions:
                yield _error(
                    path,
                    f"`{name}` is the partition's own: it belongs to every set already",
                    "leave it out",
                )


def _expiries(configuration: Configuration) -> Iterator[Problem]:
    places = {"other_channels": configuration.other_channels}
    places |= {f"channels.{name}": expiry for name, expiry in configuration.channels.items()}
    for path, expiry in places.items():
        if expiry.default_expiry_ms and expiry.default_expiry_ms > expiry.maximum_expiry_ms:
            yield _error(
                f"{path}.default_expiry_ms",
                f"the default ({expiry.default_expiry_ms} ms) is above the maximum "
                f"({expiry.maximum_expiry_ms} ms)",
                "lower the default or raise the maximum",
            )


def _protection(configuration: Configuration) -> Iterator[Problem]:
    for name, senders in configuration.protected_sources.items():
        path = f"protected_sources.{name}"
        if name not in configuration.data_sources:
            yield _error(path, f"there is no data source `{name}`", "name one of data_sources")
        if not senders:
            yield _warning(
                path, f"nobody may change `{name}`", "name the sender, for example the ERP's own"
            )
    if "fno" in configuration.data_sources and "fno" not in configuration.protected_sources:
        yield _warning(
            "protected_sources",
            "fno belongs to the ERP, and anyone may change it",
            "protect it: fno: [fno]",
        )
