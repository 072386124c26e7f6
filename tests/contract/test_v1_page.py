"""The page of /v1: what it shows runs, and what it lists is there; and an answer that is late."""

import re
import subprocess
import uuid
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from producers.gateway.v1.table import OPERATIONS
from producers.settings import Settings
from tests.support.eventually import eventually
from tests.support.gateway import GatewayProcess, gateway_process

PAGE = Path(__file__).resolve().parents[2] / "producers" / "gateway" / "v1" / "README.md"


@pytest.mark.kafka
def test_lines_of_the_page_run(gateway: GatewayProcess) -> None:
    """The page's lines, against a gateway: reserved, listed by its order, and the stream opens."""
    found = re.search(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    lines = found.group(1).replace("$(.venv/bin/holdfast token)", gateway.token())
    lines = lines.replace("http://127.0.0.1:8080", gateway.url)
    ran = subprocess.run(
        ["bash", "-euc", lines], check=True, capture_output=True, text=True, timeout=60
    )
    assert '"code":"ACCEPTED"' in ran.stdout
    assert '"orderId":"SO-1"' in ran.stdout
    assert "retry: 2000" in ran.stdout


def test_page_lists_every_path_with_its_scope() -> None:
    """Every path and action of /v1 stands in the page, and every scope it needs."""
    page = PAGE.read_text(encoding="utf-8")
    for operation in OPERATIONS:
        area, _, action = operation.path.partition("/{")
        assert f"`{area}" in page, operation.path
        assert action.partition("}/")[2] in page
        assert operation.scope in _scopes_of_the_page(page, operation.path), operation.name


def _scopes_of_the_page(page: str, path: str) -> set[str]:
    """What the page's table says of the paths that begin as this one does."""
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    area = path.partition("/{")[0]
    said = [row[1] for row in rows if f"`{area}" in row[0]]
    return {scope for cell in said for scope in cell.split("; ")}


SCOPES = {
    "reserve": "reserve",
    "getReservation": "read",
    "availability": "read",
    "holdBasket": "reserve",
    "listHolds": "read",
    "getHold": "read",
    "extendHold": "reserve",
    "confirmHold": "reserve",
    "amendHold": "reserve",
    "transferHold": "reserve",
    "releaseHold": "reserve",
    "streamEvents": "read",
    "recentDecisions": "read",
    "getDecision": "read",
    "listOffsetFailures": "read",
    "getOffsetFailure": "read",
    "retryOffsetFailure": "admin",
    "dismissOffsetFailure": "admin",
}


def test_every_operation_needs_its_scope() -> None:
    """What may be done with which scope is written down here too, and not taken from the table."""
    assert {operation.name: operation.scope for operation in OPERATIONS} == SCOPES


@pytest.mark.kafka
def test_write_that_is_late_is_202_and_can_be_looked_up(
    http_stack: Settings, view_url: str, tmp_path: Path
) -> None:
    """Past the deadline nobody guesses: 202, and a place where the answer will be."""
    environment = {"REDIS_URL": view_url, "HOLDFAST_GATEWAY_ANSWER_MS": "1"}
    with gateway_process(http_stack, tmp_path, environment) as gateway, gateway.client() as client:

        def pending() -> httpx.Response | None:
            body: dict[str, Any] = {
                "requestId": uuid.uuid4().hex,
                "organizationId": "usmf",
                "productId": f"P-{uuid.uuid4().hex}",
                "dimensions": {"siteId": "1", "locationId": "11"},
                "quantity": 1,
            }
            answer = client.post("/v1/reservations", content=orjson.dumps(body))
            return answer if answer.status_code == 202 else None

        late = eventually(pending)  # A millisecond may be enough for once.
        assert late.json()["code"] == "PENDING"

        def decided() -> dict[str, Any] | None:
            answer = client.get(late.headers["Location"])
            return answer.json() if answer.status_code == 200 else None

        found = eventually(decided)
        assert found["requestId"] == late.json()["requestId"]
        assert found["code"] == "INSUFFICIENT_STOCK"
