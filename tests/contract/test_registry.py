"""Schema ids from a real registry, from the cache file, and from a registry that fails."""

import copy
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import avro, registry
from schemas.codec import Codec, Undecodable
from schemas.codes import Code
from schemas.registry import (
    Registry,
    RegistryError,
    RegistryUnreachableError,
    SchemaIds,
    SchemaRefusedError,
    UnknownSchemaError,
)
from tests.contract import samples

NOBODY = "http://127.0.0.1:9"  # The discard port: nothing listens.


class FakeRegistry:
    """A registry over HTTP that answers from a dict, and counts what it was asked."""

    def __init__(self) -> None:
        self.schemas: dict[int, str] = {}
        self.asked: list[str] = []
        self.fails = False
        self.first_id = 1

    def answer(self, method: str, path: str, body: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and body of one answer."""
        self.asked.append(f"{method} {path}")
        if self.fails:
            return 503, {"message": "no database"}
        if path.startswith("/config/"):
            return 200, {"compatibilityLevel": "BACKWARD"}
        if path.startswith("/schemas/ids/"):
            text = self.schemas.get(int(path.rsplit("/", 1)[1]))
            return (404, {"error_code": 40403}) if text is None else (200, {"schema": text})
        known = {text: number for number, text in self.schemas.items()}
        if body["schema"] in known:
            return 200, {"id": known[body["schema"]]}
        if not path.endswith("/versions"):
            return 404, {"error_code": 40403}
        number = self.first_id + len(self.schemas)
        self.schemas[number] = body["schema"]
        return 200, {"id": number}


@contextmanager
def served(fake: FakeRegistry) -> Iterator[str]:
    """Run the fake on loopback; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}"
            status, said = fake.answer(self.command, self.path, msgspec.json.decode(body))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(msgspec.json.encode(said))

        do_GET = do_PUT = do_POST  # noqa: N815 - names that http.server looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _older(record: str, field: str) -> dict[str, Any]:
    schema: dict[str, Any] = copy.deepcopy(avro.schema(record))
    schema["fields"] = [part for part in schema["fields"] if part["name"] != field]
    return schema


def test_ids_survive_a_registry_that_is_down(tmp_path: Path) -> None:
    """With a warm cache nobody needs the registry: same ids, and a codec that works."""
    fake = FakeRegistry()
    with served(fake) as url:
        before = SchemaIds(url, tmp_path / "ids.json")
        fake.fails = True
        after = SchemaIds(url, tmp_path / "ids.json")
    request = samples.chosen()["ReservationRequest"][1]
    written = Codec(before).encode_request(request)
    assert Codec(after).decode_request(written) == request
    assert Codec(after).encode_request(request) == written


def test_a_registry_that_is_down_and_was_never_met_is_an_error_with_a_remedy(
    tmp_path: Path,
) -> None:
    """The message names the address, the cache file and what to do."""
    cache = tmp_path / "ids.json"
    with pytest.raises(RegistryUnreachableError) as caught:
        SchemaIds(NOBODY, cache)
    text = str(caught.value)
    assert NOBODY in text
    assert str(cache) in text
    assert "holdfast stack up" in text


def test_a_cache_of_another_registry_is_not_used(tmp_path: Path) -> None:
    """Ids belong to the registry that gave them: an address never met is not answered for."""
    with served(FakeRegistry()) as url:
        SchemaIds(url, tmp_path / "ids.json")
    with pytest.raises(RegistryUnreachableError):
        SchemaIds(NOBODY, tmp_path / "ids.json")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"x": 3}', b"\xff\xfe"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    """A cache that cannot be read counts as none, and is replaced."""
    cache = tmp_path / "below" / "ids.json"
    cache.parent.mkdir()
    cache.write_bytes(damage)
    fake = FakeRegistry()
    with served(fake) as url:
        SchemaIds(url, cache)
        fake.fails = True
        SchemaIds(url, cache)
    assert [path.name for path in cache.parent.iterdir()] == ["ids.json"]


def test_a_wiped_registry_voids_what_was_remembered(tmp_path: Path) -> None:
    """When our schemas have other ids, schemas of other ids are asked for again."""
    first = FakeRegistry()
    older = msgspec.json.encode(_older("ReservationRequest", "channel")).decode()
    with served(first) as url:
        SchemaIds(url, tmp_path / "ids.json")
        first.schemas[70] = older
        assert SchemaIds(url, tmp_path / "ids.json").schema_of(70)["name"] == "ReservationRequest"
        first.schemas = {}
        first.first_id = 100
        again = SchemaIds(url, tmp_path / "ids.json")
        assert again.id_of("ReservationRequest") == 100
        with pytest.raises(UnknownSchemaError):
            again.schema_of(70)


def test_another_version_is_fetched_once(tmp_path: Path) -> None:
    """A foreign id costs one question for good, also over a restart with the registry down."""
    fake = FakeRegistry()
    with served(fake) as url:
        ids = SchemaIds(url, tmp_path / "ids.json")
        fake.schemas[70] = msgspec.json.encode(_older("ReservationRequest", "options")).decode()
        request = msgspec.structs.replace(samples.chosen()["ReservationRequest"][0], options=None)
        framed = Codec(ids).encode_request(request)
        # Without `options` the body is the same but for the last byte, its absence.
        value = b"\x00" + (70).to_bytes(4, "big") + framed[5:-1]
        codec = Codec(ids)
        assert [codec.decode_request(value) for _ in range(3)] == [request] * 3
        assert fake.asked.count("GET /schemas/ids/70") == 1
        fake.fails = True
        assert Codec(SchemaIds(url, tmp_path / "ids.json")).decode_request(value) == request


