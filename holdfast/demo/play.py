"""Plays a scenario through the topics and notes what was seen, step by step.

Observations, by action: `outcome` (name of the code), `quantity`, `available`, `replayed`, `same
answer`, `invalid` (asked back beyond what was reserved), `expires` (yes or never), `lines` (codes
of a basket's lines), `reserved` (softly, at the place looked at), `events` (how many came;
`quantity` is then their sum).
"""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from holdfast.demo.steps import (
    Ask,
    Basket,
    BasketAcross,
    Configure,
    Events,
    Expected,
    Look,
    OnHand,
    Scenario,
    Status,
    Step,
)
from processor.inventory.configuration import default, to_json
from producers.channel import BasketLine, ChannelClient, Item, Undecided, Unknown, code_name
from producers.channel.follow import Follower
from producers.channel.ids import new_request_id
from producers.channel.outcomes import Answer, EventAnswer
from producers.channel.requests import request, request_line
from producers.channel.verbs import single
from producers.quantity import pieces_text, to_unscaled
from schemas.messages import (
    InventoryEvent,
    LineDetail,
    RequestOptions,
    ReservationRequest,
    ReservationResult,
    TransactionStatus,
)

SOFT: Final = "iv.softreserved"
VERSIONS: Final = itertools.count(2)  # Of configurations; every one must be above the last.
EVENTS_WITHIN_S: Final = 15.0
EVENTS_QUIET_S: Final = 0.3  # After the last expected event, one more look for a surplus one.


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """One step and what came of it: only what was expected is kept of the actual values."""

    says: str
    expected: Expected
    actual: Expected
    ok: bool


class Player:
    """Plays the steps of one scenario, in order, remembering named answers."""

    def __init__(
        self, client: ChannelClient, follower: Follower, scenario: Scenario, product: str
    ) -> None:
        self._client = client
        self._follower = follower
        self._scenario = scenario
        self._product = product
        self._asked: dict[str, ReservationRequest] = {}
        self._answers: dict[str, ReservationResult] = {}
        self._events: list[InventoryEvent] = []
        self._run = new_request_id()[-8:]  # Keeps order and transaction ids of runs apart.
        self._plays: dict[type, Callable[[Any], Expected]] = {
            OnHand: self._on_hand,
            Ask: self._ask,
            Basket: self._basket,
            BasketAcross: self._basket_across,
            Status: self._status,
            Look: self._look,
            Events: self._count_events,
            Configure: self._configure,
        }

    def play(self) -> Iterator[Played]:
        """Yield each step as it has been played; ends after a step whose outcome is unknown."""
        for step in self._scenario.steps:
            seen = self._plays[type(step.action)](step.action)
            yield _compared(step, seen)
            if seen.get("outcome") == "UNKNOWN":
                return

    def _item(self, place: dict[str, str]) -> Item:
        return Item(self._scenario.organization, self._product, place)

    def _order(self, order: str) -> str:
        return f"{order}-{self._run}" if order else ""

    def _on_hand(self, action: OnHand) -> Expected:
        item = self._item(action.place)
        return _event_seen(
            self._client.on_hand(
                item,
                action.changes,
                source=action.source,
                mode=action.mode,
                modified_at_ms=int(time.time() * 1000) if action.mode == "SET" else None,
            )
        )

    def _ask(self, action: Ask) -> Expected:
        if action.again:
            asked = self._asked[action.again]
        else:
            item = self._item(action.place)
            asked = single(action.action, action.channel, item, action.quantity, self._rare(action))
        answer = self._client.ask(asked)
        seen = _answer_seen(answer)
        if action.again and isinstance(answer, ReservationResult):
            seen["same answer"] = _yes(_same(answer, self._answers[action.again]))
        self._remember(action.name, asked, answer)
        return seen

    def _rare(self, action: Ask) -> dict[str, object]:
        rare: dict[str, object] = {
            "order_id": self._order(action.order),
            "check_availability": action.check,
            "minimum_quantity": action.minimum,
            "expires_in_ms": action.expires_in_ms,
            "target_dimensions": action.target,
            "dry_run": action.dry_run,
            "explain": action.explain,
        }
        if action.of:
            line = self._answers[action.of].lines[0]
            by_reservation = action.action == "UNRESERVE"
            rare["reservation_id"] = line.reservation_id if by_reservation else ""
            rare["hold_id"] = "" if by_reservation else line.hold_id
        return rare

    def _basket(self, action: Basket) -> Expected:
        detail = LineDetail(order_id=self._order(action.order))
        asked = request(
            "RESERVE",
            [request_line(self._item(line.place), line.quantity, detail) for line in action.lines],
            request_id=new_request_id(),
            organization_id=self._scenario.organization,
            channel="web-shop",
            options=RequestOptions(atomic=action.atomic),
        )
        answer = self._client.ask(asked)
        self._remember(action.name, asked, answer)
        return _answer_seen(answer)

    def _basket_across(self, action: BasketAcross) -> Expected:
        outcome = self._client.basket(
            [BasketLine(self._item(line.place), line.quantity) for line in action.lines]
        )
        lines = [code_name(line.code) if line else "?" for line in outcome.lines]
        code = "UNKNOWN" if outcome.code is None else outcome.code.name
        return {"outcome": code, "lines": ", ".join(lines)}

    def _status(self, action: Status) -> Expected:
        line = self._answers[action.of].lines[0] if action.of else None
        status = TransactionStatus(
            transaction_id=f"{action.transaction}-{self._run}",
            status=action.status,
            sequence=action.sequence,
            quantity=to_unscaled(action.quantity),
            order_id=self._order(action.order),
            reservation_id=line.reservation_id if line and not action.hold else "",
            hold_id=line.hold_id if line and action.hold else "",
            auto_offset=action.auto,
        )
        item = self._item(action.place)
        return _event_seen(self._client.transaction(item, status, action.changes, source="fno"))

    def _look(self, action: Look) -> Expected:
        answer = self._client.availability(self._item(action.place))
        seen = _answer_seen(answer)
        if isinstance(answer, ReservationResult) and answer.lines[0].detail is not None:
            terms = answer.lines[0].detail.terms
            reserved = -sum(term.quantity for term in terms if term.measure == SOFT)
            seen["reserved"] = pieces_text(reserved) if terms else "?"
        return seen

    def _count_events(self, action: Events) -> Expected:
        transaction = f"{action.transaction}-{self._run}" if action.transaction else ""
        deadline_s = time.monotonic() + EVENTS_WITHIN_S
        while True:
            found = [
                event
                for event in self._events
                if event.event_type == action.event_type
                and event.product_id == self._product
                and transaction in ("", event.transaction_id)
            ]
            now_s = time.monotonic()
            if len(found) >= action.count:
                deadline_s = min(deadline_s, now_s + EVENTS_QUIET_S)
            if now_s >= deadline_s:
                quantity = sum(event.quantity for event in found)
                return {"events": str(len(found)), "quantity": pieces_text(quantity)}
            self._events += [
                record.body
                for record in self._follower.read(0.1)
                if isinstance(record.body, InventoryEvent)
            ]

    def _configure(self, action: Configure) -> Expected:
        document = _merged(msgspec.json.decode(to_json(default())), action.changes)
        document["version"] = next(VERSIONS)
        answers = self._client.configure(msgspec.json.encode(document))
        outcomes = {_answer_seen(answer)["outcome"] for answer in answers}
        return {"outcome": ", ".join(sorted(outcomes))}

    def _remember(self, name: str, asked: ReservationRequest, answer: Answer) -> None:
        if name and isinstance(answer, ReservationResult):
            self._asked[name] = asked
            self._answers[name] = answer


