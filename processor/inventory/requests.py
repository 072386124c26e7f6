"""One request, one answer: remembered ids, the request as a whole, then its lines.

The rule: the first answer to an id is the answer, for as long as ids are remembered, whether yes or
no; the same id with other content is refused. Checks are made in the order of the numbers in
`schemas.codes`. An atomic request that fails at one line leaves nothing behind; all its lines are
looked at, so that every failing one is listed.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from processor.inventory import holds, rows as row
from processor.inventory.holds import Outcome
from processor.inventory.identity import (
    HOLD_LINES_MAX,
    hold_text,
    parse_hold,
    parse_reservation,
    reservation_text,
)
from processor.inventory.lines import (
    Refusal,
    Target,
    base_dimensions,
    detail_content,
    id_is_valid,
    level_dimensions,
    line_content,
    line_digest,
    record_key_of,
    resolve,
    text_is_valid,
)
from processor.inventory.offset_failures import dismiss_offset, retry_offset
from processor.inventory.reconfigure import configure
from processor.inventory.state import PartitionState
from processor.inventory.stock import Level, clamp
from schemas import limits
from schemas.codes import GRANTED, Code
from schemas.messages import (
    LineDetail,
    RequestLine,
    ReservationRequest,
    ReservationResult,
    ResultDetail,
    ResultLine,
    Term,
)

_encode: Final = msgspec.msgpack.Encoder().encode
_NO_HOLD: Final = -1
# Lines of a basket that are explained term by term: 512 of them with long formulas would not fit
# into one answer.
LINES_EXPLAINED_MAX: Final = 32
CONTROLS: Final = {
    "CONFIGURE": configure,
    "RETRY_OFFSET": retry_offset,
    "DISMISS_OFFSET": dismiss_offset,
}

LINE_ACTIONS: Final = frozenset(
    {"RESERVE", "UNRESERVE", "RELEASE", "EXTEND", "CONFIRM", "AMEND", "TRANSFER"}
)


def target_of(state: PartitionState, request: ReservationRequest, index: int) -> Target | Outcome:
    """What a line resolves to, from memory if it can be, or the refusal."""
    line = request.lines[index]
    key = (
        request.organization_id,
        line.product_id,
        tuple(line.dimensions.items()),
        line.measure,
        line.dimension_data_source,
    )
    target: Target | None = state.targets.get(key)
    if target is not None:
        return target
    found = resolve_line(state, request, index)
    if isinstance(found, Target) and len(key[2]) <= limits.DIMENSIONS_MAX:
        state.remember(found.level.location, key, found)  # Names in other letters: many more.
    return found


def resolve_line(
    state: PartitionState, request: ReservationRequest, index: int
) -> Target | Outcome:
    """What a line resolves to, by its words, or the refusal."""
    line = request.lines[index]
    level = resolve(state, request.organization_id, line, line.dimensions)
    if not isinstance(level, Level):
        return holds.refused(level.code, level.message)
    return Target(level, state.record_key(level.location), line_content(request, line))


def decide_request(
    state: PartitionState, request: ReservationRequest, first: Target | Outcome | None
) -> ReservationResult:
    """Decide a request. `first` is what its first line resolves to, None without lines."""
    if not id_is_valid(request.request_id, limits.REQUEST_ID_LENGTH_MAX):
        return _result(state, request, Code.REQUEST_ID_INVALID, [])
    digest = _digest(request, first)
    key = b"R" + request.request_id.encode()
    stored = state.rows.get(key)
    if stored is not None:
        decided_at_ms, answered = row.answer_head(stored)
        if decided_at_ms + state.rules.dedupe_window_ms > state.clock_ms:
            if answered != digest:
                return _result(state, request, Code.REQUEST_ID_REUSED, [])
            return _replay(state, request, decided_at_ms, row.decode_answer(stored))
    code, outcomes = _decide_new(state, request, first)
    if request.options is None or not request.options.dry_run:
        answer = row.Answer(row.FORMAT, code, [_remembered(outcome) for outcome in outcomes])
        state.rows.put(key, row.encode_answer(state.clock_ms, digest, answer))
        state.forget_later(key)
    return _result(state, request, code, [_line(outcome) for outcome in outcomes])


def _digest(request: ReservationRequest, first: Target | Outcome | None) -> bytes:
    """Digest of everything that is asked but the id; the order of dimensions does not matter."""
    lines = request.lines
    if len(lines) == 1 and request.options is None and lines[0].detail is None:
        content = first.content if isinstance(first, Target) else line_content(request, lines[0])
        quantity, checked = lines[0].quantity, lines[0].check_availability
        return line_digest(content, request.action, request.channel, quantity, checked=checked)
    digest = blake2b(digest_size=8)
    digest.update(_encode((request.action, request.channel, request.organization_id)))
    digest.update(_encode(request.options))
    for line in lines[: limits.LINES_MAX + 1]:
        digest.update(line_content(request, line))
        # As text: a quantity out of range need not fit an integer of msgpack.
        digest.update(f"{line.quantity}|{line.check_availability}|".encode())
        if line.detail is not None:
            digest.update(detail_content(line.detail))
    return digest.digest()


def _decide_new(
    state: PartitionState, request: ReservationRequest, first: Target | Outcome | None
) -> tuple[Code, list[Outcome]]:
    if request.action in CONTROLS:
        return _decide_control(state, request), []
    refusal = _refuse_request(state, request)
    if refusal is not None:
        return refusal, []
    dry_run = request.options is not None and request.options.dry_run
    if len(request.lines) == 1 and not dry_run:
        outcome = _decide_line(state, request, 0, first)
        return Code(outcome[0]), [outcome]
    return _decide_basket(state, request, first, dry_run=dry_run)


def _decide_control(state: PartitionState, request: ReservationRequest) -> Code:
    """Decide a request without lines; a dry run of it leaves nothing behind."""
    mark = state.begin()
    events_before = len(state.events)
    code = CONTROLS[request.action](state, request)
    if request.options is not None and request.options.dry_run:
        state.undo(mark)
        del state.events[events_before:]
    state.end()
    return code


def _refuse_request(state: PartitionState, request: ReservationRequest) -> Code | None:
    """The first reason to refuse the request as a whole, None if there is none."""
    if request.action not in LINE_ACTIONS:
        return Code.ACTION_UNKNOWN if request.lines else Code.NO_LINES
    if not request.lines:
        return Code.NO_LINES
    if len(request.lines) > limits.LINES_MAX:
        return Code.TOO_MANY_LINES
    if not id_is_valid(request.organization_id, limits.ORGANIZATION_LENGTH_MAX):
        return Code.ORGANIZATION_INVALID
    if len(request.lines) > 1 and _spans_partitions(state, request):
        return Code.SPANS_PARTITIONS
    if not state.rules.reservation_enabled and request.action == "RESERVE":
        return Code.RESERVATION_DISABLED
    if not _texts_are_valid(request):
        return Code.TEXT_INVALID
    state.note_channel(request.channel)
    return None


def _spans_partitions(state: PartitionState, request: ReservationRequest) -> bool:
    keys = {
        record_key_of(
            state.rules,
            request.organization_id,
            line.product_id,
            base_dimensions(state.rules, line.dimension_data_source, line.dimensions),
        )
        for line in request.lines
    }
    return len(keys - {None}) > 1


def _texts_are_valid(request: ReservationRequest) -> bool:
    if not text_is_valid(request.channel, limits.CHANNEL_LENGTH_MAX):
        return False
    if request.options and not text_is_valid(request.options.actor, limits.TEXT_LENGTH_MAX):
        return False
    return all(_detail_is_valid(line.detail) for line in request.lines if line.detail)


def _detail_is_valid(detail: LineDetail) -> bool:
    ids = (detail.order_id, detail.order_line_id, detail.hold_id, detail.reservation_id)
    return all(text_is_valid(text, limits.TEXT_LENGTH_MAX) for text in ids) and text_is_valid(
        detail.external_reference, limits.REFERENCE_LENGTH_MAX
    )


def _decide_basket(
    state: PartitionState,
    request: ReservationRequest,
    first: Target | Outcome | None,
    *,
    dry_run: bool,
) -> tuple[Code, list[Outcome]]:
    """Decide every line after the ones before it; take all back if it must not stay."""
    atomic = request.options is None or request.options.atomic
    mark = state.begin()
    events_before = len(state.events)
    outcomes = [
        _decide_line(state, request, index, first if index == 0 else None)
        for index in range(len(request.lines))
    ]
    code = basket_code([outcome[0] for outcome in outcomes], atomic=atomic)
    if code not in GRANTED or dry_run:
        state.undo(mark)
        del state.events[events_before:]
    state.end()
    if code not in GRANTED and atomic and len(outcomes) > 1:
        outcomes = [_taken_back(outcome) for outcome in outcomes]
    explained = outcomes[:LINES_EXPLAINED_MAX]
    return code, [*explained, *(_brief(outcome) for outcome in outcomes[LINES_EXPLAINED_MAX:])]


def _brief(outcome: Outcome) -> Outcome:
    """A line without the terms of its explanation."""
    code, level, number, quantity, available, detail = outcome
    if detail is not None and detail.terms:
        detail = msgspec.structs.replace(detail, terms=[])
    return (code, level, number, quantity, available, detail)


def basket_code(codes: Sequence[int], *, atomic: bool) -> Code:
    """Code of a request by those of its lines: atomic, the first that failed; else what was got."""
    failed = [code for code in codes if code not in GRANTED]
    if failed and (atomic or len(failed) == len(codes)):
        return Code(failed[0])
    if failed or Code.PARTIAL in codes:
        return Code.PARTIAL
    return Code.ACCEPTED


def _taken_back(outcome: Outcome) -> Outcome:
    """A line of a basket that was refused: what it says of availability is how it is now."""
    code, level, _, _, _, detail = outcome
    available = clamp(level.available()) if level is not None else 0
    if code in GRANTED:
        return (Code.BASKET_REFUSED, level, _NO_HOLD, 0, available, None)
    return (code, level, _NO_HOLD, 0, available, detail)


def _decide_line(
    state: PartitionState, request: ReservationRequest, index: int, first: Target | Outcome | None
) -> Outcome:
    target = target_of(state, request, index) if first is None else first
    line = request.lines[index]
    level = target.level if isinstance(target, Target) else None
    if request.action != "RESERVE" and not _is_named(level, line.detail):
        level = _level_of_named(state, request, line) or level
    if level is None:
        assert not isinstance(target, Target)
        return target
    state.touch(level.location)
    number = state.sequence * HOLD_LINES_MAX + index
    action = request.action
    if action == "RESERVE":
        return holds.reserve(state, request, line, level, number)
    if action == "UNRESERVE":
        return holds.unreserve(state, line, level)
    if action == "RELEASE":
        return holds.release(state, line, level)
    if action == "AMEND":
        return holds.amend(state, request, line, level)
    if action == "TRANSFER":
        return holds.transfer(state, request, line, level, number)
    return holds.prolong(state, request, line, level)


def _is_named(level: Level | None, detail: LineDetail | None) -> bool:
    """Whether a line's words lead to the level of the hold or reservation that it names."""
    if level is None or detail is None:
        return detail is None
    named = detail.hold_id or detail.reservation_id
    return not named or named.startswith(level.reservation_id)


