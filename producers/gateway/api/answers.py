"""What became of a record, in the original's words; and in honest ones, where that is the style.

Compatible: the original's `statusCode` stands in the body, and a refusal by the stock is its 500.
The HTTP status is 200 then all the same: the gateway did its work, and a 500 on the wire would make
proxies and retrying clients ask again for what was answered. A fault of the caller's is 400 in both
places. Honest: the HTTP status is 409, 400 or 422, the body a problem (RFC 9457) that explains, and
`statusCode` says the same, in a bulk too: never 500 for a refusal.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import orjson
from starlette.responses import Response

from producers.channel.outcomes import Undecided, Unknown, code_name
from producers.gateway.positions import HEADER, Position, header_value
from producers.gateway.problems import PROBLEM_TYPE, TYPE_PREFIX
from producers.gateway.writer import NotSent, Told, Written
from producers.quantity import pieces_text
from schemas.codes import GRANTED, Code
from schemas.limits import QUANTITY_SCALE
from schemas.messages import InventoryEvent, ReservationResult, ResultLine

RESERVE_PREFIX: Final = "ohre~"
UNRESERVE_PREFIX: Final = "ohoe~"

_ACCEPTED: Final = int(Code.ACCEPTED)
_DONE_EVENTS: Final = frozenset(
    {Code.APPLIED, Code.OFFSET_APPLIED, Code.OFFSET_PARTIAL, Code.DUPLICATE, Code.STALE}
)
# The original's 500: the request is well formed, and cannot be done.
_REFUSED_BY_STOCK: Final = frozenset(
    {
        Code.INSUFFICIENT_STOCK,
        Code.AVAILABILITY_BOUND,
        Code.PARTITION_DIMENSION_MISSING,
        Code.RESERVATION_DISABLED,
    }
)
HONEST: Final[Mapping[int, int]] = {
    Code.INSUFFICIENT_STOCK: 409,
    Code.AVAILABILITY_BOUND: 409,
    Code.RESERVATION_DISABLED: 409,
    Code.REQUEST_ID_REUSED: 409,
    Code.HOLD_CLOSED: 409,
    Code.HOLD_EXPIRED: 409,
    Code.NOTHING_RESERVED: 409,
    Code.RESERVATION_UNKNOWN: 404,
    Code.HOLD_UNKNOWN: 404,
    Code.DATA_SOURCE_PROTECTED: 403,
    Code.MEASURE_NOT_RESERVABLE: 422,
    Code.MEASURE_UNKNOWN: 422,
    Code.MEASURE_RESERVED: 422,
    Code.QUANTITY_INVALID: 422,
    Code.QUANTITY_OUT_OF_RANGE: 422,
    Code.EXPIRY_INVALID: 422,
}
_WORDS: Final[Mapping[int, str]] = {
    Code.INSUFFICIENT_STOCK: "not enough is available for reservation",
    Code.QUANTITY_INVALID: "the quantity must be positive while availability is checked",
    Code.RESERVATION_UNKNOWN: "no such reservation id of that product and dimensions",
    Code.NOTHING_RESERVED: "nothing is reserved there",
    Code.REQUEST_ID_REUSED: "the id was used before, for other content",
    Code.DATA_SOURCE_PROTECTED: "the data source belongs to the ERP",
    Code.PARTITION_DIMENSION_MISSING: "a dimension of the partition is missing",
    Code.LEVEL_NOT_RESERVABLE: "this combination of dimensions cannot be reserved",
    Code.DIMENSION_UNKNOWN: "a dimension is unknown",
    Code.DATA_SOURCE_UNKNOWN: "the data source is unknown",
    Code.MEASURE_UNKNOWN: "the measure is unknown",
    Code.MEASURE_NOT_RESERVABLE: "no availability is mapped to the measure",
    Code.MEASURE_RESERVED: "an on-hand change may not touch a reservation measure",
    Code.DUPLICATE: "this id was counted before",
    Code.STALE: "a later count is in force already",
}

Answer = dict[str, Any]


def number(quantity: int) -> Any:
    """Quantity of 10^-6 as an exact JSON number."""
    whole, rest = divmod(quantity, QUANTITY_SCALE)
    return whole if not rest else orjson.Fragment(pieces_text(quantity).encode())


def reserve_answer(event_id: str, outcome: Written, *, negative: bool = False) -> Answer:
    """Answer to one reservation."""
    usual = _accepted(event_id, outcome)
    if usual is not None:
        return usual
    answer: Answer = {"reservationId": "", "id": RESERVE_PREFIX + event_id}
    if isinstance(outcome, ReservationResult):
        line = _line(outcome)
        answer["reservationId"] = line.reservation_id
        # The line says why, unless the request as a whole was refused.
        code = line.code if outcome.code in {*GRANTED, Code.BASKET_REFUSED} else outcome.code
        if line.hold_id:
            answer["holdId"] = line.hold_id
        _decided(answer, code, line, negative=negative)
        if code == Code.INSUFFICIENT_STOCK:
            answer["available"] = number(line.available)
        return answer
    return _undecided(answer, outcome)


def _accepted(event_id: str, outcome: Written) -> Answer | None:
    """Answer to a reservation that was accepted as a whole, as most are; None to any other."""
    if type(outcome) is not ReservationResult or outcome.code != _ACCEPTED or not outcome.lines:
        return None
    line = outcome.lines[0]
    if line.code != _ACCEPTED or not line.hold_id:
        return None
    return {
        "reservationId": line.reservation_id,
        "id": RESERVE_PREFIX + event_id,
        "holdId": line.hold_id,
        "processingStatus": "success",
        "message": "",
        "statusCode": 200,
    }


def unreserve_answer(event_id: str, outcome: Written, reservation_id: str, asked: int) -> Answer:
    """Answer to one unreserve; `asked` is its OffsetQty in 10^-6."""
    answer: Answer = {"reservationId": reservation_id, "id": UNRESERVE_PREFIX + event_id}
    if not isinstance(outcome, ReservationResult):
        return _undecided({**answer, "totalInvalidOffsetQtyByReservId": 0}, outcome)
    line = _line(outcome)
    code = line.code if outcome.code in {*GRANTED, Code.BASKET_REFUSED} else outcome.code
    invalid = line.detail.invalid_quantity if line.detail else 0
    if code == Code.NOTHING_RESERVED:
        # Beyond what is reserved, which is nothing: all of it is invalid, as the rule says.
        code, invalid = Code.PARTIAL, asked
    elif code not in GRANTED:
        invalid = asked
    answer["totalInvalidOffsetQtyByReservId"] = number(invalid)
    return _decided(answer, code, line)


def change_answer(event_id: str, outcome: Written) -> Answer:
    """Answer to one on-hand change or count."""
    answer: Answer = {"id": event_id}
    if not isinstance(outcome, InventoryEvent):
        return _undecided(answer, outcome)
    code = outcome.code
    done = code in _DONE_EVENTS
    answer["processingStatus"] = "success" if done else "failure"
    answer["message"] = "" if code == Code.APPLIED else outcome.message or _words(code)
    answer["statusCode"] = 200 if done else _status(code)
    if not done:
        answer["code"] = code_name(code)
    return answer


def refusal_answer(prefix: str, event_id: str, status: int, code: Code, message: str) -> Answer:
    """Answer to a record that was not sent because it is wrong as it stands."""
    return {
        **({"reservationId": ""} if prefix else {}),
        "id": prefix + event_id,
        "processingStatus": "failure",
        "message": message,
        "statusCode": status,
        "code": code.name,
    }


def _line(result: ReservationResult) -> ResultLine:
    return result.lines[0] if result.lines else ResultLine(result.code, "", "", 0, 0)


def _decided(answer: Answer, code: int, line: ResultLine, *, negative: bool = False) -> Answer:
    granted = code in GRANTED
    status = "failure" if not granted else "success" if code == Code.ACCEPTED else "partialSuccess"
    answer["processingStatus"] = status
    answer["message"] = "" if granted else _message(code, line)
    answer["statusCode"] = 200 if granted else _status(code, negative=negative)
    if not granted:
        answer["code"] = code_name(code)
    return answer


def _message(code: int, line: ResultLine) -> str:
    words = line.detail.message if line.detail else ""
    return words or _words(code)


def _words(code: int) -> str:
    known = _WORDS.get(code)  # A code is its number.
    return known or code_name(code).lower().replace("_", " ")


def _status(code: int, *, negative: bool = False) -> int:
    """The original's number in the body."""
    if code in _REFUSED_BY_STOCK or (code == Code.QUANTITY_INVALID and negative):
        return 500
    return 409 if code == Code.REQUEST_ID_REUSED else 400


