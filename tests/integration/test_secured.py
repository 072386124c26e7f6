"""Every room against servers that are secured.

A broker with TLS, and SASL or certificates; a Redis with TLS and a user for the view's keys alone.
Who is not let in says why and what to do about it, and no secret is in any log. A second broker has
an authorizer: each program has a user of its own, with the rights that docs/security.md grants it.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import pytest
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from compose.ports import free_port
from compose.settings import Settings as StackSettings
from holdfast.service_process import Service, start_service
from processor.inventory.configuration import PRESETS, dump
from processor.view.queries import RedisQueries
from processor.view.settings import ViewSettings
from producers.channel import ChannelClient, ChannelError, Item, granted
from producers.channel.client import connect_codec
from producers.channel.follow import Follower
from producers.channel.outcomes import Undecided, Unknown
from producers.channel.requests import key_by_location, request, request_line
from producers.settings import Settings
from schemas.access import refusal
from schemas.messages import InventoryEvent, ReservationResult
from schemas.partitioning import partition_of
from schemas.queries import HoldQuery, HoldView
from schemas.topics import CHANGELOG, EVENTS, REQUESTS, RESULTS, TOPICS, TRANSACTIONS
from tests.support import acls, secured
from tests.support.acls import Right
from tests.support.certificate import certificate
from tests.support.eventually import eventually
from tests.support.gateway import Shop
from tests.support.secured import Secured

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

HERE: Final = {"siteid": "1", "locationid": "11"}
UNIT: Final = 1_000_000
WRONG: Final = "wrong-hunter2"
SECRETS: Final = (secured.PASSWORD, secured.REDIS_PASSWORD, WRONG)
ENDS_WITHIN_S: Final = 90
WEBHOOK_SECRET: Final = "a-webhook-secret-of-some-length"
ROWS: Final = "event_id,company,product,transaction_id,revision,quantity,site,warehouse,status\n"

Environment = dict[str, str]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The two secured servers."""
    started = secured.start(StackSettings.from_environment(), tmp_path_factory.mktemp("secured"))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what every process of this module says."""
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def environment(servers: Secured, registry_url: str, logs: Path) -> Environment:
    """What every process is told: user, password, authority; and a home where nothing runs."""
    return {
        **servers.environment,
        "SCHEMA_REGISTRY_URL": registry_url,
        "HOLDFAST_SCHEMA_CACHE": str(logs / "schemas.json"),
        "HOLDFAST_HOME": str(logs / "home"),
        "HOLDFAST_WEBHOOK_SECRETS": WEBHOOK_SECRET,
    }


def holdfast(words: list[str], environment: Mapping[str, str], log: Path) -> tuple[int, str]:
    """Run a command to its end; its exit code and what it said, which is kept as well."""
    done = subprocess.run(
        [sys.executable, "-m", "holdfast", *words],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    with log.open("a", encoding="utf-8") as kept:
        kept.write(done.stdout)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def topics(environment: Environment, logs: Path) -> Environment:
    """The environment, once the topics are made and the schemas registered through it."""
    words = ["topics", "create", "--partitions", str(secured.PARTITIONS)]
    code, said = holdfast(words, environment, logs / "topics.log")
    assert code == 0, said
    return environment


def services(environment: Environment, logs: Path, name: str) -> list[Service]:
    """A worker, a view and a connector, each started by its command and told by environment."""
    ports = {room: free_port() for room in ("worker", "view", "connector")}
    words: dict[str, list[object]] = {
        "worker": ["worker", "--data-dir", logs / f"worker-{name}"],
        "view": ["view", "run"],
        "connector": ["connector", "run", "--webhook", free_port(), "--name", name],
    }
    return [
        start_service(
            room,
            [*words[room], "--http-port", port],
            ready_url=f"http://127.0.0.1:{port}/ready",
            log_path=logs / f"{room}-{name}.log",
            environment=environment,
        )
        for room, port in ports.items()
    ]


@pytest.fixture(scope="module", params=["SASL_SSL", "SSL"])
def let_in(
    request: pytest.FixtureRequest, servers: Secured, topics: Environment, logs: Path
) -> Iterator[Environment]:
    """The environment of rooms that run: by SCRAM over TLS, then by certificates of their own."""
    told = topics if request.param == "SASL_SSL" else {**topics, **servers.mutual}
    running = services(told, logs, f"by-{request.param.lower()}")
    try:
        for service in running:
            service.wait_until_ready()
        yield told
    finally:
        for service in reversed(running):
            service.stop()


def settings_of(environment: Environment) -> Settings:
    """Settings of a channel client told by this environment."""
    return Settings.from_environment(environment=environment, given={"connect_timeout_ms": 3_000})


async def holds_of(environment: Environment, product: str) -> list[HoldView]:
    """What the view says is held of a product."""
    queries = RedisQueries(ViewSettings.from_environment(environment=environment))
    try:
        page = await queries.holds(HoldQuery(organization_id="usmf", product_id=product))
    finally:
        await queries.close()
    return list(page.holds)


def test_reserved_end_to_end(let_in: Environment, logs: Path, tmp_path: Path) -> None:
    """Client, worker, view and connector do their work over secured connections alone."""
    item = Item("usmf", f"P-{uuid.uuid4().hex[:8]}", HERE)
    with ChannelClient(settings_of(let_in), "web-shop") as client:
        event = client.on_hand(item, {"fno.physicalinvent": 5}, source="fno")
        assert isinstance(event, InventoryEvent)
        assert event.available == 5 * UNIT
        held = client.reserve(item, 2, order_id="SO-1")
        assert isinstance(held, ReservationResult)
        assert granted(held)
    seen = eventually(lambda: asyncio.run(holds_of(let_in, item.product_id)))
    assert [(hold.hold_id, hold.quantity) for hold in seen] == [(held.lines[0].hold_id, 2 * UNIT)]
    row = f"{item.product_id},usmf,{item.product_id},T-1,1,1,1,11,created\n"
    (tmp_path / "rows.csv").write_text(ROWS + row)
    words = ["connector", "run", "--file", str(tmp_path / "rows.csv"), "--name", item.product_id]
    code, said = holdfast([*words, "--json"], let_in, logs / "file.log")
    assert code == 0, said
    assert json.loads(said.splitlines()[-1])["published"] == 1


def test_gateway_serves_a_secured_stack(let_in: Environment, logs: Path) -> None:
    """The HTTP interface writes and reads over secured connections."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    gateway = start_service(
        "gateway",
        ["gateway", "--port", port],
        ready_url=f"{url}/health/ping",
        log_path=logs / f"gateway-{port}.log",
        environment=let_in,
    )
    try:
        gateway.wait_until_ready()
        _, token = holdfast(["token"], let_in, logs / "token.log")
        product = f"P-{uuid.uuid4().hex[:8]}"
        change = {
            "id": f"on-hand-{product}",
            "organizationId": "usmf",
            "productId": product,
            "dimensions": {"siteId": "1", "locationId": "11"},
            "quantities": {"pos": {"inbound": 5}},
        }
        query = {
            "filters": {
                "organizationId": ["usmf"],
                "productId": [product],
                "siteId": ["1"],
                "locationId": ["11"],
            }
        }
        base = f"{url}/api/environment/default/onhand"
        assert asked(base, change, token.strip())
        found = asked(f"{base}/indexquery", query, token.strip())
        assert found[0]["quantities"]["pos"]["inbound"] == 5
    finally:
        gateway.stop()


