"""The gateway under faults and limits: killed, late, without a registry, flooded, behind TLS."""

import ssl
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from compose.ports import free_port
from compose.stack import LocalStack
from producers.channel.client import connect_codec
from producers.gateway.v1.changes import Change, Changes
from producers.settings import Settings
from schemas import topics
from schemas.messages import ReservationResult
from tests.support.certificate import certificate
from tests.support.eventually import eventually
from tests.support.gateway import (
    BASE,
    GatewayProcess,
    Shop,
    gateway_process,
    view_process,
)
from tests.support.records import in_transactions

pytestmark = pytest.mark.kafka

KILLS = 3
REQUESTS_A_KILL = 150


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Folder of one gateway."""
    return tmp_path / "gateway"


@pytest.fixture
def gateway(running: Settings, home: Path) -> Iterator[GatewayProcess]:
    """A gateway of its own."""
    with gateway_process(running, home) as process:
        yield process


def shop_of(client: httpx.Client) -> Shop:
    """A product nobody else uses."""
    return Shop(client=client, product=f"P-{uuid.uuid4().hex[:10]}")


@pytest.mark.fault
def test_killed_gateway_costs_no_answer_and_no_stock(gateway: GatewayProcess) -> None:
    """Killed in the middle of requests: every retry gets the first answer, all are counted once."""
    with gateway.client() as client:
        shop = shop_of(client)
        shop.post("onhand", shop.change(10_000))
        cut_off = 0
        for _ in range(KILLS):
            bodies = [shop.reservation(1) for _ in range(REQUESTS_A_KILL)]
            first = _until_killed(gateway, bodies)
            cut_off += sum(answer is None for answer in first)
            gateway.start()
            with ThreadPoolExecutor(8) as pool:
                retried = pool.map(partial(shop.post, "onhand/reserve"), bodies)
                again = [answer.json() for answer in retried]
            assert {answer["statusCode"] for answer in again} == {200}
            assert all(a in (None, b) for a, b in zip(first, again, strict=True))
        assert cut_off > 0
        assert shop.available() == 10_000 - KILLS * REQUESTS_A_KILL


def _until_killed(gateway: GatewayProcess, bodies: list[Any]) -> list[Any]:
    """Answers to requests sent side by side; None where the gateway died first."""
    answered = threading.Semaphore(0)

    def ask(body: Any) -> Any:
        try:
            answer = client.post(BASE + "onhand/reserve", json=body).json()
        except httpx.TransportError:
            return None
        answered.release()
        return answer

    with gateway.client() as client, ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(ask, body) for body in bodies]
        for _ in range(REQUESTS_A_KILL // 3):
            assert answered.acquire(timeout=30)
        gateway.kill()
        return [future.result() for future in futures]


def test_late_answer_is_202_with_a_place_to_look(running: Settings, home: Path) -> None:
    """Past the deadline nothing is guessed: 202 and where to look; the retry gets the answer."""
    with (
        gateway_process(running, home, {"HOLDFAST_GATEWAY_ANSWER_MS": "1"}) as hasty,
        hasty.client() as client,
    ):
        shop = shop_of(client)
        late: list[httpx.Response] = []
        body: dict[str, Any] = {}
        while not late:  # An answer within the millisecond is possible, though not for ever.
            body = shop.reservation(1, ifCheckAvailForReserv=False)
            answer = shop.post("onhand/reserve", body)
            late = [answer] if answer.status_code == 202 else []
        assert late[0].headers["Location"] == f"/v1/decisions/ohre~{body['id']}"
        assert late[0].json()["processingStatus"] == "pending"
        late_bulk: list[httpx.Response] = []
        while not late_bulk:  # One read may bring the answers to all of them, as above.
            bulk = shop.post("onhand/reserve/bulk", [shop.reservation(1) for _ in range(100)])
            late_bulk = [bulk] if bulk.status_code == 202 else []
        assert {one["statusCode"] for one in late_bulk[0].json()} >= {202}
    with gateway_process(running, home) as patient, patient.client() as client:
        again = Shop(client=client, product=shop.product)
        settled = again.post("onhand/reserve", body)
        assert settled.status_code == 200
        assert settled.json() == again.post("onhand/reserve", body).json()


def test_registry_that_is_down_stops_nobody(running: Settings, home: Path) -> None:
    """With remembered schema ids a gateway starts and writes although the registry is away."""
    with gateway_process(running, home) as process:
        process.stop()
        gone = f"http://127.0.0.1:{free_port()}/apis/ccompat/v7"
        remembered = home / "schemas.json"  # Ids are remembered by the registry's address.
        remembered.write_text(remembered.read_text().replace(running.registry_url, gone))
        process.environment["SCHEMA_REGISTRY_URL"] = gone
        process.start()
        with process.client() as client:
            shop = shop_of(client)
            assert shop.post("onhand", shop.change(5)).json()["statusCode"] == 200
            assert shop.available() == 5


def test_stop_answers_what_is_under_way(gateway: GatewayProcess) -> None:
    """At SIGTERM requests under way are answered, then the process ends with 0."""
    with gateway.client() as client, ThreadPoolExecutor(4) as pool:
        shop = shop_of(client)
        bodies = [
            [shop.reservation(1, ifCheckAvailForReserv=False) for _ in range(512)] for _ in range(4)
        ]
        sent = [pool.submit(shop.post, "onhand/reserve/bulk", body) for body in bodies]
        sent[0].result()
        assert gateway.stop() == 0
        taken = [one for one in sent if not isinstance(one.exception(), httpx.TransportError)]
        answers = [one.result() for one in taken]
    assert answers
    assert {answer.status_code for answer in answers} == {200}
    assert "Traceback" not in gateway.log()


def test_limit_is_told_and_is_each_clients_own(running: Settings, home: Path) -> None:
    """Beyond its burst a client gets 429 with Retry-After; another client does not notice."""
    limits = {"HOLDFAST_GATEWAY_RATE_PER_S": "0.5", "HOLDFAST_GATEWAY_BURST": "5"}
    with gateway_process(running, home, limits) as process:
        with process.client(process.token(client_id="greedy")) as client:
            answers = [client.get(BASE + "configuration") for _ in range(8)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
        assert answers[-1].headers["Retry-After"] == "2"
        with process.client(process.token(client_id="modest")) as client:
            assert client.get(BASE + "configuration").status_code == 200


def test_flood_of_bad_tokens_is_slowed_down(gateway: GatewayProcess) -> None:
    """An address that keeps failing gets 429; a good token from there is still let in."""
    with gateway.client("not-a-token") as client:
        codes = {client.get(BASE + "configuration").status_code for _ in range(300)}
    assert codes == {401, 429}
    with gateway.client() as client:
        assert client.get(BASE + "configuration").status_code == 200


def test_guesses_of_a_secret_are_slowed_down(gateway: GatewayProcess) -> None:
    """Who guesses a client's secret gets 429 after a hundred wrong ones."""
    client_id, _ = gateway.issuer.development_client()
    form = {"client_id": client_id, "client_secret": "x", "grant_type": "client_credentials"}
    with gateway.client("") as client:
        path = "/tenant/oauth2/v2.0/token"
        codes = {client.post(path, data=form).status_code for _ in range(300)}
    assert codes == {401, 429}


