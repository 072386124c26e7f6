"""The OpenAPI document, held against the running gateway: what it allows, and what it does not."""

from collections.abc import Iterator
from typing import Any, Final

import httpx
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from requests import Session
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from typer.testing import CliRunner

from holdfast.cli import app
from producers.gateway.api.routes import OPERATIONS as ORIGINAL_OPERATIONS
from producers.gateway.openapi import document
from producers.gateway.v1.table import OPERATIONS
from tests.support.gateway import ENVIRONMENT, GatewayProcess

pytestmark = pytest.mark.kafka

EXAMPLES: Final = 12
WITHIN_S: Final = 20.0
# An endless answer; and what would take the stock of the tests that run beside.
LEFT_OUT: Final = ["streamEvents", "releaseEverything", "wipePartitions", "updateConfiguration"]


def pinned() -> dict[str, Any]:
    """The document with the one environment that is there."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(document()))
    for operations in found["paths"].values():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                if parameter["name"] == "environmentId":
                    parameter["schema"] = {"const": ENVIRONMENT}
                if parameter["name"] == "inventorySystem":
                    parameter["schema"] = {"enum": ["pos", "iv", "nosuch"]}
    return found


schema = schemathesis.openapi.from_dict(pinned())
schema.config.phases.coverage.enabled = False
asked = schema.exclude(operation_id=LEFT_OUT)
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def session(gateway: GatewayProcess) -> Iterator[Session]:
    """A session with a token that may do everything."""
    with Session() as session:
        session.headers["Authorization"] = f"Bearer {gateway.token()}"
        yield session


@asked.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_gateway_keeps_to_its_document(
    case: schemathesis.Case, gateway: GatewayProcess, session: Session
) -> None:
    """No fault of ours, no status, type or body beyond the document; nonsense is 4xx."""
    answer = case.call(base_url=gateway.url, session=session, timeout=WITHIN_S)
    # The original's interface takes more than it documents: names in any case, and others beside.
    strict = [negative_data_rejection] if case.path.startswith("/v1") else []
    case.validate_response(answer, checks=[*CHECKS, *strict])


def test_document_is_served_and_printed(client: httpx.Client) -> None:
    """The document is at /openapi.json, for anybody, and `holdfast gateway openapi` prints it."""
    served = client.get("/openapi.json", headers={"Authorization": ""})
    assert served.status_code == 200
    assert served.json()["openapi"].startswith("3.1")
    printed = CliRunner().invoke(app, ["gateway", "openapi"])
    assert printed.exit_code == 0
    assert orjson.loads(printed.stdout) == served.json()


def test_every_path_is_in_the_document() -> None:
    """What is served is described: each method of each path, with its scope."""
    described = {
        (method.upper(), path.lower()): operation
        for path, operations in document()["paths"].items()
        for method, operation in operations.items()
    }
    served = {(one.method, one.path.replace("_", "").lower()): one.scope for one in OPERATIONS}
    base = "/api/environment/{environmentid}/"
    served |= {
        (method, base + path): operation.scope
        for path, methods in ORIGINAL_OPERATIONS.items()
        for method, operation in methods.items()
    }
    served["POST", f"{base}setonhand/{{inventorysystem}}/bulk"] = "onhand.write"
    assert set(described) == set(served)
    for key, scope in served.items():
        assert f"`{scope}`" in described[key]["description"]
