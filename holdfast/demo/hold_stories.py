"""Scenarios about holds with a name: their expiry, and many lines at once."""

from typing import Final

from holdfast.demo.steps import (
    Ask,
    Basket,
    BasketAcross,
    Configure,
    Events,
    Line,
    Look,
    OnHand,
    Scenario,
    Step,
    in_stock,
)

BLUE_LARGE: Final = {"siteid": "1", "locationid": "11", "colorid": "blue", "sizeid": "large"}
ELSEWHERE: Final = {"siteid": "2", "locationid": "21", "colorid": "red", "sizeid": "small"}
SHORT_MS: Final = 1_500
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000

EXPIRY: Final = Scenario(
    name="expiry-and-grace",
    says="A hold ends by itself, unless somebody extends or confirms it",
    product="TICKET",
    steps=(
        in_stock("10"),
        Step(
            says="a cart holds 2 for a moment",
            action=Ask(quantity="2", expires_in_ms=SHORT_MS, name="cart"),
            expects={"outcome": "ACCEPTED", "available": "8", "expires": "yes"},
        ),
        Step(
            says="another holds 3 for a moment",
            action=Ask(quantity="3", expires_in_ms=SHORT_MS, name="paying"),
            expects={"outcome": "ACCEPTED", "available": "5", "expires": "yes"},
        ),
        Step(
            says="a third holds 1 for a moment",
            action=Ask(quantity="1", expires_in_ms=SHORT_MS, name="thinking"),
            expects={"outcome": "ACCEPTED", "available": "4"},
        ),
        Step(
            says="the second pays: its hold is confirmed",
            action=Ask(action="CONFIRM", of="paying"),
            expects={"outcome": "ACCEPTED", "expires": "no", "available": "4"},
        ),
        Step(
            says="the third asks for an hour more",
            action=Ask(action="EXTEND", of="thinking", expires_in_ms=HOUR_MS),
            expects={"outcome": "ACCEPTED", "expires": "yes", "available": "4"},
        ),
        Step(
            says="the first hold ends by itself",
            action=Events(event_type="HOLD_EXPIRED", count=1),
            expects={"events": "1", "quantity": "2"},
        ),
        Step(
            says="its pieces can be promised again",
            action=Look(),
            expects={"available": "6", "reserved": "4"},
        ),
        Step(
            says="confirming it now is too late: no grace is configured",
            action=Ask(action="CONFIRM", of="cart"),
            expects={"outcome": "HOLD_CLOSED", "available": "6"},
        ),
        Step(
            says="a minute of grace is configured",
            action=Configure(changes={"grace_ms": MINUTE_MS}),
            expects={"outcome": "ACCEPTED"},
        ),
        Step(
            says="a cart holds 2 for a moment",
            action=Ask(quantity="2", expires_in_ms=SHORT_MS, name="late"),
            expects={"outcome": "ACCEPTED", "available": "4"},
        ),
        Step(
            says="another holds 3 for a moment",
            action=Ask(quantity="3", expires_in_ms=SHORT_MS, name="too late"),
            expects={"outcome": "ACCEPTED", "available": "1"},
        ),
        Step(
            says="both end",
            action=Events(event_type="HOLD_EXPIRED", count=3),
            expects={"events": "3", "quantity": "7"},
        ),
        Step(
            says="the first pays just after: its stock is still there",
            action=Ask(action="CONFIRM", of="late"),
            expects={"outcome": "ACCEPTED", "available": "4", "expires": "no"},
        ),
        Step(
            says="somebody else takes the rest",
            action=Ask(quantity="4"),
            expects={"outcome": "ACCEPTED", "available": "0"},
        ),
        Step(
            says="so the other cart comes too late",
            action=Ask(action="CONFIRM", of="too late"),
            expects={"outcome": "HOLD_EXPIRED", "available": "0"},
        ),
        Step(
            says="the configuration is put back",
            action=Configure(changes={}),
            expects={"outcome": "ACCEPTED"},
        ),
    ),
)

BASKET: Final = Scenario(
    name="basket",
    says="Many lines at once: all or nothing, each for itself, and over several warehouses",
    product="CUP",
    steps=(
        Step(
            says="5 red small ones are in stock",
            action=OnHand(changes={"fno.physicalinvent": "5"}),
            expects={"outcome": "APPLIED", "available": "5"},
        ),
        Step(
            says="2 blue large ones too",
            action=OnHand(changes={"fno.physicalinvent": "2"}, place=BLUE_LARGE),
            expects={"outcome": "APPLIED", "available": "2"},
        ),
        Step(
            says="and 4 at another warehouse",
            action=OnHand(changes={"fno.physicalinvent": "4"}, place=ELSEWHERE),
            expects={"outcome": "APPLIED", "available": "4"},
        ),
        Step(
            says="all or nothing: 3 blue ones are too many, so nothing is held",
            action=Basket(lines=(Line(quantity="2"), Line(quantity="3", place=BLUE_LARGE))),
            expects={
                "outcome": "INSUFFICIENT_STOCK",
                "lines": "BASKET_REFUSED, INSUFFICIENT_STOCK",
            },
        ),
        Step(
            says="nothing was held",
            action=Look(),
            expects={"available": "5", "reserved": "0"},
        ),
        Step(
            says="lines on the same stock are added up before they are checked",
            action=Basket(lines=(Line(quantity="3"), Line(quantity="3"))),
            expects={"outcome": "INSUFFICIENT_STOCK", "available": "5"},
        ),
        Step(
            says="each line for itself",
            action=Basket(
                lines=(Line(quantity="2"), Line(quantity="3", place=BLUE_LARGE)), atomic=False
            ),
            expects={"outcome": "PARTIAL", "lines": "ACCEPTED, INSUFFICIENT_STOCK"},
        ),
        Step(
            says="over two warehouses, all or nothing: the other one has only 4",
            action=BasketAcross(lines=(Line(quantity="3"), Line(quantity="5", place=ELSEWHERE))),
            expects={"outcome": "BASKET_REFUSED", "lines": "ACCEPTED, INSUFFICIENT_STOCK"},
        ),
        Step(
            says="what was held for it has been given back",
            action=Look(),
            expects={"available": "3", "reserved": "2"},
        ),
        Step(
            says="over two warehouses, when both have enough",
            action=BasketAcross(lines=(Line(quantity="3"), Line(quantity="4", place=ELSEWHERE))),
            expects={"outcome": "ACCEPTED", "lines": "ACCEPTED, ACCEPTED"},
        ),
        Step(
            says="everything is promised",
            action=Look(place=ELSEWHERE),
            expects={"available": "0", "reserved": "4"},
        ),
    ),
)
