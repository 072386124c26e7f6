"""The configuration in the original's words, and back.

The original's document holds data sources, index sets, reservation keys and the partition rule.
What it has no words for (expiry, offsets, protection) stays as it is. The rule of an update:
nothing that is stored loses its name or its meaning, so data sources, measures, dimension names and
reservation mappings that a body leaves out stay; a formula that it names is replaced.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from producers.gateway.problems import bad

HIERARCHY_VERSION: Final = 0  # A strict prefix of the keys; other dimensions are refused.
SUBSET_VERSION: Final = 1
_BY_LOCATION: Final = "ByLocation"
_BY_LOCATION_AND_PRODUCT: Final = "ByLocationAndProductIdMod"
_BY_PRODUCT: Final = "byProductId"
_EMPTY: Final = "empty"  # The index set without dimensions holds this one name.


def to_original(document: Mapping[str, Any], environment_id: str) -> dict[str, Any]:
    """The document in force as the original's GET configuration shows one."""
    reservation = document["reservation"]
    prefix = reservation.get("mode", "prefix") == "prefix"
    partition = document.get("partition") or {}
    rule = partition.get("rule", "by-location")
    by_product = rule == "by-product"
    sets = [
        {"setNumber": number, "keys": list(keys) or [_EMPTY]}
        for number, keys in enumerate(document.get("index_sets") or [[]], 1)
    ]
    return {
        "environmentId": environment_id,
        "configurationVersion": document["version"],
        "entityVersion": 1,
        "indexConfiguration": {
            "partitionKeyAttributes": {
                "setNumber": 0,
                "keys": [] if by_product else ["siteid", "locationid"],
            },
            "indexAttributeSets": sets,
        },
        "inventorySystemConfigurations": {
            name: _source_to_original(name, content, reservation["mapping"])
            for name, content in document["data_sources"].items()
        },
        "reservConfiguration": {
            "isReservEnabled": reservation.get("enabled", True),
            "version": HIERARCHY_VERSION if prefix else SUBSET_VERSION,
            "keys": list(reservation["dimensions"]),
            "filterUnconfiguredDimensions": reservation.get("filter_unconfigured_dimensions", True),
        },
        "partitionConfiguration": {"useProductId": by_product, "useDimensions": not by_product},
        "cachePartitionIdVersion": _partition_name(rule, partition.get("buckets", 64)),
    }


def _partition_name(rule: str, buckets: int) -> str:
    if rule == "by-location-and-product":
        return f"{_BY_LOCATION_AND_PRODUCT}{buckets}"
    return _BY_PRODUCT if rule == "by-product" else _BY_LOCATION


def _source_to_original(
    name: str, content: Mapping[str, Any], mapping: Mapping[str, str]
) -> dict[str, Any]:
    prefix = f"{name}."
    return {
        "dataSourceName": name,
        "dimensionMappings": dict(content.get("dimension_mappings") or {}),
        "physicalMeasures": list(content.get("physical_measures") or ()),
        "calculatedMeasures": {
            measure: {
                "additionModifiers": [term[1:] for term in terms if term.startswith("+")],
                "subtractionModifiers": [term[1:] for term in terms if term.startswith("-")],
            }
            for measure, terms in (content.get("calculated_measures") or {}).items()
        },
        "reservMappings": {
            measure.removeprefix(prefix): availability
            for measure, availability in mapping.items()
            if measure.startswith(prefix)
        },
    }


def is_original(body: Mapping[str, Any]) -> bool:
    """Whether a body (names in lower case) is the original's document."""
    return "inventorysystemconfigurations" in body


