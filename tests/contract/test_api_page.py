"""The page of the HTTP interface: what it shows runs, and what it lists is there."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from producers.gateway.api.routes import OPERATIONS
from tests.support.gateway import GatewayProcess

PAGE = Path(__file__).resolve().parents[2] / "producers" / "gateway" / "README.md"


@pytest.mark.kafka
def test_lines_of_the_page_run(gateway: GatewayProcess) -> None:
    """The page's first lines, against a gateway: counted, reserved, and seen by the query."""
    found = re.search(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    lines = found.group(1).replace("$(.venv/bin/holdfast token)", gateway.token())
    lines = lines.replace("http://127.0.0.1:8080", gateway.url)
    ran = subprocess.run(
        ["bash", "-euc", lines], check=True, capture_output=True, text=True, timeout=60
    )
    decoder, answers, rest = json.JSONDecoder(), [], ran.stdout
    while rest:
        answer, end = decoder.raw_decode(rest)
        answers.append(answer)
        rest = rest[end:]
    changed, reserved, rows = answers
    assert (changed["statusCode"], reserved["statusCode"]) == (200, 200)
    assert rows[0]["dimensions"] == {"colorid": "red"}
    assert rows[0]["quantities"]["iv"]["softreserved"] >= 4


NOT_IN_THE_TABLE = {"cleanupalldata"}  # No path of the original's catalogue.


def test_page_lists_every_path_with_its_scope() -> None:
    """Every path of the interface stands in the page, and so does every scope it needs."""
    page = PAGE.read_text(encoding="utf-8").lower()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    table = [row for row in rows if len(row) == 3]
    for path, methods in OPERATIONS.items():
        known = path.removesuffix("/bulk")
        assert f"`{known}" in page, path
        for method, operation in methods.items():
            said = [row[2] for row in table if f"`{known}" in row[0] and method.lower() in row[1]]
            assert f"`{operation.scope}`" in " ".join(said) or not said, (method, path)
            assert said or path in NOT_IN_THE_TABLE, (method, path)


SCOPES = {
    ("GET", "onhand"): "read",
    ("POST", "onhand"): "onhand.write",
    ("POST", "onhand/bulk"): "onhand.write",
    ("POST", "onhand/reserve"): "reserve",
    ("POST", "onhand/reserve/bulk"): "reserve",
    ("POST", "onhand/unreserve"): "reserve",
    ("POST", "onhand/unreserve/bulk"): "reserve",
    ("POST", "onhand/indexquery"): "read",
    ("POST", "onhand/exactquery"): "read",
    ("POST", "onhand/reserve/resyncjob"): "admin",
    ("GET", "getjobprogress"): "read",
    ("GET", "allpartitionids"): "admin",
    ("DELETE", "partitions/cleanupalldata"): "admin",
    ("DELETE", "cleanupalldata"): "admin",
    ("GET", "configuration"): "read",
    ("POST", "configuration/hardupdate"): "admin",
}


def test_every_operation_needs_its_scope() -> None:
    """What may be done with which scope is written down here too, and not taken from the table."""
    found = {
        (method, path): operation.scope
        for path, methods in OPERATIONS.items()
        for method, operation in methods.items()
    }
    assert found == SCOPES