def _undecided(answer: Answer, outcome: Any) -> Answer:
    if isinstance(outcome, Unknown):
        answer |= {"processingStatus": "pending", "message": outcome.reason, "statusCode": 202}
    elif isinstance(outcome, Undecided):
        # Set aside as a dead letter: nothing was changed, and the same again would end alike.
        message = f"{code_name(outcome.code)}: {outcome.reason}"
        answer |= {"processingStatus": "failure", "message": message, "statusCode": 500}
        answer["code"] = code_name(outcome.code)
    else:
        assert isinstance(outcome, NotSent)
        status = 409 if outcome.reused else 413 if outcome.too_large else 503
        answer |= {"processingStatus": "failure", "message": outcome.reason, "statusCode": status}
        if outcome.reused:
            answer["code"] = Code.REQUEST_ID_REUSED.name
    return answer


def single(answer: Answer, positions: Sequence[Position], record_id: str, style: str) -> Response:
    """HTTP answer to a single record."""
    status: int = answer["statusCode"]
    headers = _position_headers(positions)
    if status == 202:
        headers["Location"] = decision_path(record_id)
    if status in {200, 202}:
        return Json(answer, status, headers)
    if status == 503:
        headers["Retry-After"] = "1"
    if style == "compatible":
        wire = 200 if status == 500 else status
        return Json(answer, wire, headers)
    return _problem(answer, headers)