def asked(url: str, body: object, token: str) -> Any:
    """Answer of the gateway to a POST."""
    answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_plain_mechanism_is_let_in(topics: Environment) -> None:
    """The other mechanism that the broker offers works as well, inside TLS."""
    told = {**topics, "KAFKA_SASL_MECHANISM": "PLAIN"}
    assert refusal(Settings.from_environment(environment=told).librdkafka()) == ""
    with ChannelClient(settings_of(told), "web-shop"):
        pass


LOGIN: Final = "check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
UNTRUSTED: Final = "set KAFKA_SSL_CAFILE"
PROTOCOL: Final = "check that KAFKA_SECURITY_PROTOCOL is the one of the listener"


WRONGS: Final = {
    "password": ({"KAFKA_SASL_PASSWORD": WRONG}, LOGIN),
    "user": ({"KAFKA_SASL_USERNAME": "nobody"}, LOGIN),
    "mechanism": ({"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"}, LOGIN),
    "certificate": ({"KAFKA_SSL_CAFILE": "{stranger}"}, UNTRUSTED),
    "protocol": ({"KAFKA_SECURITY_PROTOCOL": "PLAINTEXT"}, PROTOCOL),
}
"""What is wrong, and what must be said about it."""


@pytest.fixture(scope="module")
def wrong_in(
    topics: Environment, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Environment]:
    """An environment that is wrong in one thing."""
    stranger, _ = certificate(tmp_path_factory.mktemp("stranger"))

    def environment(wrong: str) -> Environment:
        changed, _ = WRONGS[wrong]
        told = {name: value.format(stranger=stranger) for name, value in changed.items()}
        return {**topics, **told}

    return environment


