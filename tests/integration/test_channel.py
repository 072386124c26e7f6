"""The channel client against a real broker, with a worker that answers as it is told."""

import asyncio
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Message, Producer
from typer.testing import CliRunner

from compose.stack import LocalStack
from holdfast.cli import app
from producers.channel import (
    AsyncChannelClient,
    ChannelClient,
    ChannelError,
    InFlightError,
    Item,
    RecordTooLargeError,
    Undecided,
    Unknown,
)
from producers.channel.client import connect_codec
from producers.channel.follow import FROM_THE_START, find_answer
from producers.channel.requests import request, request_line
from producers.channel.verbs import single
from producers.settings import Settings
from schemas import topics
from schemas.codes import Code
from schemas.messages import InventoryEvent, ReservationRequest, ReservationResult, ResultLine
from tests.support.eventually import eventually
from tests.support.scripted_worker import ScriptedWorker, create_topics

pytestmark = pytest.mark.kafka

ITEM = Item("usmf", "D0002", {"siteid": "1", "locationid": "11"})
LONG_MS = 30_000
SHORT_MS = 400


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalStack]:
    """A broker and a registry of this module's own: answers here are not a real worker's."""
    with LocalStack(servers=("kafka", "registry")) as stack:
        assert stack.addresses.kafka_bootstrap is not None
        create_topics(stack.addresses.kafka_bootstrap)
        yield stack


@pytest.fixture
def settings(servers: LocalStack, tmp_path: Path) -> Settings:
    """Settings of a client there."""
    return Settings(
        bootstrap_servers=str(servers.addresses.kafka_bootstrap),
        registry_url=str(servers.addresses.registry_url),
        schema_cache=str(tmp_path / "schemas.json"),
        timeout_ms=LONG_MS,
    )


def _worker(settings: Settings, script: object = None) -> ScriptedWorker:
    chosen = script if callable(script) else _accept
    return ScriptedWorker(settings.bootstrap_servers, connect_codec(settings), chosen)


def _accept(worker: ScriptedWorker, asked: ReservationRequest, message: Message) -> None:
    worker.result(asked, message)


def _silent(_worker: ScriptedWorker, _asked: ReservationRequest, _message: Message) -> None:
    return None


def test_answer_is_matched_to_its_request(settings: Settings) -> None:
    """Many threads asking over all partitions at once each get their own answer."""
    with _worker(settings) as worker, ChannelClient(settings, "web-shop") as client:
        got: dict[str, object] = {}

        def ask(number: int) -> None:
            item = Item("usmf", "D0002", {"siteid": str(number % 7), "locationid": "1"})
            for turn in range(20):
                request_id = f"{number}-{turn}-{uuid.uuid4()}"
                got[request_id] = client.reserve(item, number + 1, request_id=request_id)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(got) == 160
        for request_id, answer in got.items():
            assert isinstance(answer, ReservationResult)
            assert answer.request_id == request_id
            assert answer.lines[0].quantity == (int(request_id.split("-")[0]) + 1) * 1_000_000
        assert {one.channel for one in worker.seen} == {"web-shop"}


def test_record_lies_in_the_partition_of_its_key(settings: Settings) -> None:
    """Key and partition are those the worker computes for the item."""
    places: list[tuple[bytes, int]] = []

    def script(worker: ScriptedWorker, asked: ReservationRequest, message: Message) -> None:
        places.append((message.key(), message.partition()))
        worker.result(asked, message)

    with _worker(settings, script), ChannelClient(settings) as client:
        client.reserve(ITEM, 1)
        expected = client._link.partition(topics.REQUESTS, b"usmf|1|11")
    assert places == [(b"usmf|1|11", expected)]


def test_no_answer_is_unknown_and_a_lookup_settles_it(settings: Settings) -> None:
    """Without an answer in time the outcome says so; a lookup sends the very same record again."""
    values: list[bytes] = []

    def script(worker: ScriptedWorker, asked: ReservationRequest, message: Message) -> None:
        values.append(message.value())
        if len(values) > 1:
            worker.result(asked, message, replayed=True)

    with _worker(settings, script), ChannelClient(settings) as client:
        first = client.reserve(ITEM, 1, timeout_ms=SHORT_MS)
        assert isinstance(first, Unknown)
        settled = client.lookup(first.request_id)
        assert isinstance(settled, ReservationResult)
        assert settled.replayed
        assert values[0] == values[1]
        with pytest.raises(ChannelError, match="no unsettled request"):
            client.lookup(first.request_id)