def test_too_much_under_way_is_refused_unsent(running: Settings, home: Path) -> None:
    """Beyond its bound a gateway sends nothing and says 503: it sheds load, it does not queue."""
    with (
        gateway_process(running, home, {"HOLDFAST_GATEWAY_IN_FLIGHT_MAX": "10"}) as process,
        process.client() as client,
    ):
        shop = shop_of(client)
        refused = shop.post("onhand/bulk", [shop.change(1) for _ in range(11)])
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "1"
        assert shop.post("onhand/bulk", [shop.change(1) for _ in range(10)]).status_code == 200
        assert shop.available() == 10


def test_log_holds_no_secret(gateway: GatewayProcess) -> None:
    """Whatever is asked, neither tokens nor secrets reach the log."""
    client_id, secret = gateway.issuer.development_client()
    token = gateway.token()
    with gateway.client(token) as client:
        shop = shop_of(client)
        shop.post("onhand", shop.change(1))
        shop.post("onhand", b"{")
        client.get(f"/nosuch?access_token={token}")
    form = {"client_id": client_id, "client_secret": secret, "grant_type": "client_credentials"}
    httpx.post(f"{gateway.url}/tenant/oauth2/v2.0/token", data=form)
    with gateway.client(token + "x") as client:
        client.get(BASE + "configuration")
    gateway.stop()
    assert token not in gateway.log()
    assert secret not in gateway.log()


