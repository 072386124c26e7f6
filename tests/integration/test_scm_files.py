"""Files of rows: told on once, killed and started again, refused rows in a report."""

import json
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producers.settings import Settings
from tests.support.eventually import eventually
from tests.support.scm import Connector, Reader

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

HEADER = "event_id,company,product,transaction_id,revision,quantity,site,warehouse,status"


class Delivery(Connector):
    """A file and the connector that tells it on."""

    def __init__(self, settings: Settings, folder: Path, suffix: str) -> None:
        name = f"file-{uuid.uuid4().hex[:8]}"
        self.path = folder / f"{name}{suffix}"
        self.report = folder / f"{name}{suffix}.refused.jsonl"
        super().__init__(settings, folder, name, ("--file", str(self.path)))

    def csv_row(self, number: int, status: str = "created", quantity: str = "1") -> str:
        """One line of a CSV file."""
        event = f"{self.name}-{number}"
        return f"{event},usmf,P-{self.name},{event},1,{quantity},1,11,{status}"

    def refused(self) -> list[dict[str, Any]]:
        """The rows of the report."""
        return [json.loads(line) for line in self.report.read_text().splitlines()]

    def told(self) -> dict[str, Any]:
        """The line of JSON at the end of the last run."""
        return dict(json.loads(self.log().splitlines()[-1]))


