"""`holdfast config` where no broker is needed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from holdfast.cli import app
from processor.inventory.configuration import PRESETS, default, dump, parse


def run(*arguments: str, text: str | None = None) -> tuple[int, str, str]:
    """Exit code, standard output, everything."""
    result = CliRunner().invoke(app, ["config", *arguments], input=text)
    return result.exit_code, result.stdout, result.output


@pytest.mark.parametrize("preset", PRESETS)
def test_init_writes_a_valid_document(preset: str, tmp_path: Path) -> None:
    """What `init` writes is the preset, and `validate` accepts it; it overwrites only on demand."""
    file = tmp_path / "holdfast.yaml"
    assert run("init", str(file), "--preset", preset)[0] == 0
    assert parse(file.read_text()).configuration == PRESETS[preset]()
    assert run("validate", str(file))[0] == 0
    code, _, output = run("init", str(file))
    assert code == 2
    assert "--force" in output
    assert run("init", str(file), "--force")[0] == 0


def test_init_knows_its_presets() -> None:
    """An unknown preset is answered with the known ones."""
    code, _, output = run("init", "-", "--preset", "2019")
    assert code == 2
    assert "2023-11, early-2023" in output


def test_validate_names_file_line_rule_and_remedy(tmp_path: Path) -> None:
    """An error is one line that an editor can jump to; exit code 1."""
    text = dump(default()).replace("mode: prefix", "mode: prefx")
    line = text[: text.index("prefx")].count("\n") + 1
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    code, stdout, output = run("validate", str(file), "--json")
    assert code == 1
    assert f"{file}:{line}: error: reservation.mode:" in output
    assert "One of prefix, subset." in output
    found = json.loads(stdout.strip().splitlines()[-1])
    assert found["valid"] is False
    assert found["problems"][0]["line"] == line


def test_strict_refuses_warnings() -> None:
    """The 2023-11 edition has one warning: accepted, and refused with --strict."""
    assert run("validate", "-", text=dump(default()))[0] == 0
    assert run("validate", "-", "--strict", text=dump(default()))[0] == 1


def test_diff_of_two_files(tmp_path: Path) -> None:
    """A safe change exits 0, one that would corrupt 1; each says why."""
    old, new, bad = (tmp_path / name for name in ("old.yaml", "new.yaml", "bad.yaml"))
    old.write_text(dump(default()))
    new.write_text(dump(default()).replace("grace_ms: 0", "grace_ms: 60000"))
    bad.write_text(dump(default()).replace("rule: by-location", "rule: by-product"))
    code, stdout, output = run("diff", str(old), str(new), "--json")
    assert code == 0
    assert "grace_ms: 0 -> 60000" in output
    changes = json.loads(stdout.strip().splitlines()[-1])["changes"]
    assert [(one["path"], one["verdict"]) for one in changes] == [("grace_ms", "safe online")]
    code, _, output = run("diff", str(old), str(bad))
    assert code == 1
    assert "partition" in output
    assert "would corrupt" in output


def test_a_file_that_is_not_there() -> None:
    """The command says how to get one."""
    code, _, output = run("validate", "nowhere.yaml")
    assert code == 2
    assert "holdfast config init" in output


@pytest.mark.parametrize("command", ["init", "validate", "diff", "apply"])
def test_help_has_examples(command: str) -> None:
    """Every command that takes a document shows how it is used."""
    assert "Examples" in run(command, "--help")[2]
