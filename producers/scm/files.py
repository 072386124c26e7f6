"""A file of rows, CSV or JSON lines, told on once; what is refused is listed in a report.

The rule: a file's position is kept under the hash of its content, with the records. Stopped or
killed, it goes on at the next row; run again, it has nothing to do. The report is written before
the position is committed and cut back to it at a restart, so that it lists each refused row once.
"""

import csv
import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import orjson
import structlog

from producers.scm.batch import Raw, Result, count, records_of, translated
from producers.scm.mapping import Mapping
from producers.scm.publisher import Publisher
from producers.scm.settings import ConnectorSettings
from producers.scm.translate import ROW_BYTES_MAX, Refused, Row, read_json
from schemas.codes import Code

SUFFIXES: Final = (".csv", ".jsonl", ".ndjson")
READ_BYTES: Final = 1_048_576
SHOWN_BYTES: Final = 4_096  # Of a refused row, in the report; the dead letter has it whole.

log = structlog.get_logger()


class FileError(Exception):
    """The file cannot be read as rows; the text says where and what to do."""


class Position(msgspec.Struct, frozen=True):
    """How far a file was told on: rows, what became of them, and the length of the report."""

    rows: int = 0
    published: int = 0
    ignored: int = 0
    refused: int = 0
    report_bytes: int = 0


class FileConnector:
    """Tells on one file."""

    def __init__(
        self,
        path: Path,
        settings: ConnectorSettings,
        mapping: Mapping,
        publisher: Publisher,
        *,
        report: Path | None = None,
    ) -> None:
        self._path = path
        self._settings = settings
        self._mapping = mapping
        self._publisher = publisher
        self._report = report or path.with_name(path.name + ".refused.jsonl")

    @property
    def report(self) -> Path:
        """Where refused rows are listed; there is none where none was refused."""
        return self._report

    def run(
        self, stop: threading.Event, ready: Callable[[], None], *, from_start: bool = False
    ) -> Position:
        """Tell on what was not told on before; how far it got.

        Raises:
            FileError: it cannot be read, or is no CSV or JSON lines.
            Fault: see `Publisher.commit`.

        """
        if self._path.suffix.lower() not in SUFFIXES:
            raise FileError(f"{self._path}: the name must end in {', '.join(SUFFIXES)}")
        if self._report.resolve() == self._path.resolve():
            raise FileError(f"{self._path}: the report would replace it: name another by --report")
        try:
            part = _digest(self._path)
            self._publisher.start()
            position = Position() if from_start else self._position(part)
            ready()
            with self._path.open("rb") as file, _open_report(self._report, position) as report:
                reader = _csv_rows if self._path.suffix.lower() == ".csv" else _json_rows
                rows = islice(reader(file, str(self._path)), position.rows, None)
                while not stop.is_set():
                    batch = list(islice(rows, self._settings.batch_rows))
                    if not batch:
                        break
                    position = self._tell(part, batch, position, report)
        except OSError as error:
            raise FileError(f"{error.filename or self._path}: {error.strerror}") from error
        if not self._report.stat().st_size:
            self._report.unlink()
        return position

    def _position(self, part: str) -> Position:
        """Where to go on.

        A new file's report begins behind what is there, of another file. How far that goes is
        committed before anything is written: whatever happens, it is cut back to there at most.
        """
        kept = self._publisher.position(part)
        if kept is not None:
            return msgspec.json.decode(kept, type=Position)
        there = self._report.stat().st_size if self._report.exists() else 0
        position = Position(report_bytes=there)
        self._publisher.commit([], {part: msgspec.json.encode(position)})
        return position

    def _tell(self, part: str, batch: list[Raw], was: Position, report: BinaryIO) -> Position:
        self._publisher.reach("read")
        results = translated(self._publisher, self._mapping, batch)
        for result in results:
            if result.refused is not None:
                report.write(_report_line(result, result.refused))
        report.flush()
        refused = sum(result.refused is not None for result in results)
        ignored = sum(not result.records for result in results)
        position = Position(
            rows=was.rows + len(batch),
            published=was.published + len(batch) - refused - ignored,
            ignored=was.ignored + ignored,
            refused=was.refused + refused,
            report_bytes=report.tell(),
        )
        self._publisher.commit(records_of(results), {part: msgspec.json.encode(position)})
        count(results)
        return position


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _open_report(path: Path, position: Position) -> BinaryIO:
    """The report, cut back to what belongs to committed rows."""
    path.touch()
    report = path.open("r+b")
    length = report.seek(0, 2)
    if length > position.report_bytes:
        report.truncate(position.report_bytes)
        report.seek(0, 2)
    elif length < position.report_bytes:
        log.warning("the report lacks rows that were refused before", report=str(path))
    return report


def _report_line(result: Result, refused: Refused) -> bytes:
    text = result.raw.text[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    fields = {
        "line": result.raw.place,
        "code": int(refused.code),
        "outcome": refused.code.name,
        "reason": refused.reason,
        "row": text,
    }
    return orjson.dumps(fields) + b"\n"


def _json_rows(file: BinaryIO, _name: str) -> Iterator[Raw]:
    """Every line that is not blank; a huge one is read in pieces and refused as a whole."""
    for number, line in enumerate(_bounded_lines(file), start=1):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        text = text.strip()
        if text:
            yield Raw(number, text, partial(read_json, text))


def _bounded_lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines, of which no more than is judged is kept."""
    while line := file.readline(ROW_BYTES_MAX + 2):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(READ_BYTES)
        yield line


def _csv_rows(file: BinaryIO, name: str) -> Iterator[Raw]:
    """Rows under a header; `a.b` in the header is field `b` of `a`.

    The place is the line on which the row ends: a quoted value may go over several.
    """
    seen: list[bytes] = []

    def lines() -> Iterator[str]:
        for line in _bounded_lines(file):
            seen.append(line)
            # Bytes that are not UTF-8 are kept apart, so that only their row is refused.
            yield line.decode("utf-8", "surrogateescape")

    reader = csv.reader(lines(), strict=True)
    try:
        header = [column.strip().removeprefix("\ufeff") for column in next(reader, [])]
        if not any(header) or len(set(header)) < len(header) or not all(map(_is_text, header)):
            raise FileError(f"{name}:1: the first line must name every column, each once, in UTF-8")
        seen.clear()
        for cells in reader:
            text = b"".join(seen).rstrip(b"\r\n")
            seen.clear()
            if text:
                yield Raw(reader.line_num, text, partial(_csv_row, header, cells))
    except csv.Error as error:
        raise FileError(
            f"{name}:{reader.line_num}: {error}; mend the file from there: what stood before is "
            "told on, and a mended file is another one, whose rows are known again by their ids"
        ) from error


def _csv_row(header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        raise Refused(
            Code.ROW_INVALID, f"{len(cells)} values under {len(header)} columns in the header"
        )
    row: dict[str, Any] = {}
    for column, cell in zip(header, cells, strict=True):
        if not cell.isascii() and not _is_text(cell):
            raise Refused(Code.ROW_INVALID, f"{column}: not UTF-8")
        *above, last = column.split(".")
        inner = row
        for name in above:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise Refused(Code.ROW_INVALID, f"{column}: {name} is a value, too")
        inner[last] = cell
    return row


def _is_text(cell: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in cell)
