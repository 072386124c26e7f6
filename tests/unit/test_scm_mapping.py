"""Mappings of ERP vocabularies: presets are whole, wrong ones are refused with line and remedy."""

from typing import Final

import pytest

from producers.scm.mapping import MappingError, load, parse, preset_names
from schemas.symbols import STATUSES

GOOD: Final = """\
name: mine
source: fno
fields:
  event_id: e
  organization_id: o
  product_id: p
  transaction_id: t
  sequence: n
  quantity: q
dimensions:
  siteid: s
  locationid: l
ladders:
  - field: status
    statuses: {open: ON_ORDER, 1: SOLD, no: skip, "*": skip}
measures:
  ON_ORDER: {fno.onorder: 1}
"""


def test_a_good_mapping_keeps_values_as_they_are_written() -> None:
    """YAML's `1` and `no` are words of the ERP, not a number and a false."""
    mapping = parse(GOOD.encode(), "mine.yaml")
    statuses = {"open": "ON_ORDER", "1": "SOLD", "no": "skip", "*": "skip"}
    assert mapping.ladders[0].statuses == statuses
    assert mapping.measures == {"ON_ORDER": {"fno.onorder": 1}}


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid_and_say_what_they_are(name: str) -> None:
    """Each loads, has a description, and only adds measures at statuses it can reach."""
    mapping = load(name)
    reached = {status for ladder in mapping.ladders for status in ladder.statuses.values()}
    assert mapping.name == name
    assert mapping.description
    assert set(mapping.measures) <= reached


def test_d365_knows_both_ladders_whole() -> None:
    """Every status of ours has a word and a number of Dynamics 365."""
    _, _, issue, receipt = load("d365").ladders
    ends = {"CANCELLED", "DELETED", "UNKNOWN"}
    told = {*issue.statuses.values(), *receipt.statuses.values()} - {"skip"}
    assert told == set(STATUSES) - ends
    assert [issue.statuses[str(number)] for number in range(1, 8)] == [
        "SOLD",
        "DEDUCTED",
        "PICKED",
        "RESERVED_PHYSICAL",
        "RESERVED_ORDERED",
        "ON_ORDER",
        "QUOTATION_ISSUE",
    ]
    assert [receipt.statuses[str(number)] for number in range(1, 7)] == [
        "PURCHASED",
        "RECEIVED",
        "REGISTERED",
        "ARRIVED",
        "ORDERED",
        "QUOTATION_RECEIPT",
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("open: ON_ORDER", "open: OPENED", "bad.yaml:15: ladders[0].statuses.open: 'OPENED' is no"),
        ("ON_ORDER: {f", "ONORDER: {f", "bad.yaml:17: measures.ONORDER: is no status of ours; use"),
        ("fno.onorder", "onorder", "bad.yaml:17: measures.ON_ORDER.onorder: is no measure; write"),
        ("onorder: 1", "onorder: x", "bad.yaml:16: measures"),
        ("  quantity: q\n", "", "bad.yaml:3: fields: quantity is missing; say where it stands"),
        ("  quantity: q", "  quantiti: q", "bad.yaml:3: fields: Object contains unknown field"),
        ("source: fno", "source: iv", "bad.yaml:2: source: is not the data source of an ERP"),
        ("statuses: {open: ON_ORDER, 1", "statuses: {open: [ON_ORDER], 1", "bad.yaml:15: ladders"),
        ("name: mine", "name: [", "bad.yaml:3: expected"),
        (GOOD, "", "bad.yaml:1"),
        (GOOD, "- a", "bad.yaml:1"),
        (GOOD, "\x00", "bad.yaml:1"),
    ],
)
def test_a_wrong_mapping_is_refused_with_line_and_remedy(old: str, new: str, said: str) -> None:
    """File, line, path, rule and what to do; never another exception."""
    assert old in GOOD
    with pytest.raises(MappingError) as refused:
        parse(GOOD.replace(old, new).encode(), "bad.yaml")
    assert said in str(refused.value)
    assert all(";" in line for line in str(refused.value).splitlines())


def test_all_problems_are_said_at_once() -> None:
    """Three mistakes, three lines, in the order of the file."""
    text = GOOD.replace("source: fno", "source: iv").replace("  product_id: p\n", "")
    with pytest.raises(MappingError) as refused:
        parse(text.replace("open: ON_ORDER", "open: X").encode(), "bad.yaml")
    lines = [int(line.split(":")[1]) for line in str(refused.value).splitlines()]
    assert lines == [2, 3, 14]


def test_a_missing_mapping_names_the_presets() -> None:
    """Neither a preset nor a file."""
    with pytest.raises(MappingError, match=r"no such preset \(d365, .*no such file"):
        load("nowhere/mine.yaml")
