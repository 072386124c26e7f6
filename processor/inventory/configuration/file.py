"""The YAML form of a configuration document, and where in it an error stands.

The rule it keeps: text in, text out, no file touched; every error carries the line it is on. YAML
is read with the safe loader's types, keys once only, so that nothing in a file can run or hide.
"""

import difflib
import re
from typing import Any, Final, NamedTuple

import msgspec
import yaml

from processor.inventory.configuration.check import Problem, validate
from processor.inventory.configuration.document import Configuration, normalised

DOCUMENT_LENGTH_MAX: Final = 200_000  # Characters; one CONFIGURE record must hold it.
DEPTH_MAX: Final = 16
NODES_MAX: Final = 50_000  # Bounds YAML aliases, which can blow a few lines up without end.

_AT: Final = re.compile(r"^(?P<rule>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"unknown field `(?P<name>[^`]*)`")


class Parsed(NamedTuple):
    """A document and what was found; `configuration` is None where it could not be read."""

    configuration: Configuration | None
    problems: list[Problem]


class _Unreadable(Exception):
    def __init__(self, line: int, path: str, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.problem = Problem(severity="error", path=path, rule=rule, remedy=remedy, line=line)


def parse(text: str) -> Parsed:
    """Read and validate the YAML (or JSON) text of a document. Never raises for what is in it."""
    try:
        data, lines = _load(text)
    except _Unreadable as unreadable:
        return Parsed(None, [unreadable.problem])
    try:
        configuration = normalised(msgspec.convert(data, Configuration))
    except msgspec.ValidationError as error:
        return Parsed(None, [_shape_problem(str(error), data, lines)])
    located = [
        msgspec.structs.replace(problem, line=_line(problem.path, lines))
        for problem in validate(configuration)
    ]
    return Parsed(configuration, located)


def dump(configuration: Configuration) -> str:
    """Write the document as YAML: `parse(dump(c)).configuration == c`."""
    text: str = yaml.dump(
        msgspec.to_builtins(configuration), Dumper=_Dumper, sort_keys=False, width=100
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Block style, with lists indented under their key."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: FBT001, FBT002, ARG002 - the library's signature
        super().increase_indent(flow, False)


def _load(text: str) -> tuple[Any, dict[str, int]]:
    if len(text) > DOCUMENT_LENGTH_MAX:
        rule = f"the document is longer than {DOCUMENT_LENGTH_MAX} characters"
        raise _Unreadable(1, "", rule, "split the deployment, or drop unused sources")
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError as error:
        raise _Unreadable(1, "", "nested too deep", "write it out plainly") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = 1 if mark is None else mark.line + 1
        rule = f"not YAML: {getattr(error, 'problem', None) or error}"
        raise _Unreadable(line, "", rule, _yaml_remedy(text, line)) from error
    if root is None:
        raise _Unreadable(1, "", "the document is empty", "start from `holdfast config init`")
    lines: dict[str, int] = {}
    builder = _Builder(lines)
    return builder.value(root, "", 0), lines


def _yaml_remedy(text: str, line: int) -> str:
    rows = text.splitlines()
    row = rows[line - 1] if line <= len(rows) else ""
    if "@" in row:
        return 'put quotes around names that begin with @: "@iv"'
    return "check indentation, colons and quotes on that line and the one before"


class _Builder:
    """Plain values from YAML nodes, noting the line of each path."""

    def __init__(self, lines: dict[str, int]) -> None:
        self._lines = lines
        self._nodes = 0
        self._scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node, path: str, depth: int) -> Any:
        line = node.start_mark.line + 1
        self._lines.setdefault(path.lower(), line)
        self._nodes += 1
        if depth > DEPTH_MAX or self._nodes > NODES_MAX:
            raise _Unreadable(line, path, "nested or repeated too much", "write it out plainly")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, depth)
        if isinstance(node, yaml.SequenceNode):
            return [
                self.value(item, f"{path}[{index}]", depth + 1)
                for index, item in enumerate(node.value)
            ]
        try:
            return self._scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            remedy = "put quotes around it to make it text"
            raise _Unreadable(line, path, f"not a value: {error}", remedy) from error

    def _mapping(self, node: yaml.MappingNode, path: str, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            name = key.value if isinstance(key, yaml.ScalarNode) else "?"
            place = f"{path}.{name}" if path else name
            if name == "<<" or not isinstance(key, yaml.ScalarNode):
                raise _Unreadable(line, place, "a key must be a plain name", "write it out")
            if name.lower() in seen and not _keeps_case(path):
                rule = f"`{name}` was there already, on line {seen[name.lower()]}"
                raise _Unreadable(line, place, rule, "keep one of the two")
            if name in result:
                rule = f"`{name}` was there already, on line {seen[name.lower()]}"
                raise _Unreadable(line, place, rule, "keep one of the two")
            seen[name.lower()] = line
            self._lines.setdefault(place.lower(), line)
            result[name] = self.value(item, place, depth + 1)
        return result


def _keeps_case(path: str) -> bool:
    return path == "channels"


def _line(path: str, lines: dict[str, int]) -> int | None:
    """Line of the path, or of the nearest enclosing one that the file has."""
    while path:
        if path.lower() in lines:
            return lines[path.lower()]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get("")


def _shape_problem(message: str, data: Any, lines: dict[str, int]) -> Problem:
    matched = _AT.match(message)
    rule = message if matched is None else matched["rule"]
    raw = "" if matched is None or matched["path"] is None else matched["path"]
    path = _exact_path(raw.removeprefix("key in ").lstrip("`$"), message, data)
    unknown = _UNKNOWN.search(message)
    if unknown is not None:
        path = f"{path}.{unknown['name']}".lstrip(".")
    return Problem(
        severity="error",
        path=path.lstrip("."),
        rule=rule,
        remedy=_shape_remedy(unknown, rule, path),
        line=_line(path.lstrip("."), lines),
    )