@pytest.mark.parametrize("wrong", WRONGS)
def test_client_that_is_kept_out_says_why(
    wrong: str, wrong_in: Callable[[str], Environment]
) -> None:
    """The channel client's error names the variable to look at, and quotes no secret."""
    hasty = msgspec.structs.replace(settings_of(wrong_in(wrong)), connect_timeout_ms=500)
    with pytest.raises(ChannelError, match=WRONGS[wrong][1]) as refused:
        ChannelClient(hasty, "web-shop")
    assert not [secret for secret in SECRETS if secret in str(refused.value)]


COMMANDS: Final = {
    "worker": ["worker", "--data-dir", "{logs}/worker-{wrong}"],
    "connector": ["connector", "run", "--webhook", "0", "--name", "kept-out"],
    "gateway": ["gateway", "--port", "0"],
    "topics": ["topics", "check"],
    "person": ["reserve", "D0002", "1", "--org", "usmf", "--site", "1", "--warehouse", "11"],
}


KEPT_OUT: Final = (
    ("worker", "password"),
    ("worker", "certificate"),
    ("connector", "password"),
    ("gateway", "certificate"),
    ("topics", "certificate"),
    ("person", "password"),
)
"""Room, and what is wrong there."""

Ended = tuple[int, str]


def side_by_side(run: Callable[..., Ended], cases: Collection[Any]) -> dict[Any, Ended]:
    """What commands ended with that were run at once: they wait more than they work."""
    with ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(run, cases), strict=True))


@pytest.fixture(scope="module")
def kept_out(wrong_in: Callable[[str], Environment], logs: Path) -> dict[tuple[str, str], Ended]:
    """What each command ended with that was kept out."""

    def run(case: tuple[str, str]) -> Ended:
        room, wrong = case
        words = [word.format(logs=logs, wrong=wrong) for word in COMMANDS[room]]
        return holdfast(words, wrong_in(wrong), logs / f"{room}-kept-out.log")

    return side_by_side(run, KEPT_OUT)


@pytest.mark.parametrize(("room", "wrong"), KEPT_OUT)
def test_command_that_is_kept_out_ends_and_says_why(
    room: str, wrong: str, kept_out: dict[tuple[str, str], Ended]
) -> None:
    """It ends with an error that names the variable, without a traceback and without a secret."""
    code, said = kept_out[room, wrong]
    assert code not in {0, -signal.SIGKILL}, said
    assert WRONGS[wrong][1] in " ".join(said.split()), said
    assert "Traceback" not in said
    assert not [secret for secret in SECRETS if secret in said]


