"""Getting a server's files: complete or absent, once, and with words when it fails."""

import threading
from pathlib import Path

import pytest

from compose import java
from compose.errors import ServerMissingError
from compose.install import installed, run, stamp_of
from compose.progress import silent
from compose.settings import Settings


def test_an_installation_that_broke_off_is_made_anew(tmp_path: Path) -> None:
    """Half an installation never counts as one."""

    def breaks(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("the line went dead")

    with pytest.raises(OSError, match="went dead"):
        installed(tmp_path, "kafka", "1", breaks)
    folder = installed(tmp_path, "kafka", "1", lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_two_at_once_install_once(tmp_path: Path) -> None:
    """The second waits for the first and takes what it made."""
    made: list[str] = []
    entered = threading.Event()

    def make(folder: Path) -> None:
        entered.set()
        made.append(folder.name)

    threads = [
        threading.Thread(target=installed, args=(tmp_path, "kafka", "1", make)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert entered.is_set()
    assert len(made) == 1


def test_the_stamp_follows_version_and_definition() -> None:
    """A changed POM is another installation, even of the same version."""
    assert stamp_of("4", b"pom") != stamp_of("4", b"other pom")
    assert stamp_of("4", b"pom") != stamp_of("5", b"pom")


def test_a_failed_step_shows_the_end_of_its_output_and_the_remedy() -> None:
    """A person sees what the program said, and what to do."""
    with pytest.raises(ServerMissingError) as failure:
        run("kafka", ["sh", "-c", "echo no route; exit 4"], silent, remedy="check the line")
    said = str(failure.value)
    assert "exit code 4" in said
    assert "no route" in said
    assert "check the line" in said


@pytest.mark.parametrize(
    ("version", "accepted"),
    [("1.8.0_392", False), ("11.0.20", False), ("17.0.15", True), ("25", True)],
)
def test_java_must_be_new_enough(tmp_path: Path, version: str, *, accepted: bool) -> None:
    """An old Java is refused in one sentence that names what is needed, and how to get it."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-01' >&2\n", "utf-8")
    program.chmod(0o755)
    settings = Settings.from_environment({"JAVA_HOME": str(tmp_path)})
    if accepted:
        assert java.find_java("kafka", settings).executable == str(program)
        return
    with pytest.raises(ServerMissingError) as failure:
        java.find_java("kafka", settings)
    said = str(failure.value)
    assert version in said
    assert "apt-get install openjdk-17-jre-headless maven" in said
    assert "KAFKA_BOOTSTRAP_SERVERS" in said
    assert "\n" not in said
