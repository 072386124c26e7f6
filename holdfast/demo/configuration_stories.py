"""Scenarios about another configuration, put to work while holds are there."""

from typing import Final

from holdfast.demo.steps import (
    Ask,
    Configure,
    Look,
    OnHand,
    Scenario,
    Step,
    reserved,
)

SMALL: Final = {"siteid": "1", "locationid": "11", "sizeid": "small"}
WITHOUT_ORDERED: Final = (
    "+fno.physicalinvent",
    "+fno.arrived",
    "+pos.inbound",
    "-fno.reservphysical",
    "-iv.softreserved",
    "-pos.outbound",
    "-fno.softreserved",
)


def _availability(terms: tuple[str, ...]) -> dict[str, object]:
    calculated = {"availabletoreserve": list(terms)}
    return {"data_sources": {"iv": {"calculated_measures": calculated}}}


RECONFIGURE: Final = Scenario(
    name="reconfigure",
    says="Formula and hierarchy change online; nobody has to give a reservation back first",
    product="DESK",
    steps=(
        Step(
            says="10 pieces are in stock, 5 more are ordered",
            action=OnHand(changes={"fno.physicalinvent": "10", "fno.ordered": "5"}),
            expects={"outcome": "APPLIED", "available": "15"},
        ),
        reserved("12", left="3", order="SO-12", name="twelve"),
        Step(
            says="a size without its colour cannot be reserved",
            action=Ask(quantity="1", place=SMALL),
            expects={"outcome": "LEVEL_NOT_RESERVABLE"},
        ),
        Step(
            says="a configuration that names an unknown measure is refused",
            action=Configure(changes=_availability(("+fno.nonsense", "-iv.softreserved"))),
            expects={"outcome": "CONFIGURATION_INVALID"},
        ),
        Step(
            says="and the old one stays",
            action=Look(),
            expects={"available": "3", "reserved": "12"},
        ),
        Step(
            says="from now on, what is ordered is not promised",
            action=Configure(changes=_availability(WITHOUT_ORDERED)),
            expects={"outcome": "ACCEPTED"},
        ),
        Step(
            says="the hold stays, and is 2 more than there is",
            action=Look(),
            expects={"available": "-2", "reserved": "12"},
        ),
        Step(
            says="nothing more is promised",
            action=Ask(quantity="1"),
            expects={"outcome": "INSUFFICIENT_STOCK", "available": "-2"},
        ),
        Step(
            says="ordered stock counts again, and any subset of dimensions can be reserved",
            action=Configure(changes={"reservation": {"mode": "subset"}}),
            expects={"outcome": "ACCEPTED"},
        ),
        Step(
            says="2 small ones of any colour are held",
            action=Ask(quantity="2", place=SMALL),
            expects={"outcome": "ACCEPTED", "available": "1"},
        ),
        Step(
            says="so one red small one is left, although no red one was taken",
            action=Ask(quantity="2"),
            expects={"outcome": "INSUFFICIENT_STOCK", "available": "1"},
        ),
        Step(
            says="back to the default, with a hold at a level it does not know",
            action=Configure(changes={}),
            expects={"outcome": "ACCEPTED"},
        ),
        Step(
            says="which still counts",
            action=Ask(quantity="2"),
            expects={"outcome": "INSUFFICIENT_STOCK", "available": "1"},
        ),
    ),
)