@pytest.fixture(params=["password", "permission", "certificate", "kafka"])
def blind(
    request: pytest.FixtureRequest, topics: Environment, tmp_path: Path
) -> tuple[Environment, str]:
    """An environment in which a view cannot do its work, and what must be said about it."""
    stranger, _ = certificate(tmp_path)
    address = topics["REDIS_URL"].partition("?")[0]
    wrong: dict[str, tuple[Environment, str]] = {
        "password": ({"REDIS_PASSWORD": WRONG}, "check REDIS_USERNAME and REDIS_PASSWORD"),
        "permission": ({"HOLDFAST_VIEW_PREFIX": "others"}, "it needs the keys of"),
        "certificate": ({"REDIS_URL": f"{address}?ssl_ca_certs={stranger}"}, "in REDIS_URL"),
        "kafka": ({"KAFKA_SASL_PASSWORD": WRONG, "HOLDFAST_VIEW_PREFIX": "holdfast:new"}, LOGIN),
    }
    changed, told = wrong[request.param]
    return {**topics, **changed}, told


def test_view_that_is_kept_out_says_why_and_goes_on(
    blind: tuple[Environment, str], logs: Path
) -> None:
    """It says what is wrong, is not ready, and tries again until it is stopped."""
    environment, told = blind
    port = free_port()
    view = start_service(
        "view",
        ["view", "run", "--http-port", port],
        ready_url=f"http://127.0.0.1:{port}/ready",
        log_path=logs / f"view-{port}.log",
        environment=environment,
    )
    try:
        eventually(lambda: told in view.log_path.read_text(), within_s=60)
        ended = view.exit_code
        assert ended is None
        assert httpx.get(view.ready_url).status_code == 503
    finally:
        view.stop()
    assert view.exit_code == 0
    assert "Traceback" not in view.log_path.read_text()


def test_question_to_a_redis_that_keeps_out_says_why(topics: Environment, logs: Path) -> None:
    """Who asks the view by the command line is told the variable, and no secret."""
    environment = {**topics, "REDIS_PASSWORD": WRONG}
    code, said = holdfast(["view", "status"], environment, logs / "status.log")
    assert code != 0
    assert "check REDIS_USERNAME and REDIS_PASSWORD" in " ".join(said.split())
    assert WRONG not in said


# A user for each program, who may do what docs/security.md says and no more.

REPLIES: Final = "shop-replies"
REPLYING: Final = "replying-channel"
ADDED: Final = {
    "worker": [Right("worker", "topic", REPLIES, ("Write", "DescribeConfigs"))],
    REPLYING: [
        *(r for r in acls.rights_of("channel") if r.name != RESULTS),
        Right(REPLYING, "topic", REPLIES, ("Read",)),
    ],
}
"""What the page says in words of a deployment with reply topics."""

LACKING: Final = {
    "worker-topic": ("worker", TRANSACTIONS, f"Read on topic {TRANSACTIONS}"),
    "worker-group": ("worker", "holdfast", "Read on group holdfast"),
    "worker-changelog": ("worker", CHANGELOG, f"Read, Write on topic {CHANGELOG}"),
    "worker-results": ("worker", RESULTS, f"Write on topic {RESULTS}"),
    "worker-transaction": ("worker", "holdfast-*", "Transactional Id"),
    "connector-group": ("connector", "holdfast-scm", "Group"),
    "gateway-group": ("gateway", "holdfast-config", "Group"),
    "configuration-transaction": ("configuration", "holdfast-config-apply", "Transactional Id"),
    "topics-topic": ("topics", REQUESTS, REQUESTS),
}
"""User to program, what is left out of its rights, and what must be said about it."""

