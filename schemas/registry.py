"""Schema ids: from the registry (the Confluent REST contract), remembered in a file.

The rule: a registry that is down stops nobody who has met it before. Ids are asked for once, at
start; a writer's schema once, when its id is first seen. What the registry said is kept in the
cache file, per registry address, and replaced as a whole when the registry turns out to be another
one (it gives our schemas other ids).
"""

import base64
import contextlib
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from schemas import avro
from schemas.topics import TOPICS

COMPATIBILITY: Final = "BACKWARD"  # A reader of the new version reads what the last one wrote.
SUBJECTS: Final = {topic.schema: topic.subject for topic in TOPICS.values() if topic.schema}
UNKNOWN_REMEMBERED_MAX: Final = 1_024  # Ids the registry does not know: garbage costs one question.
UNKNOWN_REMEMBERED_S: Final = 60.0  # How long such an answer holds.
DOWN_PAUSE_S: Final = 10.0  # After a failure nobody waits for the registry again for so long.
_ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"


class RegistryError(Exception):
    """The registry did not do what was asked; the message says what to do."""


class RegistryUnreachableError(RegistryError):
    """It does not answer."""


class SchemaRefusedError(RegistryError):
    """It answered no: incompatible, invalid, or not allowed."""


class UnknownSchemaError(Exception):
    """No schema can be had for an id; the message says why."""


class UnavailableSchemaError(UnknownSchemaError):
    """Whether there is one, the registry does not say now."""


class SchemaSource(Protocol):
    """What the codec needs to know of schema ids."""

    def id_of(self, record: str, /) -> int:
        """Id of our own schema of a record."""
        ...

    def schema_of(self, schema_id: int, /) -> avro.Schema:
        """Schema of an id that is not ours. Raises UnknownSchemaError."""
        ...


