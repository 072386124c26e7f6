"""The configuration document: editions, names, what is refused, what may change online."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import schemas
from processor.inventory.configuration import (
    BASE_DIMENSIONS,
    PRESETS,
    Configuration,
    Term,
    default,
    diff,
    early_2023,
    errors,
    from_json,
    json_schema,
    normalised,
    to_json,
    validate,
)
from processor.inventory.configuration.compare import refused

AFR = "data_sources.iv.calculated_measures.availabletoreserve"


def changed(change: Callable[[dict[str, Any]], object], start: Configuration) -> Configuration:
    """Return the document after its JSON form was changed in place."""
    document = json.loads(to_json(start))
    change(document)
    return from_json(json.dumps(document).encode())


def found(change: Callable[[dict[str, Any]], object]) -> list[tuple[str, str, str]]:
    """Severity, path and rule of every finding after a change of the default document."""
    return [(one.severity, one.path, one.rule) for one in validate(changed(change, default()))]


def test_default_is_the_2023_11_edition() -> None:
    """`iv.softreserved` is reserved out of nine terms, by site, warehouse, colour and size."""
    document = default()
    assert document.reservation.mapping == {"iv.softreserved": "iv.availabletoreserve"}
    assert document.reservation.dimensions == ("siteid", "locationid", "colorid", "sizeid")
    assert set(document.terms("iv.availabletoreserve")) == {
        Term(1, "fno.physicalinvent"),
        Term(1, "fno.ordered"),
        Term(1, "fno.arrived"),
        Term(1, "pos.inbound"),
        Term(1, "iv.ordered"),
        Term(-1, "fno.reservphysical"),
        Term(-1, "iv.softreserved"),
        Term(-1, "pos.outbound"),
        Term(-1, "fno.softreserved"),
    }


def test_early_2023_edition() -> None:
    """The early edition reserves `iv.softreservphysical` out of fifteen terms."""
    terms = early_2023().terms("iv.availabletoreserve")
    assert len(terms) == 15
    assert {t.measure for t in terms if t.sign < 0} == {
        "fno.reservphysical",
        "fno.reservordered",
        "iv.softreservphysical",
        "iv.softreservordered",
        "iv.reservphysical",
        "iv.reservordered",
        "pos.posoutbound",
    }


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_in_lower_case(name: str) -> None:
    """Every preset is normal already, has no errors, and survives its JSON form."""
    document = PRESETS[name]()
    assert normalised(document) == document
    assert errors(validate(document)) == []
    assert from_json(to_json(document)) == document


def test_the_default_tells_of_its_one_weakness() -> None:
    """The 2023-11 formula does not see an order that is reserved against incoming supply."""
    assert [(p.severity, p.path) for p in validate(default())] == [("warning", AFR)]


def test_base_dimensions() -> None:
    """There are 33 mappable dimensions: 13 standard, 12 custom, 8 extension."""
    assert len(set(BASE_DIMENSIONS)) == 33


def test_names_are_case_insensitive() -> None:
    """A document in mixed case means the same as one in lower case; channels keep their case."""
    document = json.loads(to_json(default()))
    document["reservation"]["mapping"] = {"IV.SoftReserved": "iv.AvailableToReserve"}
    document["reservation"]["dimensions"] = ["SiteId", "LocationId", "ColorId", "SizeId"]
    document["channels"] = {"Web": {}}
    read = from_json(json.dumps(document).encode())
    assert read.reservation == default().reservation
    assert list(read.channels) == ["Web"]


def test_two_names_that_differ_only_in_case_are_refused() -> None:
    """`fno` and `Fno` are one data source; a document with both is not read."""
    document = json.loads(to_json(default()))
    document["data_sources"]["Fno"] = {}
    with pytest.raises(msgspec.ValidationError, match="different case"):
        from_json(json.dumps(document).encode())


def test_expiry_of_a_channel() -> None:
    """A listed channel has its own expiry, every other one the common."""
    document = changed(lambda d: d["channels"].update(web={"default_expiry_ms": 5}), default())
    assert document.expiry_of("web").default_expiry_ms == 5
    assert document.expiry_of("Web").default_expiry_ms is None


def iv(document: dict[str, Any]) -> dict[str, list[str]]:
    """Calculated measures of `iv`."""
    formulas: dict[str, list[str]] = document["data_sources"]["iv"]["calculated_measures"]
    return formulas


ERRORS: list[tuple[Callable[[dict[str, Any]], object], str, str]] = [
    (
        lambda d: iv(d)["availabletoreserve"].append("+fno.nonsense"),
        f"{AFR}[9]",
        "no data source has the physical measure",
    ),
    (
        lambda d: iv(d)["availabletoreserve"].append("+iv.totalonhand"),
        f"{AFR}[9]",
        "do not nest",
    ),
    (lambda d: iv(d)["availabletoreserve"].append("+fno.arrived"), AFR, "counts twice"),
    (
        lambda d: iv(d).update(ordered=["+fno.arrived"]),
        "data_sources.iv.calculated_measures.ordered",
        "physical measure of the same source",
    ),
    (
        lambda d: d["data_sources"]["pos"]["physical_measures"].append("inbound"),
        "data_sources.pos.physical_measures",
        "twice",
    ),
    (
        lambda d: d["data_sources"]["pos"]["dimension_mappings"].update(colour="color"),
        "data_sources.pos.dimension_mappings.colour",
        "not a base dimension",
    ),
    (
        lambda d: d["data_sources"]["pos"]["dimension_mappings"].update(sizeid="colorid"),
        "data_sources.pos.dimension_mappings.sizeid",
        "base dimension itself",
    ),
    (
        lambda d: d["reservation"]["mapping"].clear(),
        "reservation.mapping",
        "nothing can be reserved",
    ),
    (
        lambda d: d["reservation"]["mapping"].update({"iv.soft": "iv.availabletoreserve"}),
        "reservation.mapping.iv.soft",
        "no data source has the physical measure",
    ),
    (
        lambda d: d["reservation"]["mapping"].update({"iv.softreserved": "iv.afr"}),
        "reservation.mapping.iv.softreserved",
        "no data source has the calculated measure",
    ),
    (
        lambda d: d["reservation"]["mapping"].update({"fno.softreserved": "iv.totalonhand"}),
        "reservation.mapping.fno.softreserved",
        "protected source",
    ),
    (
        lambda d: iv(d).update(availabletoreserve=["+fno.arrived", "+iv.softreserved"]),
        "reservation.mapping.iv.softreserved",
        "would raise what is available",
    ),
    (
        lambda d: d["reservation"]["dimensions"].remove("locationid"),
        "reservation.dimensions",
        "needs locationid",
    ),
    (
        lambda d: d["reservation"].update(dimensions=["siteid", "colorid", "locationid"]),
        "reservation.dimensions",
        "come first",
    ),
    (
        lambda d: d["reservation"]["dimensions"].append("colour"),
        "reservation.dimensions[4]",
        "not a base dimension",
    ),
    (
        lambda d: d["reservation"]["dimensions"].append("sizeid"),
        "reservation.dimensions",
        "named twice",
    ),
    (
        lambda d: d["reservation"].update(
            mode="subset",
            dimensions=["siteid", "locationid", *(f"customdimension{n}" for n in range(1, 10))],
        ),
        "reservation.dimensions",
        "the most that can be checked exactly",
    ),
    (lambda d: d["offset"].update(match=["color"]), "offset.match[0]", "not a base dimension"),
    (lambda d: d.update(index_sets=[]), "index_sets", "no index set"),
    (lambda d: d.update(index_sets=[["siteid"]]), "index_sets[0]", "the partition's own"),
    (
        lambda d: d["other_channels"].update(default_expiry_ms=10, maximum_expiry_ms=9),
        "other_channels.default_expiry_ms",
        "above the maximum",
    ),
    (
        lambda d: d["protected_sources"].update(sap=["sap"]),
        "protected_sources.sap",
        "no data source",
    ),
]


@pytest.mark.parametrize(("change", "path", "rule"), ERRORS)
def test_refused_documents(
    change: Callable[[dict[str, Any]], object], path: str, rule: str
) -> None:
    """Each mistake is an error at its own place, with its rule."""
    assert [(severity, place) for severity, place, why in found(change) if rule in why] == [
        ("error", path)
    ]


WARNINGS: list[tuple[Callable[[dict[str, Any]], object], str, str]] = [
    (
        lambda d: iv(d)["availabletoreserve"].remove("-iv.softreserved"),
        "reservation.mapping.iv.softreserved",
        "promised again and again",
    ),
    (lambda d: d["offset"].update(modifier="on-order"), AFR, "does not subtract onorder"),
    (
        lambda d: iv(d)["availabletoreserve"].remove("-fno.reservphysical"),
        AFR,
        "does not subtract reservphysical",
    ),
    (
        lambda d: (
            d["reservation"]["mapping"].update({"@iv.@softreserved": "iv.other"}),
            iv(d).update(other=["+fno.physicalinvent", "-@iv.@softreserved", "-iv.softreserved"]),
        ),
        "reservation.mapping.iv.softreserved",
        "promise the same stock twice",
    ),
    (
        lambda d: d["reservation"].update(cross_level="independent"),
        "reservation.cross_level",
        "promised twice",
    ),
    (
        lambda d: d["reservation"].update(filter_unconfigured_dimensions=False),
        "reservation.filter_unconfigured_dimensions",
        "batch and status",
    ),
    (lambda d: d.update(protected_sources={}), "protected_sources", "anyone may change it"),
    (lambda d: d["offset"].update(match=["batchid"]), "offset.match[0]", "nothing to compare"),
]


@pytest.mark.parametrize(("change", "path", "rule"), WARNINGS)
def test_documents_that_may_not_mean_what_they_say(
    change: Callable[[dict[str, Any]], object], path: str, rule: str
) -> None:
    """What is legal but likely a mistake is a warning, not an error."""
    assert [(severity, place) for severity, place, why in found(change) if rule in why] == [
        ("warning", path)
    ]


def test_a_formula_over_available_physical_carries_physical_reservations() -> None:
    """`fno.availphysical` falls at Reserved physical by itself: no warning about that status."""
    rules = [
        rule
        for _, _, rule in found(
            lambda d: iv(d).update(availabletoreserve=["+fno.availphysical", "-iv.softreserved"])
        )
    ]
    assert not any("reservphysical" in rule for rule in rules)
    assert any("reservordered" in rule for rule in rules)


CHANGES: list[tuple[Callable[[dict[str, Any]], object], str, bool]] = [
    (lambda d: d.update(environment="other"), "environment", False),
    (lambda d: d["partition"].update(rule="by-product"), "partition", False),
    (lambda d: d["partition"].update(buckets=8), "partition", False),
    (lambda d: d["data_sources"].pop("iom"), "data_sources.iom", False),
    (
        lambda d: d["data_sources"]["erp"]["physical_measures"].remove("unrestricted"),
        "data_sources.erp.physical_measures.unrestricted",
        False,
    ),
    (
        lambda d: d["data_sources"]["fno"]["dimension_mappings"].pop("inventcolorid"),
        "data_sources.fno.dimension_mappings.inventcolorid",
        False,
    ),
    (lambda d: d["reservation"]["mapping"].clear(), "reservation.mapping.iv.softreserved", False),
    (lambda d: d["data_sources"].update(sap={}), "data_sources.sap", True),
    (
        lambda d: d["data_sources"]["pos"]["dimension_mappings"].update(hue="colorid"),
        "data_sources.pos.dimension_mappings.hue",
        True,
    ),
    (
        lambda d: d["data_sources"]["pos"]["physical_measures"].append("sold"),
        "data_sources.pos.physical_measures.sold",
        True,
    ),
    (lambda d: iv(d)["availabletoreserve"].remove("+fno.ordered"), AFR, True),
    (lambda d: d["reservation"].update(mode="subset"), "reservation.mode", True),
    (lambda d: d["reservation"]["dimensions"].reverse(), "reservation.dimensions", True),
    (lambda d: d["offset"].update(modifier="on-order"), "offset.modifier", True),
    (lambda d: d["channels"].update(web={}), "channels.web", True),
    (lambda d: d.update(grace_ms=5), "grace_ms", True),
]


@pytest.mark.parametrize(("change", "path", "safe"), CHANGES)
def test_what_may_change_while_stock_and_holds_exist(
    change: Callable[[dict[str, Any]], object], path: str, safe: bool
) -> None:
    """Formulas, levels and policies change online; what renames stored rows is refused."""
    changes = diff(default(), changed(change, default()))
    assert [one.path for one in changes] == [path]
    assert bool(refused(changes)) is not safe


def test_diff_covers_every_field() -> None:
    """A field that differs is always reported: none can be added and forgotten in `diff`."""
    other = {
        "environment": "other",
        "version": 0,
        "comment": "x",
        "data_sources": {},
        "reservation": msgspec.structs.replace(default().reservation, enabled=False),
        "partition": msgspec.structs.replace(default().partition, rule="by-product"),
        "offset": msgspec.structs.replace(default().offset, enabled=False),
        "index_sets": ((),),
        "channels": {"web": default().other_channels},
        "other_channels": msgspec.structs.replace(default().other_channels, maximum_expiry_ms=1),
        "grace_ms": 1,
        "protected_sources": {},
        "supply_shrink": "priority",
        "dedupe_window_ms": 60_000,
    }
    assert set(other) == set(Configuration.__struct_fields__)
    for field, value in other.items():
        changes = diff(default(), msgspec.structs.replace(default(), **{field: value}))
        assert changes, field
        assert changes[0].path.split(".")[0] == field


def test_the_published_schema_is_that_of_the_structs() -> None:
    """`schemas/configuration.schema.json` is what `holdfast config schema` prints."""
    published = Path(schemas.__file__).parent / "configuration.schema.json"
    assert published.read_text(encoding="utf-8") == json_schema()
    parts = json.loads(json_schema())["$defs"]
    assert parts["ReservationRules"]["properties"]["mode"]["enum"] == ["prefix", "subset"]
    assert set(parts["Configuration"]["properties"]) == set(Configuration.__struct_fields__)
