"""The worked example.

The life of an order line, from promise to picking, and of one that is cancelled.
"""

from typing import Final

from holdfast.demo.steps import Ask, Events, Look, OnHand, Scenario, Status, Step

WORKED_EXAMPLE: Final = Scenario(
    name="worked-example",
    says="An order line from promise to picking, and one that is cancelled",
    steps=(
        Step(
            says="10 pieces come in as an ERP event",
            action=OnHand(changes={"fno.physicalinvent": "10"}),
            expects={"outcome": "APPLIED", "available": "10"},
        ),
        Step(
            says="the web shop reserves 1 for order SO-1",
            action=Ask(quantity="1", order="SO-1", name="first"),
            expects={"outcome": "ACCEPTED", "available": "9", "quantity": "1"},
        ),
        Step(
            says="the call centre asks for 10",
            action=Ask(quantity="10", channel="call-centre", order="SO-9", name="ten"),
            expects={"outcome": "INSUFFICIENT_STOCK", "available": "9", "quantity": "0"},
        ),
        Step(
            says="the web shop repeats its request id",
            action=Ask(again="first"),
            expects={
                "outcome": "ACCEPTED",
                "available": "9",
                "replayed": "yes",
                "same answer": "yes",
            },
        ),
        Step(
            says="the call centre repeats its request id",
            action=Ask(again="ten"),
            expects={"outcome": "INSUFFICIENT_STOCK", "replayed": "yes", "same answer": "yes"},
        ),
        Step(
            says="the ERP reserves SO-1 physically, with the reservation id",
            action=Status(
                transaction="IT-1",
                status="RESERVED_PHYSICAL",
                sequence=1,
                quantity="1",
                changes={"fno.reservphysical": "1"},
                order="SO-1",
                of="first",
            ),
            expects={"outcome": "OFFSET_APPLIED", "available": "9"},
        ),
        Step(
            says="nothing is reserved softly any more",
            action=Look(),
            expects={"available": "9", "reserved": "0"},
        ),
        Step(
            says="the ERP picks SO-1",
            action=Status(
                transaction="IT-1",
                status="PICKED",
                sequence=2,
                quantity="1",
                changes={"fno.physicalinvent": "-1", "fno.reservphysical": "-1"},
                order="SO-1",
                of="first",
            ),
            expects={"outcome": "APPLIED", "available": "9"},
        ),
        Step(
            says="the reservation was offset once",
            action=Events(event_type="OFFSET_APPLIED", count=1, transaction="IT-1"),
            expects={"events": "1"},
        ),
        Step(
            says="the web shop reserves 2 for order SO-2",
            action=Ask(quantity="2", order="SO-2", name="second"),
            expects={"outcome": "ACCEPTED", "available": "7"},
        ),
        Step(
            says="the ERP reserves SO-2 physically",
            action=Status(
                transaction="IT-2",
                status="RESERVED_PHYSICAL",
                sequence=1,
                quantity="2",
                changes={"fno.reservphysical": "2"},
                order="SO-2",
                of="second",
            ),
            expects={"outcome": "OFFSET_APPLIED", "available": "7"},
        ),
        Step(
            says="SO-2 is cancelled: its quantity is free again",
            action=Status(
                transaction="IT-2",
                status="CANCELLED",
                sequence=2,
                quantity="2",
                changes={"fno.reservphysical": "-2"},
                order="SO-2",
                of="second",
            ),
            expects={"available": "9"},
        ),
        Step(
            says="and nothing is left reserved",
            action=Look(),
            expects={"available": "9", "reserved": "0"},
        ),
    ),
)
