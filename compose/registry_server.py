"""Apicurio Registry as one local process, with the Confluent API under `/apis/ccompat/v7`.

Its build on Maven Central is the one made for an in-memory database (H2), which would give out
schema ids anew after every start, while the ids are inside every record already written. So the
database is put into a file, with writes that reach it at once: ids survive a restart and a
`kill -9`.
"""

import tempfile
import zipfile
from pathlib import Path

from compose import install, java
from compose.ports import LOOPBACK, choose_port
from compose.process import Launch
from compose.progress import Progress
from compose.settings import Settings

VERSION = "2.5.11.Final"
PORT_USUAL = 8081
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:zip:all"
HEAP = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class RegistryServer:
    """Where the registry's files are, and how to run it."""

    def __init__(self, installation: Path, runtime: java.Java) -> None:
        self._installation = installation
        self._runtime = runtime
        self._jar = next(installation.glob("*-runner.jar"))

    @classmethod
    def install(cls, settings: Settings, progress: Progress) -> "RegistryServer":
        """Download and unpack it and make the class archive, each once."""
        runtime = java.find_java("registry", settings)

        def make(folder: Path) -> None:
            maven = java.find_maven("registry")
            progress("registry", f"downloading Apicurio Registry {VERSION} (140 MB, once)")
            argv = [maven, "-B", "-q", "-ntp", f"{java.MAVEN_PLUGIN}:copy"]
            argv += [f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={folder}"]
            remedy = "check that Maven reaches Maven Central or its mirror (~/.m2/settings.xml)"
            install.run("registry", argv, progress, remedy=remedy)
            progress("registry", "unpacking")
            archive = next(folder.glob("*.zip"))
            with zipfile.ZipFile(archive) as contents:
                contents.extractall(folder)
            archive.unlink()

        stamp = install.stamp_of(VERSION, ARTIFACT.encode())
        server = cls(install.installed(settings.cache, "registry", stamp, make), runtime)
        server._make_archive(settings.cache, progress)  # Its own class.
        return server

    def launch(self, directory: Path, *, port: int | None) -> Launch:
        """Say how to start it. `port` is the usual port to try first; None takes a free one."""
        directory.mkdir(parents=True, exist_ok=True)
        chosen = choose_port(port)
        archive = self._archive()
        # WRITE_DELAY=0: by default H2 keeps an answered write in memory for up to half a second.
        database = f"jdbc:h2:file:{directory}/data/registry;DB_CLOSE_ON_EXIT=FALSE;WRITE_DELAY=0"
        return Launch(
            name="registry",
            argv=(
                self._runtime.executable,
                *HEAP,
                *((f"-XX:SharedArchiveFile={archive}",) if archive.exists() else ()),
                f"-Dquarkus.http.host={LOOPBACK}",
                f"-Dquarkus.http.port={chosen}",
                f"-DREGISTRY_DATASOURCE_URL={database}",
                "-jar",
                str(self._jar),
            ),
            directory=str(directory),
            address=f"http://{LOOPBACK}:{chosen}/apis/ccompat/v7",
            port=chosen,
            probe="registry",
        )

    def _archive(self) -> Path:
        return java.class_archive(self._installation, self._runtime, "registry")

    def _make_archive(self, cache: Path, progress: Progress) -> None:
        if self._archive().exists():
            return
        lock = install.locked(cache / "registry-archive.lock")
        with lock, tempfile.TemporaryDirectory() as folder:
            if not self._archive().exists():
                launch = self.launch(Path(folder), port=None)
                java.make_class_archive(launch, self._archive(), progress)
