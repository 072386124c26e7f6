"""Baskets across partitions: all or nothing out of requests that are each all or nothing.

A partition decides alone, so a basket over several is composed: (1) every part is reserved with a
short expiry; (2) when all are granted, every hold is confirmed, or extended to the expiry that was
wanted; else what was got is released. A client that dies in step 1 leaves nothing: the holds
expire. One that dies inside step 2 leaves the parts whose confirmation it had sent; running the
basket again under the same id finishes or undoes it, because every request of it has an id derived
from the basket's.

Written as a conversation: `converse` yields requests to be asked side by side and is sent their
answers, so that the plain and the asyncio client share it.
"""

from collections.abc import Generator, Sequence
from typing import Final

import msgspec

from producers.channel.outcomes import Answer, Undecided, Unknown, code_name
from producers.channel.requests import (
    BasketLine,
    KeyRule,
    request,
    request_line,
)
from schemas import limits
from schemas.codes import GRANTED, Code
from schemas.messages import (
    LineDetail,
    RequestLine,
    RequestOptions,
    ReservationRequest,
    ReservationResult,
    ResultLine,
)

HOLD_MS: Final = 60_000  # Step 1's expiry: longer than every answer of the basket takes.
ATTEMPTS: Final = 3  # A request whose outcome is unknown is asked this often in all.


