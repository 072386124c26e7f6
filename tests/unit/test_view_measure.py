"""On-hand questions over stock rows: groups, filters, calculated measures, pages (IV 4.6, 13)."""

import msgspec
import pytest

from processor.inventory.configuration import Configuration, PartitionRule, default
from processor.view.measure import Formulas, Selection, on_hand, select
from processor.view.plan import StockRow
from schemas.queries import Combinations, OnHandPage, OnHandQuery, QueryInvalid

UNIT = 1_000_000
WAREHOUSE = {"siteid": "1", "locationid": "11"}
GARMENTS = (
    ("black", "small", "wide", 1),
    ("black", "small", "regular", 2),
    ("black", "large", "wide", 3),
    ("black", "large", "regular", 4),
    ("red", "small", "wide", 5),
    ("red", "small", "regular", 6),
    ("red", "large", "regular", 7),
)


def leaf(
    quantities: dict[str, int], product: str = "D0002", org: str = "usmf", **dimensions: str
) -> StockRow:
    """A stock row; quantities in pieces."""
    pieces = {name: quantity * UNIT for name, quantity in quantities.items()}
    return StockRow(1, org, product, {**WAREHOUSE, **dimensions}, pieces, {})


def level(reserved: int, measure: str = "iv.softreserved", **dimensions: str) -> StockRow:
    """Total of a reservation id."""
    return StockRow(1, "usmf", "D0002", {**WAREHOUSE, **dimensions}, measure, reserved * UNIT)


def garments() -> list[StockRow]:
    """The rows of the original's example."""
    return [
        leaf({"fno.physicalinvent": quantity}, colorid=color, sizeid=size, styleid=style)
        for color, size, style, quantity in GARMENTS
    ]


def ask(
    rows: list[StockRow], configuration: Configuration | None = None, **words: object
) -> OnHandPage:
    """Answer to a question about D0002 at usmf."""
    given = {"organization_ids": ("usmf",), "product_ids": ("D0002",), **words}
    query = msgspec.convert(given, OnHandQuery)
    formulas = Formulas(configuration or default())
    return on_hand(rows, select(query, formulas), query, formulas)


def pieces(page: OnHandPage, source: str, measure: str) -> dict[str, int]:
    """One measure by group, in pieces."""
    return {
        "-".join(row.dimensions.values()): row.quantities[source][measure] // UNIT
        for row in page.rows
    }


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ((), {"": 28}),
        (("ColorId",), {"black": 10, "red": 18}),
        (
            ("colorid", "sizeid"),
            {"black-small": 3, "black-large": 7, "red-small": 11, "red-large": 7},
        ),
    ],
)
def test_vector_17_groups_of_the_index(group_by: tuple[str, ...], expected: dict[str, int]) -> None:
    """The original's seven rows give 28; 10 and 18; 3, 7, 11 and 7."""
    page = ask(garments(), group_by=group_by)
    assert pieces(page, "fno", "physicalinvent") == expected


def test_vector_1_the_formula_of_the_teaching_example() -> None:
    """70 + 50 - 20 - 90 soft-reserved are 10 available, inside the source of the measure."""
    document = _with_formula(
        "+fno.availphysical", "+pos.inbound", "-pos.outbound", "-iv.softreserved"
    )
    rows = [leaf({"fno.availphysical": 70}), leaf({"pos.inbound": 50, "pos.outbound": 20})]
    page = ask([*rows, level(90)], document)
    assert pieces(page, "iv", "availabletoreserve") == {"": 10}
    assert page.rows[0].quantities["iv"]["softreserved"] == 90 * UNIT


def test_vector_18_a_formula_over_many_sources() -> None:
    """100 + 50 - 10 + 80 - 20 + 90 + 30 - 60 - 40 are 220."""
    amounts = {
        "+fno.availphysical": 100,
        "+fno.orderedintotal": 50,
        "-fno.orderedreserved": 10,
        "+pos.inbound": 80,
        "-pos.outbound": 20,
        "+ecommerce.received": 90,
        "+ecommerce.scheduled": 30,
        "-ecommerce.issued": 60,
        "-ecommerce.reserved": 40,
    }
    rows = [leaf({term[1:]: quantity}, batchid=term[1:]) for term, quantity in amounts.items()]
    page = ask(rows, _with_formula(*amounts))
    assert pieces(page, "iv", "availabletoreserve") == {"": 220}


def test_a_reservation_of_the_whole_warehouse_belongs_to_no_colour() -> None:
    """Levels are separate records: it lowers the sum, and has a row of its own among colours."""
    rows = [leaf({"fno.physicalinvent": 10}, colorid="red"), level(2), level(3, colorid="red")]
    assert pieces(ask(rows), "iv", "availabletoreserve") == {"": 5}
    by_color = ask(rows, group_by=("colorid",))
    assert pieces(by_color, "iv", "availabletoreserve") == {"": -2, "red": 7}


def test_filters_know_mapped_names() -> None:
    """With a data source, its own names and base names mean the same; case does not matter."""
    for name in ("InventColorId", "colorid", "COLORID"):
        page = ask(garments(), filters={name: ("red",)}, dimension_data_source="FNO")
        assert pieces(page, "fno", "physicalinvent") == {"": 18}
    with pytest.raises(QueryInvalid, match="InventColorId"):
        ask(garments(), filters={"InventColorId": ("red",)})


def test_an_empty_filter_allows_all() -> None:
    """As in the original, where a member is there without values."""
    page = ask(garments(), filters={"colorid": (), "sizeid": ("small",)})
    assert pieces(page, "fno", "physicalinvent") == {"": 14}


