"""House rules, each a function from one source file to the places where it is broken."""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final, NamedTuple

FUNCTION_LINES_MAX: Final = 50
ROOMS: Final = ("schemas", "processor", "producers", "compose", "holdfast", "benchmarks")
SPEAKING: Final = ("holdfast", "benchmarks")  # Rooms that may print: what they print is their use.
CLOCKS: Final = frozenset({"time", "datetime", "random", "asyncio", "threading", "secrets", "uuid"})

# Put together here, so that this file does not break its own rules.
UNFINISHED: Final = re.compile(rf"\b({'TO'}{'DO'}|{'FIX'}{'ME'}|{'XX'}{'X'})\b")
INDEX_ADDRESS: Final = re.compile(
    r"https?://[^\s\"'<>)]*(pypi|pythonhosted|repo\d*\.maven|npmjs|proxy\.golang|/simple\b)"
    r"|(index-url|trusted-host|find-links)[ =]+(https?:|/|[\w-]+\.)\S"
    r"|https?://(10|127|192\.168|172\.(1[6-9]|2\d|3[01]))\.[\d.]+(:\d+)?/(simple|maven|repository)",
)

ENVIRONMENT: Final = frozenset({"environ", "environb", "getenv"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Source(NamedTuple):
    """One Python file: its path from the root, and its text parsed."""

    path: PurePosixPath
    tree: ast.Module

    @property
    def room(self) -> str:
        """First folder of the path."""
        return self.path.parts[0]

    @property
    def module(self) -> str:
        """Dotted name; a package's is that of its folder."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parsed(path: str, text: str) -> Source:
    """A source from its text."""
    return Source(PurePosixPath(path), ast.parse(text))


def long_functions(source: Source) -> Iterator[str]:
    """Functions of more than 50 lines, in the rooms (a test may tell a long story).

    A command's arguments are its list of options: there the body alone counts.
    """
    if source.room not in ROOMS:
        return
    for node in _functions(source.tree):
        begin = node.body[0].lineno if source.room == "holdfast" else node.lineno
        lines = (node.end_lineno or begin) - begin + 1
        if lines > FUNCTION_LINES_MAX:
            yield f"{source.path}:{node.lineno} {node.name} has {lines} lines"


def environment_reads(source: Source) -> Iterator[str]:
    """Reads of the environment outside settings modules and the command line."""
    if source.room not in ROOMS or source.room == "holdfast" or source.path.name == "settings.py":
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT:
            yield f"{source.path}:{node.lineno} reads the environment"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            names = {alias.name for alias in node.names}
            if ENVIRONMENT & names:
                yield f"{source.path}:{node.lineno} reads the environment"


def clocks_in_the_decision(source: Source) -> Iterator[str]:
    """Clocks, sleep and chance in the pure core, which gets its time from the record."""
    if source.path.parts[:2] != ("processor", "inventory"):
        return
    found = {(node.lineno, module.split(".")[0]) for node, module in _imports(source)}
    for line, module in sorted(found):
        if module in CLOCKS:
            yield f"{source.path}:{line} imports {module}"


def bare_excepts(source: Source) -> Iterator[str]:
    """`except:` catches Ctrl-C and the end of the process too."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{source.path}:{node.lineno} catches everything"


def prints(source: Source) -> Iterator[str]:
    """Prints outside the command line and the benchmarks."""
    if source.room not in ROOMS or source.room in SPEAKING:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield f"{source.path}:{node.lineno} prints"


def silent_modules(source: Source) -> Iterator[str]:
    """Modules that do not say what they are for; `__init__` of a folder of tests may be empty."""
    bare = not source.tree.body and source.room == "tests"
    if not bare and not ast.get_docstring(source.tree):
        yield f"{source.path} has no docstring"


def silent_tests(source: Source) -> Iterator[str]:
    """Tests whose docstring does not state their claim."""
    if source.room != "tests" or not source.path.name.startswith("test_"):
        return
    for node in _functions(source.tree):
        if node.name.startswith("test_") and not ast.get_docstring(node):
            yield f"{source.path}:{node.lineno} {node.name} claims nothing"


def sleeping_tests(source: Source) -> Iterator[str]:
    """Tests that sleep and hope; waiting with a bound is in tests/support."""
    if source.room != "tests" or not source.path.name.startswith("test_"):
        return
    for node in ast.walk(source.tree):
        sleeps = isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "sleep"
        if isinstance(node, ast.Call) and sleeps and not _is_zero(node.args):
            yield f"{source.path}:{node.lineno} sleeps"


def shared_products(source: Source) -> Iterator[str]:
    """A test on the stack that others share takes nobody else's stock, so not that of the pages."""
    shared = asked_of_others(source) & {"running", "http_stack"}
    for node in ast.walk(source.tree):
        if shared and isinstance(node, ast.Constant) and "D0002" in str(node.value):
            yield f"{source.path}:{node.lineno} names a product that is others' too"


def asked_of_others(source: Source) -> set[str]:
    """Fixtures that its tests and fixtures ask for, and that are not its own."""
    functions = list(_functions(source.tree))
    asked = {
        node.arg
        for function in functions
        if function.name.startswith("test_") or _is_fixture(function)
        for node in ast.walk(function.args)
        if isinstance(node, ast.arg)
    }
    return asked - {function.name for function in functions}


def dead_modules(sources: Sequence[Source]) -> list[str]:
    """Modules of the rooms that nothing in the rooms imports, names or runs.

    A module that is named in a string (a program started with -m) or that runs by itself
    (`if __name__ == "__main__"`) counts as used; one that only tests import does not.
    """
    rooms = [source for source in sources if source.room in ROOMS]
    used: set[str] = set()
    for source in rooms:
        used |= {module for _, module in _imports(source)} - {source.module}
        used |= _named(source)
    return [
        f"{source.path} is used by nothing"
        for source in rooms
        if source.module not in used and not _runs(source) and _has_code(source)
    ]


PER_FILE: Final = (
    long_functions,
    environment_reads,
    clocks_in_the_decision,
    bare_excepts,
    prints,
    silent_modules,
    silent_tests,
    sleeping_tests,
    shared_products,
)


def _functions(tree: ast.Module) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def _is_fixture(function: Function) -> bool:
    return any("fixture" in ast.unparse(decorator) for decorator in function.decorator_list)


def _imports(source: Source) -> Iterator[tuple[ast.stmt, str]]:
    """Every imported module; of `from package import name` both `package` and `package.name`."""
    package = (
        source.module if source.path.name == "__init__.py" else source.module.rpartition(".")[0]
    )
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                kept = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*kept, base]).rstrip(".")
            yield node, base
            for alias in node.names:
                yield node, f"{base}.{alias.name}"


def _named(source: Source) -> set[str]:
    """Dotted names and file names in strings."""
    found: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value.removesuffix(".py").replace("/", ".")
            if re.fullmatch(r"[\w.]+", text):
                found.add(text)
    return found


def _runs(source: Source) -> bool:
    if source.path.name == "__main__.py":
        return True
    guards = (node.test for node in source.tree.body if isinstance(node, ast.If))
    return any("__name__" in ast.dump(test) for test in guards)


def _has_code(source: Source) -> bool:
    """A package that holds only its docstring is a folder, not a module that could be dead."""
    return source.path.name != "__init__.py"


def _is_zero(arguments: Sequence[ast.expr]) -> bool:
    """`sleep(0)` only lets others run."""
    return bool(arguments and isinstance(arguments[0], ast.Constant) and arguments[0].value == 0)
