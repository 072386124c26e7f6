"""The writer over a link that does as it is told: what leaves together, and who is told what."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from producers.channel.link import Forbidden, Parcel, Slot
from producers.channel.outcomes import (
    ChannelError,
    InFlightError,
    RecordTooLargeError,
    Undecided,
    Unknown,
)
from producers.gateway.api import answers
from producers.gateway.positions import Position
from producers.gateway.problems import Problem
from producers.gateway.writer import CLOSE_S, NotSent, Sending, Settled, Writer, is_known
from producers.settings import Settings
from schemas import topics
from schemas.codec import Codec
from schemas.messages import (
    InventoryEvent,
    ReservationResult,
)
from schemas.registry import FixedSchemaIds
from tests.support.records import on_hand_change, reservation

KEYS: Final = (b"usmf|1|11", b"usmf|2|21", b"usmf|1|12")
IN_FLIGHT_MAX: Final = 10
WITHIN_S: Final = 5.0  # Whoever is told nothing would wait for ever.


class Scripted:
    """Stands for the link: remembers its batches; refuses by id, or fails as a whole.

    Attributes:
        held: whether nothing is answered until a test says so.
        under_way: what was taken and not answered.

    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.batches: list[list[str]] = []
        self.timeouts: list[int] = []
        self.refusals: dict[str, Exception] = {}
        self.fails = False
        self.held = False
        self.under_way: list[Parcel] = []
        self.first_offset = 11
        self.hashed: list[bytes] = []
        self.partitions = {topics.REQUESTS: 2, topics.TRANSACTIONS: 2}
        self.heard: list[tuple[str, int]] = []
        self.closed_within_s = -1.0

    def partition(self, _topic: str, key: bytes) -> int:
        """Partition 0 or 1, by the site."""
        self.hashed.append(key)
        return int(key.split(b"|")[1]) - 1

    @property
    def in_flight(self) -> int:
        """As the link's."""
        return len(self.under_way)

    def send_many(self, parcels: Sequence[Parcel], *, timeout_ms: int) -> Mapping[int, Exception]:
        """Take all of a batch but those that are refused."""
        if self.fails:
            raise RuntimeError("it fails")
        self.batches.append([parcel.slot.request_id for parcel in parcels])
        self.timeouts.append(timeout_ms)
        refused = {
            index: self.refusals[parcel.slot.request_id]
            for index, parcel in enumerate(parcels)
            if parcel.slot.request_id in self.refusals
        }
        self.under_way += [one for index, one in enumerate(parcels) if index not in refused]
        if not self.held:
            self.answer(*self.under_way[::-1])
        return refused

    def answer(self, *parcels: Parcel) -> None:
        """Answer these, each by an offset one higher, and wake the writer once."""
        for offset, parcel in enumerate(parcels, self.first_offset):
            self.under_way.remove(parcel)
            parcel.deliver(parcel.number, decided(parcel.slot, offset))
        self._writer._wake()

    def open(self) -> None:
        """Connected at once."""

    def listen_for(self, slot: Slot) -> None:
        """Remember whose answers are read."""
        self.heard.append(slot[:2])

    def close(self, timeout_s: float) -> None:
        """Remember how long it would have waited."""
        self.closed_within_s = timeout_s


def decided(slot: Slot, offset: int) -> ReservationResult | InventoryEvent:
    """What the worker says of a record."""
    if slot.topic == topics.REQUESTS:
        return ReservationResult(slot.request_id, 0, 1, 1, offset, False, [])
    return InventoryEvent(
        event_type="TRANSACTION",
        code=0,
        sequence=1,
        at_ms=1,
        source_topic=slot.topic,
        source_offset=offset,
        source_id=slot.request_id,
    )


@pytest.fixture
async def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """A writer's link."""
    monkeypatch.setattr("producers.channel.link.Producer", lambda _: None)
    monkeypatch.setattr("producers.channel.link.Consumer", lambda _: None)
    settings = Settings(bootstrap_servers="127.0.0.1:1", registry_url="http://127.0.0.1:1")
    writer = Writer(settings, Codec(FixedSchemaIds()), in_flight_max=IN_FLIGHT_MAX)
    link = Scripted(writer)
    writer._link = link  # type: ignore[assignment]
    await writer.open()
    return link


def sending(record_id: str, key: int = 0) -> Sending:
    """A reservation."""
    return Sending(reservation(record_id), KEYS[key])


def change(record_id: str, key: int = 0) -> Sending:
    """An on-hand change."""
    return Sending(on_hand_change(record_id), KEYS[key])


async def settled(
    scripted: Scripted, records: Sequence[Sending], timeout_ms: int = 1_000
) -> Settled:
    """What a caller is told of its records."""
    async with asyncio.timeout(WITHIN_S):
        return await scripted._writer.settle(records, timeout_ms=timeout_ms)