def test_two_step_exchange_gives_a_token_that_works(gateway: GatewayProcess) -> None:
    """The original's exchange: a form with client and secret, then JSON with the environment."""
    client_id, secret = gateway.issuer.development_client()
    form = {
        "client_id": client_id,
        "client_secret": secret,
        "grant_type": "client_credentials",
        "scope": "0cdb527f-a8d1-4bf8-9436-b352c68682b2/.default",
    }
    with gateway.client("") as client:
        first = client.post("/tenant/oauth2/v2.0/token", data=form)
        body = {
            "grant_type": "client_credentials",
            "client_assertion_type": "aad_app",
            "client_assertion": first.json()["access_token"],
            "scope": "https://inventoryservice.operations365.dynamics.com/.default",
            "context": "default",
            "context_type": "finops-env",
        }
        second = client.post("/token", json=body, headers={"Api-Version": "1.0"})
        assert second.json()["expires_in"] == 3_600
        assert "no-store" in second.headers["Cache-Control"]
        for change in ({"context": "elsewhere"}, {"client_assertion": "x"}):
            assert client.post("/token", json={**body, **change}).status_code == 401
        wrong = client.post("/tenant/oauth2/v2.0/token", data={**form, "client_secret": "x"})
        assert wrong.status_code == 401
        published = client.get("/.well-known/jwks.json").json()["keys"]
        assert "d" not in published[0]
    with gateway.client(second.json()["access_token"]) as client:
        assert client.get(BASE + "configuration").status_code == 200
    with gateway.client(first.json()["access_token"]) as client:
        assert client.get(BASE + "configuration").status_code == 401


def test_identity_provider_is_not_served_in_production(running: Settings, home: Path) -> None:
    """With a provider configured, no token is given out here, and the local keys get nobody in."""
    published = {
        "HOLDFAST_TOKEN_JWKS_URL": f"http://127.0.0.1:{free_port()}/keys",
        "HOLDFAST_TOKEN_ISSUER": "urn:holdfast:development",
    }
    with gateway_process(running, home, published) as process, process.client() as client:
        assert client.get("/.well-known/jwks.json").status_code == 404
        assert client.post("/token", json={}).status_code == 404
        answer = client.get(BASE + "configuration")
        assert answer.status_code == 503  # Its keys cannot be had, so nothing is known.


def test_keys_of_a_provider_are_fetched(
    running: Settings, gateway: GatewayProcess, tmp_path: Path
) -> None:
    """A gateway that is given a provider's address accepts that provider's tokens."""
    settings = {
        "HOLDFAST_TOKEN_JWKS_URL": f"{gateway.url}/.well-known/jwks.json",
        "HOLDFAST_TOKEN_ISSUER": "urn:holdfast:development",
    }
    with (
        gateway_process(running, tmp_path / "other", settings) as process,
        process.client(gateway.token()) as client,
    ):
        assert client.get(BASE + "configuration").status_code == 200
        with process.client() as stranger:
            assert stranger.get(BASE + "configuration").status_code == 401


def test_tls_by_configuration(running: Settings, home: Path) -> None:
    """With a certificate and its key the gateway speaks TLS, and nothing else."""
    chain, key = certificate(home.parent)
    tls = {
        "HOLDFAST_GATEWAY_TLS_CERTIFICATE": str(chain),
        "HOLDFAST_GATEWAY_TLS_KEY": str(key),
    }
    context = ssl.create_default_context(cafile=str(chain))
    with gateway_process(running, home, tls) as process:
        with process.client(verify=context) as client:
            shop = shop_of(client)
            assert shop.post("onhand", shop.change(1)).json()["statusCode"] == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{process.port}/health/ping")


