"""Scenarios about how much can be promised: sources, channels, levels, and supply that shrinks."""

from typing import Final

from holdfast.demo.steps import (
    Ask,
    Events,
    Look,
    OnHand,
    Scenario,
    Step,
    in_stock,
    reserved,
)

RED: Final = {"siteid": "1", "locationid": "11", "colorid": "red"}
WAREHOUSE: Final = {"siteid": "1", "locationid": "11"}

CONTOSO: Final = Scenario(
    name="contoso",
    says="What several systems tell adds up to one availability",
    product="T-SHIRT",
    steps=(
        Step(
            says="the ERP counts 70 pieces",
            action=OnHand(changes={"fno.physicalinvent": "70"}, mode="SET"),
            expects={"outcome": "APPLIED", "available": "70"},
        ),
        Step(
            says="the shop's tills tell 50 in and 20 out, in one event",
            action=OnHand(changes={"pos.inbound": "50", "pos.outbound": "20"}, source="pos"),
            expects={"outcome": "APPLIED", "available": "100"},
        ),
        Step(
            says="a till may not change what belongs to the ERP",
            action=OnHand(changes={"fno.physicalinvent": "1"}, source="pos"),
            expects={"outcome": "DATA_SOURCE_PROTECTED"},
        ),
        reserved("90", left="10", order="SO-90"),
        Step(
            says="11 more are too many",
            action=Ask(quantity="11"),
            expects={"outcome": "INSUFFICIENT_STOCK", "available": "10"},
        ),
        Step(
            says="10 more are not",
            action=Ask(quantity="10", name="last"),
            expects={"outcome": "ACCEPTED", "available": "0"},
        ),
        Step(
            says="of the 100 reserved 120 are given back: 20 were never there",
            action=Ask(action="UNRESERVE", quantity="120", of="last"),
            expects={"outcome": "PARTIAL", "quantity": "100", "invalid": "20", "available": "100"},
        ),
    ),
)

TWO_CHANNELS: Final = Scenario(
    name="two-channels",
    says="Two channels cannot promise the same pieces",
    product="BIKE",
    steps=(
        in_stock("100"),
        Step(
            says="the web shop reserves 10 for order A",
            action=Ask(quantity="10", channel="web-shop", order="A"),
            expects={"outcome": "ACCEPTED", "available": "90"},
        ),
        Step(
            says="the call centre asks 95 for order B, and is told why not",
            action=Ask(quantity="95", channel="call-centre", order="B"),
            expects={"outcome": "INSUFFICIENT_STOCK", "available": "90", "quantity": "0"},
        ),
        Step(
            says="it takes what there is, but at least 50",
            action=Ask(quantity="95", channel="call-centre", order="B", minimum="50"),
            expects={"outcome": "PARTIAL", "quantity": "90", "available": "0"},
        ),
        Step(
            says="a marketplace may oversell when it says so",
            action=Ask(quantity="3", channel="marketplace", order="C", check=False),
            expects={"outcome": "ACCEPTED", "available": "-3"},
        ),
    ),
)

CROSS_LEVEL: Final = Scenario(
    name="cross-level",
    says="The same pieces are not promised twice, at whatever level they are asked for",
    product="SCARF",
    steps=(
        Step(
            says="10 red small ones are in stock",
            action=OnHand(changes={"fno.physicalinvent": "10"}),
            expects={"outcome": "APPLIED", "available": "10"},
        ),
        Step(
            says="10 red ones are reserved, of any size",
            action=Ask(quantity="10", place=RED, name="red"),
            expects={"outcome": "ACCEPTED", "available": "0"},
        ),
        Step(
            says="so no red small one is left",
            action=Ask(quantity="1"),
            expects={"outcome": "INSUFFICIENT_STOCK", "available": "0"},
        ),
        Step(
            says="and none of any colour",
            action=Ask(quantity="1", place=WAREHOUSE),
            expects={"outcome": "INSUFFICIENT_STOCK", "available": "0"},
        ),
        Step(
            says="the red ones are reduced to 6",
            action=Ask(action="AMEND", quantity="6", place=RED, of="red"),
            expects={"outcome": "ACCEPTED", "quantity": "6", "available": "4"},
        ),
        Step(
            says="4 red small ones can be had now",
            action=Ask(quantity="4"),
            expects={"outcome": "ACCEPTED", "available": "0"},
        ),
        Step(
            says="a size without its colour is no level of the hierarchy",
            action=Ask(quantity="1", place={**WAREHOUSE, "sizeid": "small"}),
            expects={"outcome": "LEVEL_NOT_RESERVABLE"},
        ),
    ),
)

SHRINK: Final = Scenario(
    name="shrink",
    says="The ERP lowers stock under what is held: the holds stay, and somebody is told",
    product="LAMP",
    steps=(
        in_stock("10"),
        reserved("8", left="2", order="SO-8", name="eight"),
        Step(
            says="a count finds 5",
            action=OnHand(changes={"fno.physicalinvent": "5"}, mode="SET"),
            expects={"outcome": "APPLIED", "available": "-3"},
        ),
        Step(
            says="an event says that 3 held pieces have no supply",
            action=Events(event_type="SUPPLY_SHORT", count=1),
            expects={"events": "1", "quantity": "3"},
        ),
        Step(
            says="nothing more is promised",
            action=Ask(quantity="1"),
            expects={"outcome": "INSUFFICIENT_STOCK", "available": "-3"},
        ),
        Step(
            says="3 of the hold are given back",
            action=Ask(action="RELEASE", quantity="3", of="eight"),
            expects={"outcome": "ACCEPTED", "quantity": "3", "available": "0"},
        ),
        Step(
            says="and all is fine again",
            action=Look(),
            expects={"available": "0", "reserved": "5"},
        ),
    ),
)
