"""The OpenAPI 3.1 document of a gateway, made from the structs that read and write its bodies."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from producers.gateway import openapi_original as original
from producers.gateway.v1 import bodies, shapes
from producers.gateway.v1.exact import Quantity
from producers.gateway.v1.table import OPERATIONS, Operation

VERSION: Final = "1"
PATH: Final = "/openapi.json"
SCHEMAS: Final = "#/components/schemas/{name}"
TOKEN: Final = "bearer"  # noqa: S105 - name of a scheme
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
STREAM: Final = "text/event-stream"
DEEP: Final = "dimensions"  # The one parameter that is written `name[key]=value`.
_WORDS: Final[Mapping[int, str]] = {
    200: "Done, and committed",
    202: "Sent; `Location` says where its outcome will be",
    400: "The request is malformed, or names what does not exist",
    401: "No token, or one that is not accepted",
    403: "The token lacks a scope or is for another environment, or the data source is protected",
    404: "There is none",
    405: "The path does not take this method",
    409: "The stock, the hold or the id does not allow it",
    413: "The body is too large",
    422: "Well formed, and impossible",
    429: "Too many requests: `Retry-After`",
    503: "Cannot be answered now: `Retry-After`",
}
_QUANTITY: Final = {
    "description": "Up to six decimals, below 10^12; never read as a float.",
    "anyOf": [
        {"type": "number", "exclusiveMinimum": -(10**12), "exclusiveMaximum": 10**12},
        {"type": "string", "pattern": r"^[+-]?[0-9]{1,12}(\.[0-9]{1,6})?$"},
    ],
}
_ALWAYS: Final = (400, 401, 403, 429, 503)
_NEEDS_VIEW: Final = (
    "Answered from the read view; the caller's own writes are waited for "
    "(`Holdfast-Consistency: eventual` opts out)."
)


def _hook(kind: type) -> dict[str, Any]:
    if kind is Quantity:
        return dict(_QUANTITY)
    raise NotImplementedError(kind)


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    kinds: list[Any] = [shapes.ProblemShape, shapes.PendingShape, *_streamed()]
    for operation in OPERATIONS:
        kinds += [operation.answered, operation.asked, operation.parameters]
    for path in original.PATHS:
        kinds += [path.answered, path.asked]
    wanted = [kind for kind in kinds if kind is not None]
    schemas, components = msgspec.json.schema_components(
        wanted, schema_hook=_hook, ref_template=SCHEMAS
    )
    found = _Found({id(kind): one for kind, one in zip(wanted, schemas, strict=True)}, components)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(_camel(operation.path), {})[operation.method.lower()] = _ours(
            operation, found
        )
    for path in original.PATHS:
        paths.setdefault(original.BASE + path.path, {})[path.method.lower()] = _original(
            path, found
        )
    for kind in {operation.parameters for operation in OPERATIONS}:
        components.pop(kind.__name__, None)  # They are parameters, not bodies.
    described: dict[str, Any] = _without_empty_defaults(_framed(paths, components))
    return described


def _framed(paths: Mapping[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast",
            "version": VERSION,
            "summary": "Soft inventory reservation, decided exactly once",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{TOKEN: []}],
        "tags": [
            {"name": "v1", "description": "Holdfast's own interface"},
            {"name": "api", "description": "The original's interface, for its clients"},
        ],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                TOKEN: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    }


class _Found:
    """Schemas by struct."""

    def __init__(self, schemas: Mapping[int, Any], components: Mapping[str, Any]) -> None:
        self._schemas = schemas
        self._components = components

    def of(self, kind: Any) -> Any:
        return self._schemas[id(kind)]

    def members(self, kind: type[Any]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._components[kind.__name__]
        return found


def _streamed() -> tuple[Any, ...]:
    return (shapes.DecidedEvent, shapes.StockEvent)


def _camel(path: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), path)


def _ours(operation: Operation, found: _Found) -> dict[str, Any]:
    media = STREAM if operation.name == "streamEvents" else JSON
    answers: dict[str, Any] = {
        "200": _answer(200, {media: {"schema": found.of(operation.answered)}})
    }
    problem = {PROBLEM: {"schema": found.of(shapes.ProblemShape)}}
    for status in sorted({*_ALWAYS, *operation.refusals}):
        if status == 202:
            pending = shapes.BasketShape if operation.name == "holdBasket" else shapes.PendingShape
            answers["202"] = _answer(202, {JSON: {"schema": found.of(pending)}})
        else:
            answers[str(status)] = _answer(status, problem)
    described = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": ["v1"],
        "description": _scope_words(operation.scope),
        "security": [{TOKEN: []}],
        "parameters": [
            *_in_path(_camel(operation.path)),
            *_in_query(found.members(operation.parameters)),
        ],
        "responses": answers,
    }
    if operation.asked is not None:
        described["requestBody"] = {
            "required": not operation.body_optional,
            "content": {JSON: {"schema": found.of(operation.asked)}},
        }
    return described


def _original(path: original.Path, found: _Found) -> dict[str, Any]:
    either = {
        PROBLEM: {"schema": found.of(shapes.ProblemShape)},
        JSON: {"schema": {"type": "object", "required": ["statusCode", "message"]}},
    }
    answers: dict[str, Any] = {
        "200": _answer(200, {JSON: {"schema": found.of(path.answered)}}),
        "202": _answer(202, {JSON: {"schema": found.of(path.answered)}}),
    }
    for status in (*_ALWAYS, 404, 409, 413, 422):
        answers[str(status)] = _answer(status, either)
    described = {
        "operationId": path.name,
        "summary": path.summary,
        "tags": ["api"],
        "description": _scope_words(path.scope),
        "parameters": [
            *_in_path(original.BASE + path.path),
            *(
                {"name": name, "in": "query", "schema": {"type": "string"}}
                for name in path.parameters
            ),
        ],
        "responses": dict(sorted(answers.items())),
    }
    if path.asked is not None:
        described["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": found.of(path.asked)}},
        }
    return described


def _answer(status: int, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"description": _WORDS[status], "content": dict(content)}


def _scope_words(scope: str) -> str:
    words = f"Scope: `{scope}`."
    return f"{words} {_NEEDS_VIEW}" if scope == "read" else words


def _in_path(path: str) -> Sequence[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": 128,
                "pattern": bodies.PRINTABLE,
            },
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _without_empty_defaults(value: Any) -> Any:
    """What is left out says nothing: a default of nothing need not be written down."""
    if isinstance(value, list):
        return [_without_empty_defaults(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _without_empty_defaults(inner)
        for name, inner in value.items()
        if name != "default" or inner not in ("", None, {}, [])
    }


def _in_query(struct: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    found = []
    for name, schema in struct.get("properties", {}).items():
        one = {"name": name, "in": "query", "schema": _without_null(schema)}
        if name == DEEP:
            one |= {"style": "deepObject", "explode": True}
        found.append(one)
    return found


def _without_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter is there or not: there is no null in a query string."""
    options = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return dict(options[0]) if len(options) == 1 else dict(schema)
