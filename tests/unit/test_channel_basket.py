"""Baskets across partitions: what is asked in which order, whatever is answered."""

from collections.abc import Callable, Sequence

import pytest

from producers.channel.basket import ATTEMPTS, BasketOutcome, BasketPlan, converse
from producers.channel.outcomes import Answer, Unknown
from producers.channel.requests import BasketLine, Item, key_by_location
from schemas import limits
from schemas.codes import Code
from schemas.messages import RequestOptions, ReservationRequest, ReservationResult, ResultLine

Reply = Callable[[ReservationRequest], Answer]


def _line(site: str, product: str = "D0002") -> BasketLine:
    return BasketLine(Item("usmf", product, {"siteid": site, "locationid": "11"}), 2)


def _plan(*sites: str, expires_in_ms: int | None = None) -> BasketPlan:
    lines = tuple(_line(site, f"P{number}") for number, site in enumerate(sites))
    return BasketPlan(
        basket_id="b", channel="web-shop", lines=lines, expires_in_ms=expires_in_ms, hold_ms=5_000
    )


def _answer(asked: ReservationRequest, code: Code = Code.ACCEPTED) -> ReservationResult:
    lines = [
        ResultLine(code, "r", f"{asked.request_id}/{index}", line.quantity, 0)
        for index, line in enumerate(asked.lines)
    ]
    return ReservationResult(asked.request_id, code, 1, 0, 0, False, lines)


def _carry(plan: BasketPlan, reply: Reply) -> tuple[BasketOutcome, list[list[ReservationRequest]]]:
    """Carry the basket through with a scripted worker; what was asked, round by round."""
    rounds: list[list[ReservationRequest]] = []
    conversation = converse(plan, key_by_location)
    answers: Sequence[Answer] | None = None
    for _ in range(20):
        try:
            asking = next(conversation) if answers is None else conversation.send(answers)
        except StopIteration as end:
            return end.value, rounds
        rounds.append([asked for asked, _ in asking])
        answers = [reply(asked) for asked, _ in asking]
    raise AssertionError("the conversation does not end")


def test_all_granted_is_confirmed() -> None:
    """When every partition grants, every hold is confirmed, and the basket is accepted."""
    outcome, rounds = _carry(_plan("1", "2", "1"), _answer)
    assert outcome.code is Code.ACCEPTED
    assert [[asked.action for asked in asking] for asking in rounds] == [
        ["RESERVE", "RESERVE"],
        ["CONFIRM", "CONFIRM"],
    ]
    first = rounds[0][0]
    assert [line.product_id for line in first.lines] == ["P0", "P2"]
    assert all(line.detail and line.detail.expires_in_ms == 5_000 for line in first.lines)
    held = [line.detail.hold_id for line in rounds[1][0].lines if line.detail]
    assert held == ["b:0/0", "b:0/1"]
    assert [line.hold_id for line in outcome.lines if line] == ["b:0/0", "b:1/0", "b:0/1"]


def test_wanted_expiry_is_set_when_all_are_granted() -> None:
    """A basket with an expiry of its own is extended to it instead of confirmed."""
    outcome, rounds = _carry(_plan("1", "2", expires_in_ms=900_000), _answer)
    assert outcome.code is Code.ACCEPTED
    assert {asked.action for asked in rounds[1]} == {"EXTEND"}
    detail = rounds[1][0].lines[0].detail
    assert detail is not None
    assert detail.expires_in_ms == 900_000


def test_one_refusal_gives_everything_back() -> None:
    """When one partition refuses, exactly what the others granted is released."""

    def reply(asked: ReservationRequest) -> Answer:
        refused = asked.request_id == "b:1"
        return _answer(asked, Code.INSUFFICIENT_STOCK if refused else Code.ACCEPTED)

    outcome, rounds = _carry(_plan("1", "2", "3"), reply)
    assert outcome.code is Code.BASKET_REFUSED
    assert outcome.reasons == ("usmf|2|11: INSUFFICIENT_STOCK",)
    assert outcome.unfinished == ()
    assert [(a.request_id, a.action) for a in rounds[1]] == [
        ("b:0:release", "RELEASE"),
        ("b:2:release", "RELEASE"),
    ]


