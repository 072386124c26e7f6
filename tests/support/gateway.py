"""A gateway as an operating system process, over a stack with a worker, and a client that asks it.

The servers, the worker and the view are the real ones; the gateway is started by its command, so
that it can be killed like one in production.
"""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import orjson

from compose.ports import free_port
from holdfast.gateway_wiring import local_keys_of
from producers.security.caller import SCOPES
from producers.security.issuer import LocalIssuer
from producers.settings import Settings
from tests.support.eventually import eventually

CHECKOUT: Final = Path(__file__).resolve().parents[2]
ENVIRONMENT: Final = "default"
HONEST: Final = "honest"
BASE: Final = f"/api/environment/{ENVIRONMENT}/"
ANSWER_WITHIN_S: Final = 30.0
STOP_WITHIN_S: Final = 20.0


class GatewayProcess:
    """A gateway that can be killed and started again on the same port.

    Attributes:
        environment: what its next start finds in the environment.
        issuer: its development identity provider.
        port: where it listens.

    """

    def __init__(self, settings: Settings, home: Path, environment: Mapping[str, str]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.scheme = "https" if "HOLDFAST_GATEWAY_TLS_KEY" in environment else "http"
        self.log_path = home / f"gateway-{self.port}.log"
        self.environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": settings.registry_url,
            "HOLDFAST_SCHEMA_CACHE": str(home / "schemas.json"),
            "HOLDFAST_HOME": str(home),
            "HOLDFAST_GATEWAY_ENVIRONMENTS": f"{ENVIRONMENT}=compatible,{HONEST}=honest",
            # A busy machine is slow, and a test that asks is not about that.
            "HOLDFAST_GATEWAY_ANSWER_MS": "20000",
            "HOLDFAST_GATEWAY_CONSISTENCY_MS": "10000",
            **environment,
        }
        self.issuer = LocalIssuer(local_keys_of(home), audience="holdfast")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "holdfast", "gateway", "--port", str(self.port)],
                cwd=CHECKOUT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._answers, within_s=60)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"the gateway ended:\n{self.log()}")
        try:
            return httpx.get(f"{self.url}/health/ping", verify=False).status_code == 200  # noqa: S501 - our own
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Ask it to end, and give its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(STOP_WITHIN_S)

    def log(self) -> str:
        """What it has written."""
        return self.log_path.read_text(errors="replace")

    def token(
        self,
        scopes: Sequence[str] = SCOPES,
        environments: Sequence[str] = (ENVIRONMENT, HONEST),
        *,
        client_id: str = "tests",
        lifetime_s: int = 3_600,
    ) -> str:
        """Access token."""
        return self.issuer.issue(
            client_id, scopes=scopes, environments=environments, lifetime_s=lifetime_s
        )

    def client(self, token: str | None = None, **more: Any) -> httpx.Client:
        """Client with a token (None: one that may do everything; empty: none)."""
        token = self.token() if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=ANSWER_WITHIN_S, **more)


@contextlib.contextmanager
def gateway_process(
    settings: Settings, home: Path, environment: Mapping[str, str] | None = None
) -> Iterator[GatewayProcess]:
    """Run a gateway; it is ended when the context is left."""
    process = GatewayProcess(settings, home, environment or {})
    try:
        process.start()
        yield process
    finally:
        process.kill()


@contextlib.contextmanager
def view_process(settings: Settings, redis_url: str, home: Path) -> Iterator[None]:
    """Run the read view, from when it follows; it is ended when the context is left."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": settings.registry_url,
        "REDIS_URL": redis_url,
        "HOLDFAST_HOME": str(home),
    }
    with (home / "view.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "holdfast", "view", "run", "--http-port", str(port)],
            cwd=CHECKOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def follows() -> bool:
        assert process.poll() is None, (home / "view.log").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(follows, within_s=60)
        yield
    finally:
        process.kill()
        process.wait()


class Shop(msgspec.Struct, frozen=True, kw_only=True):
    """A product that nobody else uses, and the bodies that name it."""

    client: httpx.Client
    product: str
    dimensions: dict[str, str] = msgspec.field(
        default_factory=lambda: {"siteId": "1", "locationId": "11", "colorId": "red"}
    )
    base: str = BASE

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        """POST a body, as JSON unless it is bytes already."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.client.post(self.base + path, content=content, **more)

    def subject(self, event_id: str = "", **more: Any) -> dict[str, Any]:
        """What every record names; a new id unless one is given."""
        return {
            "id": event_id or uuid.uuid4().hex,
            "organizationId": "usmf",
            "productId": self.product,
            "dimensions": dict(self.dimensions),
            **more,
        }

    def change(self, quantity: Any, event_id: str = "", **more: Any) -> dict[str, Any]:
        """Body of an on-hand change of pos.inbound."""
        return self.subject(event_id, quantities={"pos": {"inbound": quantity}}, **more)

    def reservation(self, quantity: Any, event_id: str = "", **more: Any) -> dict[str, Any]:
        """Body of a reservation of iv.softreserved."""
        return self.subject(
            event_id,
            **{
                "quantityDataSource": "iv",
                "modifier": "softreserved",
                "quantity": quantity,
                **more,
            },
        )

    def reversal(
        self, quantity: Any, reservation_id: str, event_id: str = "", **more: Any
    ) -> dict[str, Any]:
        """Body of an unreserve."""
        return self.subject(
            event_id, **{"reservationId": reservation_id, "OffsetQty": quantity, **more}
        )

    def available(self) -> float:
        """What could be reserved now, read from a refusal."""
        refused = self.post("onhand/reserve", self.reservation(10**9)).json()
        return float(refused["available"])