PROGRAMS: Final = sorted({right.program for right in acls.documented()})


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Servers with an authorizer, and a user with its documented rights for each program."""
    folder = tmp_path_factory.mktemp("strict")
    users = (*PROGRAMS, REPLYING, *LACKING)
    started = secured.start(StackSettings.from_environment(), folder, granted=users)
    try:
        admin = started.operator()
        admin.create_topics([NewTopic(REPLIES, 1, 1)])[REPLIES].result(ENDS_WITHIN_S)
        for user in (*PROGRAMS, REPLYING):
            acls.grant(admin, user, [*acls.rights_of(user), *ADDED.get(user, ())])
        for user, (program, left_out, _) in LACKING.items():
            rights = [*acls.rights_of(program), *ADDED.get(program, ())]
            acls.grant(admin, user, [right for right in rights if right.name != left_out])
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def told_of(strict: Secured, registry_url: str, logs: Path) -> Callable[[str], Environment]:
    """What each program's process is told, once the topics are there."""

    def environment(user: str) -> Environment:
        return {
            **strict.environment_of(user),
            "SCHEMA_REGISTRY_URL": registry_url,
            "HOLDFAST_SCHEMA_CACHE": str(logs / "schemas.json"),
            "HOLDFAST_HOME": str(logs / "home"),
            "HOLDFAST_WEBHOOK_SECRETS": WEBHOOK_SECRET,
            "HOLDFAST_REPLY_TOPICS": REPLIES,
        }

    words = ["topics", "create", "--partitions", str(secured.PARTITIONS)]
    code, said = holdfast(words, environment("topics"), logs / "topics-strict.log")
    assert code == 0, said
    return environment


@pytest.fixture(scope="module")
def at_work(told_of: Callable[[str], Environment], logs: Path) -> Iterator[dict[str, Service]]:
    """Worker, view and gateway, each as its own user."""
    ports = {room: free_port() for room in ("worker", "view", "gateway")}
    words: dict[str, list[object]] = {
        "worker": ["--data-dir", logs / "worker-strict"],
        "view": ["run"],
        "gateway": [],
    }
    running = {
        room: start_service(
            room,
            [room, *words[room], "--port" if room == "gateway" else "--http-port", port],
            ready_url=f"http://127.0.0.1:{port}/{'health/ping' if room == 'gateway' else 'ready'}",
            log_path=logs / f"{room}-strict.log",
            environment=told_of(room),
        )
        for room, port in ports.items()
    }
    try:
        for service in running.values():
            service.wait_until_ready()
        yield running
    finally:
        for service in reversed(running.values()):
            service.stop()


def test_unanswered_request_is_not_blamed_on_a_right(
    told_of: Callable[[str], Environment],
) -> None:
    """With its documented rights a channel that gets no answer names no refusal as the trouble."""
    settings = msgspec.structs.replace(settings_of(told_of("channel")), timeout_ms=1_000)
    with ChannelClient(settings, "web-shop") as client:
        answer = client.reserve(Item("usmf", f"P-{uuid.uuid4().hex[:8]}", HERE), 1)
    assert isinstance(answer, Unknown)
    assert "authorization" not in answer.reason


def test_worker_and_channel_do_their_work_with_the_documented_rights(
    at_work: dict[str, Service], told_of: Callable[[str], Environment]
) -> None:
    """A reservation is decided and answered, and its hold expires where nobody writes."""
    item = Item("usmf", f"P-{uuid.uuid4().hex[:8]}", HERE)
    with ChannelClient(settings_of(told_of("channel")), "web-shop") as client:
        held = client.reserve(item, 1, check_availability=False, expires_in_ms=500)
        assert isinstance(held, ReservationResult)
        assert granted(held)
    # Ticks alone move time from here on. The gateway's user may read the events.
    settings = settings_of(told_of("gateway"))
    with Follower(settings, connect_codec(settings), (EVENTS,), since_ms=0) as follower:
        eventually(
            lambda: any(
                isinstance(record.body, InventoryEvent)
                and (record.body.event_type, record.body.product_id)
                == ("HOLD_EXPIRED", item.product_id)
                for record in follower.read(0.2)
            )
        )