def test_what_was_granted_in_part_is_given_back_too() -> None:
    """By a minimum, less than all: the basket is refused, and holds nothing."""
    outcome, rounds = _carry(
        _plan("1", "2"),
        lambda asked: _answer(asked, Code.PARTIAL if asked.request_id == "b:1" else Code.ACCEPTED),
    )
    assert outcome.code is Code.BASKET_REFUSED
    assert [(a.request_id, a.action) for a in rounds[1]] == [
        ("b:0:release", "RELEASE"),
        ("b:1:release", "RELEASE"),
    ]
    assert outcome.unfinished == ()


def test_unknown_is_asked_again_with_the_same_bytes() -> None:
    """A request without an answer is repeated unchanged, so that it counts once."""
    seen: list[ReservationRequest] = []

    def reply(asked: ReservationRequest) -> Answer:
        if asked.request_id == "b:1" and len(seen) < 1:
            seen.append(asked)
            return Unknown(request_id=asked.request_id, reason="no answer")
        return _answer(asked)

    outcome, rounds = _carry(_plan("1", "2"), reply)
    assert outcome.code is Code.ACCEPTED
    assert rounds[1] == seen


def test_forever_unknown_is_said_and_the_rest_given_back() -> None:
    """A partition that never answers leaves the basket unknown, and nothing of the others held."""

    def reply(asked: ReservationRequest) -> Answer:
        if asked.request_id == "b:1":
            return Unknown(request_id=asked.request_id, reason="no answer")
        return _answer(asked)

    outcome, rounds = _carry(_plan("1", "2"), reply)
    assert outcome.code is None
    assert outcome.unfinished == ("usmf|2|11: not known whether held",)
    assert len(rounds) == ATTEMPTS + 1
    assert [asked.request_id for asked in rounds[-1]] == ["b:0:release"]


def test_failed_confirmation_undoes_the_basket() -> None:
    """A hold that expired before its confirmation makes the basket refused, and all is released."""

    def reply(asked: ReservationRequest) -> Answer:
        if asked.request_id == "b:0:confirm":
            return _answer(asked, Code.HOLD_EXPIRED)
        if asked.request_id == "b:0:release":
            return _answer(asked, Code.HOLD_CLOSED)
        return _answer(asked)

    outcome, rounds = _carry(_plan("1", "2"), reply)
    assert outcome.code is Code.BASKET_REFUSED
    assert outcome.reasons == ("usmf|1|11: confirm ended as HOLD_EXPIRED",)
    assert [asked.action for asked in rounds[2]] == ["RELEASE", "RELEASE"]


def test_release_that_fails_is_said() -> None:
    """What could not be given back is named, and the outcome is not called refused."""

    def reply(asked: ReservationRequest) -> Answer:
        bad = {"b:1": Code.INSUFFICIENT_STOCK, "b:0:release": Code.REQUEST_ID_REUSED}
        return _answer(asked, bad.get(asked.request_id, Code.ACCEPTED))

    outcome, _ = _carry(_plan("1", "2"), reply)
    assert outcome.code is None
    assert outcome.unfinished == ("usmf|1|11: release ended as REQUEST_ID_REUSED",)


@pytest.mark.parametrize("count", [0, limits.LINES_MAX + 1])
def test_impossible_basket_is_refused_before_anything_is_asked(count: int) -> None:
    """No line, or more than one request may carry for one partition, asks nothing."""
    with pytest.raises(ValueError, match=r"needs a line|exceed"):
        _carry(_plan(*["1"] * count), _answer)


def _atomic(rounds: list[list[ReservationRequest]]) -> dict[str, set[bool]]:
    """Whether what was asked is all or nothing, by action."""
    found: dict[str, set[bool]] = {}
    for asked in (one for asking in rounds for one in asking):
        options = asked.options or RequestOptions()  # None on the wire: the defaults.
        found.setdefault(asked.action, set()).add(options.atomic)
    return found


def test_a_release_gives_back_what_it_can_and_a_confirmation_all_or_nothing() -> None:
    """One hold that is gone already must not keep the others of its part from being released."""

    def reply(asked: ReservationRequest) -> Answer:
        refused = asked.request_id == "b:0:confirm"
        return _answer(asked, Code.HOLD_EXPIRED if refused else Code.ACCEPTED)

    _, confirmed = _carry(_plan("1", "2", "1"), reply)
    assert _atomic(confirmed[1:]) == {"CONFIRM": {True}, "RELEASE": {False}}
    _, extended = _carry(_plan("1", "2", "1", expires_in_ms=900_000), _answer)
    assert _atomic(extended[1:]) == {"EXTEND": {True}}
