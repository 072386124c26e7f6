"""Holds in time: expiry, grace, extension, change, move; baskets."""

import msgspec
import pytest

from processor.engine.ports import TickWish
from processor.inventory import expiry, rows as row
from processor.inventory.configuration import Configuration, Expiry, default, to_json
from schemas.codes import Code
from schemas.messages import RequestOptions
from tests.support.partition import RED, RED_SMALL, UNIT, WAREHOUSE, Partition, line, pieces

GRACE_MS = 5_000
BLUE_SMALL = RED_SMALL | {"colorid": "blue"}


def with_grace() -> Configuration:
    """The default with a grace."""
    return msgspec.structs.replace(default(), grace_ms=GRACE_MS)


@pytest.mark.parametrize(("nudge_ms", "available"), [(-1, 6), (0, 10), (1, 10)])
def test_a_hold_ends_exactly_at_its_expiry(nudge_ms: int, available: float) -> None:
    """A millisecond before its expiry a hold counts; at its expiry it does not, swept or not."""
    partition = Partition()
    partition.stock(10)
    partition.reserve(4, expires_in_ms=1_000)
    partition.now_ms += 1_000 + nudge_ms
    answer = partition.reserve(11)
    assert pieces(answer.available) == available


def test_the_clock_never_goes_back() -> None:
    """A record with an older timestamp does not bring an expired hold back."""
    partition = Partition()
    partition.stock(10)
    partition.reserve(4, expires_in_ms=1_000)
    partition.now_ms += 1_000
    partition.tick()
    partition.now_ms -= 900
    assert partition.available() == 10


def test_the_sweep_tells_of_every_hold_that_ended() -> None:
    """One HOLD_EXPIRED event a hold, and no row of it is left."""
    partition = Partition()
    partition.stock(10)
    held = partition.reserve(4, expires_in_ms=1_000, order_id="SO-1")
    partition.restart()
    partition.now_ms += 1_000
    partition.tick()
    (event,) = partition.events
    assert (event.event_type, event.code, event.hold_id) == (
        "HOLD_EXPIRED",
        Code.EXPIRED,
        held.hold_id,
    )
    assert (pieces(event.quantity), event.order_id, event.channel) == (4, "SO-1", "web-shop")
    assert {chr(key[0]) for key in partition.rows.rows} <= set("PRED")
    assert partition.release(held.hold_id).code == Code.HOLD_CLOSED


def test_a_hundred_holds_due_at_once_are_swept_in_slices() -> None:
    """An ordinary record sweeps a slice; what is not swept yet does not count either."""
    partition = Partition()
    partition.stock(1_000)
    for _ in range(100):
        partition.reserve(1, expires_in_ms=60_000)
    partition.now_ms += 100_000
    assert partition.available() == 1_000
    swept = sum(event.event_type == "HOLD_EXPIRED" for event in partition.events)
    assert 0 < swept < 100
    partition.restart()
    assert partition.available() == 1_000
    partition.tick()
    assert not any(key[:1] in {b"H", b"X", b"Y"} for key in partition.rows.rows)
    assert partition.available() == 1_000


def due_at_once(partition: Partition, holds: int) -> list[str]:
    """Ids of so many holds of 0.001 pieces out of as many pieces, all of them due now."""
    partition.stock(holds)
    granted: list[str] = []
    for start in range(0, holds, 500):
        lines = [
            line(0.001, expires_in_ms=60_000, order_id="SO") for _ in range(min(500, holds - start))
        ]
        granted += [one.hold_id for one in partition.ask("RESERVE", lines).lines]
    partition.now_ms += 60_000
    return granted