def test_record_that_cannot_be_decided_goes_to_the_dead_letters(
    at_work: dict[str, Service], told_of: Callable[[str], Environment]
) -> None:
    """The worker may write them, and the channel reads that its request was set aside."""
    item = Item("usmf", f"P-{uuid.uuid4().hex[:8]}", HERE)
    asked = request(
        "RESERVE",
        [request_line(item, 1)],
        request_id=uuid.uuid4().hex,
        organization_id="usmf",
        channel="web-shop",
    )
    right = partition_of(key_by_location(item), secured.PARTITIONS)
    keys = (b"astray-%d" % number for number in range(100))
    astray = next(key for key in keys if partition_of(key, secured.PARTITIONS) != right)
    with ChannelClient(settings_of(told_of("channel")), "web-shop") as client:
        assert isinstance(client.ask(asked, key=astray), Undecided)


def test_reply_topic_needs_what_the_page_says_of_it(
    at_work: dict[str, Service], told_of: Callable[[str], Environment]
) -> None:
    """A channel that may not read others' answers gets its own on its reply topic."""
    settings = msgspec.structs.replace(settings_of(told_of(REPLYING)), reply_topic=REPLIES)
    with ChannelClient(settings, "web-shop") as client:
        item = Item("usmf", f"P-{uuid.uuid4().hex[:8]}", HERE)
        assert isinstance(client.reserve(item, 1), ReservationResult)


def test_view_and_gateway_do_their_work_with_the_documented_rights(
    at_work: dict[str, Service], told_of: Callable[[str], Environment], logs: Path
) -> None:
    """On-hand change, reservation, query and event stream are served."""
    _, token = holdfast(["token"], told_of("gateway"), logs / "token.log")
    base = at_work["gateway"].ready_url.removesuffix("/health/ping")
    headers = {"Authorization": f"Bearer {token.strip()}"}
    with httpx.Client(base_url=base, headers=headers, timeout=30) as client:
        shop = Shop(client=client, product=f"P-{uuid.uuid4().hex[:8]}")
        with client.stream("GET", "/v1/events", params={"productId": shop.product}) as stream:
            assert stream.status_code == 200
            assert shop.post("onhand", shop.change(5)).json()["processingStatus"] == "success"
            answer = shop.post("onhand/reserve", shop.reservation(2)).json()
            assert answer["processingStatus"] == "success"
            seen = (text for text in stream.iter_lines() if text.startswith("event:"))
            assert [next(seen), next(seen)] == ["event: transaction", "event: decision"]
        values = {"organizationId": "usmf", "productId": shop.product, **shop.dimensions}
        query = {"filters": {name: [value] for name, value in values.items()}}
        found = shop.post("onhand/indexquery", query).json()
        assert found[0]["quantities"]["iv"]["softreserved"] == 2


def test_connector_does_its_work_with_the_documented_rights(
    at_work: dict[str, Service],
    told_of: Callable[[str], Environment],
    logs: Path,
    tmp_path: Path,
) -> None:
    """It tells one row on, sets another aside, and remembers up to where it was."""
    name = uuid.uuid4().hex[:8]
    rows = f"{name}-1,usmf,{name},T-1,1,1,1,11,created\n{name}-2,usmf,{name},T-2,1,x,1,11,no\n"
    (tmp_path / "rows.csv").write_text(ROWS + rows)
    words = ["connector", "run", "--file", str(tmp_path / "rows.csv"), "--name", name, "--json"]
    code, said = holdfast(words, told_of("connector"), logs / "connector-strict.log")
    assert code == 1, said  # As for every file of which a row was refused.
    done = json.loads(said.splitlines()[-1])
    assert (done["published"], done["refused"]) == (1, 1), said


