"""The webhook: signed rows in, committed records out, and nothing for what is not in order."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from compose.ports import choose_port
from producers.scm.webhook import BODY_BYTES_MAX, ROWS_MAX, WINDOW_S, sign
from producers.settings import Settings
from schemas.codes import Code
from tests.support.eventually import eventually
from tests.support.scm import Connector, Reader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

OLD, NEW = "old-secret-0123456789", "new-secret-0123456789"


class Hook(Connector):
    """A webhook, and a sender that signs."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        name = f"hook-{uuid.uuid4().hex[:8]}"
        self.port = choose_port(None)
        super().__init__(settings, folder, name, ("--webhook", str(self.port)))
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)

    def row(self, number: int, **words: Any) -> dict[str, Any]:
        """A new order line, in the words of the sample ERP."""
        return {
            "event_id": f"{self.name}-{number}",
            "company": "usmf",
            "product": self.name,  # Nobody else's, as the event ids are.
            "transaction_id": f"{self.name}-{number}",
            "revision": 1,
            "quantity": 1.5,
            "site": "1",
            "warehouse": "11",
            "status": "created",
            **words,
        }

    def post(
        self,
        body: Any,
        *,
        secret: str = NEW,
        at_s: float | None = None,
        signature: str | bytes | None = None,
        timestamp: str | None = None,
    ) -> httpx.Response:
        """Send a signed body; JSON unless it is bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        stamp = timestamp or str(int(time.time() if at_s is None else at_s))
        headers: list[tuple[bytes, bytes]] = [(b"Holdfast-Timestamp", stamp.encode())]
        signed = signature or sign(secret.encode(), stamp, content)
        signed = signed.encode() if isinstance(signed, str) else signed
        headers.append((b"Holdfast-Signature", signed))
        return self.http.post("/rows", content=content, headers=headers)


@pytest.fixture
def hook(running: Settings, tmp_path: Path) -> Iterator[Hook]:
    """A webhook that takes rows signed with either secret."""
    made = Hook(running, tmp_path)
    with made.followed(HOLDFAST_WEBHOOK_SECRETS=f"{OLD},{NEW}"), made.http:
        yield made


@pytest.fixture(scope="module")
def same_hook(running: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hook]:
    """One webhook that several tests in a row must leave alive."""
    made = Hook(running, tmp_path_factory.mktemp("hook"))
    with made.followed(HOLDFAST_WEBHOOK_SECRETS=NEW), made.http:
        yield made


@pytest.fixture
def reader(hook: Hook, running: Settings) -> Iterator[Reader]:
    """Reads what that webhook committed."""
    opened = Reader(running, hook.name)
    yield opened
    opened.close()


def test_an_answer_means_committed(hook: Hook, reader: Reader) -> None:
    """Rows that were answered 200 can be read by then; both secrets sign."""
    one = hook.post(hook.row(1))
    assert (one.status_code, one.json()["published"]) == (200, 1), one.text
    many = hook.post([hook.row(number) for number in range(2, 100)], secret=OLD)
    assert many.json() == {"published": 98, "ignored": 0, "duplicates": 0, "refused": []}
    assert len(eventually(lambda: len(reader.count()) == 99 and reader.count())) == 99
    assert reader.told[0].transaction is not None
    assert reader.told[0].transaction.quantity == 1_500_000


def test_a_repeated_row_is_published_once(hook: Hook, reader: Reader) -> None:
    """A sender that got no answer repeats; the row is a duplicate then, and written once."""
    hook.post(hook.row(1))
    again = hook.post([hook.row(1), hook.row(2)])
    assert (again.json()["duplicates"], again.json()["published"]) == (1, 1)
    eventually(lambda: len(reader.count()) == 2)
    assert set(reader.count().values()) == {1}


def test_an_unknown_status_is_named_and_set_aside(hook: Hook, reader: Reader) -> None:
    """The rows around it are published; the dead letter holds it, numbers as they came."""
    rows = [hook.row(1), hook.row(2, status="levitating"), hook.row(3, quantity=0.1234567)]
    answer = hook.post(rows).json()
    assert answer["published"] == 1
    outcomes = [(one["index"], one["outcome"]) for one in answer["refused"]]
    assert outcomes == [(1, "STATUS_UNMAPPED"), (2, "ROW_INVALID")]
    eventually(lambda: reader.count() and len(reader.letters) == 2)
    assert reader.letters[0].code == Code.STATUS_UNMAPPED
    assert json.loads(reader.letters[1].value or b"")["quantity"] == 0.1234567


def test_what_is_not_signed_now_is_refused(hook: Hook, reader: Reader) -> None:
    """A wrong secret, another body, an old or odd time, no signature: 401, nothing written."""
    row = hook.row(1)
    now = str(int(time.time()))
    other = sign(NEW.encode(), now, b"{}")
    refused = [
        hook.post(row, secret="a-secret-of-somebody-else"),
        hook.post(row, signature=other, timestamp=now),
        hook.post(row, signature="v1=\u00e9".encode(), timestamp=now),
        hook.post(row, at_s=time.time() - WINDOW_S - 30),
        hook.post(row, at_s=time.time() + WINDOW_S + 30),
        hook.post(row, timestamp="9" * 400),
        hook.post(row, timestamp="-1"),
        hook.http.post("/rows", json=row),
    ]
    assert [answer.status_code for answer in refused] == [401] * len(refused)
    hook.post(hook.row(2))
    eventually(lambda: len(reader.count()) == 1)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b"[1]", 400),
        (b'{"a": NaN}', 400),
        (b'{"a": 1, "a": 2}', 400),
        (b"[" * 100_000, 400),
        (b'{"a":' * 900 + b"1" + b"}" * 900, 200),
        (b"\xff\xfe", 400),
        (b'{"event_id": "\\ud800"}', 400),
        (json.dumps([{}] * (ROWS_MAX + 1)).encode(), 400),
        (b" " * (BODY_BYTES_MAX + 1), 413),
    ],
    ids=[
        "cut",
        "empty",
        "number",
        "nan",
        "twice",
        "deep",
        "deep row",
        "bytes",
        "surrogate",
        "many",
        "large",
    ],
)
def test_bad_bodies_are_refused_with_words(same_hook: Hook, body: bytes, status: int) -> None:
    """A clear 4xx (a row that is an object but says nothing is refused as a row), and it lives."""
    answer = same_hook.post(body)
    assert answer.status_code == status, answer.text
    assert answer.json().get("error") or answer.json()["refused"]
    assert same_hook.post(same_hook.row(uuid.uuid4().int)).json()["published"] == 1


def test_senders_at_once_are_all_answered(hook: Hook, reader: Reader) -> None:
    """Forty senders with ten rows each: every answer is 200, every row is committed once."""
    answers: list[int] = []

    def send(sender: int) -> None:
        for number in range(10):
            answers.append(hook.post(hook.row(sender * 10 + number)).status_code)  # noqa: PERF401

    senders = [threading.Thread(target=send, args=(number,)) for number in range(40)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert answers == [200] * 400
    eventually(lambda: len(reader.count()) == 400)
    assert set(reader.count().values()) == {1}


def test_a_port_that_is_taken_is_said(hook: Hook, running: Settings, tmp_path: Path) -> None:
    """Exit code 2 and words; the one that has the port goes on, although it is of that name."""
    second = Connector(running, tmp_path / "second", hook.name, ("--webhook", str(hook.port)))
    second.folder.mkdir()
    assert second.start(HOLDFAST_WEBHOOK_SECRETS=NEW).wait(30) == 2
    assert f"127.0.0.1:{hook.port}: Address already in use" in second.log()
    other = ("--webhook", str(choose_port(None)), "--http-port", str(hook.port))
    assert second.start(*other, HOLDFAST_WEBHOOK_SECRETS=NEW).wait(30) == 2
    assert f"127.0.0.1:{hook.port}: Address already in use" in second.log()
    assert hook.post(hook.row(1)).json()["published"] == 1


def test_a_webhook_without_a_secret_does_not_start(running: Settings, tmp_path: Path) -> None:
    """It says which variable to set; a short secret is refused too, without being shown."""
    made = Hook(running, tmp_path)
    assert made.start(HOLDFAST_WEBHOOK_SECRETS="").wait(30) == 2
    assert "HOLDFAST_WEBHOOK_SECRETS" in made.log()
    assert made.start(HOLDFAST_WEBHOOK_SECRETS="short-one").wait(30) == 2
    assert "short-one" not in made.log()
