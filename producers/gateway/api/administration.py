"""configuration, configuration/hardupdate: reading and applying the document."""

import asyncio
from typing import Any

import orjson
from starlette.responses import Response

from producers.gateway.api import document
from producers.gateway.call import Call
from producers.gateway.ports import Refusal, Unavailable
from producers.gateway.problems import Problem, unavailable
from producers.gateway.strict_json import members_of


async def configuration(call: Call) -> Response:
    """GET configuration: the document in force, in the original's words."""
    return answer(document.to_original(call.gateway.places.document, call.environment))


async def hard_update(call: Call) -> Response:
    """POST configuration/hardupdate: apply a document, the original's or Holdfast's own."""
    gateway = call.gateway
    body = members_of(call.json())
    try:
        if document.is_original(body):
            current = await asyncio.to_thread(gateway.configurations.current)
            wanted = document.from_original(body, current)
        else:
            wanted = members_of(call.json(lower=False))  # Channel names keep their case.
        applied = await asyncio.to_thread(
            gateway.configurations.apply, wanted, call.caller.client_id
        )
    except Refusal as refusal:
        raise Problem(422, "configuration-refused", str(refusal)) from refusal
    except Unavailable as error:
        raise unavailable(str(error)) from error
    await gateway.renew_configuration()
    done = applied.in_force == applied.partitions
    return answer(
        {
            "configurationVersion": applied.version,
            "partitions": applied.partitions,
            "inForce": applied.in_force,
            "processingStatus": "success" if done else "pending",
            "message": "" if done else "some partitions have not answered yet",
            "statusCode": 200 if done else 202,
        },
        200 if done else 202,
    )


def answer(body: Any, status: int = 200) -> Response:
    """JSON answer."""
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