def test_exact_combinations_are_no_cross_product() -> None:
    """black/small and red/large: not black/large, not red/small."""
    combinations = Combinations(
        ("SiteId", "LocationId", "ColorId", "SizeId"),
        (("1", "11", "black", "small"), ("1", "11", "red", "large")),
    )
    page = ask(garments(), combinations=combinations)
    expected = {"1-11-black-small": 3, "1-11-red-large": 7}
    assert pieces(page, "fno", "physicalinvent") == expected


def test_without_negatives_what_is_below_zero_is_left_out() -> None:
    """A measure below zero goes; a row of which nothing is left goes too."""
    rows = [level(3, colorid="red"), leaf({"fno.physicalinvent": -1}, colorid="red")]
    told = ask(rows, return_negative=False).rows[0].quantities
    assert "availabletoreserve" not in told["iv"]
    assert told["iv"]["softreserved"] == 3 * UNIT
    assert "fno" not in told
    assert ask(rows).rows[0].quantities["iv"]["availabletoreserve"] == -4 * UNIT


def test_pages_are_of_warehouses() -> None:
    """Two warehouses a page of five: three pages, each row on one of them, the last says so."""
    rows = [leaf({"fno.physicalinvent": 1}, locationid=str(number)) for number in range(1, 6)]
    seen: list[str] = []
    for number in (1, 2, 3):
        page = ask(rows, group_by=("locationid",), page_number=number, page_size=2)
        seen += [row.dimensions["locationid"] for row in page.rows]
        assert page.has_more == (number < 3)
    assert seen == ["1", "2", "3", "4", "5"]


def test_organizations_are_told_apart() -> None:
    """The same product of two organizations gives two rows."""
    rows = [leaf({"fno.physicalinvent": 1}), leaf({"fno.physicalinvent": 2}, org="demf")]
    page = ask(rows, organization_ids=("usmf", "demf"))
    assert [row.organization_id for row in page.rows] == ["demf", "usmf"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"group_by": ("hue",)}, "unknown dimension"),
        ({"filters": {"hue": ("red",)}}, "unknown dimension"),
        ({"dimension_data_source": "sap"}, "unknown data source"),
        ({"product_ids": ()}, "name products"),
        ({"product_ids": (), "filters": {"siteid": ("1",)}}, "name products"),
        ({"organization_ids": ()}, "organization"),
        ({"page_number": 0, "page_size": 5}, "pages"),
        ({"combinations": Combinations(("colorid",), (("red",),))}, "must name"),
        ({"combinations": Combinations(("siteid", "locationid"), (("1",),))}, "one value"),
        ({"combinations": Combinations(("siteid", "SiteId"), (("1", "1"),))}, "twice"),
        ({"product_ids": tuple(map(str, range(5_001)))}, "at most"),
        (
            {
                "filters": {
                    "siteid": tuple(map(str, range(101))),
                    "locationid": tuple(map(str, range(100))),
                }
            },
            "combinations of organization, site",
        ),
    ],
)
def test_wrong_and_too_wide_questions_are_refused(words: dict[str, object], why: str) -> None:
    """Each with words that say what to ask instead."""
    with pytest.raises(QueryInvalid, match=why):
        ask([], **words)


def test_by_product_a_question_names_a_product_and_no_warehouse() -> None:
    """The rule of the partition decides what must be named (IV 2.5)."""
    document = msgspec.structs.replace(default(), partition=PartitionRule(rule="by-product"))
    where = {"siteid": ("1",), "locationid": ("11",)}
    with pytest.raises(QueryInvalid, match="name a product"):
        ask([], document, product_ids=(), filters=where)
    page = ask(garments(), document, combinations=Combinations(("colorid",), (("red",),)))
    assert pieces(page, "fno", "physicalinvent") == {"red": 18}


def _with_formula(*terms: str) -> Configuration:
    sources = dict(default().data_sources)
    sources["iv"] = msgspec.structs.replace(
        sources["iv"], calculated_measures={"availabletoreserve": terms}
    )
    return msgspec.structs.replace(default(), data_sources=sources)


def selection(**words: object) -> Selection:
    """What a question about two organizations selects."""
    query = msgspec.convert({"organization_ids": ("usmf", "demf"), **words}, OnHandQuery)
    return select(query, Formulas(default()))


@pytest.mark.parametrize("page", [(0, None), (0, 5), (3, 11), (11, 12), (12, 99)])
def test_places_of_a_page_are_those_of_the_whole_list(page: tuple[int, int | None]) -> None:
    """In order, whether sites and warehouses are filters or exact combinations."""
    sites, warehouses = ("2", "1"), ("12", "9", "11")
    pairs = [(site, warehouse) for site in sites for warehouse in warehouses]
    whole = sorted((name, *pair) for name in ("usmf", "demf") for pair in pairs)
    filters = {"siteid": sites, "locationid": warehouses}
    exact = Combinations(("siteid", "locationid"), tuple(pairs))
    for asked in (selection(filters=filters), selection(combinations=exact)):
        assert asked.places(*page) == whole[slice(*page)]
        assert asked.span() == len(whole)
        assert sorted(asked.pairs(6)) == sorted(pairs)
        assert asked.pairs(5) == []


def test_a_page_among_fifty_million_places_is_found_without_listing_them() -> None:
    """As many as a question may name: the last page takes no longer than the first."""
    names = tuple(map(str, range(5_000)))
    asked = selection(filters={"siteid": names, "locationid": names}, page_size=1)
    assert asked.span() == 2 * 5_000**2
    assert asked.places(asked.span() - 1, asked.span() + 7) == [("usmf", "999", "999")]