class Registry:
    """The registry's REST interface, as far as it is needed. Holds no connection open.

    Attributes:
        address: its URL without credentials, for messages.

    """

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise RegistryError(f"schema registry: {url!r} is no http(s) address")
        host = parts.netloc.rpartition("@")[2]
        self.address = urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._timeout_s = timeout_s
        self._headers = {"Accept": _CONTENT_TYPE, "Content-Type": _CONTENT_TYPE}
        if parts.username is not None:
            user = urllib.parse.unquote(parts.username)
            secret = urllib.parse.unquote(parts.password or "")
            token = base64.b64encode(f"{user}:{secret}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        # No proxy from the environment: the environment is read in settings only.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def register(self, subject: str, schema_json: str) -> int:
        """Id of the schema under the subject, registered now if it was not.

        Raises:
            SchemaRefusedError: it is not compatible with the last version.

        """
        answer = self._ask(
            "POST", f"/subjects/{_quoted(subject)}/versions", {"schema": schema_json}
        )
        return int(answer["id"])

    def registered(self, subject: str, schema_json: str) -> int | None:
        """Id of the schema under the subject, None if it is not registered there."""
        try:
            answer = self._ask("POST", f"/subjects/{_quoted(subject)}", {"schema": schema_json})
        except _NotFoundError:
            return None
        return int(answer["id"])

    def schema(self, schema_id: int) -> str | None:
        """Text of a schema, None if there is no such id."""
        try:
            return str(self._ask("GET", f"/schemas/ids/{schema_id}")["schema"])
        except _NotFoundError:
            return None

    def compatible(self, subject: str, schema_json: str) -> bool:
        """Whether the schema could follow the subject's last version."""
        path = f"/compatibility/subjects/{_quoted(subject)}/versions/latest"
        return bool(self._ask("POST", path, {"schema": schema_json})["is_compatible"])

    def compatibility(self, subject: str) -> str | None:
        """Compatibility rule set for the subject itself, None if none is."""
        try:
            return str(self._ask("GET", f"/config/{_quoted(subject)}")["compatibilityLevel"])
        except _NotFoundError:
            return None

    def set_compatibility(self, subject: str, rule: str) -> None:
        """Set the subject's compatibility rule."""
        self._ask("PUT", f"/config/{_quoted(subject)}", {"compatibility": rule})

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
        data = None if body is None else msgspec.json.encode(body)
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked at start
            self.address + path, data=data, headers=self._headers, method=method
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                return msgspec.json.decode(answer.read(_ANSWER_BYTES_MAX), type=dict[str, Any])
        except urllib.error.HTTPError as error:
            raise self._refusal(error, f"{method} {path}") from error
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            reason = getattr(error, "reason", error)
            raise RegistryUnreachableError(
                f"The schema registry at {self.address} does not answer ({reason})."
            ) from error

    def _refusal(self, error: urllib.error.HTTPError, what: str) -> RegistryError:
        with error:
            text = error.read(4_096).decode(errors="replace")
        said = f"The schema registry at {self.address} answered {error.code} to {what}: {text}"
        if error.code == HTTPStatus.NOT_FOUND:
            return _NotFoundError(said)
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return RegistryUnreachableError(said)
        return SchemaRefusedError(said)


class _NotFoundError(SchemaRefusedError):
    """404: no such subject, version or id."""


def _quoted(subject: str) -> str:
    return urllib.parse.quote(subject, safe="")


class _Known(msgspec.Struct):
    """What one registry said: our ids by record, with the schema's fingerprint; others by id."""

    own: dict[str, tuple[str, int]] = {}
    schemas: dict[int, str] = {}


class SchemaIds:
    """Our schema ids and the schemas of others, from the registry or the cache file."""

    def __init__(self, url: str, cache: Path, timeout_s: float = 5.0) -> None:
        """Register our schemas under `<topic>-value`, or take their ids from `cache`.

        Raises:
            RegistryUnreachableError: it does not answer, and the cache does not know it.
            SchemaRefusedError: a schema is not compatible with the registered one.

        """
        self._registry = Registry(url, timeout_s)
        self._path = cache
        self._all = _load(cache)
        self._known = self._all.setdefault(self._registry.address, _Known())
        self._missing: dict[int, tuple[float, str]] = {}
        self._down_until_s = 0.0
        try:
            self._learn(register(self._registry))
        except RegistryUnreachableError as error:
            if not self._complete():
                raise RegistryUnreachableError(
                    f"{error} Its ids are needed once, and {cache} does not hold them: start the "
                    "registry (holdfast stack up) or correct SCHEMA_REGISTRY_URL."
                ) from error
            self._down_until_s = time.monotonic() + DOWN_PAUSE_S
        self._ids = {record: number for record, (_, number) in self._known.own.items()}

    def id_of(self, record: str) -> int:
        """Id of our own schema of a record."""
        return self._ids[record]

    def schema_of(self, schema_id: int) -> avro.Schema:
        """Schema of any id: from the cache, else from the registry, asked once.

        Raises:
            UnknownSchemaError: the registry has no such id, or it is of another kind than Avro's.
            UnavailableSchemaError: the registry cannot be asked now.

        """
        text = self._known.schemas.get(schema_id)
        if text is None:
            text = self._fetch(schema_id)
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise UnknownSchemaError("no Avro schema") from error

    def _fetch(self, schema_id: int) -> str:
        now_s = time.monotonic()
        until_s, reason = self._missing.get(schema_id, (0.0, ""))
        if now_s < until_s:
            raise UnknownSchemaError(reason)
        if now_s < self._down_until_s:
            raise UnavailableSchemaError(f"{self._registry.address} did not answer a moment ago")
        try:
            text = self._registry.schema(schema_id)
        except RegistryError as error:
            self._down_until_s = time.monotonic() + DOWN_PAUSE_S
            raise UnavailableSchemaError(str(error)) from error
        if text is None:
            reason = f"{self._registry.address} has no schema {schema_id}"
            if len(self._missing) >= UNKNOWN_REMEMBERED_MAX:
                self._missing.clear()
            self._missing[schema_id] = (now_s + UNKNOWN_REMEMBERED_S, reason)
            raise UnknownSchemaError(reason)
        self._known.schemas[schema_id] = text
        with contextlib.suppress(OSError):  # A full disk: then it is asked for again.
            _save(self._path, self._all)
        return text

    def _learn(self, ids: dict[str, int]) -> None:
        own = {record: (_fingerprint(record), number) for record, number in ids.items()}
        if own == self._known.own:
            return
        before = {number for _, number in self._known.own.values()}
        # Another registry at the same address: what it said of other ids is void too.
        schemas = self._known.schemas if before <= set(ids.values()) else {}
        self._known = self._all[self._registry.address] = _Known(own=own, schemas=schemas)
        _save(self._path, self._all)

    def _complete(self) -> bool:
        return all(
            self._known.own.get(record, ("", 0))[0] == _fingerprint(record) for record in SUBJECTS
        )


def register(registry: Registry) -> dict[str, int]:
    """Register every schema and set its compatibility rule; record to id. Idempotent.

    Raises:
        SchemaRefusedError: a schema is not compatible with the registered one.

    """
    ids: dict[str, int] = {}
    for record, subject in SUBJECTS.items():
        text = avro.schema_json(record)
        number = registry.registered(subject, text)
        ids[record] = registry.register(subject, text) if number is None else number
        if registry.compatibility(subject) != COMPATIBILITY:
            registry.set_compatibility(subject, COMPATIBILITY)
    return ids


def check(registry: Registry) -> list[str]:
    """Differences between the registry and this version's schemas, one sentence each."""
    differences: list[str] = []
    for record, subject in SUBJECTS.items():
        if registry.registered(subject, avro.schema_json(record)) is None:
            differences.append(f"{subject}: this version's {record} is not registered")
            continue
        rule = registry.compatibility(subject)
        if rule != COMPATIBILITY:
            differences.append(f"{subject}: compatibility is {rule}, not {COMPATIBILITY}")
    return differences


class FixedSchemaIds:
    """Ids 1 to 5 in the order of `avro.RECORDS`, without a registry: for unit tests and tools.

    `others`: id to schema (parsed JSON) of foreign writers.
    """

    def __init__(self, others: dict[int, avro.Schema] | None = None) -> None:
        self._ids = {record: number for number, record in enumerate(avro.RECORDS, start=1)}
        self._others = others or {}

    def id_of(self, record: str) -> int:
        """Id of our own schema of a record."""
        return self._ids[record]

    def schema_of(self, schema_id: int) -> avro.Schema:
        """Schema of a foreign writer. Raises UnknownSchemaError."""
        if schema_id not in self._others:
            raise UnknownSchemaError(f"no schema {schema_id}")
        return self._others[schema_id]


def _fingerprint(record: str) -> str:
    return hashlib.sha256(avro.schema_json(record).encode()).hexdigest()


def _load(path: Path) -> dict[str, _Known]:
    """What the cache file holds; nothing when it is missing or cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, _Known])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _save(path: Path, known: dict[str, _Known]) -> None:
    """Replace the cache file in one step, so that a crash leaves the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    beside.write_bytes(msgspec.json.encode(known))
    beside.replace(path)
