"""Pure parts of the gateway: strict JSON, keys and names, positions, the original's document."""

from collections.abc import Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import assume, given, strategies as st

from processor.inventory.configuration import (
    PRESETS,
    Configuration,
    PartitionRule,
    default,
    errors,
    from_json,
    normalised,
    validate,
)
from processor.inventory.configuration.compare import diff, refused
from processor.inventory.lines import Refusal, base_dimensions
from processor.inventory.rules import Rules
from producers.gateway import fields, strict_json
from producers.gateway.api import records, writes
from producers.gateway.api.answers import number
from producers.gateway.api.document import from_original, to_original
from producers.gateway.places import Places
from producers.gateway.positions import (
    CALLERS_MAX,
    Position,
    Positions,
    from_header,
    header_value,
)
from producers.gateway.problems import Problem
from producers.gateway.v1 import asking
from producers.gateway.writer import Sending, Told
from schemas.limits import QUANTITY_MAX
from schemas.messages import RequestLine, RequestOptions, ReservationRequest, ReservationResult

WORDS = st.text("abc|é- ", min_size=0, max_size=4)


@given(st.integers(-QUANTITY_MAX, QUANTITY_MAX))
def test_quantities_are_exact_both_ways(unscaled: int) -> None:
    """A quantity that is written as JSON, number or text, comes back as the same integer."""
    text = orjson.dumps({"quantity": number(unscaled)})
    assert fields.unscaled(strict_json.parse(text)["quantity"], "quantity") == unscaled
    exact = str(Decimal(unscaled).scaleb(-6))
    read = strict_json.parse(f'{{"quantity": "{exact}"}}'.encode())["quantity"]
    if "E" not in exact or len(exact) < 20:
        assert fields.unscaled(read, "quantity") == unscaled


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text("abcXYZ", max_size=3).map(str.lower), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_json_that_is_json_is_read_as_it_is(value: Any) -> None:
    """Strictness refuses no good document, and changes none (names are lower case here)."""
    assert strict_json.parse(msgspec.json.encode(value)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever the bytes: a value, or a Problem of status 400; never another exception."""
    status = 400
    try:
        strict_json.parse(body)
    except Problem as problem:
        status = problem.status
    assert status == 400


@pytest.mark.parametrize(
    "body", [b'{"a": 1, "a": 1}', b'{"a": 1, "A": 2}', b'[{"x": {"b": 1, "B": 1}}]']
)
def test_names_there_twice_are_refused(body: bytes) -> None:
    """Two members of one name, in whatever case, are a contradiction, not a choice."""
    with pytest.raises(Problem, match="twice"):
        strict_json.parse(body)


RULES = [
    PartitionRule(rule="by-location"),
    PartitionRule(rule="by-location-and-product", buckets=7),
    PartitionRule(rule="by-product"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
@given(data=st.data())
def test_keys_are_those_of_the_worker(rule: PartitionRule, data: st.DataObject) -> None:
    """For any names and values the record's key is the one the worker computes."""
    configuration = msgspec.structs.replace(default(), partition=rule)
    rules, places = Rules(configuration), Places(msgspec.to_builtins(configuration))
    source = data.draw(st.sampled_from(["", "fno", "pos"]))
    prefixes = ["", "invent"] if source == "fno" else [""]  # Elsewhere nobody knows such names.
    names = {f"{data.draw(st.sampled_from(prefixes))}{end}" for end in ("siteid", "locationid")}
    more = data.draw(st.sets(st.just("colorid")))
    dimensions = {name: data.draw(WORDS) for name in sorted(names | more)}
    organization, product = data.draw(WORDS), data.draw(WORDS)
    base = base_dimensions(rules, source, dimensions)
    assume(not isinstance(base, Refusal))
    assert not isinstance(base, Refusal)
    values = rules.partition_values(base)
    assume(values is not None)  # Else refused by name, wherever it lies.
    assert values is not None
    assert places.key(organization, product, dimensions, source) == rules.record_key(
        organization, product, values
    )


def test_names_of_a_data_source_make_the_same_key() -> None:
    """The ERP's own names of site and warehouse lead to the key of the base names."""
    places = Places(msgspec.to_builtins(default()))
    own = {"inventsiteid": "1", "inventlocationid": "11", "inventcolorid": "red"}
    assert places.key("usmf", "P", own, "FNO") == b"usmf|1|11"
    assert places.key("usmf", "P", {"siteid": "1", "inventlocationid": "11"}, "fno") == b"usmf|1|11"
    assert places.key("usmf", "P", own) == b"usmf||"


def test_order_of_members_does_not_change_the_record() -> None:
    """The same reservation written down otherwise is the same bytes, so it is the same request."""
    places = Places(msgspec.to_builtins(default()))
    body = {
        "id": "a",
        "organizationid": "usmf",
        "productid": "P",
        "dimensions": {"siteid": "1", "locationid": "11", "colorid": "red"},
        "quantitydatasource": "iv",
        "modifier": "softreserved",
        "quantity": 1,
    }
    other = {**body, "quantity": Decimal("1.0"), "dimensiondatasource": ""}
    other["dimensions"] = dict(reversed(body["dimensions"].items()))  # type: ignore[attr-defined]
    first, second = (records.reserving(one, places, "shop") for one in (body, other))
    assert isinstance(first, records.Reserving)
    assert isinstance(second, records.Reserving)
    assert isinstance(first.sending.record, ReservationRequest)
    assert list(first.sending.record.lines[0].dimensions) == ["colorid", "locationid", "siteid"]
    assert repr(first) == repr(second)


def test_strict_hierarchy_refuses_other_dimensions_even_empty() -> None:
    """Where nothing is filtered, a dimension that is not configured is 400, empty or not."""
    places = Places(msgspec.to_builtins(PRESETS["early-2023"]()))
    assert places.unconfigured({"siteid": "1", "locationid": "11", "batchid": ""}) == "batchid"
    assert places.unconfigured({"inventsiteid": "1"}, "fno") == ""
    assert Places(msgspec.to_builtins(default())).unconfigured({"batchid": "7"}) == ""


def test_positions_keep_the_furthest_and_are_bounded() -> None:
    """Per partition the furthest write is kept until it is seen; callers are bounded."""
    positions = Positions()
    first, later = (Position("reservation-requests", 1, offset) for offset in (5, 9))
    positions.wrote("a", [later, first])
    assert positions.of("a") == [later]
    positions.seen("a", first)
    assert positions.of("a") == [later]
    positions.seen("a", later)
    assert positions.of("a") == []
    for count in range(CALLERS_MAX + 10):
        positions.wrote(f"caller-{count}", [first])
    assert positions.of("caller-0") == []
    assert positions.of(f"caller-{CALLERS_MAX + 9}") == [first]
    assert from_header(header_value([first, later])) == [later]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_document_survives_the_originals_words(preset: str) -> None:
    """What GET shows and hardupdate is given back changes nothing."""
    document = msgspec.to_builtins(PRESETS[preset]())
    shown = strict_json.parse(orjson.dumps(to_original(document, "default")))
    assert _configuration(from_original(shown, document)) == _configuration(document)


def _configuration(document: dict[str, Any]) -> Configuration:
    return normalised(from_json(msgspec.json.encode(document)))


def test_originals_sample_can_be_applied() -> None:
    """The sample of the original's suite becomes a valid document, and nothing stored is lost."""
    sample = {
        "inventorySystemConfigurations": {
            "iv": {"physicalMeasures": ["onhand"]},
            "@iv": {
                "physicalMeasures": ["@softreserved", "@allocated"],
                "calculatedMeasures": {
                    "@available_to_reserve": {
                        "additionModifiers": ["iv.onhand"],
                        "subtractionModifiers": ["@iv.@softreserved"],
                    }
                },
                "reservMappings": {"@softreserved": "@iv.@available_to_reserve"},
            },
        },
        "reservConfiguration": {
            "isReservEnabled": True,
            "version": 0,
            "keys": ["siteid", "locationid"],
        },
        "indexConfiguration": {"indexAttributeSets": [{"setNumber": 1, "keys": ["Empty"]}]},
        "cachePartitionIdVersion": "ByLocationAndProductIdMod64",
    }
    before = default()
    body = strict_json.parse(orjson.dumps(sample))
    after = _configuration(from_original(body, msgspec.to_builtins(before)))
    assert errors(validate(after)) == []
    assert refused(diff(before, msgspec.structs.replace(after, version=2))) == []
    assert list(after.reservation.mapping) == ["@iv.@softreserved", "iv.softreserved"]
    assert after.reservation.mode == "prefix"
    assert not after.reservation.filter_unconfigured_dimensions
    assert "onhand" in after.data_sources["iv"].physical_measures
    assert after.terms("@iv.@available_to_reserve")[0].measure == "iv.onhand"


@pytest.mark.parametrize(
    "body",
    [
        {"inventorysystemconfigurations": []},
        {"inventorysystemconfigurations": {"iv": {"physicalmeasures": "onhand"}}},
        {"inventorysystemconfigurations": {"iv": {"reservmappings": {"a": 5}}}},
        {"inventorysystemconfigurations": {"iv": 7}},
        {"inventorysystemconfigurations": {}, "reservconfiguration": {"version": 7}},
        {"inventorysystemconfigurations": {}, "cachepartitionidversion": "bySomething"},
        {"inventorysystemconfigurations": {}, "indexconfiguration": {"indexattributesets": [1]}},
    ],
)
def test_documents_of_another_shape_are_400(body: dict[str, Any]) -> None:
    """A document that is not the original's is refused with the place."""
    with pytest.raises(Problem) as problem:
        from_original(body, msgspec.to_builtins(default()))
    assert problem.value.status == 400


async def test_a_dry_run_goes_out_under_an_id_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is answered under the caller's: another gateway may be asked the same id for real."""
    sent: list[str] = []

    async def send(_call: Any, sendings: Sequence[Sending]) -> list[Told]:
        ids = [writes.record_id(one) for one in sendings]
        sent.extend(ids)
        return [Told(ReservationResult(one, 1, 1, 1, 7, False, []), None) for one in ids]

    monkeypatch.setattr(writes, "send", send)
    call: Any = SimpleNamespace(channel="web-shop")
    line = RequestLine("D0002", "", {"siteid": "1", "locationid": "11"}, "", 1)
    for dry_run in (True, True, False):
        options = RequestOptions(dry_run=dry_run)
        asked, told = await asking.ask(
            call, "RESERVE", "usmf", [line], b"usmf|1|11", request_id="R", options=options
        )
        answer = orjson.loads(asking.single(asked, told).body)
        assert answer["requestId"] == "R"
    assert len(set(sent)) == 3
    assert sent[2] == "R"