@pytest.mark.parametrize("grace_ms", [0, GRACE_MS])
def test_a_burst_is_swept_in_bounded_slices_with_decisions_between_them(grace_ms: int) -> None:
    """No slice ends more holds than its effort, all stock is free at once, each is told of once."""
    partition = Partition(msgspec.structs.replace(default(), grace_ms=grace_ms))
    holds = 2 * expiry.TICK_EFFORT
    granted = due_at_once(partition, holds)
    told: list[str] = []
    ticks = 0
    while len(told) < holds and ticks < 10:
        ticks += 1
        assert partition.reserve(holds + 1).available == holds * UNIT
        assert len(partition.events) <= expiry.RECORD_EFFORT
        told += [event.hold_id for event in partition.events]
        partition.tick()
        assert 0 < len(partition.events) <= expiry.TICK_EFFORT
        assert {event.available for event in partition.events} <= {holds * UNIT}
        told += [event.hold_id for event in partition.events]
    assert sorted(told) == sorted(granted)
    assert ticks > 1
    assert partition.decider.wants_tick() is (TickWish.WHEN_IDLE if grace_ms else TickWish.NONE)
    partition.now_ms += grace_ms
    for _ in range(ticks):
        partition.tick()
        assert partition.events == []
    assert not any(key[:1] in {b"H", b"X", b"Y", b"O"} for key in partition.rows.rows)


def test_where_levels_cross_a_slice_looks_at_few_levels() -> None:
    """What is available may cost a flow there: a slice meets no more levels than it can afford."""
    document = default()
    reservation = msgspec.structs.replace(document.reservation, mode="subset")
    partition = Partition(msgspec.structs.replace(document, reservation=reservation))
    colours = [WAREHOUSE | {"colorid": f"c{number}"} for number in range(20)]
    for colour in colours:
        partition.stock(1, dimensions=colour | {"sizeid": "small"})
        assert partition.reserve(1, dimensions=colour, expires_in_ms=1_000).code == Code.ACCEPTED
    partition.now_ms += 1_000
    slices: list[int] = []
    while not slices or partition.decider.wants_tick() is TickWish.AT_ONCE:
        partition.tick()
        slices.append(len(partition.events))
        assert len(slices) <= len(colours)
    assert sum(slices) == 20
    assert max(slices) <= expiry.TICK_EFFORT // expiry.CROSSING_EFFORT


def test_a_confirmed_hold_does_not_expire() -> None:
    """CONFIRM drops the expiry."""
    partition = Partition()
    partition.stock(10)
    held = partition.reserve(4, expires_in_ms=1_000)
    assert partition.line("CONFIRM", 0, hold_id=held.hold_id).code == Code.ACCEPTED
    partition.now_ms += 10_000
    partition.tick()
    assert partition.available() == 6


def test_an_extended_hold_expires_later() -> None:
    """EXTEND moves the expiry, and needs one in the future."""
    partition = Partition()
    partition.stock(10)
    held = partition.reserve(4, expires_in_ms=1_000)
    longer = partition.line("EXTEND", 0, hold_id=held.hold_id, expires_in_ms=5_000)
    assert longer.code == Code.ACCEPTED
    assert longer.detail is not None
    assert longer.detail.expires_at_ms == partition.now_ms + 5_000
    assert partition.line("EXTEND", 0, hold_id=held.hold_id).code == Code.EXPIRY_INVALID
    partition.now_ms += 4_999
    partition.tick()
    assert partition.available() == 6
    partition.now_ms += 1
    assert partition.available() == 10


@pytest.mark.parametrize("swept", [True, False])
@pytest.mark.parametrize(
    ("late_ms", "taken", "code"),
    [
        (0, 0, Code.ACCEPTED),
        (GRACE_MS - 1, 6, Code.ACCEPTED),
        (GRACE_MS - 1, 7, Code.HOLD_EXPIRED),
        (GRACE_MS, 0, Code.HOLD_EXPIRED),
    ],
)
def test_within_the_grace_a_hold_comes_back_if_its_stock_is_there(
    *, swept: bool, late_ms: int, taken: float, code: Code
) -> None:
    """A confirmation just after expiry succeeds within the grace, and only if the stock is left."""
    partition = Partition(with_grace())
    partition.stock(10)
    held = partition.reserve(4, expires_in_ms=1_000)
    partition.now_ms += 1_000
    if swept:
        partition.tick()
        partition.restart()
    if taken:
        assert partition.reserve(taken).code == Code.ACCEPTED
    partition.now_ms += late_ms
    answer = partition.line("CONFIRM", 0, hold_id=held.hold_id)
    assert answer.code == code or (code, answer.code) == (Code.HOLD_EXPIRED, Code.HOLD_CLOSED)
    kept = 4 if code == Code.ACCEPTED else 0
    assert partition.available() == 10 - taken - kept
    partition.now_ms += 10 * GRACE_MS
    partition.tick()
    assert partition.available() == 10 - taken - kept


