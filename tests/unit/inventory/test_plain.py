"""The short way of a plain request gives the rows and answers of the long way, to the byte."""

from typing import Any, Final

import msgspec
import pytest
from hypothesis import example, given, settings, strategies as st

from processor.inventory import plain
from processor.inventory.configuration import default, to_json
from processor.inventory.lines import CONTENT_BYTES
from processor.inventory.state import TARGETS_REMEMBERED_MAX
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
MODES: Final = (
    ("prefix", "hierarchical"),
    ("prefix", "independent"),
    ("subset", "independent"),
    ("subset", "hierarchical"),
)


class _Both:
    """The same records for both, which must not be told apart."""

    def __init__(self, mode: str = "prefix", cross_level: str = "hierarchical") -> None:
        rules = msgspec.structs.replace(default().reservation, mode=mode, cross_level=cross_level)
        self.document = msgspec.structs.replace(default(), reservation=rules)
        self.short = Partition(self.document)
        self.long = Partition(self.document, LONG)
        self.granted = 0  # The short way.
        self._count()

    def _count(self) -> None:
        decider: Any = self.short.decider
        write = decider._write_plain

        def count(*words: Any) -> bytes:
            self.granted += 1
            written: bytes = write(*words)
            return written

        decider._write_plain = count

    def send(self, key: bytes | None, value: bytes, *, later_ms: int = 0) -> int:
        """Give the code of the answer, 0 for a dead letter."""
        results = []
        for one in (self.short, self.long):
            one.now_ms += later_ms
            results.append(one.send(topics.REQUESTS, key, value))
        assert self.short.written == self.long.written
        assert self.short.rows.rows == self.long.rows.rows
        assert self.short.checkpoint == self.long.checkpoint
        return results[0][0].code if results[0] else 0

    def stock(self, pieces: int, dimensions: dict[str, str] = RED_SMALL) -> None:
        """The same stock for both."""
        self.short.stock(pieces, dimensions=dimensions)
        self.long.stock(pieces, dimensions=dimensions)

    def restart(self) -> None:
        """Both go on from their rows."""
        self.short.restart()
        self.long.restart()
        self._count()

    def expire_by_default(self, within_ms: int | None) -> None:
        """From here on holds of channels without rules of their own expire, or do not."""
        others = msgspec.structs.replace(self.document.other_channels, default_expiry_ms=within_ms)
        document = msgspec.structs.replace(self.document, other_channels=others)
        options = RequestOptions(configuration=to_json(document))
        self.send(None, _plain(f"c-{within_ms}", action="CONFIGURE", lines=[], options=options))


def _plain(request_id: str, **changes: Any) -> bytes:
    words: dict[str, Any] = {"lines": [line(1)], "options": None, "action": "RESERVE"} | changes
    return CODEC.encode_request(
        ReservationRequest(
            request_id, words["action"], "usmf", "web", words["lines"], words["options"]
        )
    )


ASKED: Final = st.tuples(KEYS, REQUESTS.map(CODEC.encode_request), st.integers(0, 5))
CHANGED: Final = st.tuples(st.integers(5, 200), st.integers(0, 255))  # Position, byte.


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(MODES),
    st.lists(
        ASKED | ASKED | ASKED | st.tuples(ASKED, CHANGED) | st.sampled_from([None, 3, 0]),
        max_size=40,
    ),
)
def test_whatever_is_asked_nobody_can_tell_which_way_it_went(
    mode: tuple[str, str], steps: list[Any]
) -> None:
    """Rows, answers, dead letters and checkpoints are those of the long way.

    Also with a byte of the record changed, after restarts (None), and with other rules (a number:
    holds expire after so many ms, 0: they do not).
    """
    both = _Both(*mode)
    both.stock(6)
    for step in steps:
        if step is None:
            both.restart()
        elif isinstance(step, int):
            both.expire_by_default(step or None)
        elif len(step) == 2:
            (key, value, later_ms), (position, byte) = step
            at = position % len(value)
            both.send(key, value[:at] + bytes([byte]) + value[at + 1 :], later_ms=later_ms)
        else:
            key, value, later_ms = step
            both.send(key, value, later_ms=later_ms)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_has_a_short_way(mode: tuple[str, str]) -> None:
    """Whatever levels there are, and whether they may promise a piece twice."""
    both = _Both(*mode)
    both.stock(10)
    for number in range(3):
        assert both.send(KEY, _plain(f"r-{number}")) == Code.ACCEPTED
    assert both.granted == (2 if quick.COMPILED else 0)


def test_a_map_that_names_a_dimension_again_and_again_is_not_remembered() -> None:
    """It is decided, and what is kept of a place stays within its bound."""
    both = _Both()
    both.stock(10)
    both.send(KEY, _plain("r-0"))
    usual = _plain("r-1")
    four, more = b"\x08", b"\x0csiteid\x021"
    assert usual.count(four + more) == 1
    odd = usual.replace(four + more, b"\xd8\x04" + 297 * more, 1)  # 300 items.
    assert both.send(KEY, odd) == Code.ACCEPTED
    decider: Any = both.short.decider
    spelled = [key for key in decider._state.targets if isinstance(key, bytes)]
    assert all(len(key) <= plain.PLACE_BYTES_MAX for key in spelled)


def test_what_has_come_due_is_free_again_the_short_way_too() -> None:
    """A hold that expired since counts no longer, though nothing has swept it."""
    both = _Both()
    both.stock(4)
    both.send(KEY, _plain("r-1"))
    both.send(KEY, _plain("r-2", lines=[line(2, expires_in_ms=5)]))
    assert both.send(KEY, _plain("r-3"), later_ms=6) == Code.ACCEPTED


def test_more_than_an_answer_can_carry_is_clamped_the_short_way_too() -> None:
    """What is left is told as far as a field of the answer can carry it."""
    both = _Both()
    both.stock(1)
    half = msgspec.structs.replace(line(1, check=False), quantity=limits.QUANTITY_MAX // 2)
    codes = [both.send(KEY, _plain(f"r-{number}", lines=[half])) for number in range(5)]
    assert codes == [Code.ACCEPTED] * 5


def test_what_was_granted_once_is_granted_the_short_way_from_then_on() -> None:
    """The first request of a channel goes the long way, the next ones need not."""
    both = _Both()
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
    both = _Both()
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
    both = _Both()
    both.stock(10)
    for number in range(3):
        both.send(KEY, _plain(f"r-{number}"))
    before = both.granted
    answered = both.send(key, _plain(request_id, **changes))
    assert answered == code
    assert both.granted == before


def test_one_place_spelled_in_many_ways_fills_no_memory() -> None:
    """What is remembered of one product-location begins anew at its bound, and grants go on."""
    both = _Both()
    both.stock(10)
    both.send(KEY, _plain("r-0"))
    decider: Any = both.short.decider
    state = decider._state
    (location,) = state.locations.values()
    target = next(iter(state.targets.values()))
    for number in range(TARGETS_REMEMBERED_MAX + 10):
        state.remember(location, b"%d" % number, target)
    assert len(location.targets) == len(state.targets) < TARGETS_REMEMBERED_MAX
    assert both.send(KEY, _plain("r-1")) == Code.ACCEPTED


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
