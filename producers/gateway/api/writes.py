"""onhand, setonhand, reserve, unreserve, and their bulks: the paths that write.

The rule: a record is read whole before the first one is sent, so that a bulk with a malformed
record writes nothing. Each record is decided for itself, under its own id: a client may repeat any
of them, alone or in another bulk, and gets the first answer.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from starlette.responses import Response

from producers.gateway.api import answers, records, usual as read_usual
from producers.gateway.api.answers import Answer
from producers.gateway.api.records import Changing, Reserving, Unreserving, Wrong
from producers.gateway.call import Call
from producers.gateway.fields import checked_text
from producers.gateway.positions import Position
from producers.gateway.problems import Problem
from producers.gateway.strict_json import members_of, records_of
from producers.gateway.writer import Sending, Settled, Told, Written, is_known
from schemas.limits import LINES_MAX
from schemas.messages import ReservationRequest

BULK_MAX: Final = LINES_MAX

Ready = Reserving | Unreserving | Changing | Wrong


async def on_hand(call: Call) -> Response:
    """POST onhand."""
    return await _one(call, records.changing(members_of(call.json()), call.gateway.places))


async def on_hand_bulk(call: Call) -> Response:
    """POST onhand/bulk."""
    return await _bulk(call, lambda value: records.changing(value, call.gateway.places))


async def set_on_hand_bulk(call: Call, source: str) -> Response:
    """POST setonhand/{inventorySystem}/bulk."""
    checked_text(source, "inventorySystem", records.NAME_LENGTH_MAX)
    places = call.gateway.places
    if source not in places.sources:
        raise Problem(400, "unknown-data-source", f"no data source {source!r}")
    return await _bulk(call, lambda value: records.counting(value, places, source))


async def reserve(call: Call) -> Response:
    """POST onhand/reserve."""
    usual = read_usual.reservation(call.body)
    if usual is not None:
        ready = records.usual_reserving(usual, call.gateway.places, call.channel)
        if ready is not None:
            return await _one(call, ready)
    value = members_of(call.json())
    return await _one(call, records.reserving(value, call.gateway.places, call.channel))


async def reserve_bulk(call: Call) -> Response:
    """POST onhand/reserve/bulk."""
    places, channel = call.gateway.places, call.channel
    usual = read_usual.reservations(call.body)
    if usual and len(usual) <= BULK_MAX:
        readies = [records.usual_reserving(one, places, channel) for one in usual]
        if None not in readies:
            return await _send_bulk(call, [ready for ready in readies if ready is not None])
    return await _bulk(call, lambda value: records.reserving(value, places, channel))


async def unreserve(call: Call) -> Response:
    """POST onhand/unreserve."""
    value = members_of(call.json())
    return await _one(call, records.unreserving(value, call.gateway.places, call.channel))


async def unreserve_bulk(call: Call) -> Response:
    """POST onhand/unreserve/bulk."""
    places, channel = call.gateway.places, call.channel
    return await _bulk(call, lambda value: records.unreserving(value, places, channel))


async def _one(call: Call, ready: Ready) -> Response:
    if isinstance(ready, Wrong):
        answer = answers.refusal_answer(
            _prefix(call), ready.event_id, ready.status, ready.code, ready.message
        )
        return answers.single(answer, (), "", call.style)
    (outcome,), positions = await settle(call, [ready.sending])
    answer = _answer(ready, outcome)
    return answers.single(answer, positions, record_id(ready.sending), call.style)


async def _bulk(call: Call, read: Callable[[Any], Ready]) -> Response:
    values = records_of(call.json(), BULK_MAX)
    readies: list[Ready] = []
    for index, value in enumerate(values):
        try:
            readies.append(read(value))
        except Problem as problem:
            problem.detail = f"record {index}: {problem.detail}"
            raise
    return await _send_bulk(call, readies)


async def _send_bulk(call: Call, readies: Sequence[Ready]) -> Response:
    sent = [ready for ready in readies if not isinstance(ready, Wrong)]
    outcomes, positions = (
        await settle(call, [ready.sending for ready in sent]) if sent else Settled([], [])
    )
    coming = iter(outcomes)
    listed: list[Answer] = []
    for ready in readies:
        if isinstance(ready, Wrong):
            listed.append(
                answers.refusal_answer(
                    _prefix(call), ready.event_id, ready.status, ready.code, ready.message
                )
            )
        else:
            listed.append(_answer(ready, next(coming)))
    pending = next(
        (
            record_id(ready.sending)
            for ready, outcome in zip(sent, outcomes, strict=True)
            if not is_known(outcome)
        ),
        "",
    )
    return answers.many(listed, positions, pending, call.style)


async def settle(call: Call, sendings: Sequence[Sending]) -> Settled:
    """Send records for the caller, and remember where its writes lie."""
    gateway = call.gateway
    settled = await gateway.writer.settle(sendings, timeout_ms=gateway.settings.answer_ms)
    _remember(call, settled.outcomes, settled.positions)
    return settled


async def send(call: Call, sendings: Sequence[Sending]) -> list[Told]:
    """As `settle`, with the position of each record."""
    gateway = call.gateway
    tolds = await gateway.writer.send(sendings, timeout_ms=gateway.settings.answer_ms)
    positions = [told.position for told in tolds if told.position is not None]
    _remember(call, [told.outcome for told in tolds], positions)
    return tolds


def _remember(call: Call, outcomes: Sequence[Written], positions: Sequence[Position]) -> None:
    gateway = call.gateway
    if positions:
        gateway.positions.wrote(call.caller.client_id, positions)
    unknown = sum([not is_known(outcome) for outcome in outcomes])
    gateway.metrics.known.inc(len(outcomes) - unknown)
    if unknown:
        gateway.metrics.records.labels("unknown").inc(unknown)


def record_id(sending: Sending) -> str:
    """Id of the record on its topic."""
    record = sending.record
    return record.request_id if isinstance(record, ReservationRequest) else record.event_id


def _answer(ready: Reserving | Unreserving | Changing, outcome: Written) -> Answer:
    if isinstance(ready, Reserving):
        return answers.reserve_answer(ready.event_id, outcome, negative=ready.negative)
    if isinstance(ready, Unreserving):
        return answers.unreserve_answer(ready.event_id, outcome, ready.reservation_id, ready.asked)
    return answers.change_answer(ready.event_id, outcome)


def _prefix(call: Call) -> str:
    path = call.request.url.path.lower()
    if "/unreserve" in path:
        return answers.UNRESERVE_PREFIX
    return answers.RESERVE_PREFIX if "/reserve" in path else ""
