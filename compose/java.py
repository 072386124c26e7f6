"""Java and Maven: found, never installed behind somebody's back."""

import re
import shutil
import subprocess
from pathlib import Path

import msgspec

from compose.errors import ServerFailedError, ServerMissingError
from compose.process import Launch, LocalServer
from compose.progress import Progress
from compose.settings import Settings

JAVA_MAJOR_MIN = 17
MAVEN_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
ARCHIVE_WITHIN_S = 60.0


class Java(msgspec.Struct, frozen=True, kw_only=True):
    """A Java runtime: its executable and full version, such as `17.0.15+6-Debian-1`."""

    executable: str
    version: str


def find_java(server: str, settings: Settings) -> Java:
    """`$JAVA_HOME/bin/java`, else `java` on PATH, when it is new enough."""
    at_home = settings.java_home / "bin" / "java" if settings.java_home else None
    found = str(at_home) if at_home and at_home.exists() else shutil.which("java")
    if found is None:
        raise ServerMissingError(_needs(server, "and there is none"))
    answer = subprocess.run(
        [found, "-version"], capture_output=True, text=True, check=False, timeout=60
    ).stderr
    named = re.search(r'version "(\d+)[^"]*"', answer)
    if named is None or int(named[1]) < JAVA_MAJOR_MIN:
        first = answer.splitlines()[0] if answer else "no answer"
        raise ServerMissingError(_needs(server, f"and {found} says: {first}"))
    built = re.search(r"\(build ([^,)]+)", answer)
    return Java(executable=found, version=built[1] if built else named[0])


def find_maven(server: str) -> str:
    """Return the `mvn` on PATH, needed only while something has to be downloaded."""
    found = shutil.which("mvn")
    if found is None:
        raise ServerMissingError(_needs(server, "and `mvn` is not on PATH"))
    return found


def _needs(server: str, finding: str) -> str:
    variable = {"kafka": "KAFKA_BOOTSTRAP_SERVERS", "registry": "SCHEMA_REGISTRY_URL"}[server]
    return (
        f"{server} needs Java {JAVA_MAJOR_MIN} or newer and Maven, {finding}: "
        "`apt-get install openjdk-17-jre-headless maven`, or start Docker, "
        f"or set {variable} to one that runs."
    )


def class_archive(folder: Path, java: Java, kind: str) -> Path:
    """Where the class-data archive of this program for this very Java belongs."""
    return folder / f"{kind}-{re.sub(r'[^A-Za-z0-9.]', '_', java.version)}.jsa"


def make_class_archive(launch: Launch, archive: Path, progress: Progress) -> None:
    """Run a server once and keep its loaded classes, which halves every later start.

    A convenience: when it does not work, starts are slower and nothing else changes.
    """
    unfinished = archive.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    progress(launch.name, "preparing a class archive for quick starts (once)")
    argv = (launch.argv[0], f"-XX:ArchiveClassesAtExit={unfinished}", *launch.argv[1:])
    server = LocalServer(msgspec.structs.replace(launch, argv=argv))
    try:
        server.start()
    except ServerFailedError as failure:
        progress(launch.name, f"no class archive, starts are slower: {failure.reason}")
        return
    server.stop(within_s=ARCHIVE_WITHIN_S)  # The archive is written while it ends.
    if unfinished.exists():
        unfinished.replace(archive)
