"""/v1/offset-failures: offsets that found nothing to take over; tried again, or taken off."""

from starlette.responses import Response

from producers.channel.outcomes import code_name
from producers.gateway import consistency
from producers.gateway.call import Call
from producers.gateway.problems import Problem
from producers.gateway.v1 import asking
from producers.gateway.v1.bodies import FailureBody, FailuresParameters
from producers.gateway.v1.exact import answer, body_of, query_of
from producers.gateway.v1.shapes import ControlShape, FailureShape, FailuresShape
from schemas.messages import RequestOptions
from schemas.queries import FailureView


async def listed(call: Call) -> Response:
    """GET /v1/offset-failures."""
    asked = query_of(call, FailuresParameters)
    headers = await consistency.settle(call)
    page = await call.gateway.queries.failures(asked.organization_id, asked.cursor, asked.limit)
    failures = [FailureShape.of(failure) for failure in page.failures]
    return answer(FailuresShape(failures=failures, cursor=page.cursor), 200, headers)


async def one(call: Call) -> Response:
    """GET /v1/offset-failures/{failure_id}."""
    headers = await consistency.settle(call)
    return answer(FailureShape.of(await _failure(call)), 200, headers)


async def retry(call: Call) -> Response:
    """POST /v1/offset-failures/{failure_id}/retry."""
    return await _act(call, "RETRY_OFFSET")


async def dismiss(call: Call) -> Response:
    """POST /v1/offset-failures/{failure_id}/dismiss."""
    return await _act(call, "DISMISS_OFFSET")


async def _act(call: Call, action: str) -> Response:
    body = body_of(call, FailureBody, optional=True)
    await consistency.settle(call)
    try:
        failure = await _failure(call)
    except Problem:
        # It may be gone by this very request, asked again.
        decided = body.request_id and await call.gateway.queries.decision(body.request_id)
        if not decided:
            raise
        shape = ControlShape(
            request_id=decided.request_id,
            code=code_name(decided.code),
            decided_at_ms=decided.decided_at_ms,
            replayed=True,
        )
        return answer(shape)
    key = call.gateway.places.key(failure.organization_id, failure.product_id, failure.dimensions)
    options = RequestOptions(offset_failure_id=failure.failure_id, actor=body.actor)
    asked, told = await asking.ask(
        call,
        action,
        failure.organization_id,
        [],
        key,
        request_id=body.request_id,
        options=options,
    )
    return asking.control(asked, told)


async def _failure(call: Call) -> FailureView:
    failure = await call.gateway.queries.failure(call.request.path_params["failure_id"])
    if failure is None:
        raise Problem(404, "failure-unknown", "no such failed offset in the list")
    return failure
