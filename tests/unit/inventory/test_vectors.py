"""Numbers of the original (the reference's conformance vectors), as far as they are decisions.

Vectors 5, 6, 9 to 16, 23 and 24 are claims of the tests beside this one; here are those that are a
configuration and a number. Allocation and dated supply are not Holdfast's.
"""

import msgspec
import pytest

from processor.inventory.configuration import Configuration, PartitionRule, default, early_2023
from schemas.codes import Code
from tests.support.partition import RED_SMALL, WAREHOUSE, Partition, line, pieces


def with_formula(*terms: str) -> Configuration:
    """The default with another availability."""
    sources = dict(default().data_sources)
    pos = sources["pos"]
    sources["iv"] = msgspec.structs.replace(
        sources["iv"], calculated_measures={"availabletoreserve": terms}
    )
    sources["ecommerce"] = msgspec.structs.replace(
        pos,
        physical_measures=("received", "scheduled", "issued", "reserved"),
        calculated_measures={},
    )
    fno = sources["fno"]
    more = ("orderedintotal", "orderedreserved")
    sources["fno"] = msgspec.structs.replace(fno, physical_measures=(*fno.physical_measures, *more))
    return msgspec.structs.replace(default(), data_sources=sources)


def reservations(mode: str, *dimensions: str, strict: bool = False) -> Configuration:
    """The default with other reservation dimensions."""
    rules = msgspec.structs.replace(
        default().reservation,
        mode=mode,
        dimensions=("siteid", "locationid", *dimensions),
        filter_unconfigured_dimensions=not strict,
    )
    return msgspec.structs.replace(default(), reservation=rules)


def test_vector_1_the_teaching_example() -> None:
    """70 + 50 - 20 - 90 soft = 10: ten can be reserved, eleven cannot."""
    terms = ("+fno.availphysical", "+pos.inbound", "-pos.outbound", "-iv.softreserved")
    partition = Partition(with_formula(*terms))
    partition.tell({"fno.availphysical": 70})
    partition.tell({"pos.inbound": 50, "pos.outbound": 20}, source="pos")
    partition.reserve(90)
    assert partition.available() == 10
    assert partition.reserve(11).code == Code.INSUFFICIENT_STOCK
    assert partition.reserve(10).code == Code.ACCEPTED


def test_vector_2_check_on_and_off() -> None:
    """On hand 10: +100 checked, +100 unchecked, -100 checked, -100 unchecked."""
    partition = Partition()
    partition.stock(10)
    seen = []
    for quantity, check in ((100, True), (100, False), (-100, True), (-100, False)):
        code = partition.reserve(quantity, check=check).code
        seen.append((code, partition.available()))
    assert seen == [
        (Code.INSUFFICIENT_STOCK, 10),
        (Code.ACCEPTED, -90),
        (Code.QUANTITY_INVALID, -90),
        (Code.ACCEPTED, 10),
    ]


def test_vector_3_an_unconfigured_dimension() -> None:
    """With levels of site and warehouse alone, a colour is refused, or ignored when filtered."""
    asked = {"dimensions": WAREHOUSE | {"colorid": "red"}, "check": False}
    strict = Partition(reservations("prefix", strict=True))
    assert strict.reserve(1, **asked).code == Code.LEVEL_NOT_RESERVABLE
    assert Partition(reservations("subset")).reserve(1, **asked).code == Code.ACCEPTED


def test_vector_4_the_partition_dimensions() -> None:
    """By location they are required; by product they are not."""
    bare = {"colorid": "red"}
    assert Partition().reserve(1, dimensions=bare).code == Code.PARTITION_DIMENSION_MISSING
    by_product = msgspec.structs.replace(default(), partition=PartitionRule(rule="by-product"))
    rules = msgspec.structs.replace(by_product.reservation, dimensions=("colorid",))
    partition = Partition(msgspec.structs.replace(by_product, reservation=rules))
    answer = partition.ask("RESERVE", [line(1, dimensions=bare, check=False)], key=b"usmf|D0002")
    assert answer.code == Code.ACCEPTED


def test_vector_7_two_channels() -> None:
    """SCM shows 100, e-commerce holds 10: the call centre gets no 95, but 90."""
    partition = Partition()
    partition.stock(100)
    partition.reserve(10)
    assert partition.reserve(95, channel="call-centre").code == Code.INSUFFICIENT_STOCK
    assert partition.reserve(90, channel="call-centre").code == Code.ACCEPTED


