"""/v1/reservations and /v1/availability: make a hold, or ask what could be held and why."""

from typing import Any, Final

from starlette.responses import Response

from producers.gateway import consistency
from producers.gateway.api.answers import write_headers
from producers.gateway.call import Call
from producers.gateway.problems import Problem, bad
from producers.gateway.v1 import asking
from producers.gateway.v1.bodies import AvailabilityBody, ReservationBody
from producers.gateway.v1.exact import Quantity, answer, body_of, problem
from producers.gateway.v1.shapes import (
    AvailabilityShape,
    DecidedShape,
    ReservationShape,
    members_of,
)
from schemas.codes import GRANTED, Code
from schemas.limits import QUANTITY_MAX
from schemas.messages import LineDetail, RequestOptions, ReservationResult

_EXPLAIN: Final = RequestOptions(dry_run=True, explain=True)


def detail_of(body: Any, expires_in_ms: int | None, expires_at_ms: int | None) -> LineDetail:
    """Rare fields of a line that wants stock."""
    return LineDetail(
        order_id=body.order_id,
        order_line_id=body.order_line_id,
        expires_in_ms=expires_in_ms,
        expires_at_ms=expires_at_ms,
        minimum_quantity=None if body.minimum_quantity is None else int(body.minimum_quantity),
        external_reference=body.external_reference,
        priority=body.priority,
    )


async def reserve(call: Call) -> Response:
    """POST /v1/reservations."""
    body = body_of(call, ReservationBody)
    if body.expires_in_ms is not None and body.expires_at_ms is not None:
        raise bad("expiresInMs or expiresAtMs, not both")
    dimensions = asking.base_dimensions(body.dimensions)
    line = asking.line_of(
        body,
        dimensions,
        body.measure,
        int(body.quantity),
        detail_of(body, body.expires_in_ms, body.expires_at_ms),
        check=body.check_availability,
    )
    asked, told = await asking.ask(
        call,
        "RESERVE",
        body.organization_id,
        [line],
        asking.key_of(call, body, dimensions),
        request_id=body.request_id,
        options=RequestOptions(dry_run=body.dry_run, explain=body.explain, actor=body.actor),
    )
    return asking.single(asked, told)


async def reservation(call: Call) -> Response:
    """GET /v1/reservations/{reservation_id}."""
    headers = await consistency.settle(call)
    found = await call.gateway.queries.reservation(call.request.path_params["reservation_id"])
    if found is None:
        raise Problem(404, "reservation-unknown", "nothing is reserved under that id")
    return answer(ReservationShape.of(found), 200, headers)


async def availability(call: Call) -> Response:
    """POST /v1/availability: what the owning partition would answer now, holding nothing."""
    body = body_of(call, AvailabilityBody)
    dimensions = asking.base_dimensions(body.dimensions)
    line = asking.line_of(body, dimensions, body.measure, QUANTITY_MAX)
    key = asking.key_of(call, body, dimensions)
    asked, told = await asking.ask(
        call, "RESERVE", body.organization_id, [line], key, options=_EXPLAIN
    )
    outcome = told.outcome
    if not isinstance(outcome, ReservationResult):
        return asking.unsettled(asked.request_id, told)
    code = asking.code_of(outcome)
    headers = write_headers([told])
    if code not in {*GRANTED, Code.INSUFFICIENT_STOCK, Code.AVAILABILITY_BOUND}:
        return _refused(asked.request_id, outcome, code, headers)
    found = outcome.lines[0]
    members = members_of(found)
    # A dry run that was granted would have taken all of it.
    available = found.available + (found.quantity if code in GRANTED else 0)
    wanted = body.quantity
    shape = AvailabilityShape(
        available=Quantity(available),
        reservation_id=found.reservation_id,
        decided_at_ms=outcome.decided_at_ms,
        sufficient=None if wanted is None else 0 < wanted <= available,
        **{name: members[name] for name in _EXPLAINED if name in members},
    )
    return answer(shape, 200, headers)


_EXPLAINED: Final = ("level", "terms", "next_free_at_ms", "message")


def _refused(
    request_id: str, outcome: ReservationResult, code: int, headers: dict[str, str]
) -> Response:
    line = outcome.lines[0] if outcome.lines else None
    message = line.detail.message if line and line.detail else ""
    refused = asking.refusal(code, message, headers)
    if line is None:
        return refused.response()
    shape = DecidedShape(
        request_id=request_id, decided_at_ms=outcome.decided_at_ms, **members_of(line)
    )
    return problem(refused, shape)