def from_original(body: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """The document in force, changed to what the original's document (in lower case) says.

    Raises:
        Problem: 400, a part of it is not of the expected shape.

    """
    systems = _object(body, "inventorysystemconfigurations")
    sources = {name: dict(content) for name, content in document["data_sources"].items()}
    mapping: dict[str, str] = {}
    for name, value in systems.items():
        content = _value_object(value, name)
        sources[name] = _source(content, sources.get(name, {}))
        for measure, availability in _object(content, "reservmappings").items():
            if not isinstance(availability, str):
                raise bad(f"{name}.reservMappings: texts are expected")
            mapping[f"{name}.{measure}"] = availability.lower()
    changed = {**document, "data_sources": sources, "partition": _partition(body, document)}
    changed["reservation"] = _reservation(body, document, mapping)
    index = _object(body, "indexconfiguration").get("indexattributesets")
    if isinstance(index, list):
        sets = [_names(_value_object(one, "indexAttributeSets"), "keys") for one in index]
        changed["index_sets"] = [
            [key.lower() for key in keys if key.lower() != _EMPTY] for keys in sets
        ]
    return changed


def _source(content: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    measures = [name.lower() for name in _names(content, "physicalmeasures")]
    named = {
        name: str(base).lower() for name, base in _object(content, "dimensionmappings").items()
    }
    formulas = {
        name: _terms(_value_object(formula, name))
        for name, formula in _object(content, "calculatedmeasures").items()
    }
    return {
        **before,
        "dimension_mappings": {**(before.get("dimension_mappings") or {}), **named},
        "physical_measures": _union(before.get("physical_measures") or (), measures),
        "calculated_measures": {**(before.get("calculated_measures") or {}), **formulas},
    }


def _terms(formula: Mapping[str, Any]) -> list[str]:
    plus = [f"+{name.lower()}" for name in _names(formula, "additionmodifiers")]
    return plus + [f"-{name.lower()}" for name in _names(formula, "subtractionmodifiers")]


def _partition(body: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """The rule that the body names; the one in force when it names none."""
    before = dict(document.get("partition") or {"rule": "by-location"})
    name = body.get("cachepartitionidversion")
    if not isinstance(name, str) or not name:
        return before
    lower = name.lower()
    if lower == _BY_PRODUCT.lower():
        return {**before, "rule": "by-product"}
    if not lower.startswith(_BY_LOCATION.lower()):
        raise bad(f"cachePartitionIdVersion: {name[:64]!r} is unknown")
    # By location, in buckets or not, is one family: which of them is the deployment's choice.
    return before if before.get("rule") != "by-product" else {**before, "rule": "by-location"}


def _reservation(
    body: Mapping[str, Any], document: Mapping[str, Any], mapping: Mapping[str, str]
) -> dict[str, Any]:
    before = dict(document["reservation"])
    said = _object(body, "reservconfiguration")
    if mapping:  # First those of the body: the first is the measure of who names none.
        kept = {m: a for m, a in before["mapping"].items() if m not in mapping}
        before["mapping"] = {**mapping, **kept}
    if not said:
        return before
    version = said.get("version", HIERARCHY_VERSION)
    if isinstance(version, bool) or version not in {HIERARCHY_VERSION, SUBSET_VERSION}:
        raise bad("reservConfiguration.version: 0 or 1 is expected")
    keys = [name.lower() for name in _names(said, "keys")]
    own = [name for name in ("siteid", "locationid") if name in keys]
    filters = said.get("filterunconfigureddimensions", version == SUBSET_VERSION)
    return {
        **before,
        "enabled": bool(said.get("isreservenabled", True)),
        "mode": "prefix" if version == HIERARCHY_VERSION else "subset",
        "dimensions": _union(own, keys),
        "filter_unconfigured_dimensions": bool(filters),
    }


def _object(members: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = members.get(name)
    return _value_object({} if value is None else value, name)


def _value_object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad(f"{name}: an object is expected")
    return value


def _names(members: Mapping[str, Any], name: str) -> list[str]:
    value = members.get(name)
    value = [] if value is None else value
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise bad(f"{name}: an array of texts is expected")
    return value


def _union(first: Iterable[str], second: Iterable[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))