def test_a_channel_gives_its_holds_an_expiry() -> None:
    """Default and maximum expiry are the channel's."""
    channels = {"web-shop": Expiry(default_expiry_ms=1_000, maximum_expiry_ms=2_000)}
    partition = Partition(msgspec.structs.replace(default(), channels=channels))
    partition.stock(10)
    assert partition.reserve(1, expires_in_ms=2_001).code == Code.EXPIRY_INVALID
    assert partition.reserve(1, expires_in_ms=2_000).code == Code.ACCEPTED
    assert partition.reserve(1).code == Code.ACCEPTED
    assert partition.reserve(1, channel="call-centre").code == Code.ACCEPTED
    partition.now_ms += 2_000
    partition.tick()
    assert partition.available() == 9


def test_amend_changes_a_hold_without_a_gap() -> None:
    """More only if it fits, less always; the hold keeps its id."""
    partition = Partition()
    partition.stock(10)
    held = partition.reserve(4)
    assert partition.line("AMEND", 11, hold_id=held.hold_id).code == Code.INSUFFICIENT_STOCK
    more = partition.line("AMEND", 10, hold_id=held.hold_id)
    assert (more.code, more.hold_id, pieces(more.available)) == (Code.ACCEPTED, held.hold_id, 0)
    partition.line("AMEND", 3, hold_id=held.hold_id)
    partition.restart()
    assert partition.available() == 7


def test_transfer_moves_a_hold_to_other_values() -> None:
    """From red to blue in one step; refused as a whole where blue has not enough."""
    partition = Partition()
    partition.stock(5)
    partition.stock(3, dimensions=BLUE_SMALL)
    held = partition.reserve(4)
    words = {"hold_id": held.hold_id, "target_dimensions": BLUE_SMALL}
    assert partition.line("TRANSFER", 0, **words).code == Code.INSUFFICIENT_STOCK
    assert partition.available() == 1
    moved = partition.line("TRANSFER", 3, **words)
    assert (moved.code, pieces(moved.quantity)) == (Code.ACCEPTED, 3)
    assert (partition.available(), partition.available(BLUE_SMALL)) == (5, 0)
    assert partition.release(held.hold_id).code == Code.HOLD_CLOSED
    assert partition.release(moved.hold_id, dimensions=BLUE_SMALL).code == Code.ACCEPTED


def test_transfer_stays_in_its_partition() -> None:
    """A target with another key is refused."""
    partition = Partition()
    partition.stock(5)
    held = partition.reserve(1)
    target = RED_SMALL | {"locationid": "12"}
    answer = partition.line("TRANSFER", 0, hold_id=held.hold_id, target_dimensions=target)
    assert answer.code == Code.SPANS_PARTITIONS


def test_a_basket_is_all_or_nothing() -> None:
    """Lines on the same stock are summed; every failing line is listed; nothing stays."""
    partition = Partition()
    partition.stock(10)
    partition.stock(1, product="D0003")
    lines = [line(6), line(6), line(1, product="D0003"), line(2, product="D0003")]
    result = partition.ask("RESERVE", lines)
    assert [answer.code for answer in result.lines] == [
        Code.BASKET_REFUSED,
        Code.INSUFFICIENT_STOCK,
        Code.BASKET_REFUSED,
        Code.INSUFFICIENT_STOCK,
    ]
    assert result.code == Code.INSUFFICIENT_STOCK
    assert all(answer.quantity == 0 and not answer.hold_id for answer in result.lines)
    assert [pieces(answer.available) for answer in result.lines] == [10, 10, 1, 1]
    partition.restart()
    assert partition.available() == 10
    assert not any(key[:1] == b"H" for key in partition.rows.rows)


def test_a_granted_basket_names_a_hold_a_line() -> None:
    """Every line of a granted basket has its own hold."""
    partition = Partition()
    partition.stock(10)
    result = partition.ask("RESERVE", [line(6), line(4), line(0, check=False)][:2])
    assert result.code == Code.ACCEPTED
    assert len({answer.hold_id for answer in result.lines}) == 2
    again = partition.ask("RESERVE", [line(6), line(4)], request_id="r-2")
    assert again.replayed
    assert again.lines == result.lines


