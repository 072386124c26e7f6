"""Sending requests of /v1, and saying in HTTP what became of them.

The rule: 200 is granted and committed, 202 is sent and not known yet; every refusal is a problem
whose status says whose turn it is: 4xx the caller's, 503 nobody's but time's.
"""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from producers.channel.ids import new_request_id
from producers.channel.outcomes import Undecided, Unknown, code_name
from producers.channel.requests import NO_DETAIL, NO_OPTIONS, as_sent, request
from producers.gateway.api import writes
from producers.gateway.api.answers import HONEST, decision_path, write_headers
from producers.gateway.call import Call
from producers.gateway.problems import Problem, bad, unavailable
from producers.gateway.v1.bodies import Subject
from producers.gateway.v1.exact import answer, problem
from producers.gateway.v1.shapes import ControlShape, DecidedShape, PendingShape, members_of
from producers.gateway.writer import NotSent, Sending, Told
from schemas.codes import GRANTED, Code
from schemas.messages import (
    LineDetail,
    RequestLine,
    RequestOptions,
    ReservationRequest,
    ReservationResult,
    ResultLine,
)

STATUS: Final[Mapping[int, int]] = {
    **HONEST,
    Code.BASKET_REFUSED: 409,
    Code.OFFSET_PARTIAL: 409,
    Code.OFFSET_NOTHING_RESERVED: 409,
    Code.OFFSET_WRONG_RESERVATION: 409,
    Code.OFFSET_WRONG_DIMENSIONS: 409,
    Code.FAILURE_UNKNOWN: 404,
    Code.MEASURE_RESERVED: 422,
    Code.SPANS_PARTITIONS: 422,
}
_NO_LINE: Final = ResultLine(0, "", "", 0, 0)


def base_dimensions(given: Mapping[str, str], what: str = "dimensions") -> dict[str, str]:
    """Dimensions with names in lower case, in order of name: the same asked again is the same.

    Raises:
        Problem: 400, two names differ in case alone.

    """
    lower = {name.lower(): value for name, value in sorted(given.items())}
    if len(lower) != len(given):
        raise bad(f"{what}: two names differ in case alone")
    return dict(sorted(lower.items()))


def key_of(call: Call, subject: Subject, dimensions: Mapping[str, str]) -> bytes:
    """Key of the partition that owns a subject's stock."""
    return call.gateway.places.key(
        subject.organization_id,
        subject.product_id,
        dimensions,
        subject.dimension_data_source.lower(),
    )


def line_of(
    subject: Subject,
    dimensions: dict[str, str],
    measure: str,
    quantity: int,
    detail: LineDetail = NO_DETAIL,
    *,
    check: bool = True,
) -> RequestLine:
    """One line of a request."""
    return RequestLine(
        subject.product_id,
        subject.dimension_data_source.lower(),
        dimensions,
        measure.lower(),
        quantity,
        check,
        None if detail == NO_DETAIL else detail,
    )


async def ask(
    call: Call,
    action: str,
    organization_id: str,
    lines: list[RequestLine],
    key: bytes,
    *,
    request_id: str = "",
    options: RequestOptions = NO_OPTIONS,
) -> tuple[ReservationRequest, Told]:
    """Ask one partition, and wait for what it committed."""
    asked = request(
        action,
        lines,
        request_id=request_id or new_request_id(),
        organization_id=organization_id,
        channel=call.channel,
        options=options,
    )
    (told,) = await writes.send(call, [Sending(as_sent(asked), key)])
    return asked, told


def code_of(result: ReservationResult) -> int:
    """Code of a request of one line: the line's, unless the request as a whole was refused."""
    if result.lines and result.code in {*GRANTED, Code.BASKET_REFUSED}:
        return result.lines[0].code
    return result.code


def single(asked: ReservationRequest, told: Told) -> Response:
    """Answer to a request of one line."""
    outcome = told.outcome
    if not isinstance(outcome, ReservationResult):
        return unsettled(asked.request_id, told)
    line = outcome.lines[0] if outcome.lines else _NO_LINE
    code = code_of(outcome)
    members = {**members_of(line), "code": code_name(code)}
    shape = DecidedShape(
        request_id=asked.request_id,
        decided_at_ms=outcome.decided_at_ms,
        replayed=outcome.replayed,
        **members,
    )
    headers = write_headers([told])
    if code in GRANTED:
        return answer(shape, 200, headers)
    return problem(refusal(code, shape.message, headers), shape)


def control(asked: ReservationRequest, told: Told) -> Response:
    """Answer to a request without lines."""
    outcome = told.outcome
    if not isinstance(outcome, ReservationResult):
        return unsettled(asked.request_id, told)
    shape = ControlShape(
        request_id=asked.request_id,
        code=code_name(outcome.code),
        decided_at_ms=outcome.decided_at_ms,
        replayed=outcome.replayed,
    )
    headers = write_headers([told])
    if outcome.code in GRANTED:
        return answer(shape, 200, headers)
    return problem(refusal(outcome.code, "", headers), shape)


def refusal(code: int, message: str, headers: Mapping[str, str] | None = None) -> Problem:
    """Problem of a code that grants nothing."""
    words = code_name(code).lower().replace("_", " ")
    status = STATUS.get(code, 500 if code >= Code.RECORD_EMPTY else 400)
    return Problem(status, words.replace(" ", "-"), message or words, headers=headers)


def unsettled(request_id: str, told: Told) -> Response:
    """Answer to a request that no partition has answered (yet)."""
    outcome = told.outcome
    if isinstance(outcome, Unknown):
        return pending(request_id, outcome.reason)
    if isinstance(outcome, Undecided):
        return refusal(outcome.code, f"set aside undecided: {outcome.reason}").response()
    assert isinstance(outcome, NotSent)
    if outcome.reused:
        return refusal(Code.REQUEST_ID_REUSED, outcome.reason).response()
    if outcome.too_large:
        return Problem(413, "request-too-large", outcome.reason).response()
    return unavailable(outcome.reason).response()


def pending(request_id: str, reason: str, lookup_id: str = "") -> Response:
    """202: sent, and not known yet."""
    shape = PendingShape(request_id=request_id, code="PENDING", message=reason)
    return answer(shape, 202, {"Location": decision_path(lookup_id or request_id)})
