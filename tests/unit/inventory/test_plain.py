"""The short way of a plain request gives the rows and answers of the long way, to the byte."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import pytest
from hypothesis import example, given, settings, strategies as st

from processor.inventory import plain
from processor.inventory.configuration import default
from processor.inventory.lines import CONTENT_BYTES, SPELLINGS_MAX
from schemas import limits, quick, topics
from schemas.codec import Codec
from schemas.codes import Code
from schemas.messages import LineDetail, RequestLine, RequestOptions, ReservationRequest
from schemas.registry import FixedSchemaIds
from tests.support.partition import CODEC, RED, RED_SMALL, UNIT, Partition, line

LONG: Final = Codec(FixedSchemaIds(), compiled=False)
KEY: Final = b"usmf|1|11"
RIGHT_IDS: Final = st.sampled_from(["a", "b", "c", "d", "e", "f", "g"])
ODD_IDS: Final = st.sampled_from(["", "ä", "a\n", "x" * limits.REQUEST_ID_LENGTH_MAX, "x" * 200])
LINES: Final = st.builds(
    RequestLine,
    product_id=st.sampled_from(["D0002", "D0003"]),
    dimension_data_source=st.just(""),
    dimensions=st.sampled_from([RED_SMALL, RED, dict(reversed(RED_SMALL.items()))]),
    measure=st.sampled_from(["", "iv.softreserved"]),
    quantity=st.sampled_from(
        [-UNIT, 0, 1, UNIT, 2 * UNIT, 4 * UNIT, limits.QUANTITY_MAX // 2, limits.QUANTITY_MAX]
    ),
    check_availability=st.booleans(),
    detail=st.sampled_from([None, None, None, LineDetail(expires_in_ms=4)]),
)
REQUESTS: Final = st.builds(
    ReservationRequest,
    request_id=RIGHT_IDS | RIGHT_IDS | ODD_IDS,
    action=st.just("RESERVE"),
    organization_id=st.sampled_from(["usmf", "usmf", "usmf", "usmf", "", "dat"]),
    channel=st.sampled_from(["web", "web", "kaßa", "", "bad\n", "c" * 65]),
    lines=st.lists(LINES, min_size=1, max_size=1),
    options=st.none(),
)
KEYS: Final = st.sampled_from([KEY, KEY, KEY, KEY, b"usmf|1|12", b"|1|11", None])


@dataclass
class _Both:
    """The same records for both, which must not be told apart."""

    short: Partition
    long: Partition
    granted: int = 0

    def send(self, key: bytes | None, value: bytes) -> int:
        """Give the code of the answer, 0 for a dead letter."""
        results = [one.send(topics.REQUESTS, key, value) for one in (self.short, self.long)]
        assert self.short.written == self.long.written
        assert self.short.rows.rows == self.long.rows.rows
        assert self.short.checkpoint == self.long.checkpoint
        return results[0][0].code if results[0] else 0

    def stock(self, pieces: int, dimensions: dict[str, str] = RED_SMALL) -> None:
        """The same stock for both."""
        self.short.stock(pieces, dimensions=dimensions)
        self.long.stock(pieces, dimensions=dimensions)


def _both(*, crossing: bool = False) -> _Both:
    document = default()
    if crossing:
        mode = msgspec.structs.replace(document.reservation, mode="subset")
        document = msgspec.structs.replace(document, reservation=mode)
    both = _Both(Partition(document), Partition(document, LONG))
    decider: Any = both.short.decider
    write = decider._write_plain

    def count(*words: Any) -> bytes:
        both.granted += 1
        written: bytes = write(*words)
        return written

    decider._write_plain = count
    return both


def _plain(request_id: str, **changes: Any) -> bytes:
    words: dict[str, Any] = {"lines": [line(1)], "options": None, "action": "RESERVE"} | changes
    return CODEC.encode_request(
        ReservationRequest(
            request_id, words["action"], "usmf", "web", words["lines"], words["options"]
        )
    )


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(st.tuples(KEYS, REQUESTS, st.integers(0, 5)), max_size=40))
def test_whatever_is_asked_nobody_can_tell_which_way_it_went(
    crossing: bool,
    asked: list[tuple[bytes | None, ReservationRequest, int]],
) -> None:
    """Rows, answers, dead letters and checkpoints are those of the long way."""
    both = _both(crossing=crossing)
    both.stock(6)
    for key, request, later_ms in asked:
        both.short.now_ms += later_ms
        both.long.now_ms += later_ms
        both.send(key, CODEC.encode_request(request))


def test_what_has_come_due_is_free_again_the_short_way_too() -> None:
    """A hold that expired since counts no longer, though nothing has swept it."""
    both = _both()
    both.stock(4)
    both.send(KEY, _plain("r-1"))
    both.send(KEY, _plain("r-2", lines=[line(2, expires_in_ms=5)]))
    for one in (both.short, both.long):
        one.now_ms += 6
    assert both.send(KEY, _plain("r-3")) == Code.ACCEPTED


def test_more_than_an_answer_can_carry_goes_the_long_way() -> None:
    """What is left is clamped by the long way, so such requests are left to it."""
    both = _both()
    both.stock(1)
    half = msgspec.structs.replace(line(1, check=False), quantity=limits.QUANTITY_MAX // 2)
    codes = [both.send(KEY, _plain(f"r-{number}", lines=[half])) for number in range(5)]
    assert codes == [Code.ACCEPTED] * 5


def test_what_was_granted_once_is_granted_the_short_way_from_then_on() -> None:
    """The first request of a channel goes the long way, the next ones need not."""
    both = _both()
    both.stock(10)
    assert [both.send(KEY, _plain(f"r-{number}")) for number in range(5)] == [Code.ACCEPTED] * 5
    assert both.granted == (4 if quick.COMPILED else 0)


def test_an_organization_that_is_none_is_refused_whatever_was_granted_before() -> None:
    """A channel that is known makes no organization valid."""
    partition = Partition()
    partition.stock(10)
    assert partition.reserve(1).code == Code.ACCEPTED
    for organization in ("", "x" * (limits.ORGANIZATION_LENGTH_MAX + 1)):
        key = f"{organization}|1|11".encode()
        unchecked = [line(1, check=False)]
        answer = partition.ask("RESERVE", unchecked, organization=organization, key=key)
        assert answer.code == Code.ORGANIZATION_INVALID


def test_the_last_piece_goes_the_short_way_and_the_next_is_refused() -> None:
    """What is not granted is refused by the long way, with its words."""
    both = _both()
    both.stock(3)
    codes = [both.send(KEY, _plain(f"r-{number}")) for number in range(4)]
    assert codes == [Code.ACCEPTED] * 3 + [Code.INSUFFICIENT_STOCK]
    assert both.granted == (2 if quick.COMPILED else 0)


@pytest.mark.parametrize(
    ("request_id", "key", "changes", "code"),
    [
        ("r-1", KEY, {}, Code.ACCEPTED),  # Asked before: the answer is given again.
        ("r-1", KEY, {"lines": [line(2)]}, Code.REQUEST_ID_REUSED),
        ("n", b"usmf|1|12", {}, 0),
        ("n", None, {}, 0),
        ("n", KEY, {"lines": [line(1, check=False)], "action": "RELEASE"}, Code.HOLD_UNKNOWN),
        ("n", KEY, {"options": RequestOptions(dry_run=True)}, Code.ACCEPTED),
        ("n", KEY, {"lines": [line(1, order_id="SO-1")]}, Code.ACCEPTED),
        ("n", KEY, {"lines": [line(1), line(1)]}, Code.ACCEPTED),
        ("n", KEY, {"lines": []}, Code.NO_LINES),
    ],
)
def test_what_is_not_plain_goes_the_long_way(
    request_id: str, key: bytes | None, changes: dict[str, Any], code: int
) -> None:
    """Repeats, other keys, other actions, options, details, baskets: none is taken for plain."""
    both = _both()
    both.stock(10)
    for number in range(3):
        both.send(KEY, _plain(f"r-{number}"))
    before = both.granted
    answered = both.send(key, _plain(request_id, **changes))
    assert answered == code
    assert both.granted == before


def test_one_place_spelled_in_many_ways_fills_no_memory() -> None:
    """Spellings of one product-location are remembered up to a bound; the next are decided too."""
    partition = Partition()
    partition.stock(10)
    partition.reserve(1)
    (target,) = {id(one): one for one in partition.decider._state.targets.values()}.values()  # type: ignore[attr-defined]
    state = partition.decider._state  # type: ignore[attr-defined]
    for number in range(SPELLINGS_MAX + 10):
        plain.remember_spelling(state, b"%d" % number, target)
    assert len(target.level.location.targets) == SPELLINGS_MAX
    assert len(state.targets) == SPELLINGS_MAX
    assert partition.reserve(1, dimensions=RED).code == Code.ACCEPTED
    assert len(state.targets) == SPELLINGS_MAX


NUMBERS: Final = st.integers(-(2**62), 2**62) | st.integers(-300, 300)


@pytest.mark.skipif(plain._quick_rows is plain.pure_rows, reason="the twin is not built")
@settings(max_examples=500, deadline=None)
@example(b"s" * 40, (b"c" * 32, 1, 127, 128, -1, True))
@example(b"s" * 40, (b"c" * 31, 255, 256, 65535, -33, False))
@given(
    st.binary(min_size=24 + CONTENT_BYTES, max_size=400),
    st.tuples(
        st.text(max_size=limits.CHANNEL_LENGTH_MAX).map(str.encode),
        st.integers(1, limits.QUANTITY_MAX),
        st.integers(0, 2**62),
        NUMBERS,
        NUMBERS,
        st.booleans(),
    ),
)
def test_the_quick_twin_writes_the_same_rows(stamp: bytes, said: plain.Said) -> None:
    """Whatever the numbers, in the shortest form of each."""
    written = plain._quick_rows(stamp, said)
    if written is None:
        assert len(said[0]) > 255
        return
    assert written == plain.pure_rows(stamp, said)


@pytest.mark.skipif(plain._quick_rows is plain.pure_rows, reason="the twin is not built")
def test_the_quick_twin_leaves_what_it_has_no_room_for() -> None:
    """A stamp beyond its buffer is for the pure one; so is one cut short."""
    said = (b"web", 1, 1, 1, 1, True)
    assert plain._quick_rows(bytes(10_000), said) is None
    assert plain._quick_rows(bytes(10), said) is None