def test_an_answer_to_the_largest_basket_stays_small() -> None:
    """Every failing line is listed with its reason, the first ones with their terms too."""
    partition = Partition()
    partition.stock(1)
    result = partition.ask("RESERVE", [line(2)] * 512)
    assert {answer.code for answer in result.lines} == {Code.INSUFFICIENT_STOCK}
    details = [answer.detail for answer in result.lines if answer.detail is not None]
    assert len(details) == 512
    assert sum(bool(detail.terms) for detail in details) == 32
    assert all(detail.level and detail.message for detail in details)


def test_lines_may_stand_each_for_itself() -> None:
    """Not atomic: what fits is granted, and the request says PARTIAL."""
    partition = Partition()
    partition.stock(10)
    each = RequestOptions(atomic=False)
    result = partition.ask("RESERVE", [line(6), line(6), line(4)], options=each)
    codes = [answer.code for answer in result.lines]
    assert codes == [Code.ACCEPTED, Code.INSUFFICIENT_STOCK, Code.ACCEPTED]
    assert result.code == Code.PARTIAL
    assert partition.available() == 0


def test_a_failed_basket_of_releases_takes_nothing() -> None:
    """Atomic holds for every action: one unknown hold, and the known one keeps its quantity."""
    partition = Partition()
    partition.stock(10)
    held = partition.reserve(4, order_id="SO-1", expires_in_ms=1_000)
    before = {key: value for key, value in partition.rows.rows.items() if key[:1] in b"PHXYO"}
    lines = [line(0, hold_id=held.hold_id), line(0, hold_id="nonsense")]
    assert partition.ask("RELEASE", lines).code == Code.HOLD_UNKNOWN
    after = {key: value for key, value in partition.rows.rows.items() if key[:1] in b"PHXYO"}
    assert after == before
    assert partition.available() == 6


def test_the_next_moment_at_which_stock_frees_is_told() -> None:
    """A refusal names the next expiry that helps at the level that bound."""
    partition = Partition()
    partition.stock(10)
    partition.reserve(4, expires_in_ms=9_000)
    partition.reserve(6, expires_in_ms=5_000)
    refused = partition.reserve(1)
    assert refused.detail is not None
    assert refused.detail.next_free_at_ms == partition.now_ms + 5_000


def test_crossing_levels_never_promise_a_piece_twice() -> None:
    """In subset mode red and small are checked against each other where they cross."""
    partition = Partition(in_subset_mode())
    small = WAREHOUSE | {"sizeid": "small"}
    partition.stock(5)
    partition.stock(5, dimensions=BLUE_SMALL | {"sizeid": "large"})
    assert partition.reserve(5, dimensions=small).code == Code.ACCEPTED
    assert partition.reserve(1, dimensions=RED).code == Code.INSUFFICIENT_STOCK
    assert partition.reserve(5, dimensions=WAREHOUSE | {"colorid": "blue"}).code == Code.ACCEPTED
    partition.restart()
    assert partition.available(RED) == 0


def in_subset_mode(policy: str = "keep-and-alert") -> Configuration:
    """Levels cross; what happens to holds when the supply shrinks."""
    document = default()
    reservation = msgspec.structs.replace(document.reservation, mode="subset")
    return msgspec.structs.replace(document, reservation=reservation, supply_shrink=policy)


@pytest.mark.parametrize(
    ("policy", "short", "left"), [("keep-and-alert", [], 5), ("newest-first", ["new"], 0)]
)
def test_supply_that_shrinks_under_crossing_holds_is_told(
    policy: str, short: list[str], left: float
) -> None:
    """Each level has enough by itself, but two holds are left with one leaf: that is not silent."""
    partition = Partition(in_subset_mode(policy))
    small, large = WAREHOUSE | {"sizeid": "small"}, {"sizeid": "large"}
    partition.stock(5)
    partition.stock(5, dimensions=RED_SMALL | large)
    partition.stock(10, dimensions=BLUE_SMALL | large)
    old = partition.reserve(5, dimensions=RED)
    new = partition.reserve(5, dimensions=small)
    partition.stock(-5, dimensions=RED_SMALL | large)
    told = [event for event in partition.events if event.event_type == "SUPPLY_SHORT"]
    assert [pieces(event.quantity) for event in told] == [5]
    names = {old.hold_id: "old", new.hold_id: "new"}
    lost = [event for event in partition.events if event.event_type == "HOLD_SHORT"]
    assert [names[event.hold_id] for event in lost] == short
    assert pieces(partition.release(new.hold_id, dimensions=small).quantity) == left


