"""Apache Kafka as one local process: KRaft, broker and controller in one node.

The real broker, its jars fetched by Maven from wherever the user's Maven settings point. Data stays
in the server's folder across restarts; formatting happens once per folder.
"""

import base64
import subprocess
import tempfile
import uuid
from importlib import resources
from pathlib import Path

from compose import install, java
from compose.errors import ServerFailedError
from compose.ports import LOOPBACK, choose_port, free_port
from compose.process import Launch
from compose.progress import Progress
from compose.settings import Settings

VERSION = "4.3.1"
PORT_USUAL = 9092
FORMAT_WITHIN_S = 60.0
HEAP = ("-Xms512m", "-Xmx1g", "-XX:+UseSerialGC")  # Two cores: a parallel collector gains nothing.
FORMAT_HEAP = ("-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class KafkaServer:
    """Where the broker's files are, and how to run a node of it."""

    def __init__(self, installation: Path, runtime: java.Java) -> None:
        self._installation = installation
        self._runtime = runtime
        jars = sorted(str(jar) for jar in (installation / "libs").glob("*.jar"))
        self._class_path = ":".join(jars)  # A fixed order: the class archive depends on it.

    @classmethod
    def install(cls, settings: Settings, progress: Progress) -> "KafkaServer":
        """Download the jars and make the class archives, each once."""
        runtime = java.find_java("kafka", settings)
        pom = resources.files("compose") / "kafka" / "pom.xml"

        def make(folder: Path) -> None:
            maven = java.find_maven("kafka")
            progress("kafka", f"downloading Apache Kafka {VERSION} (43 MB, once)")
            (folder / "pom.xml").write_bytes(pom.read_bytes())
            argv = [maven, "-B", "-q", "-ntp", "-f", str(folder / "pom.xml")]
            argv += [f"-Dkafka.version={VERSION}", "dependency:copy-dependencies"]
            argv += ["-DincludeScope=runtime", f"-DoutputDirectory={folder / 'libs'}"]
            remedy = "check that Maven reaches Maven Central or its mirror (~/.m2/settings.xml)"
            install.run("kafka", argv, progress, remedy=remedy)

        stamp = install.stamp_of(VERSION, pom.read_bytes())
        server = cls(install.installed(settings.cache, "kafka", stamp, make), runtime)
        server._make_archives(settings.cache, progress)  # Its own class.
        return server

    def launch(self, directory: Path, *, port: int | None) -> Launch:
        """Write the configuration, format the data folder if it is new, and say how to start it.

        `port` is the usual port to try first; None takes a free one.
        """
        directory.mkdir(parents=True, exist_ok=True)
        chosen = choose_port(port)
        configuration = _configuration(directory, port=chosen)
        (directory / "server.properties").write_text(configuration, encoding="utf-8")
        if not (directory / "data" / "meta.properties").exists():
            self._format(directory)
        return Launch(
            name="kafka",
            argv=self._argv("kafka", HEAP, "kafka.Kafka", str(directory / "server.properties")),
            directory=str(directory),
            address=f"{LOOPBACK}:{chosen}",
            port=chosen,
            probe="kafka",
            ready_line="Kafka Server started",
        )

    def _argv(self, kind: str, flags: tuple[str, ...], *command: str) -> tuple[str, ...]:
        archive = self._archive(kind)
        log4j = resources.files("compose") / "kafka" / "log4j2.properties"
        return (
            self._runtime.executable,
            *flags,
            *((f"-XX:SharedArchiveFile={archive}",) if archive.exists() else ()),
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile=file:{log4j}",
            "-cp",
            self._class_path,
            *command,
        )

    def _archive(self, kind: str) -> Path:
        return java.class_archive(self._installation, self._runtime, kind)

    def _format(self, directory: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22]
        argv = self._argv(
            "format",
            FORMAT_HEAP,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster_id}",  # With "=": an id may begin with a dash.
            f"--config={directory / 'server.properties'}",
        )
        archive = self._archive("format")
        unfinished = archive.with_suffix(f".{cluster_id}.new")
        if not archive.exists():
            argv = (argv[0], f"-XX:ArchiveClassesAtExit={unfinished}", *argv[1:])
        answer = subprocess.run(
            argv, capture_output=True, text=True, check=False, timeout=FORMAT_WITHIN_S, cwd="/"
        )
        if answer.returncode != 0:
            raise ServerFailedError(
                "kafka",
                f"its data folder could not be formatted (exit code {answer.returncode})",
                "`holdfast stack down --wipe` deletes the data of this stack",
                str(directory),
                (answer.stdout + answer.stderr)[-4000:],
            )
        if unfinished.exists():
            unfinished.replace(archive)

    def _make_archives(self, cache: Path, progress: Progress) -> None:
        if self._archive("kafka").exists():
            return
        with install.locked(cache / "kafka-archive.lock"), tempfile.TemporaryDirectory() as folder:
            if self._archive("kafka").exists():
                return
            launch = self.launch(Path(folder), port=free_port())
            java.make_class_archive(launch, self._archive("kafka"), progress)


def _configuration(directory: Path, *, port: int) -> str:
    template = (resources.files("compose") / "kafka" / "server.properties").read_text("utf-8")
    controller_port = free_port()
    while controller_port == port:
        controller_port = free_port()
    return (
        template.replace("@port@", str(port))
        .replace("@controller_port@", str(controller_port))
        .replace("@data@", str(directory / "data"))
    )
