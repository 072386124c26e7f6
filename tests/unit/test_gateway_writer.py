"""The writer over a link that does as it is told: what leaves together, and who is told what."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from producers.channel.link import Parcel
from producers.channel.outcomes import ChannelError, InFlightError, RecordTooLargeError
from producers.gateway.positions import Position
from producers.gateway.problems import Problem
from producers.gateway.writer import NotSent, Sending, Writer
from producers.settings import Settings
from schemas import topics
from schemas.codec import Codec
from schemas.messages import RequestLine, ReservationRequest, ReservationResult
from schemas.registry import FixedSchemaIds

KEYS: Final = (b"usmf|1|11", b"usmf|2|21")


class Scripted:
    """Stands for the link: remembers its batches; refuses by id, or fails as a whole."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.batches: list[list[str]] = []
        self.refusals: dict[str, Exception] = {}
        self.fails = False
        self.in_flight = 0

    def partition(self, _topic: str, key: bytes) -> int:
        """Partition 0 or 1."""
        return KEYS.index(key)

    def send_many(self, parcels: Sequence[Parcel], *, timeout_ms: int) -> Mapping[int, Exception]:
        """Answer all of a batch at once but those that are refused."""
        assert timeout_ms == 1_000
        if self.fails:
            raise RuntimeError("it fails")
        self.batches.append([parcel.slot.request_id for parcel in parcels])
        refused = {}
        for index, parcel in enumerate(parcels):
            request_id = parcel.slot.request_id
            if request_id in self.refusals:
                refused[index] = self.refusals[request_id]
            else:
                offset = 10 + len(parcels) - index
                answer = ReservationResult(request_id, 0, 1, 1, offset, False, [])
                parcel.deliver(parcel.number, answer)
        self._writer._wake()
        return refused


@pytest.fixture
async def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """A writer's link."""
    monkeypatch.setattr("producers.channel.link.Producer", lambda _: None)
    monkeypatch.setattr("producers.channel.link.Consumer", lambda _: None)
    settings = Settings(bootstrap_servers="127.0.0.1:1", registry_url="http://127.0.0.1:1")
    writer = Writer(settings, Codec(FixedSchemaIds()), in_flight_max=10)
    writer._loop = asyncio.get_running_loop()
    link = Scripted(writer)
    writer._link = link  # type: ignore[assignment]
    return link


def sending(request_id: str, partition: int = 0) -> Sending:
    """A reservation."""
    line = RequestLine("P", "", {"siteid": "1"}, "iv.softreserved", 1)
    record = ReservationRequest(request_id, "RESERVE", "usmf", "web", [line])
    return Sending(record, KEYS[partition])


async def test_one_turn_of_the_loop_is_one_batch(scripted: Scripted) -> None:
    """Three callers at once are one hand-over, and each gets its own outcomes, in order."""
    writer = scripted._writer
    asked = [["a"], ["b", "c"], ["d"]]
    found = await asyncio.gather(
        *(writer.settle([sending(one) for one in ids], timeout_ms=1_000) for ids in asked)
    )
    assert scripted.batches == [["a", "b", "c", "d"]]
    got = [[getattr(outcome, "request_id", "") for outcome in one.outcomes] for one in found]
    assert got == asked


async def test_positions_are_the_furthest_of_each_partition(scripted: Scripted) -> None:
    """Of a bulk, one position a partition; of one record, its own; of none sent, none."""
    writer = scripted._writer
    scripted.refusals = {"no": ChannelError("full")}
    ids = [("a", 0), ("b", 1), ("c", 0), ("no", 1)]
    bulk = await writer.settle([sending(*one) for one in ids], timeout_ms=1_000)
    assert bulk.positions == [Position(topics.REQUESTS, 0, 14), Position(topics.REQUESTS, 1, 13)]
    single = await writer.settle([sending("d", 1)], timeout_ms=1_000)
    assert single.positions == [Position(topics.REQUESTS, 1, 11)]
    none = await writer.settle([sending("no")], timeout_ms=1_000)
    assert none.positions == []
    (told,) = await writer.send([sending("e")], timeout_ms=1_000)
    assert told.position == Position(topics.REQUESTS, 0, 11)


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
    writer = scripted._writer
    first, second = await asyncio.gather(
        writer.settle([sending("a"), sending("b")], timeout_ms=1_000),
        writer.settle([sending("c"), sending("no")], timeout_ms=1_000),
    )
    assert all(isinstance(outcome, ReservationResult) for outcome in first.outcomes)
    assert isinstance(second.outcomes[0], ReservationResult)
    assert second.outcomes[1] == expected


async def test_a_hand_over_that_fails_leaves_nobody_waiting(scripted: Scripted) -> None:
    """Everybody of the turn is told the error, and the next turn works."""
    writer = scripted._writer
    scripted.fails = True
    found: list[Any] = await asyncio.gather(
        *(writer.settle([sending(one)], timeout_ms=1_000) for one in "ab"), return_exceptions=True
    )
    assert [type(one) for one in found] == [RuntimeError, RuntimeError]
    scripted.fails = False
    assert await writer.settle([sending("c")], timeout_ms=1_000)


async def test_what_is_leaving_counts_as_under_way(scripted: Scripted) -> None:
    """Past the bound nothing is sent, also when all come within one turn of the loop."""
    writer = scripted._writer
    found = await asyncio.gather(
        writer.settle([sending(f"a-{number}") for number in range(8)], timeout_ms=1_000),
        writer.settle([sending(f"b-{number}") for number in range(3)], timeout_ms=1_000),
        return_exceptions=True,
    )
    assert isinstance(found[1], Problem)
    assert scripted.batches == [[f"a-{number}" for number in range(8)]]