def test_late_answer_is_kept_for_the_lookup(settings: Settings) -> None:
    """An answer that comes after its deadline is given by the lookup, without asking again."""
    held: list[tuple[ReservationRequest, Message]] = []

    def script(_worker: ScriptedWorker, asked: ReservationRequest, message: Message) -> None:
        held.append((asked, message))

    with _worker(settings, script) as worker, ChannelClient(settings) as client:
        unknown = client.reserve(ITEM, 1, timeout_ms=SHORT_MS)
        assert isinstance(unknown, Unknown)
        worker.result(*held[0], Code.INSUFFICIENT_STOCK)
        found = eventually(lambda: client._link.unsettled(topics.REQUESTS, unknown.request_id))
        assert found is not None
        record = found[1]
        eventually(lambda: record.outcome)
        settled = client.lookup(unknown.request_id)
        assert isinstance(settled, ReservationResult)
        assert settled.code == Code.INSUFFICIENT_STOCK
        assert len(worker.seen) == 1


def test_dead_letter_is_said_at_once(settings: Settings) -> None:
    """A record that is set aside is an outcome with its reason, not a timeout."""

    def script(worker: ScriptedWorker, _asked: ReservationRequest, message: Message) -> None:
        worker.dead_letter(message, Code.KEY_MISMATCH)

    with _worker(settings, script), ChannelClient(settings) as client:
        outcome = client.reserve(ITEM, 1)
        assert isinstance(outcome, Undecided)
        assert outcome.code == Code.KEY_MISMATCH


def test_same_request_twice_at_once_is_sent_once(settings: Settings) -> None:
    """Two callers with the same id and content share one record and one answer."""
    release = threading.Event()

    def script(worker: ScriptedWorker, asked: ReservationRequest, message: Message) -> None:
        release.wait(30)
        worker.result(asked, message)

    asked = single("RESERVE", "", ITEM, 1, {})
    with _worker(settings, script) as worker, ChannelClient(settings) as client:
        both = [client.submit(asked), client.submit(asked)]
        release.set()
        answers = [future.result(30) for future in both]
        assert answers[0] is answers[1]
        assert len(worker.seen) == 1


def test_id_under_way_with_other_content_is_refused(settings: Settings) -> None:
    """The same id with other content, while the first is not settled, is a caller's mistake."""
    asked = single("RESERVE", "", ITEM, 1, {"request_id": f"same-{uuid.uuid4()}"})
    other = single("RESERVE", "", ITEM, 2, {"request_id": asked.request_id})
    with _worker(settings, _silent), ChannelClient(settings) as client:
        first = client.submit(asked, timeout_ms=SHORT_MS)
        with pytest.raises(InFlightError):
            client.submit(other)
        assert isinstance(first.result(30), Unknown)
        with pytest.raises(InFlightError):
            client.submit(other)


def test_too_large_request_is_refused_before_it_is_sent(settings: Settings) -> None:
    """A request that no record may carry is refused, and nothing is sent."""
    lines = [request_line(Item("usmf", "P" * 128, {"siteid": "s" * 1_000}), 1)] * 512
    asked = request("RESERVE", lines, request_id="big", organization_id="usmf", channel="")
    with ChannelClient(settings) as client, pytest.raises(RecordTooLargeError):
        client.ask(asked)


def test_aborted_answer_is_not_an_answer(settings: Settings) -> None:
    """An answer in a transaction that is aborted is never seen; the committed one is."""
    codec = connect_codec(settings)
    producer = Producer(
        {"bootstrap.servers": settings.bootstrap_servers, "transactional.id": str(uuid.uuid4())}
    )
    producer.init_transactions(30)

    def script(_worker: ScriptedWorker, asked: ReservationRequest, message: Message) -> None:
        for code, commit in ((Code.INSUFFICIENT_STOCK, False), (Code.ACCEPTED, True)):
            line = ResultLine(code, "", "", 0, 0)
            answer = ReservationResult(asked.request_id, code, 1, 1, 0, False, [line])
            producer.begin_transaction()
            producer.produce(
                topics.RESULTS,
                key=asked.request_id.encode(),
                value=codec.encode_result(answer),
                partition=message.partition(),
            )
            producer.flush(10)
            if commit:
                producer.commit_transaction(10)
            else:
                producer.abort_transaction(10)

    with _worker(settings, script), ChannelClient(settings) as client:
        answer = client.reserve(ITEM, 1)
        assert isinstance(answer, ReservationResult)
        assert answer.code == Code.ACCEPTED


def test_transaction_is_answered_by_its_own_event(settings: Settings) -> None:
    """Of all events with its id, the one of type TRANSACTION is the answer."""
    with _worker(settings), ChannelClient(settings) as client:
        event = client.on_hand(ITEM, {"fno.physicalinvent": 10}, source="fno")
        assert isinstance(event, InventoryEvent)
        assert event.event_type == "TRANSACTION"


def test_close_calls_what_is_open_unknown(settings: Settings) -> None:
    """Closing delivers every outcome: what has no answer is unknown; afterwards nothing is sent."""
    with _worker(settings, _silent):
        client = ChannelClient(settings)
        futures = [client.submit(single("RESERVE", "", ITEM, 1, {})) for _ in range(3)]
        client.close(0.1)
        assert all(isinstance(future.result(1), Unknown) for future in futures)
        with pytest.raises(ChannelError, match="closed"):
            client.reserve(ITEM, 1)
        client.close()


