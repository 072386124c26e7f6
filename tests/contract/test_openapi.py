"""The OpenAPI document, held against the running gateway: what it allows, and what it does not."""

from collections.abc import Iterator
from typing import Any, Final

import httpx
import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from requests import Session
from schemathesis import GenerationMode
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

EXAMPLES: Final = 25
WITHIN_S: Final = 20.0
LEFT_OUT: Final = ["streamEvents", "releaseEverything", "wipePartitions", "updateConfiguration"]


# Values with which a request gets as far as the stock; by member, wherever it stands.
KNOWN: Final[dict[str, Any]] = {
    "environmentId": {"const": ENVIRONMENT},
    "inventorySystem": {"enum": ["pos", "iv", "nosuch"]},
    "organizationId": {"const": "usmf"},
    "dimensionDataSource": {"enum": ["", "pos"]},
    "quantity": {"enum": [1, "2.5", 0.000001, 1_000_000, -1, 0]},
    "priority": {"enum": [0, 1]},
    "measure": {"enum": ["", "iv.softreserved", "pos.inbound"]},
    "quantityDataSource": {"const": "iv"},
    "modifier": {"enum": ["softreserved", "nosuch"]},
    "dimensions": {
        "type": "object",
        "properties": {
            "siteId": {"enum": ["1", "2"]},
            "locationId": {"enum": ["11", "21"]},
            "colorId": {"enum": ["red", ""]},
        },
        "required": ["siteId", "locationId"],
        "additionalProperties": False,
    },
    "quantities": {
        "type": "object",
        "properties": {"pos": {"$ref": "#/components/schemas/PosMeasures"}},
        "required": ["pos"],
        "additionalProperties": False,
    },
}


def narrowed(value: Any) -> Any:
    """The same schema, with the known members restricted to what is there."""
    if isinstance(value, list):
        return [narrowed(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.get("in") in {"path", "query"} and value["name"] in KNOWN:
        return {**value, "schema": KNOWN[value["name"]]}
    found = {name: narrowed(inner) for name, inner in value.items()}
    members = found.get("properties")
    if isinstance(members, dict) and not found.get("title", "").endswith(("Shape", "Row")):
        for name in members.keys() & KNOWN.keys():
            if members[name].get("type") != "array":  # Names of dimensions, not their values.
                members[name] = KNOWN[name]
        if "dimensions" in members:
            found["required"] = [*dict.fromkeys([*found.get("required", ()), "dimensions"])]
    return found


def described(*, narrow: bool) -> dict[str, Any]:
    """The document; without its security, which has tests of its own."""
    found: dict[str, Any] = orjson.loads(orjson.dumps(document()))
    if narrow:
        quantity = found["components"]["schemas"]["ReservationBody"]["properties"]["quantity"]
        found = narrowed(found)
        found["components"]["schemas"]["PosMeasures"] = {
            "type": "object",
            "properties": {"inbound": quantity},
            "required": ["inbound"],
            "additionalProperties": False,
        }
    del found["security"]
    for operations in found["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return found


def operations_of(mode: GenerationMode, *, narrow: bool) -> Any:
    """Operations of the document, to be asked with requests that fit it, or with ones that do not.

    Those that are left out answer without end, or take the stock of the tests that run beside.
    """
    schema = schemathesis.openapi.from_dict(described(narrow=narrow))
    schema.config.phases.coverage.enabled = False
    schema.config.generation.update(modes=[mode])
    return schema.exclude(operation_id=LEFT_OUT)


positive = operations_of(GenerationMode.POSITIVE, narrow=True)
negative = operations_of(GenerationMode.NEGATIVE, narrow=False).include(path_regex="^/v1/")
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
bounded = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def session(gateway: GatewayProcess) -> Iterator[Session]:
    """A session with a token that may do everything."""
    with Session() as session:
        session.headers["Authorization"] = f"Bearer {gateway.token()}"
        yield session


@positive.parametrize()
@bounded
def test_gateway_keeps_to_its_document(
    case: schemathesis.Case, gateway: GatewayProcess, session: Session
) -> None:
    """What the document allows is answered by it: no fault of ours, no other status, type, body."""
    answer = case.call(base_url=gateway.url, session=session, timeout=WITHIN_S)
    case.validate_response(answer, checks=CHECKS)


@negative.parametrize()
@bounded
def test_gateway_refuses_what_its_document_does_not_allow(
    case: schemathesis.Case, gateway: GatewayProcess, session: Session
) -> None:
    """What violates the document is refused; not so in /api, which takes names in any case."""
    answer = case.call(base_url=gateway.url, session=session, timeout=WITHIN_S)
    case.validate_response(answer, checks=[*CHECKS, negative_data_rejection])


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