async def position(scripted: Scripted, record: Sending) -> Position | None:
    """Where a record lies that was sent alone."""
    async with asyncio.timeout(WITHIN_S):
        (told,) = await scripted._writer.send([record], timeout_ms=1_000)
    return told.position


def settling(
    scripted: Scripted, ids: Sequence[str], timeout_ms: int = 1_000
) -> "asyncio.Task[Settled]":
    """A caller that sends records of these ids and waits."""
    records = [sending(one) for one in ids]
    return asyncio.create_task(settled(scripted, records, timeout_ms))


def ids_of(settled: Settled) -> list[str]:
    """Of the outcomes, in their order."""
    return [getattr(outcome, "request_id", "") for outcome in settled.outcomes]


async def turns() -> None:
    """Everything that can be done without another outcome is done."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_turn_of_the_loop_is_one_batch(scripted: Scripted) -> None:
    """Three callers at once are one hand-over, and each gets its own outcomes, in order."""
    asked = [["a"], ["b", "c"], ["d"]]
    found = await asyncio.gather(*(settling(scripted, ids) for ids in asked))
    assert scripted.batches == [["a", "b", "c", "d"]]
    assert [ids_of(one) for one in found] == asked


async def test_each_is_waited_for_as_long_as_it_asked(scripted: Scripted) -> None:
    """Callers of one turn who wait for different times do not leave together."""
    asked = [("a", 1_000), ("b", 1_000), ("c", 2_000), ("d", 1_000)]
    await asyncio.gather(*(settling(scripted, *one) for one in asked))
    assert scripted.batches == [["a", "b"], ["c"], ["d"]]
    assert scripted.timeouts == [1_000, 2_000, 1_000]


async def test_positions_are_the_furthest_of_each_partition(scripted: Scripted) -> None:
    """Of a bulk, one position a partition; of one record, its own; of none sent, none."""
    scripted.refusals = {"no": ChannelError("full")}
    ids = [("a", 0), ("b", 1), ("c", 0), ("no", 1)]
    bulk = await settled(scripted, [sending(*one) for one in ids])
    assert bulk.positions == [Position(topics.REQUESTS, 0, 13), Position(topics.REQUESTS, 1, 12)]
    single = await settled(scripted, [sending("d", 1)])
    assert single.positions == [Position(topics.REQUESTS, 1, 11)]
    none = await settled(scripted, [sending("no")])
    assert none.positions == []
    assert await position(scripted, sending("e")) == Position(topics.REQUESTS, 0, 11)


async def test_the_first_record_of_a_partition_has_a_position(scripted: Scripted) -> None:
    """Offset 0 is one, in a bulk and alone."""
    scripted.first_offset = 0
    bulk = await settled(scripted, [sending("a", 0), sending("b", 1)])
    assert bulk.positions == [Position(topics.REQUESTS, 0, 1), Position(topics.REQUESTS, 1, 0)]
    single = await settled(scripted, [sending("c")])
    assert single.positions == [Position(topics.REQUESTS, 0, 0)]


async def test_an_on_hand_change_goes_to_its_own_topic(scripted: Scripted) -> None:
    """Beside a reservation in one bulk: each by its id, its topic and its position there."""
    found = await settled(scripted, [change("c", 1), sending("r", 1)])
    assert scripted.batches == [["c", "r"]]
    assert [type(one) for one in found.outcomes] == [InventoryEvent, ReservationResult]
    assert found.positions == [
        Position(topics.TRANSACTIONS, 1, 12),
        Position(topics.REQUESTS, 1, 11),
    ]


async def test_outcomes_come_one_by_one_and_from_another_thread(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bulk is told on the event loop, once its last outcome is there, in its records' order."""
    here, drain = threading.get_ident(), scripted._writer._drain
    elsewhere: list[int] = []

    def drained() -> None:
        if threading.get_ident() == here:
            drain()
        else:
            elsewhere.append(threading.get_ident())

    monkeypatch.setattr(scripted._writer, "_drain", drained)
    scripted.held = True
    caller = settling(scripted, "abc")
    await turns()
    first, second, third = scripted.under_way
    for parcel in (third, first):
        await asyncio.to_thread(scripted.answer, parcel)
        await turns()
        assert not caller.done()
    await asyncio.to_thread(scripted.answer, second)
    assert elsewhere == []
    assert ids_of(await caller) == ["a", "b", "c"]


