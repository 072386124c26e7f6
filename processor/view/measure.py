"""Quantities on hand from stock rows: filtered, grouped and summed, calculated measures worked out.

Pure. The rule: a group's calculated measure is the signed sum of the group's physical measures (IV
2.4), and what is reserved is the sum of the levels' totals in the group. A row without a value for
a dimension belongs to the group "" of it. Levels are separate records, as in the original: what was
reserved for a warehouse as a whole is in the warehouse's sum, and in no colour's.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from math import prod
from typing import Final, NamedTuple

from processor.inventory.configuration import BASE_DIMENSIONS, Configuration
from processor.view.plan import StockRow
from schemas.queries import (
    COMBINATIONS_MAX,
    PRODUCTS_MAX,
    Combinations,
    OnHandPage,
    OnHandQuery,
    OnHandRow,
    QueryInvalid,
)

ORGANIZATION: Final = "organizationid"
SITE: Final = "siteid"
WAREHOUSE: Final = "locationid"
_KNOWN: Final = frozenset(BASE_DIMENSIONS)

Place = tuple[str, str, str]  # organization, site, warehouse
Axes = Sequence[Sequence[tuple[str, ...]]]


class Formulas:
    """What questions need of a configuration, worked out once."""

    __slots__ = ("_calculated", "_measures", "by_product", "mappings")

    def __init__(self, configuration: Configuration) -> None:
        self.by_product = configuration.partition.rule == "by-product"
        self.mappings: dict[str, Mapping[str, str]] = {
            name: source.dimension_mappings for name, source in configuration.data_sources.items()
        }
        self._calculated = [
            (source, name)
            for source, content in configuration.data_sources.items()
            for name in content.calculated_measures
        ]
        effects: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for number, (source, name) in enumerate(self._calculated):
            for term in configuration.terms(f"{source}.{name}"):
                effects[term.measure].append((number, term.sign))
        # Physical measure to (source, name, the calculated measures it counts in, with signs).
        self._measures = {
            measure: (*_split(measure), tuple(effects[measure]))
            for measure in configuration.physical_measures | effects.keys()
        }

    def quantities(self, sums: Mapping[str, int]) -> dict[str, dict[str, int]]:
        """Physical measures by source, and with them every calculated measure."""
        told: dict[str, dict[str, int]] = {}
        totals = [0] * len(self._calculated)
        for measure, quantity in sums.items():
            source, name, effects = self._measures.get(measure) or (*_split(measure), ())
            inside = told.get(source)
            if inside is None:
                told[source] = {name: quantity}
            else:
                inside[name] = quantity
            for number, sign in effects:
                totals[number] += sign * quantity
        for (source, name), total in zip(self._calculated, totals, strict=True):
            inside = told.get(source)
            if inside is None:
                told[source] = {name: total}
            else:
                inside[name] = total
        return told


def _split(measure: str) -> tuple[str, str]:
    source, _, name = measure.partition(".")
    return source, name


class Selection(NamedTuple):
    """A question with its names resolved.

    Attributes:
        filters: (dimension, values allowed), without those that allow all.
        combinations: names and the rows wanted, None for all.
        axes: parts of the places it is about, sorted: each of an axis goes with each of the others.
            A page may stand among a hundred million places: they are never listed.

    """

    organization_ids: tuple[str, ...]
    product_ids: tuple[str, ...]
    filters: tuple[tuple[str, frozenset[str]], ...]
    group_by: tuple[str, ...]
    combinations: tuple[tuple[str, ...], frozenset[tuple[str, ...]]] | None
    axes: Axes

    def fits(self, stock: StockRow) -> bool:
        """Whether a row is asked for."""
        dimensions = stock.dimensions
        for name, values in self.filters:
            if dimensions.get(name, "") not in values:
                return False
        if self.combinations is None:
            return True
        names, rows = self.combinations
        own = [
            stock.organization_id if name == ORGANIZATION else dimensions.get(name, "")
            for name in names
        ]
        return tuple(own) in rows

    def span(self) -> int:
        """How many warehouses the question is about, counted without listing them."""
        return prod(map(len, self.axes))

    def places(self, start: int = 0, stop: int | None = None) -> list[Place]:
        """Those warehouses in order, or some of them; empty if it does not name any."""
        count = self.span()
        last = count if stop is None else min(stop, count)
        found = [_combined(self.axes, number) for number in range(start, last)]
        return [(organization, site, warehouse) for organization, site, warehouse in found]

    def pairs(self, most: int) -> list[tuple[str, ...]]:
        """Sites and warehouses it names, in any organization; none if they are more than `most`."""
        axes = self.axes[1:]
        count = prod(map(len, axes))
        return [_combined(axes, number) for number in range(count)] if count <= most else []


def _axes(
    organization_ids: Iterable[str],
    filters: Iterable[tuple[str, frozenset[str]]],
    combinations: tuple[tuple[str, ...], frozenset[tuple[str, ...]]] | None,
) -> Axes:
    organizations = _single(set(organization_ids))
    if combinations is None:
        allowed = dict(filters)
        return [organizations, *(_single(allowed.get(name, ())) for name in (SITE, WAREHOUSE))]
    names, rows = combinations
    if SITE not in names or WAREHOUSE not in names:
        return [organizations, []]
    site, warehouse = names.index(SITE), names.index(WAREHOUSE)
    return [organizations, sorted({(row[site], row[warehouse]) for row in rows})]


def _single(values: Iterable[str]) -> list[tuple[str, ...]]:
    return [(value,) for value in sorted(values)]


def _combined(axes: Axes, number: int) -> tuple[str, ...]:
    """The combination of this number, counted in the order of the axes."""
    parts: list[tuple[str, ...]] = []
    for axis in reversed(axes):
        number, here = divmod(number, len(axis))
        parts.append(axis[here])
    return tuple(chain.from_iterable(reversed(parts)))


def select(query: OnHandQuery, formulas: Formulas) -> Selection:
    """Resolve the names of a question, and check that it is not too wide (IV 4, 4.6).

    Raises:
        QueryInvalid: with what to ask instead.

    """
    mapping = _mapping(query.dimension_data_source, formulas)
    filters = tuple(
        (_base(name, mapping), frozenset(values)) for name, values in query.filters.items()
    )
    combinations = _combinations(query.combinations, mapping)
    added = () if combinations is None else combinations[0]
    names = [*(_base(name, mapping) for name in query.group_by), *added]
    narrowing = tuple((name, values) for name, values in filters if values)
    found = Selection(
        query.organization_ids,
        tuple(dict.fromkeys(query.product_ids)),
        narrowing,
        tuple(name for name in dict.fromkeys(names) if name != ORGANIZATION),
        combinations,
        _axes(query.organization_ids, narrowing, combinations),
    )
    _check(query, found, formulas)
    return found


def _check(query: OnHandQuery, selection: Selection, formulas: Formulas) -> None:
    if not query.organization_ids:
        raise QueryInvalid("name an organization")
    if query.page_number < 1 or query.page_size < 0:
        raise QueryInvalid("pages are numbered from 1 and hold at least one warehouse")
    if len(selection.product_ids) > PRODUCTS_MAX:
        raise QueryInvalid(f"name at most {PRODUCTS_MAX} products")
    if formulas.by_product and not selection.product_ids:
        raise QueryInvalid("partitioned by product: name a product")
    combinations = selection.combinations
    if combinations is not None and not formulas.by_product:
        missing = {SITE, WAREHOUSE} - set(combinations[0])
        if missing:
            raise QueryInvalid(f"an exact query must name {' and '.join(sorted(missing))}")
    places = selection.span()
    if not places and not selection.product_ids:
        raise QueryInvalid("name products, or sites and warehouses")
    if places > COMBINATIONS_MAX and not query.page_size:
        raise QueryInvalid(
            f"{places} combinations of organization, site and warehouse; {COMBINATIONS_MAX} are "
            "the most without pages"
        )


def _mapping(source: str, formulas: Formulas) -> Mapping[str, str]:
    if not source:
        return {}
    mapping = formulas.mappings.get(source.lower())
    if mapping is None:
        raise QueryInvalid(f"unknown data source {source[:64]!r}")
    return mapping


def _base(name: str, mapping: Mapping[str, str]) -> str:
    lower = name.lower()
    base = mapping.get(lower, lower)
    if base not in _KNOWN:
        raise QueryInvalid(f"unknown dimension {name[:64]!r}")
    return base


def _combinations(
    given: Combinations | None, mapping: Mapping[str, str]
) -> tuple[tuple[str, ...], frozenset[tuple[str, ...]]] | None:
    if given is None:
        return None
    names = tuple(
        ORGANIZATION if name.lower() == ORGANIZATION else _base(name, mapping)
        for name in given.names
    )
    if len(set(names)) < len(names):
        raise QueryInvalid("a dimension is named twice")
    if any(len(row) != len(names) for row in given.rows):
        raise QueryInvalid("a row of values needs one value for each dimension")
    return names, frozenset(given.rows)


GroupKey = tuple[str, ...]


def on_hand(
    rows: Iterable[StockRow], selection: Selection, query: OnHandQuery, formulas: Formulas
) -> OnHandPage:
    """Answer a question from the stock rows of its products."""
    fitting: Iterable[StockRow] = rows
    if selection.filters or selection.combinations is not None:
        fitting = [stock for stock in rows if selection.fits(stock)]
    has_more = False
    if query.page_size:
        fitting, has_more = _page(list(fitting), query)
    sums = _sums(fitting, selection.group_by)
    told = [
        _row(key, total, selection.group_by, formulas, query) for key, total in sorted(sums.items())
    ]
    return OnHandPage([row for row in told if row.quantities], has_more)


def _sums(rows: Iterable[StockRow], group_by: Sequence[str]) -> dict[GroupKey, dict[str, int]]:
    """Physical measures of every group."""
    sums: dict[GroupKey, dict[str, int]] = {}
    for stock in rows:
        content = stock.content
        dimensions = stock.dimensions
        key = (
            stock.organization_id,
            stock.product_id,
            *[dimensions.get(name, "") for name in group_by],
        )
        total = sums.get(key)
        if total is None:
            total = sums[key] = {}
        if isinstance(content, str):
            assert isinstance(stock.extra, int)
            total[content] = total.get(content, 0) + stock.extra
        else:
            for measure, quantity in content.items():
                total[measure] = total.get(measure, 0) + quantity
    return sums


def _row(
    key: GroupKey,
    sums: Mapping[str, int],
    group_by: Sequence[str],
    formulas: Formulas,
    query: OnHandQuery,
) -> OnHandRow:
    quantities = formulas.quantities(sums)
    if not query.return_negative:
        quantities = {
            source: kept
            for source, measures in quantities.items()
            if (kept := {name: value for name, value in measures.items() if value >= 0})
        }
    return OnHandRow(key[0], key[1], dict(zip(group_by, key[2:], strict=True)), quantities)


def _page(rows: list[StockRow], query: OnHandQuery) -> tuple[list[StockRow], bool]:
    """Rows of the page's warehouses, and whether there are more warehouses."""
    warehouses = sorted({warehouse_of(stock) for stock in rows})
    start = (query.page_number - 1) * query.page_size
    chosen = frozenset(warehouses[start : start + query.page_size])
    has_more = len(warehouses) > start + query.page_size
    return [stock for stock in rows if warehouse_of(stock) in chosen], has_more


def warehouse_of(stock: StockRow) -> Place:
    """Warehouse of a row, "" where it has none."""
    dimensions = stock.dimensions
    return stock.organization_id, dimensions.get(SITE, ""), dimensions.get(WAREHOUSE, "")
