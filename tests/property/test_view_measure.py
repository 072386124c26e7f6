"""Whatever the rows: sums by group, against one that adds up every measure by hand."""

from collections import Counter

import msgspec
from hypothesis import given, strategies as st

from processor.inventory.configuration import default
from processor.view.measure import Formulas, on_hand, select
from processor.view.plan import StockRow
from schemas.queries import OnHandQuery

NAMES = ("siteid", "locationid", "colorid", "sizeid")
MEASURES = ("fno.physicalinvent", "fno.reservphysical", "pos.outbound", "fno.onorder")
FORMULAS = Formulas(default())

values = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["1", "2"]))
quantities = st.integers(-(10**18), 10**18)
leaves = st.builds(
    lambda product, dimensions, amounts: StockRow(1, "o", product, dimensions, amounts, {}),
    st.sampled_from(["A", "B"]),
    values,
    st.dictionaries(st.sampled_from(MEASURES), quantities),
)
levels = st.builds(
    lambda product, dimensions, reserved: StockRow(
        1, "o", product, dimensions, "iv.softreserved", reserved
    ),
    st.sampled_from(["A", "B"]),
    values,
    st.integers(0, 10**18),
)
questions = st.builds(
    lambda filters, group_by: OnHandQuery(
        organization_ids=("o",), product_ids=("A", "B"), filters=filters, group_by=group_by
    ),
    st.dictionaries(st.sampled_from(NAMES), st.tuples(st.sampled_from(["", "1", "2"]))),
    st.lists(st.sampled_from(NAMES), unique=True).map(tuple),
)


@given(st.lists(st.one_of(leaves, levels), max_size=12), questions)
def test_every_group_is_the_sum_of_its_rows(rows: list[StockRow], query: OnHandQuery) -> None:
    """Physical measures are the sums of the fitting rows, calculated ones follow the formula."""
    expected: dict[tuple[str, ...], Counter[str]] = {}
    for stock in rows:
        own = stock.dimensions
        if any(own.get(name, "") not in allowed for name, allowed in query.filters.items()):
            continue
        key = (stock.product_id, *(own.get(name, "") for name in query.group_by))
        sums = expected.setdefault(key, Counter())
        if isinstance(stock.content, str):
            sums[stock.content] += int(str(stock.extra))
        else:
            for measure, quantity in stock.content.items():
                sums[measure] += quantity
    page = on_hand(rows, select(query, FORMULAS), query, FORMULAS)
    told = {(row.product_id, *row.dimensions.values()): row.quantities for row in page.rows}
    assert told.keys() == expected.keys()
    for key, sums in expected.items():
        for measure, quantity in sums.items():
            source, _, name = measure.partition(".")
            assert told[key][source][name] == quantity
        available = sum(
            term.sign * sums[term.measure] for term in default().terms("iv.availabletoreserve")
        )
        assert told[key]["iv"]["availabletoreserve"] == available


@given(st.lists(st.one_of(leaves, levels), max_size=12), questions, st.integers(1, 3))
def test_pages_together_are_the_whole(rows: list[StockRow], query: OnHandQuery, size: int) -> None:
    """Grouped by warehouse, the pages one after the other tell each row once."""
    grouped = msgspec.structs.replace(query, group_by=("siteid", "locationid"))
    whole = on_hand(rows, select(grouped, FORMULAS), grouped, FORMULAS)
    seen = []
    for number in range(1, 20):
        paged = msgspec.structs.replace(grouped, page_number=number, page_size=size)
        page = on_hand(rows, select(paged, FORMULAS), paged, FORMULAS)
        seen += page.rows
        if not page.has_more:
            break
    assert sorted(map(repr, seen)) == sorted(map(repr, whole.rows))
