"""Answers and events as people read them, and as one JSON object for programs.

Quantities are in pieces: text in JSON, so that nobody's parser makes a float of them.
"""

from datetime import UTC, datetime
from typing import Any

from producers.channel.follow import Followed
from producers.channel.outcomes import Answer, EventAnswer, Undecided, Unknown, code_name
from producers.quantity import pieces_text
from schemas.codes import GRANTED, Code
from schemas.messages import DeadLetter, InventoryEvent, ReservationResult, ResultLine

QUANTITY_FIELDS = frozenset({"quantity", "available", "invalid_quantity"})


def clock_text(at_ms: int) -> str:
    """Broker time as a person's local time of day."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _plain(value: Any) -> Any:
    """Structs to dicts, with quantities in pieces; bytes as text."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if not hasattr(value, "__struct_fields__"):
        return value
    fields = {name: getattr(value, name) for name in value.__struct_fields__}
    return {
        name: pieces_text(part) if name in QUANTITY_FIELDS else _plain(part)
        for name, part in fields.items()
    }


def answer_json(answer: Answer | EventAnswer) -> dict[str, Any]:
    """Everything an outcome says; `outcome` names the code, or UNKNOWN."""
    if isinstance(answer, Unknown):
        return {"outcome": "UNKNOWN", **_plain(answer)}
    return {"outcome": code_name(answer.code), **_named(_plain(answer))}


def record_json(record: Followed) -> dict[str, Any]:
    """One followed record: its place, and what it says."""
    place: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
    }
    if isinstance(record.body, str):
        return {**place, "unreadable": record.body}
    body = _plain(record.body)
    if isinstance(record.body, DeadLetter):
        body = {f"source_{k}" if k in place else k: v for k, v in body.items()}
    return {**place, "outcome": code_name(record.body.code), **_named(body)}


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    """Add the name of its code to every line."""
    if "lines" in fields:
        lines = [{"outcome": code_name(line["code"]), **line} for line in fields["lines"]]
        return {**fields, "lines": lines}
    return fields


def answer_lines(answer: Answer | EventAnswer) -> list[str]:
    """An outcome in a few lines of text."""
    if isinstance(answer, Unknown):
        return [f"unknown: {answer.reason}", f"  request      {answer.request_id}"]
    if isinstance(answer, Undecided):
        return [
            f"set aside: {code_name(answer.code)} ({answer.reason})",
            f"  request      {answer.request_id}",
        ]
    if isinstance(answer, InventoryEvent):
        return [event_text(answer), f"  event        {answer.source_id}"]
    verdict = "accepted" if answer.code in GRANTED else "refused"
    again = " (answered before: this is that answer)" if answer.replayed else ""
    lines = [f"{verdict}: {code_name(answer.code)}{again}"]
    for line in answer.lines:
        lines += _result_lines(line, alone=len(answer.lines) == 1)
    return [*lines, f"  request      {answer.request_id}"]


def availability_lines(answer: Answer) -> list[str]:
    """What can be promised, and the terms it is made of."""
    if not isinstance(answer, ReservationResult) or answer.code != Code.INSUFFICIENT_STOCK:
        return answer_lines(answer)
    line = answer.lines[0]
    said = [f"available  {pieces_text(line.available)}"]
    if line.detail is None:
        return said
    said += [f"  at level {line.detail.level}"] if line.detail.level else []
    return said + [f"  {pieces_text(t.quantity):>12}  {t.measure}" for t in line.detail.terms]


def _result_lines(line: ResultLine, *, alone: bool) -> list[str]:
    said = [] if alone else [f"  - {code_name(line.code)}"]
    detail = line.detail
    if detail is not None and detail.message:
        said.append(f"  {detail.message}")
    said.append(f"  quantity     {pieces_text(line.quantity)}")
    said.append(f"  available    {pieces_text(line.available)}")
    said += [f"  hold         {line.hold_id}"] if line.hold_id else []
    said += [f"  reservation  {line.reservation_id}"] if line.reservation_id else []
    if detail is None:
        return said
    if detail.invalid_quantity:
        said.append(f"  not reserved {pieces_text(detail.invalid_quantity)}")
    if detail.expires_at_ms is not None:
        said.append(f"  expires      {clock_text(detail.expires_at_ms)}")
    if detail.level:
        said.append(f"  level        {detail.level}")
    said += [f"    {pieces_text(t.quantity):>12}  {t.measure}" for t in detail.terms]
    if detail.next_free_at_ms is not None:
        said.append(f"  may free at  {clock_text(detail.next_free_at_ms)}")
    return said


def result_text(result: ReservationResult) -> str:
    """A result in one line."""
    parts = [code_name(result.code)]
    parts += [
        f"{pieces_text(line.quantity)} (available {pieces_text(line.available)})"
        + (f" hold {line.hold_id}" if line.hold_id else "")
        for line in result.lines[:3]
    ]
    if len(result.lines) > 3:
        parts.append(f"and {len(result.lines) - 3} more lines")
    if result.replayed:
        parts.append("replayed")
    return f"request {result.request_id}: {', '.join(parts)}"


def event_text(event: InventoryEvent) -> str:
    """An event in one line."""
    what = [f"{event.event_type} {code_name(event.code)}"]
    if event.product_id:
        places = ",".join(event.dimensions.values())
        what.append(f"{event.organization_id} {event.product_id} [{places}]")
    if event.quantity:
        what.append(f"quantity {pieces_text(event.quantity)}")
    if event.invalid_quantity:
        what.append(f"found nothing reserved for {pieces_text(event.invalid_quantity)}")
    what += [f"order {event.order_id}"] if event.order_id else []
    what += [f"hold {event.hold_id}"] if event.hold_id else []
    what.append(f"available {pieces_text(event.available)}")
    what += [event.message] if event.message else []
    return ", ".join(what)


def record_text(record: Followed) -> str:
    """One followed record in one line: time, partition and offset, what happened."""
    place = f"{clock_text(record.timestamp_ms)} {record.partition}/{record.offset}"
    body = record.body
    if isinstance(body, ReservationResult):
        return f"{place}  {result_text(body)}"
    if isinstance(body, InventoryEvent):
        return f"{place}  {event_text(body)}"
    if isinstance(body, DeadLetter):
        source = f"{body.topic} {body.partition}/{body.offset}"
        return f"{place}  DEAD LETTER {code_name(body.code)} of {source}: {body.reason}"
    return f"{place}  {record.topic}: cannot be read: {body}"