async def test_a_caller_that_went_away_keeps_nobody_waiting(scripted: Scripted) -> None:
    """Its outcome comes to nothing; the next one of the same read is told."""
    scripted.held = True
    gone, stays = settling(scripted, "a"), settling(scripted, "b")
    await turns()
    gone.cancel()
    await turns()
    scripted.answer(*scripted.under_way)
    assert ids_of(await stays) == ["b"]


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (ChannelError("full"), NotSent("full")),
        (InFlightError("other"), NotSent("other", reused=True)),
        (RecordTooLargeError("huge"), NotSent("huge", too_large=True)),
    ],
)
async def test_a_refused_record_is_told_beside_the_others(
    scripted: Scripted, refusal: Exception, expected: NotSent
) -> None:
    """The caller whose record it was is told why, also behind another caller's records."""
    scripted.refusals = {"no": refusal}
    first, second = await asyncio.gather(
        settling(scripted, ["a", "b"]), settling(scripted, ["c", "no"])
    )
    assert all(isinstance(outcome, ReservationResult) for outcome in first.outcomes)
    assert isinstance(second.outcomes[0], ReservationResult)
    assert second.outcomes[1] == expected


async def test_what_the_broker_forbids_was_not_sent(scripted: Scripted) -> None:
    """503 with the reason, and no place to look: nothing was written. The others are answered."""
    scripted.held = True
    caller = settling(scripted, "ab")
    await turns()
    first, second = scripted.under_way
    reason = "topic reservation-requests: not allowed (see docs/security.md)"
    first.deliver(first.number, Forbidden(request_id="a", reason=reason))
    scripted.answer(second)
    found = await caller
    assert found.outcomes[0] == NotSent(reason)
    assert found.positions == [Position(topics.REQUESTS, 0, 11)]
    answer = answers.reserve_answer("a", found.outcomes[0])
    response = answers.single(answer, (), "a", "honest")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert "Location" not in response.headers
    assert reason.encode() in bytes(response.body)


async def test_a_hand_over_that_fails_leaves_nobody_waiting(scripted: Scripted) -> None:
    """Everybody of the turn is told the error, who sent several too, and the next turn works."""
    scripted.fails = True
    found: list[Any] = await asyncio.gather(
        *(settling(scripted, ids) for ids in ("ab", "c")), return_exceptions=True
    )
    assert [type(one) for one in found] == [RuntimeError, RuntimeError]
    scripted.fails = False
    assert ids_of(await settling(scripted, "d")) == ["d"]


async def test_what_is_leaving_counts_as_under_way(scripted: Scripted) -> None:
    """Past the bound nothing is sent, also when all come within one turn of the loop."""
    found = await asyncio.gather(
        settling(scripted, [f"a-{number}" for number in range(8)]),
        settling(scripted, [f"b-{number}" for number in range(3)]),
        return_exceptions=True,
    )
    assert isinstance(found[1], Problem)
    assert scripted.batches == [[f"a-{number}" for number in range(8)]]


async def test_the_bound_of_records_under_way_is_reached_and_not_passed(
    scripted: Scripted,
) -> None:
    """What the link waits for counts; the last place is given, one more is 503, nothing sent."""
    scripted.held = True
    before = settling(scripted, [f"a-{number}" for number in range(IN_FLIGHT_MAX - 1)])
    await turns()
    last = settling(scripted, "b")
    await turns()
    assert scripted._writer.in_flight == IN_FLIGHT_MAX
    with pytest.raises(Problem) as refused:
        await settling(scripted, "c")
    assert refused.value.status == 503
    scripted.held = False
    scripted.answer(*scripted.under_way)
    await asyncio.gather(before, last)
    assert scripted._writer.in_flight == 0
    assert ["c"] not in scripted.batches


async def test_partitions_of_keys_are_remembered_and_not_without_bound(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is hashed once, until too many are known; it leads to its partition all the same."""
    monkeypatch.setattr("producers.gateway.writer.KEYS_MAX", 2)
    asked = [0, 1, 0, 1, 2, 1, 0]
    found = [await position(scripted, sending("r", key)) for key in asked]
    assert [one and one.partition for one in found] == [0, 1, 0, 1, 0, 1, 0]
    assert scripted.hashed == [KEYS[key] for key in (0, 1, 2, 1, 0)]
    assert len(scripted._writer._known) <= 2


async def test_answers_of_every_partition_are_read_until_it_is_closed(scripted: Scripted) -> None:
    """Before the first request; closing waits for what is under way."""
    everywhere = {(topic, partition) for topic in topics.SOURCES for partition in (0, 1)}
    assert set(scripted.heard) == everywhere
    await scripted._writer.close()
    assert scripted.closed_within_s == CLOSE_S


@pytest.mark.parametrize(
    ("outcome", "known"),
    [
        (Unknown(request_id="r", reason=""), False),
        (Undecided(request_id="r", code=200, reason=""), True),
        (NotSent(""), True),
        (decided(Slot(topics.REQUESTS, 0, "r"), 1), True),
    ],
)
def test_only_what_may_still_be_decided_is_not_known(outcome: Any, known: bool) -> None:
    """Set aside and not sent are outcomes: nothing was changed, for certain."""
    assert is_known(outcome) is known
