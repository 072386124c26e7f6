"""/v1/decisions: what requests were answered, by id and the latest."""

from starlette.responses import Response

from producers.gateway import consistency
from producers.gateway.call import Call
from producers.gateway.fields import checked_text
from producers.gateway.problems import Problem
from producers.gateway.v1.bodies import RecentParameters
from producers.gateway.v1.exact import answer, query_of
from producers.gateway.v1.shapes import DecisionShape, DecisionsShape
from schemas.limits import REQUEST_ID_LENGTH_MAX


async def recent(call: Call) -> Response:
    """GET /v1/decisions."""
    asked = query_of(call, RecentParameters)
    headers = await consistency.settle(call)
    found = await call.gateway.queries.recent_decisions(asked.limit, asked.partition)
    shape = DecisionsShape(decisions=[DecisionShape.of(decision) for decision in found])
    return answer(shape, 200, headers)


async def one(call: Call) -> Response:
    """GET /v1/decisions/{request_id}: where a write that was answered 202 is looked up."""
    request_id = call.request.path_params["request_id"]
    checked_text(request_id, "requestId", REQUEST_ID_LENGTH_MAX)
    headers = await consistency.settle(call)
    found = await call.gateway.queries.decision(request_id)
    if found is None:
        raise Problem(
            404,
            "decision-unknown",
            "no decision under that id: not decided yet, or longer ago than ids are remembered",
        )
    return answer(DecisionShape.of(found), 200, headers)
