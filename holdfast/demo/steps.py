"""What a scenario is made of: steps with an action each, and what must be seen after it. Data only.

Ids are not known when a scenario is written: an action names its answer with `name`, and a later
one refers to that name with `of`. Quantities are in pieces.
"""

from typing import Any, Final

import msgspec

Expected = dict[str, str]
"""Observation to value; only what is named is compared. See `holdfast.demo.play` for the names."""

RED_SMALL: Final = {"siteid": "1", "locationid": "11", "colorid": "red", "sizeid": "small"}


class OnHand(msgspec.Struct, frozen=True, kw_only=True):
    """A system changes measures of a stock row; `mode` is ADD or SET."""

    changes: dict[str, str]
    place: dict[str, str] = msgspec.field(default_factory=RED_SMALL.copy)
    source: str = "fno"
    mode: str = "ADD"


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A channel asks `action`; `of` names the answer whose hold or reservation it is about.

    `again` names an earlier step whose request is repeated, same id and same content.
    """

    action: str = "RESERVE"
    quantity: str = "0"
    place: dict[str, str] = msgspec.field(default_factory=RED_SMALL.copy)
    channel: str = "web-shop"
    name: str = ""
    of: str = ""
    again: str = ""
    order: str = ""
    check: bool = True
    minimum: str | None = None
    expires_in_ms: int | None = None
    target: dict[str, str] | None = None
    explain: bool = False
    dry_run: bool = False


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a basket."""

    quantity: str
    place: dict[str, str] = msgspec.field(default_factory=RED_SMALL.copy)


class Basket(msgspec.Struct, frozen=True, kw_only=True):
    """One request with many lines of one partition; not `atomic`: each line for itself."""

    lines: tuple[Line, ...]
    atomic: bool = True
    order: str = ""
    name: str = ""


class BasketAcross(msgspec.Struct, frozen=True, kw_only=True):
    """A basket over several partitions, composed by the channel client."""

    lines: tuple[Line, ...]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The ERP tells that an inventory transaction reached a status, with the measures that changed.

    `of` names the answer whose reservation id the line carries; `hold`: it carries the hold id
    instead.
    """

    transaction: str
    status: str
    sequence: int
    quantity: str
    changes: dict[str, str] = {}
    place: dict[str, str] = msgspec.field(default_factory=RED_SMALL.copy)
    order: str = ""
    of: str = ""
    hold: bool = False
    auto: bool = False


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """Ask what can be promised at a place, by a dry run that explains itself."""

    place: dict[str, str] = msgspec.field(default_factory=RED_SMALL.copy)


class Events(msgspec.Struct, frozen=True, kw_only=True):
    """Wait for `count` events of a type about this product, and see that there are no more."""

    event_type: str
    count: int
    transaction: str = ""


class Configure(msgspec.Struct, frozen=True, kw_only=True):
    """Put the default configuration with these changes to work on every partition.

    `changes` are merged into the document, section by section; none: the default itself.
    """

    changes: dict[str, Any]


Action = OnHand | Ask | Basket | BasketAcross | Status | Look | Events | Configure


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step: what happens, in words, and what must be seen."""

    says: str
    action: Action
    expects: Expected


def in_stock(quantity: str) -> Step:
    """The ERP brings the first pieces; nothing is held yet."""
    return Step(
        says=f"{quantity} pieces are in stock",
        action=OnHand(changes={"fno.physicalinvent": quantity}),
        expects={"outcome": "APPLIED", "available": quantity},
    )


def reserved(quantity: str, *, left: str, order: str = "", name: str = "") -> Step:
    """The web shop reserves, and `left` can be promised afterwards."""
    verb = "is" if quantity == "1" else "are"
    of_order = f" for order {order}" if order else ""
    return Step(
        says=f"{quantity} {verb} reserved{of_order}",
        action=Ask(quantity=quantity, order=order, name=name),
        expects={"outcome": "ACCEPTED", "available": left},
    )


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A story with its steps; `product` is made unique when other stock may be there."""

    name: str
    says: str
    steps: tuple[Step, ...]
    product: str = "D0002"
    organization: str = "usmf"

    @property
    def reconfigures(self) -> bool:
        """Whether it changes the configuration, which all stock of the stack shares."""
        return any(isinstance(step.action, Configure) for step in self.steps)