def test_supply_that_shrinks_beside_crossing_holds_is_not_told() -> None:
    """As long as a flow fills every hold, nothing is short, however it did so before."""
    partition = Partition(in_subset_mode("newest-first"))
    large = {"sizeid": "large"}
    partition.stock(5)
    partition.stock(5, dimensions=RED_SMALL | large)
    partition.stock(10, dimensions=BLUE_SMALL)
    partition.reserve(5, dimensions=RED)
    partition.reserve(5, dimensions=WAREHOUSE | {"sizeid": "small"})
    partition.stock(-5, dimensions=RED_SMALL | large)
    assert [event.event_type for event in partition.events] == ["TRANSACTION"]


def test_an_event_tells_what_could_be_promised_where_levels_cross() -> None:
    """Its `available` is what a request would be told, not the least of the sums."""
    partition = Partition(in_subset_mode())
    partition.stock(5)
    partition.stock(5, dimensions=BLUE_SMALL | {"sizeid": "large"})
    partition.reserve(5, dimensions=WAREHOUSE | {"sizeid": "small"})
    partition.reserve(3, dimensions=RED, check=False)
    event = partition.stock(2)
    assert pieces(event.available) == partition.available()


def test_levels_that_no_longer_cross_decide_as_after_a_restart() -> None:
    """When the last hold across the hierarchy has gone, nothing is left of it in memory."""
    document = in_subset_mode()
    partition = Partition(document)
    partition.stock(10)
    partition.stock(100, dimensions=BLUE_SMALL)
    partition.stock(100, dimensions=RED_SMALL | {"sizeid": "large"})
    partition.reserve(1, dimensions=WAREHOUSE | {"sizeid": "small"}, expires_in_ms=1_000)
    reservation = msgspec.structs.replace(document.reservation, mode="prefix")
    prefix = msgspec.structs.replace(document, reservation=reservation, version=2)
    options = RequestOptions(configuration=to_json(prefix))
    partition.ask("CONFIGURE", [], options=options, key=None)
    partition.reserve(120, dimensions=BLUE_SMALL, check=False)
    assert partition.available() < 0
    partition.now_ms += 1_000
    partition.tick()
    before = partition.available()
    partition.restart()
    assert partition.available() == before == 10


def test_lapsed_holds_are_waded_through_once() -> None:
    """Of 300 holds in their grace, a second give-back looks at none; one that revives is found."""
    partition = Partition(with_grace())
    lapsing = [partition.reserve(1, expires_in_ms=1_000, check=False) for _ in range(300)]
    live = partition.reserve(5, check=False)
    partition.now_ms += 1_000
    undo = {"reservation_id": live.reservation_id}
    partition.line("UNRESERVE", 1, **undo)
    get, looked_up = partition.rows.get, list[bytes]()
    partition.rows.get = lambda key: looked_up.append(key) or get(key)  # type: ignore[method-assign, func-returns-value]
    partition.line("UNRESERVE", 1, **undo)
    assert len([key for key in looked_up if key[:1] == b"H"]) < 100
    partition.line("CONFIRM", 0, hold_id=lapsing[0].hold_id, check=False)
    partition.line("UNRESERVE", 1, **undo)
    assert pieces(partition.release(live.hold_id).quantity) == 3


LARGEST = 10**12 - 1  # Pieces of one request.