def _level_of_named(
    state: PartitionState, request: ReservationRequest, line: RequestLine
) -> Level | None:
    """The level of a hold or reservation that is named, where no words lead to it any more.

    Holds keep the dimension values they were made with: after another hierarchy came into force,
    the same words may mean a coarser level, or none. What the line says must not contradict them.
    """
    rules, detail = state.rules, line.detail
    base = base_dimensions(rules, line.dimension_data_source, line.dimensions)
    values = None if isinstance(base, Refusal) else rules.partition_values(base)
    if detail is None or values is None or isinstance(base, Refusal):
        return None
    location = state.location(request.organization_id, line.product_id, values)
    hold = parse_hold(detail.hold_id)
    reservation = hold[0] if hold else parse_reservation(detail.reservation_id)
    level = location.levels.get(reservation) if reservation else None
    if level is not None and not (level.reserved or level.unswept):
        level = None  # It may or may not be in memory: that must not make a difference.
    if hold and level is None:
        place = holds.place_of_hold(state, location, row.hold_key(*hold))
        level = None if place is None else location.level(place.dimensions, place.measure)
    if level is None:
        return None
    named = level.place.dimensions
    agrees = all(base.get(name, value) == value for name, value in named.items())
    if not agrees or level_dimensions(rules, named) == named:
        return None
    state.cross_for(level)
    return level


