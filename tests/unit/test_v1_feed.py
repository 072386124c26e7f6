"""The event stream's ring and readers, without topics: bounds, places, filters."""

import pytest

from producers.gateway.problems import Problem
from producers.gateway.v1.bodies import EventsParameters
from producers.gateway.v1.changes import UNDECIDED_MAX, Change, _Partition
from producers.gateway.v1.events import CutOff, Reader, fits
from producers.gateway.v1.feed import OVERLAP_MS, Entry, Feed, Ring
from producers.settings import Settings
from schemas.codec import Codec
from schemas.messages import ReservationRequest, ReservationResult

NOW_MS = 1_000_000
FOREVER_S = 1e12


def change(number: int, product: str = "P", size: int = 10) -> Change:
    """A change a second."""
    place = (product, "1", "11")
    return Change("decision", NOW_MS + number * 1_000, b"x" * size, "usmf", "web", (place,))


def ring_of(count: int, **bounds: int) -> Ring:
    """A ring with changes."""
    ring = Ring(**bounds)
    ring.append([change(number) for number in range(1, count + 1)])
    return ring


def test_ring_keeps_the_last_entries_within_its_bounds() -> None:
    """No more than so many, and no more than so many bytes; numbers go on."""
    ring = ring_of(10, entries=4)
    assert (ring.first, ring.next) == (7, 11)
    assert ring.get(7).change == change(7)
    small = Ring(entries=100, bytes_max=1_000)
    small.append([change(number, size=200) for number in range(1, 11)])
    assert small.next == 11
    assert 7 <= small.first <= 8
    small.append([change(11, size=5_000)])
    assert (small.first, small.next) == (11, 12)  # The newest stays, whatever its size.


def test_place_behind_an_event_of_the_same_ring_is_exact() -> None:
    """Behind the last one seen; where that has left the ring, the gap is told."""
    ring = ring_of(10, entries=4)
    assert ring.after(f"{ring.name}-8-0") == (9, False)
    assert ring.after(f"{ring.name}-10-0") == (11, False)
    assert ring.after(f"{ring.name}-6-0") == (7, False)
    assert ring.after(f"{ring.name}-5-0") == (7, True)


def test_place_behind_an_event_of_another_ring_goes_by_time() -> None:
    """Some seconds again rather than anything missed; what reaches back too far is a gap."""
    ring = ring_of(20)
    at_ms = NOW_MS + 15_000
    assert ring.after(f"other-3-{at_ms}") == (15 - OVERLAP_MS // 1_000, False)
    assert ring.after(f"other-3-{NOW_MS}") == (1, True)
    assert Ring().after(f"other-3-{at_ms}") == (1, True)
    for wrong in ("", "x", "a-b", "a-1-b", "a--1-2", "a-1-2-3", "a-\u0663-\u0663"):
        with pytest.raises(Problem):
            ring.after(wrong)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (EventsParameters(), True),
        (EventsParameters(product_id="P", site_id="1", location_id="11"), True),
        (EventsParameters(product_id="Q", site_id="2"), True),
        (EventsParameters(product_id="P", site_id="2"), False),
        (EventsParameters(channel="web", organization_id="usmf"), True),
        (EventsParameters(channel="shop"), False),
        (EventsParameters(organization_id="demf"), False),
    ],
)
def test_all_that_is_named_must_be_true_of_one_line(
    wanted: EventsParameters, expected: bool
) -> None:
    """Product of one line and site of another are no match."""
    places = (("P", "1", "11"), ("Q", "2", "21"))
    basket = change(1)._replace(places=places)
    assert fits(wanted, Entry(basket, b"")) is expected


async def test_reader_that_fell_out_of_the_ring_is_cut_off() -> None:
    """A place that is not kept any more ends the reader, and nothing else."""
    feed = Feed(Settings(bootstrap_servers="nowhere:1", registry_url="nowhere"), _no_codec())
    feed.ring = ring_of(3, entries=4)
    slow, fast = (Reader(feed, EventsParameters(), 1, FOREVER_S) for _ in range(2))
    assert (await fast.more()).count(b"event: decision") == 3
    feed.ring.append([change(number) for number in range(4, 8)])
    assert (await fast.more()).count(b"event: decision") == 4
    with pytest.raises(CutOff):
        await slow.more()
    feed.end()
    assert await fast.more() == b""


def _no_codec() -> Codec:
    """Nothing is decoded here."""
    return Codec.__new__(Codec)


def test_what_was_asked_is_kept_for_so_many_requests_only() -> None:
    """While nobody decides, requests only come in: the oldest are told without their words."""
    partition = _Partition(0)
    asked = ReservationRequest("r", "RESERVE", "usmf", "web", [], None)
    for offset in range(UNDECIDED_MAX + 2):
        partition.request(offset, asked)
    for offset in (0, UNDECIDED_MAX + 1):
        partition.waiting.append((1, ReservationResult("r", 1, 1, 1, offset, False, [])))
    assert [found for _, _, found in partition.ready()] == [None, asked]
    assert not partition.requests


async def test_reader_whose_token_has_ended_is_told_nothing_more() -> None:
    """Whatever is kept for it: its stream is over, and ends without another event."""
    feed = Feed(Settings(bootstrap_servers="nowhere:1", registry_url="nowhere"), _no_codec())
    feed.ring = ring_of(3, entries=4)
    ended = Reader(feed, EventsParameters(), 1, 1.0)
    good = Reader(feed, EventsParameters(), 1, FOREVER_S)
    assert (ended.over, good.over) == (True, False)
    assert await ended.more() == b""
    assert await good.more()