def test_an_unknown_id_is_asked_for_once(tmp_path: Path) -> None:
    """A flood of records with an id that nobody knows does not become a flood of questions."""
    fake = FakeRegistry()
    with served(fake) as url:
        codec = Codec(SchemaIds(url, tmp_path / "ids.json"))
        for _ in range(50):
            with pytest.raises(Undecodable) as caught:
                codec.decode_request(b"\x00\x00\x00\x03\x09abc")
            assert (caught.value.code, caught.value.may_pass) == (Code.SCHEMA_UNKNOWN, False)
        assert fake.asked.count("GET /schemas/ids/777") == 1


def test_a_registry_that_dies_later_holds_nobody_up(tmp_path: Path) -> None:
    """Ids that cannot be asked for now are refused at once; one question per pause."""
    fake = FakeRegistry()
    with served(fake) as url:
        codec = Codec(SchemaIds(url, tmp_path / "ids.json"))
        fake.fails = True
        asked = len(fake.asked)
        for number in range(100, 150):
            with pytest.raises(Undecodable) as caught:
                codec.decode_request(b"\x00" + number.to_bytes(4, "big") + b"abc")
            assert (caught.value.code, caught.value.may_pass) == (Code.SCHEMA_UNKNOWN, True)
        assert len(fake.asked) == asked + 1


@pytest.mark.parametrize("url", ["", "127.0.0.1:8081", "file:///etc/passwd", "ftp://h/x"])
def test_an_address_that_is_no_http_address_is_refused(url: str) -> None:
    """Only http and https are spoken."""
    with pytest.raises(RegistryError, match="no http"):
        Registry(url, 1.0)


def test_a_password_in_the_address_is_sent_but_never_said() -> None:
    """Basic credentials of the URL stay out of messages."""
    server = Registry("http://ann:s3cret@127.0.0.1:9/x", 1.0)
    with pytest.raises(RegistryUnreachableError) as caught:
        server.schema(1)
    assert "s3cret" not in str(caught.value)
    assert server.address == "http://127.0.0.1:9/x"


@pytest.mark.kafka
def test_registering_twice_gives_the_same_ids(registry_url: str, tmp_path: Path) -> None:
    """Real registry: registration is idempotent, and `check` then finds nothing."""
    first = SchemaIds(registry_url, tmp_path / "one.json")
    second = SchemaIds(registry_url, tmp_path / "two.json")
    assert [first.id_of(r) for r in avro.RECORDS] == [second.id_of(r) for r in avro.RECORDS]
    assert registry.check(Registry(registry_url, 10.0)) == []


@pytest.mark.kafka
def test_the_registry_keeps_our_schema_as_it_is(registry_url: str, tmp_path: Path) -> None:
    """Real registry: what it answers for our id is the schema that was registered."""
    ids = SchemaIds(registry_url, tmp_path / "ids.json")
    server = Registry(registry_url, 10.0)
    for record in avro.RECORDS:
        text = server.schema(ids.id_of(record))
        assert text is not None
        assert msgspec.json.decode(text) == avro.schema(record)


@pytest.mark.kafka
def test_an_incompatible_change_is_refused(registry_url: str, fresh: Callable[[str], str]) -> None:
    """Real registry: a new field without a default breaks BACKWARD, and is not registered."""
    server, subject = Registry(registry_url, 10.0), fresh("incompatible")
    server.register(subject, avro.schema_json("ReservationRequest"))
    server.set_compatibility(subject, registry.COMPATIBILITY)
    changed = avro.schema("ReservationRequest")
    changed["fields"].append({"name": "mood", "type": "string", "doc": "No default."})
    text = msgspec.json.encode(changed).decode()
    with pytest.raises(SchemaRefusedError):
        server.register(subject, text)
    assert server.registered(subject, text) is None


@pytest.mark.kafka
def test_a_compatible_change_is_accepted(registry_url: str, fresh: Callable[[str], str]) -> None:
    """Real registry: a new field with a default is BACKWARD, gets an id, and reads as ours."""
    server, subject = Registry(registry_url, 10.0), fresh("compatible")
    ours = server.register(subject, avro.schema_json("ReservationRequest"))
    server.set_compatibility(subject, registry.COMPATIBILITY)
    changed = avro.schema("ReservationRequest")
    changed["fields"].append({"name": "mood", "type": "string", "default": "", "doc": "Why."})
    theirs = server.register(subject, msgspec.json.encode(changed).decode())
    assert theirs != ours


@pytest.mark.kafka
def test_an_id_that_nobody_gave_is_unknown(registry_url: str, tmp_path: Path) -> None:
    """Real registry: a record with a made-up id is undecodable, with the reason."""
    codec = Codec(SchemaIds(registry_url, tmp_path / "ids.json"))
    with pytest.raises(Undecodable) as caught:
        codec.decode_request(b"\x00\x7f\xff\xff\xffabc")
    assert caught.value.code == Code.SCHEMA_UNKNOWN