def _shape_remedy(unknown: re.Match[str] | None, rule: str, path: str) -> str:
    fields = _fields_by_name()
    if unknown is not None:
        names = sorted(fields)
        close = difflib.get_close_matches(unknown["name"], names, n=1)
        return f"did you mean `{close[0]}`?" if close else "remove it; see `holdfast config schema`"
    if "regex" in rule:
        return "names are letters, digits and _, measures source.measure, terms +source.measure"
    allowed = fields.get(path.rpartition(".")[2], {}).get("enum")
    if allowed:
        return f"one of {', '.join(allowed)}"
    return "see `holdfast config schema` for what belongs here"


def _fields_by_name() -> dict[str, dict[str, Any]]:
    """Field name to its JSON Schema; no two structs of the document share a name."""
    _, components = msgspec.json.schema_components([Configuration])
    parts = [part.get("properties", {}) for part in components.values()]
    return {name: schema for part in parts for name, schema in part.items()}


def _exact_path(path: str, message: str, data: Any) -> str:
    """Fill in `[...]`, which stands for a key that msgspec does not name.

    Each key is tried alone: the one that still gives the same message is meant. Bounded by the
    number of keys of one mapping, at most twice deep.
    """
    while "[...]" in path:
        head, _, tail = path.partition("[...]")
        try:
            mapping = _at(data, head)
            found = next((k for k in mapping if _message(data, head, k) == message), None)
        except (KeyError, IndexError, TypeError):  # a key with a dot in it: stay above it
            return head
        if found is None:
            return head
        data = _with_only(data, head, found)
        path = f"{head}.{found}{tail}"
    return path


def _message(data: Any, head: str, key: str) -> str:
    try:
        normalised(msgspec.convert(_with_only(data, head, key), Configuration))
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _steps(path: str) -> list[str | int]:
    return [
        int(step[1:-1]) if step.startswith("[") else step.lstrip(".")
        for step in re.findall(r"\[\d+\]|\.?[^.\[\]]+", path)
    ]


def _at(data: Any, path: str) -> Any:
    for step in _steps(path):
        data = data[step]
    return data


def _with_only(data: Any, path: str, key: str) -> Any:
    """Copy of the data in which the mapping at `path` has only `key`."""
    copy = msgspec.to_builtins(data)
    mapping = _at(copy, path)
    kept = mapping[key]
    mapping.clear()
    mapping[key] = kept
    return copy