@pytest.fixture
def delivery(running: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Delivery:
    """A delivery of the suffix that the test names (CSV by default)."""
    return Delivery(running, tmp_path, getattr(request, "param", ".csv"))


@pytest.fixture
def reader(delivery: Delivery, running: Settings) -> Iterator[Reader]:
    """Reads what was committed of it."""
    opened = Reader(running, delivery.name)
    yield opened
    opened.close()


def test_a_csv_is_told_on_and_its_bad_rows_reported(delivery: Delivery, reader: Reader) -> None:
    """Good rows are committed; each bad one stands in the report with line, code and reason."""
    rows = [
        HEADER,
        delivery.csv_row(1),
        delivery.csv_row(2, status="levitating"),
        delivery.csv_row(3, quantity="many"),
        delivery.csv_row(4) + ",and more",
        "",
        delivery.csv_row(5, quantity="0.000001"),
        delivery.csv_row(6).replace("P-", "P\udce9\udcff"),
        delivery.csv_row(7).replace(f"P-{delivery.name}", f'"{delivery.name} ""é""\n2"'),
    ]
    delivery.path.write_bytes("\r\n".join(rows).encode("utf-8", "surrogateescape"))
    assert delivery.start("--json").wait(60) == 1, delivery.log()
    found = [(row["line"], row["outcome"]) for row in delivery.refused()]
    bad = [(3, "STATUS_UNMAPPED"), (4, "ROW_INVALID"), (5, "ROW_INVALID"), (8, "ROW_INVALID")]
    assert found == bad
    told = delivery.told()
    assert (told["rows"], told["published"], told["refused"]) == (7, 3, 4)
    eventually(lambda: len(reader.count()) == 3 and len(reader.letters) == 4)
    assert next(letter.value for letter in reader.letters) == rows[2].encode()
    names = {f"P-{delivery.name}", f'{delivery.name} "é"\n2'}
    assert {one.product_id for one in reader.told} == names


@pytest.mark.parametrize("delivery", [".jsonl"], indirect=True)
def test_a_file_is_told_on_once_whatever_kills_it(delivery: Delivery, reader: Reader) -> None:
    """Killed six times between read and commit, then run twice: every row once, report whole."""
    lines = []
    for number in range(2_000):
        row = dict(zip(HEADER.split(","), delivery.csv_row(number).split(","), strict=True))
        row |= {"status": "levitating"} if number % 100 == 7 else {}
        lines.append(json.dumps(row))
    lines[5] = "x" * 200_000
    delivery.path.write_text("\n".join(lines) + "\n")
    for step in ("read", "produced", "flushed", "committed", "flushed", "produced"):
        environment = {
            "HOLDFAST_CONNECTOR_CRASH_AT": step,
            "HOLDFAST_CONNECTOR_CRASH_AFTER": "0",
        }
        assert delivery.start(**environment).wait(60) == -signal.SIGKILL, delivery.log()
    assert delivery.start("--json").wait(60) == 1, delivery.log()
    assert delivery.told()["published"] == 2_000 - 21
    report = delivery.report.read_bytes()
    assert [row["line"] for row in delivery.refused()] == sorted([6, *range(8, 2_000, 100)])
    assert delivery.start("--json").wait(60) == 1, delivery.log()
    assert delivery.report.read_bytes() == report
    eventually(lambda: len(reader.count()) == 2_000 - 21 and len(reader.letters) == 21)
    assert set(reader.count().values()) == {1}
    assert len(reader.letters) == 21


def test_files_may_share_a_report(delivery: Delivery) -> None:
    """What another file's rows left there stays, whatever kills this one's delivery."""
    there = b'{"line": 3}\n'
    delivery.report.write_bytes(there)
    delivery.path.write_text("\n".join([HEADER, delivery.csv_row(1), delivery.csv_row(2, "x")]))
    for step in ("produced", "read", "flushed"):
        environment = {
            "HOLDFAST_CONNECTOR_CRASH_AT": step,
            "HOLDFAST_CONNECTOR_CRASH_AFTER": "0",
        }
        assert delivery.start(**environment).wait(60) == -signal.SIGKILL, delivery.log()
    assert delivery.start("--json").wait(60) == 1, delivery.log()
    assert [row["line"] for row in delivery.refused()] == [3, 3]
    assert delivery.report.read_bytes().startswith(there)
    delivery.path.write_text("\n".join([HEADER, delivery.csv_row(4)]))
    assert delivery.start("--json").wait(60) == 0, delivery.log()
    assert len(delivery.refused()) == 2


def test_a_report_in_place_of_the_file_is_refused(delivery: Delivery) -> None:
    """Nothing is read, nothing is emptied."""
    text = "\n".join([HEADER, delivery.csv_row(1)])
    delivery.path.write_text(text)
    assert delivery.start("--report", str(delivery.path)).wait(60) == 2, delivery.log()
    assert "--report" in delivery.log()
    assert delivery.path.read_text() == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must name every column"),
        ("a,a\n1,2\n", "must name every column"),
        ("a,\udce9\n1,2\n", "must name every column"),
        (f'{HEADER}\n"open', ":2: unexpected end of data"),
    ],
)
def test_a_file_that_is_no_csv_says_where(delivery: Delivery, text: str, words: str) -> None:
    """Exit code 2, with file, line and what to do."""
    delivery.path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert delivery.start().wait(60) == 2
    assert words in delivery.log()


def test_a_missing_file_and_a_wrong_mapping_are_said(delivery: Delivery) -> None:
    """Exit code 2 and words, no traceback."""
    assert delivery.start().wait(60) == 2
    assert "No such file" in delivery.log()
    delivery.path.write_text(HEADER)
    wrong = delivery.folder / "wrong.yaml"
    wrong.write_text("name: wrong\nsource: fno\nfields: {}\ndimensions: {}\nladders: []\n")
    assert delivery.start("--mapping", str(wrong)).wait(60) == 2
    assert f"{wrong}:3: fields: event_id is missing" in delivery.log()


def test_from_start_tells_a_file_again(delivery: Delivery, reader: Reader) -> None:
    """Asked to, it passes its position over: every row a second time, and the report made anew."""
    rows = [HEADER, delivery.csv_row(1), delivery.csv_row(2, "x"), delivery.csv_row(3)]
    delivery.path.write_text("\n".join(rows))
    for options in ((), (), ("--from-start",)):
        assert delivery.start(*options).wait(60) == 1, delivery.log()
    eventually(lambda: sum(reader.count().values()) == 4 and len(reader.letters) == 2)
    assert set(reader.count().values()) == {2}
    assert [row["line"] for row in delivery.refused()] == [3]