def test_vector_8_a_gap_in_the_hierarchy() -> None:
    """(Site, Location, Size) without the colour: no prefix, but a subset."""
    asked = {"dimensions": WAREHOUSE | {"sizeid": "small"}, "check": False}
    names = ("colorid", "sizeid", "styleid")
    prefix = Partition(reservations("prefix", *names))
    assert prefix.reserve(1, **asked).code == Code.LEVEL_NOT_RESERVABLE
    assert Partition(reservations("subset", *names)).reserve(1, **asked).code == Code.ACCEPTED


def test_vector_17_sums_along_the_hierarchy() -> None:
    """28; 10 and 18; 3, 7, 11 and 7: what is available at each level of the seven rows."""
    partition = Partition(reservations("prefix", "colorid", "sizeid", "styleid"))
    rows = (
        *(("black", "small", "wide", 1), ("black", "small", "regular", 2)),
        *(("black", "large", "wide", 3), ("black", "large", "regular", 4)),
        *(("red", "small", "wide", 5), ("red", "small", "regular", 6)),
        ("red", "large", "regular", 7),
    )
    for color, size, style, quantity in rows:
        place = WAREHOUSE | {"colorid": color, "sizeid": size, "styleid": style}
        partition.stock(quantity, dimensions=place)
    assert partition.available(WAREHOUSE) == 28
    colors = [partition.available(WAREHOUSE | {"colorid": color}) for color in ("black", "red")]
    assert colors == [10, 18]
    sizes = [
        partition.available(WAREHOUSE | {"colorid": color, "sizeid": size})
        for color in ("black", "red")
        for size in ("small", "large")
    ]
    assert sizes == [3, 7, 11, 7]


def test_vector_18_nine_terms() -> None:
    """100 + 50 - 10 + 80 - 20 + 90 + 30 - 60 - 40 = 220."""
    plus = ("fno.availphysical", "fno.orderedintotal", "pos.inbound")
    plus += ("ecommerce.received", "ecommerce.scheduled")
    minus = ("fno.orderedreserved", "pos.outbound", "ecommerce.issued", "ecommerce.reserved")
    terms = [f"+{name}" for name in plus] + [f"-{name}" for name in minus]
    partition = Partition(with_formula(*terms, "-iv.softreserved"))
    partition.tell({"fno.availphysical": 100, "fno.orderedintotal": 50, "fno.orderedreserved": 10})
    partition.tell({"pos.inbound": 80, "pos.outbound": 20}, source="pos")
    shop = {"received": 90, "scheduled": 30, "issued": 60, "reserved": 40}
    partition.tell(
        {f"ecommerce.{name}": quantity for name, quantity in shop.items()}, source="ecommerce"
    )
    assert partition.available() == 220


def test_vector_22_the_erps_own_source() -> None:
    """Nobody reserves on fno."""
    answer = Partition().reserve(1, measure="fno.softreserved", check=False)
    assert answer.code == Code.MEASURE_NOT_RESERVABLE


def test_the_trigger_and_the_formula() -> None:
    """Reference 6.4: 100 in stock, 10 held: 90 is available through every status of the order."""
    partition = Partition()
    partition.stock(100)
    hold = partition.reserve(10)
    by = {"reservation_id": hold.reservation_id}
    steps: list[tuple[str, dict[str, float]]] = [
        ("ON_ORDER", {"fno.onorder": 10}),
        ("RESERVED_PHYSICAL", {"fno.onorder": -10, "fno.reservphysical": 10}),
        ("PICKED", {"fno.reservphysical": -10, "fno.physicalinvent": -10}),
    ]
    for sequence, (status, changes) in enumerate(steps):
        partition.status(status, 10, sequence=sequence, changes=changes, **by)
        assert partition.available() == 90


@pytest.mark.parametrize("preset", [default, early_2023])
def test_both_editions_decide_the_worked_example(preset: object) -> None:
    """Ten pieces, one reserved, ten refused: in both editions of the defaults."""
    partition = Partition(preset())  # type: ignore[operator]
    partition.stock(10)
    assert pieces(partition.reserve(1, dimensions=RED_SMALL).available) == 9
    assert partition.reserve(10).code == Code.INSUFFICIENT_STOCK