def test_close_waits_for_answers_under_way(settings: Settings) -> None:
    """Closing gives answers under way the time to arrive."""
    with _worker(settings):
        client = ChannelClient(settings)
        futures = [client.submit(single("RESERVE", "", ITEM, 1, {})) for _ in range(50)]
        client.close(30)
        assert all(isinstance(future.result(0), ReservationResult) for future in futures)


def test_in_flight_is_bounded(settings: Settings) -> None:
    """One more than the bound waits until an outcome is delivered."""
    narrow = msgspec.structs.replace(settings, in_flight_max=2, timeout_ms=SHORT_MS)
    with _worker(narrow, _silent) as worker, ChannelClient(narrow) as client:
        client.reserve(ITEM, 1)
        high = 0
        futures = []
        for _ in range(6):
            futures.append(client.submit(single("RESERVE", "", ITEM, 1, {})))
            high = max(high, client._link.in_flight)
        assert high == 2
        assert all(isinstance(future.result(30), Unknown) for future in futures)
        eventually(lambda: len(worker.seen) == 7)


def test_no_broker_is_said_with_its_address(settings: Settings) -> None:
    """A client without a broker does not come up, and says where it looked."""
    nowhere = msgspec.structs.replace(
        settings, bootstrap_servers="127.0.0.1:1", connect_timeout_ms=500
    )
    with pytest.raises(ChannelError, match=r"127\.0\.0\.1:1"):
        ChannelClient(nowhere, codec=connect_codec(settings))


def test_answers_are_found_in_the_topic(settings: Settings) -> None:
    """An old answer is found by its id alone, without asking; an id never used is not."""
    with _worker(settings), ChannelClient(settings) as client:
        answer = client.reserve(ITEM, 3)
    assert isinstance(answer, ReservationResult)
    codec = connect_codec(settings)
    found = find_answer(settings, codec, answer.request_id, since_ms=FROM_THE_START)
    assert found is not None
    assert found.body == answer
    assert find_answer(settings, codec, "never-asked") is None


async def test_asyncio_client_answers_side_by_side(settings: Settings) -> None:
    """Verbs of the asyncio client run side by side, and each gets its own answer."""
    with _worker(settings):
        async with AsyncChannelClient(settings, "web-shop") as client:
            answers = await asyncio.gather(
                *(
                    client.reserve(Item("usmf", "P", {"siteid": str(n % 5)}), n, request_id=f"a{n}")
                    for n in range(1, 200)
                )
            )
            event = await client.on_hand(ITEM, {"pos.inbound": 1}, source="pos")
    assert [a.request_id for a in answers] == [f"a{n}" for n in range(1, 200)]
    assert all(isinstance(answer, ReservationResult) for answer in answers)
    assert isinstance(event, InventoryEvent)


async def test_asyncio_timeout_is_unknown_too(settings: Settings) -> None:
    """The asyncio client says unknown at the deadline, and its lookup settles it."""

    def script(worker: ScriptedWorker, asked: ReservationRequest, message: Message) -> None:
        if len(worker.seen) > 1:
            worker.result(asked, message, replayed=True)

    with _worker(settings, script):
        async with AsyncChannelClient(settings) as client:
            unknown = await client.reserve(ITEM, 1, timeout_ms=SHORT_MS)
            assert isinstance(unknown, Unknown)
            assert isinstance(await client.lookup(unknown.request_id), ReservationResult)


async def test_cancelled_caller_leaves_others_alone(settings: Settings) -> None:
    """A caller that goes away neither stops the client nor the answers of others."""
    release = threading.Event()

    def script(worker: ScriptedWorker, asked: ReservationRequest, message: Message) -> None:
        release.wait(30)
        worker.result(asked, message)

    with _worker(settings, script):
        async with AsyncChannelClient(settings) as client:
            gone = asyncio.create_task(client.reserve(ITEM, 1))
            stays = asyncio.create_task(client.reserve(ITEM, 2))
            await asyncio.sleep(0)
            gone.cancel()
            release.set()
            assert isinstance(await stays, ReservationResult)
            with pytest.raises(asyncio.CancelledError):
                await gone


def test_console_says_that_no_worker_runs(settings: Settings, tmp_path: Path) -> None:
    """Without a worker a command exits 3 after its timeout, and says what is missing."""
    result = CliRunner().invoke(
        app,
        ["reserve", "P", "1", "--org", "usmf", "--site", "1", "--warehouse", "9", "--timeout", "1"],
        env={
            "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": settings.registry_url,
            "HOLDFAST_SCHEMA_CACHE": settings.schema_cache,
            "HOLDFAST_HOME": str(tmp_path),
        },
    )
    assert result.exit_code == 3
    assert "unknown: no answer" in result.stdout
    assert "No worker is running" in result.stderr
    assert "holdfast answer" in result.stderr