# Answers.


def _result(
    state: PartitionState, request: ReservationRequest, code: Code, lines: list[ResultLine]
) -> ReservationResult:
    return ReservationResult(
        request.request_id,
        int(code),
        state.sequence,
        state.clock_ms,
        state.source_offset,
        False,
        lines,
    )


def _line(outcome: Outcome) -> ResultLine:
    code, level, number, quantity, available, detail = outcome
    reservation_id = "" if level is None else level.reservation_id
    hold_id = "" if number < 0 else hold_text(reservation_id, number)
    return ResultLine(int(code), reservation_id, hold_id, quantity, available, detail)


def _remembered(outcome: Outcome) -> row.AnswerLine:
    code, level, number, quantity, available, detail = outcome
    reservation = b"" if level is None else level.reservation
    kept = None if detail is None else _kept_detail(detail)
    return row.AnswerLine(int(code), reservation, number, quantity, available, kept)


def _kept_detail(detail: ResultDetail) -> row.AnswerDetail:
    terms = [(term.measure, term.quantity) for term in detail.terms]
    return row.AnswerDetail(
        detail.invalid_quantity,
        detail.expires_at_ms,
        detail.level,
        terms,
        detail.next_free_at_ms,
        detail.message,
    )


def _replay(
    state: PartitionState, request: ReservationRequest, decided_at_ms: int, answer: row.Answer
) -> ReservationResult:
    """The answer that was given first, with this record's own position."""
    lines = [_replayed_line(line) for line in answer.lines]
    return ReservationResult(
        request.request_id,
        answer.code,
        state.sequence,
        decided_at_ms,
        state.source_offset,
        True,
        lines,
    )


def _replayed_line(line: row.AnswerLine) -> ResultLine:
    reservation_id = reservation_text(line.reservation) if line.reservation else ""
    hold_id = "" if line.number < 0 else hold_text(reservation_id, line.number)
    detail = None
    if line.detail is not None:
        kept = line.detail
        detail = ResultDetail(
            invalid_quantity=kept.invalid_quantity,
            expires_at_ms=kept.expires_at_ms,
            level=kept.level,
            terms=[Term(name, quantity) for name, quantity in kept.terms],
            next_free_at_ms=kept.next_free_at_ms,
            message=kept.message,
        )
    return ResultLine(line.code, reservation_id, hold_id, line.quantity, line.available, detail)
