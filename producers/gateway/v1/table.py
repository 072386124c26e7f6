"""The operations of /v1: one table, from which its routes and its OpenAPI document are made."""

from typing import Any, Final, NamedTuple

from producers.gateway.call import Handler
from producers.gateway.v1 import (
    baskets,
    bodies,
    decisions,
    events,
    failures,
    holds,
    reservations,
    shapes,
)
from producers.security.caller import Scope


class Operation(NamedTuple):
    """One method of one path.

    Attributes:
        name: operation id of the document, and label of its figures.
        path: with names of parameters in braces.
        asked: struct of the body, None without one.
        parameters: struct of the query string.
        answered: struct of the 200 answer.
        refusals: further statuses that this operation is known to answer.

    """

    name: str
    method: str
    path: str
    scope: Scope
    handler: Handler
    summary: str
    answered: type[Any]
    asked: type[Any] | None = None
    body_optional: bool = False
    parameters: type[Any] = bodies.NoParameters
    refusals: tuple[int, ...] = ()


HOLD: Final = "/v1/holds/{hold_id}"
FAILURE: Final = "/v1/offset-failures/{failure_id}"
_WRITE: Final = (202, 404, 409, 413, 422, 503)


def _on_hold(name: str, handler: Handler, asked: type[Any], summary: str) -> Operation:
    return Operation(
        f"{name}Hold",
        "POST",
        f"{HOLD}/{name}",
        "reserve",
        handler,
        summary,
        shapes.DecidedShape,
        asked,
        body_optional=name in {"confirm", "release"},
        refusals=_WRITE,
    )


def _on_failure(name: str, handler: Handler, summary: str) -> Operation:
    return Operation(
        f"{name}OffsetFailure",
        "POST",
        f"{FAILURE}/{name}",
        "admin",
        handler,
        summary,
        shapes.ControlShape,
        bodies.FailureBody,
        body_optional=True,
        refusals=_WRITE,
    )


OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        "reserve",
        "POST",
        "/v1/reservations",
        "reserve",
        reservations.reserve,
        "Hold a quantity, or ask what would be answered",
        shapes.DecidedShape,
        bodies.ReservationBody,
        refusals=(*_WRITE, 403),
    ),
    Operation(
        "getReservation",
        "GET",
        "/v1/reservations/{reservation_id}",
        "read",
        reservations.reservation,
        "What a reservation id stands for, and how much of it is held",
        shapes.ReservationShape,
        refusals=(404, 503),
    ),
    Operation(
        "availability",
        "POST",
        "/v1/availability",
        "read",
        reservations.availability,
        "What could be held now, and why no more",
        shapes.AvailabilityShape,
        bodies.AvailabilityBody,
        refusals=_WRITE,
    ),
    Operation(
        "holdBasket",
        "POST",
        "/v1/baskets",
        "reserve",
        baskets.hold,
        "Hold all lines, wherever their stock lies, or none",
        shapes.BasketShape,
        bodies.BasketBody,
        refusals=_WRITE,
    ),
    Operation(
        "listHolds",
        "GET",
        "/v1/holds",
        "read",
        holds.listed,
        "Holds by product, warehouse, order, channel, reservation or expiry; oldest first, and "
        "warehouse by warehouse where none of these is given",
        shapes.HoldsShape,
        parameters=bodies.HoldsParameters,
        refusals=(503,),
    ),
    Operation(
        "getHold",
        "GET",
        HOLD,
        "read",
        holds.one,
        "One hold",
        shapes.HoldShape,
        refusals=(404, 503),
    ),
    _on_hold("extend", holds.extend, bodies.ExtendBody, "Move a hold's expiry"),
    _on_hold("confirm", holds.confirm, bodies.ConfirmBody, "Drop a hold's expiry"),
    _on_hold("amend", holds.amend, bodies.AmendBody, "Change a hold's quantity"),
    _on_hold("transfer", holds.transfer, bodies.TransferBody, "Move a hold to other dimensions"),
    _on_hold("release", holds.release, bodies.ReleaseBody, "Give back a hold, or a part of it"),
    Operation(
        "streamEvents",
        "GET",
        "/v1/events",
        "read",
        events.stream,
        "Decisions and stock changes as they are committed: server-sent events",
        str,
        parameters=bodies.EventsParameters,
        refusals=(503,),
    ),
    Operation(
        "recentDecisions",
        "GET",
        "/v1/decisions",
        "read",
        decisions.recent,
        "The latest decisions, newest first",
        shapes.DecisionsShape,
        parameters=bodies.RecentParameters,
        refusals=(503,),
    ),
    Operation(
        "getDecision",
        "GET",
        "/v1/decisions/{request_id}",
        "read",
        decisions.one,
        "What a request was answered",
        shapes.DecisionShape,
        refusals=(404, 503),
    ),
    Operation(
        "listOffsetFailures",
        "GET",
        "/v1/offset-failures",
        "read",
        failures.listed,
        "Offsets that failed and wait, oldest first",
        shapes.FailuresShape,
        parameters=bodies.FailuresParameters,
        refusals=(503,),
    ),
    Operation(
        "getOffsetFailure",
        "GET",
        FAILURE,
        "read",
        failures.one,
        "One failed offset",
        shapes.FailureShape,
        refusals=(404, 503),
    ),
    _on_failure("retry", failures.retry, "Try a failed offset again"),
    _on_failure("dismiss", failures.dismiss, "Take a failed offset off the list"),
)
