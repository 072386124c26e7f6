"""How one ERP's words become ours: a YAML file, checked whole before a row is read.

The rule: a mapping that is loaded cannot surprise: every status it names is one of ours, every
measure has a factor. What it does not know in a row is refused by `producers.scm.translate`, never
guessed. Problems name file, line, path, rule and remedy, all of them at once.
"""

from collections.abc import Iterator, Mapping as Words, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from schemas.symbols import STATUSES

SKIP: Final = "skip"  # This ladder has nothing to say of the row: the next one is asked.
ANY: Final = "*"  # Every value that is not named.
PRESETS: Final = Path(__file__).parent / "mappings"
FILE_BYTES_MAX: Final = 262_144
REQUIRED: Final = ("event_id", "organization_id", "product_id")
OF_A_TRANSACTION: Final = ("transaction_id", "sequence", "quantity")
KNOWN_STATUSES: Final = tuple(status for status in STATUSES if status != "UNKNOWN")


class MappingError(Exception):
    """The mapping cannot be used; the text has a line per problem."""


class Problem(NamedTuple):
    """One thing that is wrong, where, and what to do."""

    line: int
    path: str
    rule: str
    remedy: str


class Fields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where in a row our fields stand: a name, or names joined by dots.

    `previous` is the row as it was before this change, in the same words; `changes` an object of
    measures and quantities, for rows that say them outright.
    """

    event_id: str = ""
    organization_id: str = ""
    product_id: str = ""
    transaction_id: str = ""
    sequence: str = ""
    quantity: str = ""
    order_id: str = ""
    order_line_id: str = ""
    reservation_id: str = ""
    hold_id: str = ""
    auto_offset: str = ""
    previous: str = ""
    changes: str = ""


class Ladder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column of statuses. `when`: only for rows that say this.

    `statuses` turns its values into ours, or into `skip`; `*` stands for every other value.
    """

    field: str
    statuses: dict[str, str]
    when: dict[str, str] = {}


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ERP's vocabulary.

    Attributes:
        source: data source its measures are told for.
        constants: our fields that no row says, for example the organization.
        dimensions: dimension's base name to where it stands in a row.
        ladders: asked in their order; the first that does not skip decides the status.
        measures: what a transaction at a status adds to which measure, per piece. The change of a
            row is what it adds now less what `fields.previous` added.
        absolute_quantity: the ERP writes issues with a minus; statuses carry the amount.
        auto_offset: rows without a reservation name it by product and dimensions.

    """

    name: str
    source: str
    fields: Fields
    dimensions: dict[str, str]
    ladders: list[Ladder]
    constants: dict[str, str] = {}
    measures: dict[str, dict[str, int]] = {}
    absolute_quantity: bool = False
    auto_offset: bool = False
    description: str = ""


def preset_names() -> list[str]:
    """Names of the mappings that come with Holdfast."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load(name_or_path: str) -> Mapping:
    """The mapping of a preset's name or of a file.

    Raises:
        MappingError: there is none, or it is wrong; every problem with its line.

    """
    path = (
        PRESETS / f"{name_or_path}.yaml" if name_or_path in preset_names() else Path(name_or_path)
    )
    try:
        text = path.read_bytes()
    except OSError as error:
        raise MappingError(
            f"{name_or_path}: no such preset ({', '.join(preset_names())}) and no such file "
            f"({error.strerror})"
        ) from error
    return parse(text, str(path))


def parse(text: bytes, file: str) -> Mapping:
    """The mapping in a YAML text; `file` is named in problems.

    Raises:
        MappingError: it is wrong.

    """
    if len(text) > FILE_BYTES_MAX:
        raise MappingError(f"{file}: larger than {FILE_BYTES_MAX} bytes; no mapping is")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        # BaseLoader keeps scalars as they are written: `1: SOLD` and `no: skip` are text.
        document = yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - makes text only
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        words = getattr(error, "problem", None) or "not YAML"
        raise MappingError(f"{file}:{line}: {words}; mend the YAML") from error
    lines = dict(_lines(node, ""))
    try:
        mapping = msgspec.convert(document, Mapping, strict=False)
    except msgspec.ValidationError as error:
        words, _, where = str(error).partition(" - at `$")
        path = where.rstrip("`").lstrip(".")
        wrong = Problem(
            _line_of(lines, path), path or "(top)", words, "see `holdfast connector mapping d365`"
        )
        raise MappingError(_text(file, [wrong])) from error
    problems = [problem._replace(line=_line_of(lines, problem.path)) for problem in _check(mapping)]
    if problems:
        raise MappingError(_text(file, problems))
    return mapping


def _text(file: str, problems: Sequence[Problem]) -> str:
    return "\n".join(
        f"{file}:{problem.line}: {problem.path}: {problem.rule}; {problem.remedy}"
        for problem in sorted(problems)
    )


def _lines(node: Any, path: str) -> Iterator[tuple[str, int]]:
    """Path of every node with its line, first line 1."""
    if node is None:
        return
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = f"{path}.{key.value}" if path else str(key.value)
            yield from ((at, line) for at, line in _lines(value, below) if at != below)
            yield below, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from _lines(value, f"{path}[{number}]")


def _line_of(lines: Words[str, int], path: str) -> int:
    """Line of the path, or of the nearest thing that holds it."""
    while path and path not in lines:
        cut = max(path.rfind("."), path.rfind("["))
        path = path[: max(cut, 0)]
    return lines.get(path, 1)


def _check(mapping: Mapping) -> Iterator[Problem]:
    yield from _check_fields(mapping)
    if not mapping.ladders and not mapping.fields.changes:
        yield Problem(
            0, "ladders", "says neither a status nor changes", "give a ladder or fields.changes"
        )
    for number, ladder in enumerate(mapping.ladders):
        path = f"ladders[{number}].statuses"
        if not ladder.statuses:
            yield Problem(0, path, "is empty", "name the ERP's values")
        for value, status in ladder.statuses.items():
            if status != SKIP and status not in KNOWN_STATUSES:
                remedy = f"use {SKIP} or one of {', '.join(KNOWN_STATUSES)}"
                yield Problem(0, f"{path}.{value}", f"{status!r} is no status of ours", remedy)
    for status, measures in mapping.measures.items():
        if status not in KNOWN_STATUSES:
            remedy = f"use one of {', '.join(KNOWN_STATUSES)}"
            yield Problem(0, f"measures.{status}", "is no status of ours", remedy)
        for measure in measures:
            if measure.count(".") != 1:
                remedy = "write source.measure, for example fno.physicalinvent"
                yield Problem(0, f"measures.{status}.{measure}", "is no measure", remedy)


def _check_fields(mapping: Mapping) -> Iterator[Problem]:
    needed = REQUIRED + (OF_A_TRANSACTION if mapping.ladders else ())
    for name in needed:
        if not getattr(mapping.fields, name) and name not in mapping.constants:
            remedy = f"say where it stands in a row: fields.{name}, or constants.{name}"
            yield Problem(0, "fields", f"{name} is missing", remedy)
    unknown = set(mapping.constants) - set(Fields.__struct_fields__)
    for name in sorted(unknown):
        remedy = f"use one of {', '.join(Fields.__struct_fields__)}"
        yield Problem(0, f"constants.{name}", "is no field of ours", remedy)
    if not mapping.dimensions:
        yield Problem(
            0,
            "dimensions",
            "is empty",
            "stock is kept per site and location: map siteid, locationid",
        )
    if not mapping.source or mapping.source == "iv":
        yield Problem(
            0, "source", "is not the data source of an ERP", "for example fno, erp or pos"
        )