def _compared(step: Step, seen: Expected) -> Played:
    actual = {name: seen.get(name, "-") for name in step.expects}
    ok = actual == step.expects
    if not ok and "outcome" in seen:  # What it really was helps whoever reads the difference.
        actual = {"outcome": seen["outcome"], **actual}
    return Played(says=step.says, expected=step.expects, actual=actual, ok=ok)


def _merged(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Lay the changes over the document, section by section."""
    merged = dict(document)
    for name, value in changes.items():
        section = merged.get(name)
        if isinstance(section, dict) and isinstance(value, dict):
            value = _merged(section, value)  # noqa: PLW2901 - the section's new value
        merged[name] = value
    return merged


def _yes(value: object) -> str:
    return "yes" if value else "no"


def _same(answer: ReservationResult, first: ReservationResult) -> bool:
    """Whether a repeat says what the first answer said, of the very same decision."""
    return (answer.code, answer.decided_at_ms, answer.lines) == (
        first.code,
        first.decided_at_ms,
        first.lines,
    )


def _answer_seen(answer: Answer) -> Expected:
    if isinstance(answer, Unknown):
        return {"outcome": "UNKNOWN"}
    if isinstance(answer, Undecided):
        return {"outcome": code_name(answer.code)}
    seen = {"outcome": code_name(answer.code), "replayed": _yes(answer.replayed)}
    seen["lines"] = ", ".join(code_name(line.code) for line in answer.lines)
    if answer.lines:
        line = answer.lines[0]
        seen["quantity"] = pieces_text(line.quantity)
        seen["available"] = pieces_text(line.available)
        detail = line.detail
        seen["invalid"] = pieces_text(detail.invalid_quantity if detail else 0)
        seen["expires"] = _yes(detail and detail.expires_at_ms is not None)
    return seen


def _event_seen(answer: EventAnswer) -> Expected:
    if isinstance(answer, Unknown):
        return {"outcome": "UNKNOWN"}
    if isinstance(answer, Undecided):
        return {"outcome": code_name(answer.code)}
    return {
        "outcome": code_name(answer.code),
        "quantity": pieces_text(answer.quantity),
        "available": pieces_text(answer.available),
        "invalid": pieces_text(answer.invalid_quantity),
    }
