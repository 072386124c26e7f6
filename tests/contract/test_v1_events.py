"""The event stream: what was committed, filtered, resumed; and readers that do not read."""

import asyncio
import contextlib
import json
import socket
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from compose.ports import free_port
from producers.channel import ChannelClient, Item
from producers.gateway.v1.events import CHUNK_BYTES
from producers.settings import Settings
from schemas.messages import ReservationResult
from tests.support.eventually import eventually, eventually_async
from tests.support.gateway import GatewayProcess, Shop, gateway_process

pytestmark = pytest.mark.kafka

READERS = 100
BULKS_MAX = 60  # Of 512: many times what the sockets between two processes hold.
SINGLES = 5
# What uvicorn lets wait before it stops the writer, and the chunk written last, up to its end.
UNSENT_BYTES_MAX = HIGH_WATER_LIMIT + CHUNK_BYTES + 4_096


class Event(NamedTuple):
    """One event of the stream."""

    event_id: str
    kind: str
    data: dict[str, Any]


def events_of(answer: httpx.Response) -> Iterator[Event]:
    """Events as they come; it waits for the next one, or a sign of life."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
            fields = {}


def until(events: Iterator[Event], request_id: str) -> list[Event]:
    """Events up to that of a request."""
    seen = []
    for event in events:
        seen.append(event)
        if event.data.get("requestId") == request_id:
            return seen
    raise AssertionError(f"the stream ended without {request_id}")


def reserve(shop: Shop, quantity: int = 1) -> str:
    """Ask for something; the request's id on the topic."""
    body = shop.reservation(quantity)
    assert shop.post("onhand/reserve", body).json()["processingStatus"] in {"success", "failure"}
    return f"ohre~{body['id']}"