def many(
    answers: Sequence[Answer], positions: Sequence[Position], pending: str, style: str
) -> Response:
    """HTTP answer to a bulk: an array, each record with its own `statusCode`.

    `pending` is the id of the first that is not known yet, if one is not.
    """
    if style != "compatible":
        for answer in answers:
            answer["statusCode"] = _honest(answer)
    headers = _position_headers(positions)
    if pending:
        headers["Location"] = decision_path(pending)
    return Json(answers, 202 if pending else 200, headers)


def write_headers(tolds: Sequence[Told]) -> dict[str, str]:
    """`Holdfast-Position` of what was written."""
    return _position_headers([told.position for told in tolds if told.position is not None])


def _position_headers(positions: Sequence[Position]) -> dict[str, str]:
    return {HEADER: header_value(positions)} if positions else {}


def decision_path(record_id: str) -> str:
    """Where the answer to a request id can be looked up."""
    return f"/v1/decisions/{quote(record_id, safe='')}"


def _honest(answer: Answer) -> int:
    """HTTP status of an answer: what its code means, not the original's number."""
    name = answer.get("code", "")
    status: int = answer["statusCode"]
    if name not in Code.__members__:
        return status
    code = Code[name]
    if code >= Code.RECORD_EMPTY:
        return 500
    return HONEST.get(code, 400 if status == 500 else status)


def _problem(answer: Answer, headers: dict[str, str]) -> Response:
    name = answer.get("code", "")
    status = _honest(answer)
    kind = name.lower().replace("_", "-") or "not-done"
    body = {
        "type": TYPE_PREFIX + kind,
        "title": kind.replace("-", " "),
        "status": status,
        "detail": answer["message"],
        **answer,
        "statusCode": status,
    }
    return Response(
        orjson.dumps(body), status_code=status, media_type=PROBLEM_TYPE, headers=headers
    )


class Json(Response):
    """JSON. Its headers are written down at once: the general way costs more than the JSON."""

    def __init__(self, body: Any, status: int, headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.background = None
        self.body = orjson.dumps(body)
        self.raw_headers = [
            *[(name.lower().encode("latin-1"), v.encode("latin-1")) for name, v in headers.items()],
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", b"application/json"),
        ]
