"""The tree keeps the house rules, and the rules can see: each finds what is planted for it."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support import spread
from tests.tidy import rules
from tests.tidy.rules import Source, parsed

ROOT: Final = Path(__file__).resolve().parents[2]
OURS: Final = (*rules.ROOMS, "tests", "docs", "deploy")
TEXT_BYTES_MAX: Final = 2_000_000
LINT_WITHIN_S: Final = 120

Rule = Callable[[Source], Iterator[str]]


def _tree() -> list[Source]:
    """Every Python file of ours."""
    paths = [path for room in OURS for path in sorted((ROOT / room).rglob("*.py"))]
    return [parsed(str(path.relative_to(ROOT)), path.read_text()) for path in paths]


def _texts() -> Iterator[tuple[Path, str]]:
    """Every text file of the tree: the rooms, and the files at the top."""
    paths = [path for room in OURS for path in (ROOT / room).rglob("*")]
    paths += list(ROOT.iterdir()) + list((ROOT / ".github").rglob("*"))
    for path in paths:
        skipped = {"__pycache__", "target", "results"} & set(path.parts)
        if not path.is_file() or skipped or path.stat().st_size > TEXT_BYTES_MAX:
            continue
        content = path.read_bytes()
        if b"\0" not in content:
            yield path.relative_to(ROOT), content.decode(errors="replace")


def _matches(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number} {line.strip()[:100]}"
        for path, text in _texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


TREE: Final = _tree()


@pytest.mark.parametrize("rule", rules.PER_FILE, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule: Rule) -> None:
    """No file of the tree breaks it."""
    assert [fault for source in TREE for fault in rule(source)] == []


def test_every_module_is_used() -> None:
    """No module of a room is left over from something that is gone."""
    assert rules.dead_modules(TREE) == []


def test_what_asks_servers_of_the_session_shares_them() -> None:
    """It goes to one worker of pytest-xdist: each would start them anew."""
    fixtures = {"running", "kafka_bootstrap", "registry_url", "redis_url", "postgres_dsn"}
    tests = [source for source in TREE if source.path.name.startswith("test_")]
    asking = {str(one.path) for one in tests if rules.asked_of_others(one) & fixtures}
    assert asking == set(spread.SHARING)


def test_nothing_is_left_unfinished() -> None:
    """No note to ourselves stands in any file."""
    assert _matches(rules.UNFINISHED) == []


def test_no_file_names_a_package_index() -> None:
    """Addresses of indexes and mirrors are the machine's business, not the tree's."""
    assert _matches(rules.INDEX_ADDRESS) == []


def test_the_rooms_import_inward_only() -> None:
    """The import contracts of pyproject.toml hold (import-linter)."""
    program = "import sys; from importlinter.cli import lint_imports; "
    program += "sys.exit(lint_imports(no_cache=True))"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LINT_WITHIN_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


PLANTED: Final[list[tuple[Rule, str, str]]] = [
    (rules.long_functions, "schemas/a.py", "def f():\n" + "    x = 1\n" * 50),
    (rules.environment_reads, "processor/a.py", "import os\nx = os.environ['A']\n"),
    (rules.environment_reads, "compose/a.py", "from os import getenv\n"),
    (rules.clocks_in_the_decision, "processor/inventory/a.py", "import time\n"),
    (rules.clocks_in_the_decision, "processor/inventory/a.py", "from datetime import datetime\n"),
    (rules.bare_excepts, "tests/a.py", "try:\n    f()\nexcept:\n    pass\n"),
    (rules.prints, "producers/a.py", "print('here')\n"),
    (rules.silent_modules, "schemas/a.py", "x = 1\n"),
    (rules.silent_tests, "tests/unit/test_a.py", "def test_a():\n    assert f()\n"),
    (rules.sleeping_tests, "tests/unit/test_a.py", "import time\ntime.sleep(1)\n"),
    (rules.shared_products, "tests/test_a.py", "def test_a(running: int) -> None:\n    'D0002'\n"),
]


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED)
def test_the_rule_finds_what_is_planted(rule: Rule, path: str, text: str) -> None:
    """A rule that finds nothing anywhere would be worth nothing."""
    assert len(list(rule(parsed(path, text)))) == 1


def test_a_planted_dead_module_is_found() -> None:
    """A module that only tests import is dead; one that a room imports, names or runs is not."""
    sources = [
        parsed("schemas/left.py", "x = 1\n"),
        parsed("schemas/used.py", "x = 1\n"),
        parsed("benchmarks/named.py", "x = 1\n"),
        parsed("benchmarks/run.py", "if __name__ == '__main__':\n    main()\n"),
        parsed("holdfast/__main__.py", "from schemas import used\nx = 'benchmarks.named'\n"),
        parsed("tests/test_left.py", "import schemas.left\n"),
    ]
    assert rules.dead_modules(sources) == ["schemas/left.py is used by nothing"]


@pytest.mark.parametrize(
    "line",
    [
        "--index-url " + "https://" + "mirror.example/x",
        "see https://" + "files.pythonhosted.org/packages/x",
        "<url>https://" + "repo.maven.apache.org/maven2</url>",
        "PIP=http://10." + "0.0.7:3141/simple",
    ],
)
def test_a_planted_index_address_is_found(line: str) -> None:
    """The usual ways in which such an address gets into a file."""
    assert rules.INDEX_ADDRESS.search(line)


@pytest.mark.parametrize(
    "line",
    ["http://127.0.0.1:8081/apis/ccompat/v7", "pip-compile --no-emit-index-url --x", "maven"],
)
def test_other_addresses_are_left_alone(line: str) -> None:
    """Loopback addresses of our own servers and names of tools are fine."""
    assert not rules.INDEX_ADDRESS.search(line)
