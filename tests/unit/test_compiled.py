"""Compiled modules stand in for their sources only while these are what they were built from."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import processor
from processor import compiled


def _room(folder: Path) -> Path:
    """A copy of the sources with a manifest of them."""
    room = folder / "processor"
    for name in compiled.BUILT:
        (room / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(processor.__file__).parent / name, room / name)
    compiled.write_manifest(room)
    return room


def test_a_build_of_these_very_sources_is_current(tmp_path: Path) -> None:
    """What was just built may be used."""
    assert compiled.is_current(_room(tmp_path))


def test_one_changed_source_makes_the_build_stale(tmp_path: Path) -> None:
    """A byte more in any source, and none of the extension modules is used."""
    for name in compiled.BUILT:
        room = _room(tmp_path / name.replace("/", "-"))
        with (room / name).open("a") as source:
            source.write("\n")
        assert not compiled.is_current(room), name


def test_a_build_for_another_python_or_without_manifest_is_stale(tmp_path: Path) -> None:
    """Nothing is assumed of extension modules that nobody vouches for."""
    room = _room(tmp_path)
    manifest = json.loads((room / compiled.MANIFEST).read_text())
    (room / compiled.MANIFEST).write_text(json.dumps({**manifest, "python": "cpython-27"}))
    assert not compiled.is_current(room)
    (room / compiled.MANIFEST).write_text("half a manif")
    assert not compiled.is_current(room)
    (room / compiled.MANIFEST).unlink()
    assert not compiled.is_current(room)


def printed(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_sources_are_imported_past_extension_modules() -> None:
    """After `pass_by` every listed module is its source, whatever lies beside it."""
    program = (
        "from processor import compiled; compiled.pass_by();"
        "import importlib;"
        "names = ['processor.' + n[:-3].replace('/', '.') for n in compiled.SOURCES];"
        "print({importlib.import_module(n).__file__[-3:] for n in names})"
    )
    assert printed(program) == "{'.py'}"


def test_a_compiled_core_has_its_quick_twins_and_one_from_source_has_none() -> None:
    """One that is missing makes it slower and nothing else; its comparison would be skipped."""
    program = (
        "import processor;"
        "from processor.engine.producing import PlainEncoder, encoder;"
        "from processor.inventory import plain;"
        "print(processor.COMPILED, plain._quick_rows is not plain.pure_rows,"
        " not isinstance(encoder(1, 1, 1), PlainEncoder))"
    )
    assert printed(program).split() in (["True"] * 3, ["False"] * 3)
