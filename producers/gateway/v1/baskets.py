"""/v1/baskets: lines of any number of partitions, held together or not at all."""

from collections.abc import Sequence

from starlette.responses import Response

from producers.channel.basket import BasketOutcome, BasketPlan, converse
from producers.channel.ids import new_request_id
from producers.channel.outcomes import Answer, Undecided, Unknown
from producers.channel.requests import BasketLine, Item
from producers.gateway.api import writes
from producers.gateway.api.answers import decision_path, write_headers
from producers.gateway.call import Call
from producers.gateway.problems import bad
from producers.gateway.v1 import asking
from producers.gateway.v1.bodies import BasketBody, BasketLineBody
from producers.gateway.v1.exact import answer, body_of, problem
from producers.gateway.v1.reservations import detail_of
from producers.gateway.v1.shapes import BasketShape, LineShape
from producers.gateway.writer import NotSent, Sending, Told
from producers.quantity import to_pieces
from schemas.codes import Code
from schemas.messages import ReservationRequest, ReservationResult


async def hold(call: Call) -> Response:
    """POST /v1/baskets."""
    body = body_of(call, BasketBody)
    plan = BasketPlan(
        basket_id=body.basket_id or new_request_id(),
        channel=call.channel,
        lines=tuple(_line(line) for line in body.lines),
        expires_in_ms=body.expires_in_ms,
        hold_ms=body.hold_ms,
        actor=body.actor,
    )
    outcome, tolds = await _carry_through(call, plan)
    return _answer(outcome, tolds)


def _line(line: BasketLineBody) -> BasketLine:
    if line.quantity <= 0:
        raise bad("lines: a basket holds positive quantities")
    item = Item(
        line.organization_id,
        line.product_id,
        asking.base_dimensions(line.dimensions),
        line.dimension_data_source.lower(),
    )
    return BasketLine(
        item,
        to_pieces(line.quantity),
        detail_of(line, None, None),
        line.measure.lower(),
        line.check_availability,
    )


async def _carry_through(call: Call, plan: BasketPlan) -> tuple[BasketOutcome, list[Told]]:
    """Ask what the conversation asks, until it has an outcome; and where its writes lie."""
    conversation = converse(plan, call.gateway.places.key_of)
    tolds: list[Told] = []
    try:
        asking_now: Sequence[tuple[ReservationRequest, bytes]] = next(conversation)
        while True:
            got = await writes.send(call, [Sending(*one) for one in asking_now])
            tolds += got
            answers = [
                _as_answer(asked.request_id, told)
                for (asked, _), told in zip(asking_now, got, strict=True)
            ]
            asking_now = conversation.send(answers)
    except StopIteration as end:
        return end.value, tolds


def _as_answer(request_id: str, told: Told) -> Answer:
    """What the conversation understands: a part that was not sent is undecided, or asked again."""
    outcome = told.outcome
    if isinstance(outcome, NotSent):
        if outcome.reused or outcome.too_large:
            code = Code.REQUEST_ID_REUSED if outcome.reused else Code.RECORD_TOO_LARGE
            return Undecided(request_id=request_id, code=int(code), reason=outcome.reason)
        return Unknown(request_id=request_id, reason=outcome.reason)
    assert isinstance(outcome, ReservationResult | Unknown | Undecided)
    return outcome


def _answer(outcome: BasketOutcome, tolds: Sequence[Told]) -> Response:
    known = outcome.code
    shape = BasketShape(
        basket_id=outcome.basket_id,
        code="PENDING" if known is None else known.name,
        lines=[None if line is None else LineShape.of(line) for line in outcome.lines],
        reasons=list(outcome.reasons) or None,
        unfinished=list(outcome.unfinished) or None,
    )
    headers = write_headers(tolds)
    if known is None:
        headers["Location"] = decision_path(f"{outcome.basket_id}:0")
        return answer(shape, 202, headers)
    if known == Code.ACCEPTED:
        return answer(shape, 200, headers)
    return problem(asking.refusal(_cause(outcome), "; ".join(outcome.reasons), headers), shape)


def _cause(outcome: BasketOutcome) -> int:
    """Code of the refusal: that of the caller's fault, where one part names one."""
    codes = [part.answer.code for part in outcome.parts if not isinstance(part.answer, Unknown)]
    faults = [code for code in codes if code != Code.ACCEPTED and asking.STATUS.get(code) != 409]
    return faults[0] if faults else Code.BASKET_REFUSED