def test_what_is_held_without_check_has_a_bound() -> None:
    """One level holds up to 2**62 millionths: beyond it every way to hold more is refused."""
    partition = Partition()
    held = partition.reserve(LARGEST, check=False)
    for _ in range(3):
        assert partition.reserve(LARGEST, check=False).code == Code.ACCEPTED
    assert partition.reserve(LARGEST, check=False).code == Code.QUANTITY_OUT_OF_RANGE
    other = partition.reserve(LARGEST, dimensions=BLUE_SMALL, check=False)
    moved = partition.line(
        "TRANSFER",
        0,
        dimensions=BLUE_SMALL,
        hold_id=other.hold_id,
        target_dimensions=RED_SMALL,
        check=False,
    )
    assert moved.code == Code.QUANTITY_OUT_OF_RANGE
    assert partition.reserve(4 * 10**11, check=False).code == Code.ACCEPTED
    partition.release(held.hold_id, LARGEST - 1)
    for _ in range(2):
        partition.reserve(4 * 10**11, check=False)
    grown = partition.line("AMEND", LARGEST, hold_id=held.hold_id, check=False)
    assert grown.code == Code.QUANTITY_OUT_OF_RANGE
    partition.restart()
    assert partition.available() < 0


@pytest.mark.parametrize("way", ["plain", "long", "basket"])
def test_the_bound_of_what_is_held_is_the_same_on_every_way(way: str) -> None:
    """A plain request, one with rare fields and a basket are refused at the same total."""
    partition = Partition()
    for _ in range(4):
        partition.reserve(LARGEST, check=False)
    rare = {"external_reference": "x"} if way == "long" else {}
    lines = [line(LARGEST, check=False, **rare)] * (2 if way == "basket" else 1)
    result = partition.ask("RESERVE", lines)
    assert {one.code for one in result.lines} == {Code.QUANTITY_OUT_OF_RANGE}


@pytest.mark.parametrize("check", [True, False])
def test_a_hold_remembers_whether_all_of_it_was_checked(check: bool) -> None:
    """Moved, or taken back to life, without a check it no longer counts as checked."""
    partition = Partition(with_grace())
    partition.stock(10)
    moved = partition.reserve(1)
    lapsed = partition.reserve(1, expires_in_ms=1_000)
    partition.stock(10, dimensions=BLUE_SMALL)
    move = {"hold_id": moved.hold_id, "target_dimensions": BLUE_SMALL, "check": check}
    assert partition.line("TRANSFER", 0, **move).code == Code.ACCEPTED
    partition.now_ms += 1_000
    assert partition.line("CONFIRM", 0, hold_id=lapsed.hold_id, check=check).code == Code.ACCEPTED
    rows = partition.rows.rows.items()
    assert {row.decode_hold(value).checked for key, value in rows if key[:1] == b"H"} == {check}


def test_rows_are_all_that_is_needed_to_go_on() -> None:
    """After a restart from the changelog's rows every figure is the same."""
    partition = Partition(with_grace())
    partition.stock(10)
    partition.reserve(1, expires_in_ms=1_000)
    partition.reserve(2, order_id="SO-1")
    partition.reserve(3, dimensions=RED)
    partition.now_ms += 1_000
    before = [partition.available(place) for place in (RED_SMALL, RED, WAREHOUSE)]
    partition.restart()
    assert [partition.available(place) for place in (RED_SMALL, RED, WAREHOUSE)] == before
    assert before == [5, 5, 5]


def test_quantities_are_exact_to_the_last_digit() -> None:
    """Millionths add up."""
    partition = Partition()
    partition.stock(0.000003)
    assert partition.reserve(0.000002).available == 1
    assert partition.reserve(0.000001).available == 0
    assert UNIT == 1_000_000


def test_a_slice_that_did_not_reach_all_that_is_due_asks_for_a_tick_at_once() -> None:
    """At once while holds are overdue, when idle while one comes due later, else not at all."""
    partition = Partition()
    partition.stock(10)
    partition.tick()
    assert partition.decider.wants_tick() is TickWish.NONE
    partition.reserve(1, expires_in_ms=1_000)
    assert partition.decider.wants_tick() is TickWish.WHEN_IDLE
    lines = [line(0.001, expires_in_ms=1_000) for _ in range(500)]
    assert partition.ask("RESERVE", lines).code == Code.ACCEPTED
    partition.now_ms += 1_000
    partition.tick()
    assert partition.decider.wants_tick() is TickWish.AT_ONCE
    partition.tick()
    assert partition.decider.wants_tick() is TickWish.NONE
