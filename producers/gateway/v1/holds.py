"""/v1/holds: find holds, and act on one of them by its id.

An action goes to the partition that owns the hold, so its product and place must be known: the read
view tells them, or the caller does. A hold that is gone from the view may have been ended by the
very request that is asked again: then the first answer is given, as everywhere.
"""

from collections.abc import Mapping
from typing import NamedTuple

from starlette.responses import Response

from producers.gateway import consistency
from producers.gateway.call import Call
from producers.gateway.places import BASE_DIMENSIONS
from producers.gateway.problems import Problem, bad
from producers.gateway.v1 import asking
from producers.gateway.v1.bodies import (
    AmendBody,
    ConfirmBody,
    ExtendBody,
    HoldsParameters,
    ReleaseBody,
    Subject,
    TransferBody,
)
from producers.gateway.v1.exact import answer, body_of, problem, query_of
from producers.gateway.v1.shapes import DecidedShape, HoldShape, HoldsShape, members_of
from schemas.codes import GRANTED
from schemas.messages import LineDetail, RequestOptions
from schemas.queries import DecisionView, HoldQuery


class _Place(NamedTuple):
    """Where a hold is: its subject, and the measure it is reserved under."""

    subject: Subject
    measure: str


async def listed(call: Call) -> Response:
    """GET /v1/holds."""
    asked = query_of(call, HoldsParameters, deep="dimensions")
    if asked.product_id and not asked.organization_id:
        raise bad("productId needs organizationId")
    dimensions = asking.base_dimensions(asked.dimensions)
    unknown = next((name for name in dimensions if name not in BASE_DIMENSIONS), None)
    if unknown is not None:
        raise bad(f"dimensions: {unknown[:64]!r} is no base dimension")
    headers = await consistency.settle(call)
    page = await call.gateway.queries.holds(
        HoldQuery(
            organization_id=asked.organization_id,
            product_id=asked.product_id,
            dimensions=dimensions,
            order_id=asked.order_id,
            channel=asked.channel,
            reservation_id=asked.reservation_id,
            expires_from_ms=asked.expires_from_ms,
            expires_before_ms=asked.expires_before_ms,
            cursor=asked.cursor,
            limit=asked.limit,
        )
    )
    shape = HoldsShape(holds=[HoldShape.of(hold) for hold in page.holds], cursor=page.cursor)
    return answer(shape, 200, headers)


async def one(call: Call) -> Response:
    """GET /v1/holds/{hold_id}."""
    headers = await consistency.settle(call)
    hold = await call.gateway.queries.hold(_hold_id(call))
    if hold is None:
        raise Problem(404, "hold-unknown", "no such hold, or nothing is left of it")
    return answer(HoldShape.of(hold), 200, headers)


async def extend(call: Call) -> Response:
    """POST /v1/holds/{hold_id}/extend."""
    body = body_of(call, ExtendBody)
    if (body.expires_in_ms is None) == (body.expires_at_ms is None):
        raise bad("one of expiresInMs and expiresAtMs is expected")
    detail = LineDetail(
        hold_id=_hold_id(call),
        expires_in_ms=body.expires_in_ms,
        expires_at_ms=body.expires_at_ms,
    )
    return await _act(call, "EXTEND", body, 0, detail)


async def confirm(call: Call) -> Response:
    """POST /v1/holds/{hold_id}/confirm."""
    body = body_of(call, ConfirmBody, optional=True)
    return await _act(call, "CONFIRM", body, 0, LineDetail(hold_id=_hold_id(call)))


async def release(call: Call) -> Response:
    """POST /v1/holds/{hold_id}/release."""
    body = body_of(call, ReleaseBody, optional=True)
    quantity = _positive(body.quantity)
    return await _act(call, "RELEASE", body, quantity, LineDetail(hold_id=_hold_id(call)))


async def amend(call: Call) -> Response:
    """POST /v1/holds/{hold_id}/amend."""
    body = body_of(call, AmendBody)
    quantity = _positive(body.quantity)
    return await _act(call, "AMEND", body, quantity, LineDetail(hold_id=_hold_id(call)))


async def transfer(call: Call) -> Response:
    """POST /v1/holds/{hold_id}/transfer."""
    body = body_of(call, TransferBody)
    target = asking.base_dimensions(body.target_dimensions, "targetDimensions")
    detail = LineDetail(hold_id=_hold_id(call), target_dimensions=target)
    return await _act(call, "TRANSFER", body, _positive(body.quantity), detail)


def _hold_id(call: Call) -> str:
    hold_id: str = call.request.path_params["hold_id"]
    return hold_id


def _positive(quantity: int | None) -> int:
    """The quantity, 0 for all of it. A nought that was written down is no `all`."""
    if quantity is None:
        return 0
    if quantity <= 0:
        raise Problem(422, "quantity-invalid", "quantity: a positive number is expected")
    return int(quantity)


async def _act(
    call: Call, action: str, body: ConfirmBody, quantity: int, detail: LineDetail
) -> Response:
    place = await _place_of(call, body, detail.target_dimensions or {})
    if not isinstance(place, _Place):
        return place
    subject, measure = place
    dimensions = asking.base_dimensions(subject.dimensions)
    asked, told = await asking.ask(
        call,
        action,
        subject.organization_id,
        [asking.line_of(subject, dimensions, measure, quantity, detail)],
        asking.key_of(call, subject, dimensions),
        request_id=body.request_id,
        options=RequestOptions(actor=body.actor),
    )
    return asking.single(asked, told)


async def _is_about(
    call: Call, decided: DecisionView, hold_id: str, target: Mapping[str, str]
) -> bool:
    """Whether a request was about this hold; what a transfer was answered names the new one.

    That one is there yet, at the dimensions which the caller has named again.
    """
    answered = [line.hold_id for line in decided.lines]
    if answered == [hold_id]:
        return True
    if not target or len(answered) != 1:
        return False
    moved = await call.gateway.queries.hold(answered[0])
    return moved is not None and target.items() <= moved.dimensions.items()


async def _place_of(call: Call, body: ConfirmBody, target: Mapping[str, str]) -> _Place | Response:
    """Where the hold is; or the first answer to a request that ended it."""
    if body.subject is not None:
        return _Place(body.subject, body.measure)
    await consistency.settle(call)
    queries, hold_id = call.gateway.queries, _hold_id(call)
    hold = await queries.hold(hold_id)
    if hold is not None:
        subject = Subject(
            organization_id=hold.organization_id,
            product_id=hold.product_id,
            dimensions=hold.dimensions,
        )
        return _Place(subject, hold.measure)
    # Who decides knows what was asked under the id; the view only what was answered.
    known = await queries.reservation(hold_id.rpartition("-")[0])
    if known is None:
        decided = await queries.decision(body.request_id) if body.request_id else None
        if decided is not None and await _is_about(call, decided, hold_id, target):
            return _again(decided)
        raise Problem(404, "hold-unknown", "no such hold, or nothing is left of it")
    subject = Subject(
        organization_id=known.organization_id,
        product_id=known.product_id,
        dimensions=known.dimensions,
    )
    return _Place(subject, known.measure)


def _again(decided: DecisionView) -> Response:
    shape = DecidedShape(
        request_id=decided.request_id,
        decided_at_ms=decided.decided_at_ms,
        replayed=True,
        **members_of(decided.lines[0]),
    )
    if decided.lines[0].code in GRANTED:
        return answer(shape)
    return problem(asking.refusal(decided.lines[0].code, shape.message), shape)
