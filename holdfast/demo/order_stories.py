"""Scenarios about what the ERP does with an order line after it was promised."""

from typing import Final

from holdfast.demo.steps import (
    Events,
    Look,
    Scenario,
    Status,
    Step,
    in_stock,
    reserved,
)

SPLIT_OFFSET: Final = Scenario(
    name="split-offset",
    says="A line that the ERP splits is offset once a piece, whatever statuses it passes or skips",
    product="CHAIR",
    steps=(
        in_stock("20"),
        reserved("10", left="10", order="SO-1", name="ten"),
        Step(
            says="the ERP reserves 4 of them physically",
            action=Status(
                transaction="IT-4",
                status="RESERVED_PHYSICAL",
                sequence=1,
                quantity="4",
                changes={"fno.reservphysical": "4"},
                order="SO-1",
                of="ten",
            ),
            expects={"outcome": "OFFSET_APPLIED", "available": "10"},
        ),
        Step(
            says="6 are still reserved softly",
            action=Look(),
            expects={"available": "10", "reserved": "6"},
        ),
        Step(
            says="the 4 are picked: no second offset",
            action=Status(
                transaction="IT-4",
                status="PICKED",
                sequence=2,
                quantity="4",
                changes={"fno.reservphysical": "-4", "fno.physicalinvent": "-4"},
                order="SO-1",
                of="ten",
            ),
            expects={"outcome": "APPLIED", "available": "10"},
        ),
        Step(
            says="the other 6 are picked at once, without being reserved first",
            action=Status(
                transaction="IT-6",
                status="PICKED",
                sequence=1,
                quantity="6",
                changes={"fno.physicalinvent": "-6"},
                order="SO-1",
                of="ten",
            ),
            expects={"outcome": "OFFSET_APPLIED", "available": "10"},
        ),
        Step(
            says="an older event of theirs comes late and changes nothing",
            action=Status(
                transaction="IT-6",
                status="RESERVED_PHYSICAL",
                sequence=0,
                quantity="6",
                changes={"fno.reservphysical": "6"},
                order="SO-1",
                of="ten",
            ),
            expects={"outcome": "STALE", "available": "10"},
        ),
        Step(
            says="there were two offsets",
            action=Events(event_type="OFFSET_APPLIED", count=2),
            expects={"events": "2"},
        ),
        Step(
            says="and nothing is left reserved",
            action=Look(),
            expects={"available": "10", "reserved": "0"},
        ),
    ),
)

CANCEL_AND_REDUCE: Final = Scenario(
    name="cancel-and-reduce",
    says="A line that is cancelled or undone leaves no hold and loses none",
    product="TABLE",
    steps=(
        in_stock("20"),
        reserved("10", left="10", order="SO-1", name="ten"),
        Step(
            says="the ERP creates the line",
            action=Status(
                transaction="IT-1",
                status="ON_ORDER",
                sequence=1,
                quantity="10",
                order="SO-1",
                of="ten",
            ),
            expects={"outcome": "APPLIED", "available": "10"},
        ),
        Step(
            says="and reserves it physically",
            action=Status(
                transaction="IT-1",
                status="RESERVED_PHYSICAL",
                sequence=2,
                quantity="10",
                changes={"fno.reservphysical": "10"},
                order="SO-1",
                of="ten",
            ),
            expects={"outcome": "OFFSET_APPLIED", "available": "10"},
        ),
        Step(
            says="the physical reservation is undone: the hold comes back",
            action=Status(
                transaction="IT-1",
                status="ON_ORDER",
                sequence=3,
                quantity="10",
                changes={"fno.reservphysical": "-10"},
                order="SO-1",
                of="ten",
            ),
            expects={"outcome": "OFFSET_REVERTED", "available": "10"},
        ),
        Step(
            says="softly reserved, as before",
            action=Look(),
            expects={"available": "10", "reserved": "10"},
        ),
        Step(
            says="the line is reduced to 6: 4 are given back",
            action=Status(
                transaction="IT-1",
                status="ON_ORDER",
                sequence=4,
                quantity="6",
                order="SO-1",
                of="ten",
            ),
            expects={"available": "14"},
        ),
        Step(
            says="the line is cancelled: the rest is given back",
            action=Status(
                transaction="IT-1",
                status="CANCELLED",
                sequence=5,
                quantity="6",
                order="SO-1",
                of="ten",
            ),
            expects={"available": "20"},
        ),
        Step(
            says="nothing is left reserved",
            action=Look(),
            expects={"available": "20", "reserved": "0"},
        ),
    ),
)