class BasketPart(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of one partition: their numbers in the basket, and the answer to them."""

    key: bytes
    lines: tuple[int, ...]
    answer: Answer


class BasketOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a basket ended.

    Attributes:
        code: ACCEPTED; BASKET_REFUSED when a part was refused, and everything was given back; None
        when it is not
            known. Then call again with the same basket id: what was decided before is answered
            again.
        parts: the answers of step 1, in the order of the basket's first lines.
        lines: result per basket line, None where no answer is known.
        reasons: why it was not accepted, in words, per part concerned.
        unfinished: what could not be given back, in words; such holds still end by their expiry.

    """

    basket_id: str
    code: Code | None
    parts: tuple[BasketPart, ...]
    lines: tuple[ResultLine | None, ...]
    reasons: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()


class BasketPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A basket before it is asked. `expires_in_ms` None: held until released or offset."""

    basket_id: str
    channel: str
    lines: tuple[BasketLine, ...]
    expires_in_ms: int | None = None
    hold_ms: int = HOLD_MS
    actor: str = ""


Asking = tuple[ReservationRequest, bytes]
Conversation = Generator[Sequence[Asking], Sequence[Answer], BasketOutcome]


def converse(plan: BasketPlan, key_rule: KeyRule) -> Conversation:
    """Carry a basket through; yields requests with their keys, is sent the answers in that order.

    Raises:
        ValueError: no line, or a part of more than `limits.LINES_MAX` lines.

    """
    groups = _group(plan, key_rule)
    first = [_reserve(plan, number, indexes) for number, indexes in enumerate(groups.values())]
    answers = yield from _insist(list(zip(first, groups, strict=True)))
    parts = tuple(
        BasketPart(key=key, lines=indexes, answer=answer)
        for (key, indexes), answer in zip(groups.items(), answers, strict=True)
    )
    held = [
        (number, asked, part)
        for number, (asked, part) in enumerate(zip(first, parts, strict=True))
        if isinstance(part.answer, ReservationResult) and part.answer.code in GRANTED
    ]
    reasons = tuple(
        f"{_where(part.key)}: {_words(part.answer)}" for part in parts if not _accepted(part.answer)
    )
    if not reasons:
        action = "CONFIRM" if plan.expires_in_ms is None else "EXTEND"
        reasons = yield from _follow(plan, action, held)
        if not reasons:
            return _outcome(plan, Code.ACCEPTED, parts)
    left = yield from _follow(plan, "RELEASE", held)
    # An unknown part may have been granted after all: its hold ends by the short expiry.
    left += tuple(
        f"{_where(part.key)}: not known whether held"
        for part in parts
        if isinstance(part.answer, Unknown)
    )
    code = None if left else Code.BASKET_REFUSED
    return _outcome(plan, code, parts, reasons=reasons, unfinished=left)


def _group(plan: BasketPlan, key_rule: KeyRule) -> dict[bytes, tuple[int, ...]]:
    """Numbers of the basket's lines by record key, in the order in which keys first appear."""
    groups: dict[bytes, list[int]] = {}
    for index, line in enumerate(plan.lines):
        groups.setdefault(key_rule(line.item), []).append(index)
    if not groups:
        raise ValueError("a basket needs a line")
    longest = max(len(indexes) for indexes in groups.values())
    if longest > limits.LINES_MAX:
        raise ValueError(f"{longest} lines of one partition exceed {limits.LINES_MAX}")
    return {key: tuple(indexes) for key, indexes in groups.items()}


def _reserve(plan: BasketPlan, number: int, indexes: tuple[int, ...]) -> ReservationRequest:
    lines: list[RequestLine] = []
    for index in indexes:
        line = plan.lines[index]
        lines.append(
            request_line(
                line.item,
                line.quantity,
                msgspec.structs.replace(
                    line.detail, expires_in_ms=plan.hold_ms, expires_at_ms=None
                ),
                measure=line.measure,
                check_availability=line.check_availability,
            )
        )
    return request(
        "RESERVE",
        lines,
        request_id=f"{plan.basket_id}:{number}",
        organization_id=plan.lines[indexes[0]].item.organization_id,
        channel=plan.channel,
        options=RequestOptions(actor=plan.actor),
    )


def _follow(
    plan: BasketPlan, action: str, held: Sequence[tuple[int, ReservationRequest, BasketPart]]
) -> Generator[Sequence[Asking], Sequence[Answer], tuple[str, ...]]:
    """Ask `action` of every hold of these parts; says in words what did not work."""
    asking: list[Asking] = []
    for number, reserved, part in held:
        assert isinstance(part.answer, ReservationResult)
        lines = [
            _on_hold(plan, action, line, result)
            for line, result in zip(reserved.lines, part.answer.lines, strict=True)
        ]
        asked = request(
            action,
            lines,
            request_id=f"{plan.basket_id}:{number}:{action.lower()}",
            organization_id=reserved.organization_id,
            channel=plan.channel,
            options=RequestOptions(atomic=action != "RELEASE", actor=plan.actor),
        )
        asking.append((asked, part.key))
    answers = yield from _insist(asking)
    return tuple(
        f"{_where(key)}: {action.lower()} ended as {_words(answer)}"
        for (_, key), answer in zip(asking, answers, strict=True)
        if not _done(action, answer)
    )


def _on_hold(plan: BasketPlan, action: str, line: RequestLine, result: ResultLine) -> RequestLine:
    expiry = plan.expires_in_ms if action == "EXTEND" else None
    return msgspec.structs.replace(
        line, quantity=0, detail=LineDetail(hold_id=result.hold_id, expires_in_ms=expiry)
    )


def _insist(
    asking: Sequence[Asking],
) -> Generator[Sequence[Asking], Sequence[Answer], list[Answer]]:
    """Ask again what stayed unknown: the same bytes under the same id, so it is decided once."""
    answers: list[Answer] = list((yield asking)) if asking else []
    for _ in range(ATTEMPTS - 1):
        again = [index for index, answer in enumerate(answers) if isinstance(answer, Unknown)]
        if not again:
            break
        renewed = yield [asking[index] for index in again]
        for index, answer in zip(again, renewed, strict=True):
            answers[index] = answer
    return answers


def _accepted(answer: Answer) -> bool:
    return isinstance(answer, ReservationResult) and answer.code == Code.ACCEPTED


def _done(action: str, answer: Answer) -> bool:
    """Whether the holds are as wanted; a hold that is gone already needs no release."""
    if _accepted(answer):
        return True
    gone = {Code.ACCEPTED, Code.HOLD_CLOSED, Code.HOLD_EXPIRED, Code.HOLD_UNKNOWN}
    return (
        action == "RELEASE"
        and isinstance(answer, ReservationResult)
        and bool(answer.lines)
        and all(line.code in gone for line in answer.lines)
    )


def _words(answer: Answer) -> str:
    if isinstance(answer, ReservationResult):
        return code_name(answer.code)
    return answer.reason if isinstance(answer, Undecided | Unknown) else ""


def _where(key: bytes) -> str:
    return key.decode("utf-8", "replace")


def _outcome(
    plan: BasketPlan,
    code: Code | None,
    parts: tuple[BasketPart, ...],
    *,
    reasons: tuple[str, ...] = (),
    unfinished: tuple[str, ...] = (),
) -> BasketOutcome:
    lines: list[ResultLine | None] = [None] * len(plan.lines)
    for part in parts:
        if isinstance(part.answer, ReservationResult):
            for index, line in zip(part.lines, part.answer.lines, strict=False):
                lines[index] = line
    return BasketOutcome(
        basket_id=plan.basket_id,
        code=code,
        parts=parts,
        lines=tuple(lines),
        reasons=reasons,
        unfinished=unfinished,
    )