def test_decisions_and_stock_changes_come_as_they_are_committed(
    client: httpx.Client, shop: Shop
) -> None:
    """A reader of one product sees its stock change, its grant and its refusal, in their order."""
    other = Shop(client=client, product=f"other-{uuid.uuid4().hex}")
    with client.stream("GET", "/v1/events", params={"productId": shop.product}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        shop.post("onhand", shop.change(10))
        reserve(other)
        granted, refused = reserve(shop, 4), reserve(shop, 99)
        seen = until(events_of(answer), refused)
    assert [event.kind for event in seen] == ["transaction", "decision", "decision"]
    told, first, second = (event.data for event in seen)
    assert (told["code"], told["productId"]) == ("APPLIED", shop.product)
    assert (first["requestId"], first["code"], first["action"]) == (granted, "ACCEPTED", "RESERVE")
    (line,) = first["lines"]
    assert (line["productId"], line["asked"], line["available"]) == (shop.product, 4, 6)
    assert second["code"] == "INSUFFICIENT_STOCK"
    assert told["sequence"] < first["sequence"] < second["sequence"]


@pytest.mark.parametrize(
    "wanted",
    [{"siteId": "2"}, {"locationId": "12"}, {"channel": "elsewhere"}, {"organizationId": "demf"}],
)
def test_filters_must_all_fit(
    client: httpx.Client, shop: Shop, http_stack: Settings, wanted: dict[str, str]
) -> None:
    """Place, channel and organization narrow the stream; what does not fit is not sent."""
    place = {"siteid": wanted.get("siteId", "1"), "locationid": wanted.get("locationId", "11")}
    item = Item(wanted.get("organizationId", "usmf"), shop.product, place)
    params = {**wanted, "productId": shop.product}
    with (
        ChannelClient(http_stack, wanted.get("channel", "tests")) as channel,
        client.stream("GET", "/v1/events", params=params) as narrow,
    ):
        reserve(shop)
        fitting = channel.reserve(item, 1)
        assert isinstance(fitting, ReservationResult)
        seen = until(events_of(narrow), fitting.request_id)
    assert [event.data["requestId"] for event in seen] == [fitting.request_id]


def test_reader_that_comes_back_misses_nothing(client: httpx.Client, shop: Shop) -> None:
    """Behind the id of the last event seen, the stream goes on: every event, once, no gap."""
    params = {"productId": shop.product}
    with client.stream("GET", "/v1/events", params=params) as answer:
        first = reserve(shop)
        last_id = until(events_of(answer), first)[-1].event_id
    missed = [reserve(shop) for _ in range(3)]
    headers = {"Last-Event-ID": last_id}
    with client.stream("GET", "/v1/events", params=params, headers=headers) as answer:
        seen = until(events_of(answer), missed[-1])
    assert [event.data["requestId"] for event in seen] == missed


def test_reader_that_comes_to_another_gateway_goes_on_there(
    http_stack: Settings,
    view_url: str,
    client: httpx.Client,
    shop: Shop,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """An id of one gateway is understood by the next: again rather than never; else it says gap."""
    params = {"productId": shop.product}
    with client.stream("GET", "/v1/events", params=params) as answer:
        first = reserve(shop)
        last_id = until(events_of(answer), first)[-1].event_id
    missed = [reserve(shop) for _ in range(3)]
    home = tmp_path_factory.mktemp("gateway")
    headers = {"Last-Event-ID": last_id}
    with (
        gateway_process(http_stack, home, {"REDIS_URL": view_url}) as second,
        second.client() as there,
        there.stream("GET", "/v1/events", params=params, headers=headers) as answer,
    ):
        seen = until(events_of(answer), missed[-1])
    assert [event.data["requestId"] for event in seen if event.kind == "decision"][-3:] == missed
    old = f"{last_id.rsplit('-', 1)[0]}-1".replace(last_id[:8], "00000000")
    headers = {"Last-Event-ID": old}
    with client.stream("GET", "/v1/events", headers=headers) as answer:
        assert next(events_of(answer)).kind == "gap"


def test_nonsense_as_last_id_is_400(client: httpx.Client) -> None:
    """What is no id of the stream is told so."""
    for last_id in ("x", "1-2", "a-b-c", "a-1--2", "٣-٣-٣"):
        answer = client.get("/v1/events", params={"lastEventId": last_id})
        assert answer.status_code == 400


def test_graceful_stop_ends_the_streams(
    http_stack: Settings, view_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A gateway that stops ends its streams properly, and does not wait for them to end."""
    home = tmp_path_factory.mktemp("gateway")
    with (
        gateway_process(http_stack, home, {"REDIS_URL": view_url}) as process,
        process.client() as there,
        there.stream("GET", "/v1/events") as answer,
    ):
        assert process.stop() == 0
        # Where uvicorn's patience ended it instead, the answer would break off: an error here.
        assert list(events_of(answer)) == []


async def _count(gateway: GatewayProcess, product: str, counts: list[int], number: int) -> None:
    """Read a stream for good, counting the product's decisions."""
    reading, writing = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = f"GET /v1/events?productId={product} HTTP/1.1\r\nHost: x\r\n"
    writing.write(f"{head}Authorization: Bearer {gateway.token()}\r\n\r\n".encode())
    try:
        async for line in reading:
            if line.startswith(b"retry:"):
                counts[number] = 0
            counts[number] += line.startswith(b"event: decision")
    finally:
        writing.close()


def stuck_reader(gateway: GatewayProcess) -> socket.socket:
    """A reader of everything that asks, and then reads nothing."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    one.connect(("127.0.0.1", gateway.port))
    head = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.token()}\r\n\r\n"
    one.sendall(head.encode())
    return one


def drain(one: socket.socket) -> None:
    """Read what had been sent, up to the end; without one it fails."""
    one.settimeout(30)
    with one, contextlib.suppress(ConnectionResetError):
        while one.recv(65_536):
            pass


def figure(port: int, name: str) -> float:
    """A figure of the gateway's, summed over labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


class Stream:
    """What the gateway's metrics say of its stream."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def readers(self) -> float:
        """Readers that it has."""
        return figure(self.port, "holdfast_gateway_stream_readers")

    @property
    def stalled(self) -> float:
        """Readers whose connection takes nothing."""
        return figure(self.port, "holdfast_gateway_stream_stalled")

    @property
    def unsent(self) -> float:
        """Bytes that wait in the gateway for one reader, at most."""
        return figure(self.port, "holdfast_gateway_stream_unsent_bytes")

    @property
    def cut_off(self) -> float:
        """Readers that took nothing for too long."""
        return figure(self.port, 'holdfast_gateway_stream_cut_off_total{why="stalled"}')


def reserve_many(shop: Shop) -> None:
    """A bulk of 512, one of them of the shop's product; all answered."""
    load = [{**shop.reservation(1), "productId": f"load-{uuid.uuid4().hex}"} for _ in range(511)]
    assert shop.post("onhand/reserve/bulk", [shop.reservation(1), *load]).status_code == 200


def write_until_stalled(shop: Shop, stream: Stream) -> int:
    """Write until a reader's connection is full; how many bulks it took."""
    for number in range(1, BULKS_MAX + 1):
        reserve_many(shop)
        # More than any reader has that only did not come to read yet, and it stays.
        held = stream.unsent
        if held >= HIGH_WATER_LIMIT and stream.stalled and stream.unsent == held:
            return number
    raise AssertionError(f"no reader is stalled after {BULKS_MAX} bulks")


def write_beside_the_stalled(shop: Shop, stream: Stream) -> int:
    """Write while a reader hangs: every write is answered, what waits for it stays as it is."""
    held = stream.unsent
    assert held <= UNSENT_BYTES_MAX
    reserve_many(shop)
    for _ in range(SINGLES):
        reserve(shop)
    eventually(lambda: (stream.stalled, stream.unsent) == (1, held), within_s=5)
    assert stream.cut_off == 0, "the reader was cut off before the writes were answered"
    return 1 + SINGLES


async def test_hundred_readers_and_a_stuck_one_do_not_stop_a_writer(
    http_stack: Settings, view_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All writes are answered while it hangs; little waits for the stuck one, until it is cut off.

    And 100 readers see all that they asked for meanwhile.
    """
    stream = Stream(free_port())
    environment = {"REDIS_URL": view_url, "HOLDFAST_GATEWAY_METRICS_PORT": str(stream.port)}
    home = tmp_path_factory.mktemp("gateway")
    with gateway_process(http_stack, home, environment) as gateway, gateway.client() as plain:
        shop = Shop(client=plain, product=f"P-{uuid.uuid4().hex[:10]}")
        stuck = stuck_reader(gateway)
        counts = [-1] * READERS
        readers = [
            asyncio.create_task(_count(gateway, shop.product, counts, number))
            for number in range(READERS)
        ]

        async def all_read(expected: int) -> bool:
            return counts == [expected] * READERS

        await eventually_async(lambda: all_read(0))
        written = await asyncio.to_thread(write_until_stalled, shop, stream)
        written += await asyncio.to_thread(write_beside_the_stalled, shop, stream)
        await eventually_async(lambda: all_read(written))
        await asyncio.to_thread(eventually, lambda: stream.cut_off == 1, within_s=40)
        await asyncio.to_thread(eventually, lambda: (stream.stalled, stream.unsent) == (0, 0))
        assert stream.readers == READERS
        await asyncio.to_thread(drain, stuck)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await asyncio.to_thread(eventually, lambda: stream.readers == 0)