def test_figures_are_served(running: Settings, home: Path) -> None:
    """Requests by area and status, and records under way, can be scraped on loopback."""
    port = free_port()
    with gateway_process(running, home, {"HOLDFAST_GATEWAY_METRICS_PORT": str(port)}) as process:
        with process.client() as client:
            shop = shop_of(client)
            shop.post("onhand", shop.change(1))
        with process.client("") as client:
            client.get(BASE + "configuration")
        text = eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/metrics").text)
    assert 'holdfast_gateway_requests_total{area="onhand",status="200"} 1.0' in text
    assert 'holdfast_gateway_refused_total{why="unauthenticated"} 1.0' in text
    assert "holdfast_gateway_in_flight 0.0" in text


QUERY = {"filters": {"organizationId": "usmf", "productId": f"P-{uuid.uuid4().hex[:10]}"}}


def test_redis_user_and_password_reach_the_view(running: Settings, home: Path) -> None:
    """With Redis' default user off, view and gateway work by a named user; else 503, no secret."""
    secret = uuid.uuid4().hex
    with LocalStack(servers=("redis",)) as stack:
        url = stack.addresses.redis_url
        assert url is not None
        place = url.removeprefix("redis://")
        admin = redis.Redis.from_url(url)
        for user in ("holdfast", "admin"):
            admin.acl_setuser(
                user, enabled=True, passwords=[f"+{secret}"], keys=["*"], commands=["+@all"]
            )
        admin.acl_setuser("default", enabled=False, reset=True)
        named = f"redis://holdfast:{secret}@{place}"
        with view_process(running, named, home / "view"):
            with (
                gateway_process(running, home / "in", {"REDIS_URL": named}) as process,
                process.client() as client,
            ):
                answer = client.post(BASE + "onhand/indexquery", json=QUERY)
                assert answer.status_code == 200
                assert secret not in process.log()
            wrong = f"redis://holdfast:{secret[::-1]}@{place}"
            with (
                gateway_process(running, home / "out", {"REDIS_URL": wrong}) as process,
                process.client() as client,
            ):
                refused = client.post(BASE + "onhand/indexquery", json=QUERY)
                assert refused.status_code == 503
                assert refused.headers["Retry-After"]
                assert secret[::-1] not in process.log() + refused.text


def test_redis_that_is_gone_stops_queries_alone(running: Settings, home: Path) -> None:
    """Without Redis a query is 503 with Retry-After, never an error of ours; writes go on."""
    nowhere = {
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
        "HOLDFAST_GATEWAY_CONSISTENCY_MS": "500",  # It would wait as long to see the write.
    }
    with gateway_process(running, home, nowhere) as process, process.client() as client:
        shop = shop_of(client)
        assert shop.post("onhand", shop.change(3)).json()["statusCode"] == 200
        asked = client.post(BASE + "onhand/indexquery", json=QUERY)
        assert asked.status_code == 503
        assert asked.headers["Retry-After"]
        assert shop.available() == 3


def test_only_committed_decisions_are_told(running: Settings) -> None:
    """A decision that its worker aborted was none: the stream tells the one behind it alone."""
    codec = connect_codec(running)
    gone, kept = (uuid.uuid4().hex for _ in range(2))

    def decided(request_id: str) -> list[tuple[bytes, bytes]]:
        result = ReservationResult(request_id, 1, 1, 1, 0, False, [])
        return [(b"usmf|1|11", codec.encode_result(result))]

    in_transactions(
        running.librdkafka(), topics.RESULTS, (False, decided(gone)), (True, decided(kept))
    )
    changes = Changes(running, codec)
    told: list[Change] = []

    def is_told(request_id: str) -> bool:
        told.extend(changes.read(0.1))
        return any(request_id.encode() in change.data for change in told)

    try:
        eventually(lambda: is_told(kept))
    finally:
        changes.close()
    assert not any(gone.encode() in change.data for change in told)