def test_configuration_is_applied_with_the_documented_rights(
    at_work: dict[str, Service],
    told_of: Callable[[str], Environment],
    logs: Path,
    tmp_path: Path,
) -> None:
    """A version is written, and every partition says that it is in force."""
    (tmp_path / "holdfast.yaml").write_text(dump(PRESETS["2023-11"]()))
    words = ["config", "apply", str(tmp_path / "holdfast.yaml"), "--next", "--json"]
    code, said = holdfast(words, told_of("configuration"), logs / "configuration-strict.log")
    assert code == 0, said
    assert '"in_force":2' in said


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_program_writes_what_it_is_not_granted(
    program: str, told_of: Callable[[str], Environment]
) -> None:
    """The broker refuses every other topic: the channel's user writes no transaction and no row."""
    writes = {
        r.name for r in acls.rights_of(program) if r.kind == "topic" and "Write" in r.operations
    }
    refused: dict[str, int] = {}

    def told(error: KafkaError | None, message: Message) -> None:
        refused[message.topic()] = 0 if error is None else error.code()

    producer = Producer({**settings_of(told_of(program)).librdkafka(), "log_level": 0})
    others = TOPICS.keys() - writes
    for name in others:
        producer.produce(name, b"forged", b"forged", on_delivery=told)
    assert producer.flush(ENDS_WITHIN_S) == 0
    assert refused == dict.fromkeys(others, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    if program == "channel":
        assert {TRANSACTIONS, CHANGELOG} <= others


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_program_sees_a_topic_without_a_row(
    program: str, told_of: Callable[[str], Environment]
) -> None:
    """What the table does not name for it is hidden: the channel's user reads no stock row."""
    admin = AdminClient(settings_of(told_of(program)).librdkafka())
    added = {right.name for right in ADDED.get(program, ())}
    named = {right.name for right in acls.rights_of(program) if right.kind == "topic"}
    assert admin.list_topics(timeout=ENDS_WITHIN_S).topics.keys() == named | added


@pytest.fixture(scope="module")
def without_a_right(
    told_of: Callable[[str], Environment], logs: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Ended]:
    """What each command ended with that lacks one."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "holdfast.yaml").write_text(dump(PRESETS["2023-11"]()))
    (folder / "rows.csv").write_text(ROWS)

    def run(user: str) -> Ended:
        words = {
            "worker": ["worker", "--data-dir", str(folder / user)],
            "connector": ["connector", "run", "--file", str(folder / "rows.csv"), "--name", user],
            "gateway": ["gateway", "--port", "0"],
            "configuration": ["config", "apply", str(folder / "holdfast.yaml"), "--next"],
            "topics": ["topics", "create"],
        }[LACKING[user][0]]
        return holdfast(words, told_of(user), logs / f"without-{user}.log")

    return side_by_side(run, LACKING)


@pytest.mark.parametrize("user", LACKING)
def test_command_without_a_right_ends_and_says_so(
    user: str, without_a_right: dict[str, Ended]
) -> None:
    """One row left out: the command ends with an error that tells what was refused, untraced."""
    code, said = without_a_right[user]
    assert code not in {0, -signal.SIGKILL}, said
    assert re.search(LACKING[user][2], " ".join(said.split())), said
    assert "Traceback" not in said


def test_no_secret_is_in_any_log(servers: Secured, logs: Path) -> None:
    """Neither the passwords that worked nor the one that did not were written by any room.

    Last in the module: it reads what all the others left.
    """
    written = {path.name: path.read_text(errors="replace") for path in logs.glob("*.log")}
    assert {"topics.log", "worker-by-sasl_ssl.log", "worker-kept-out.log"} <= written.keys()
    secrets = (*SECRETS, WEBHOOK_SECRET)
    assert not [name for name, text in written.items() for one in secrets if one in text]
