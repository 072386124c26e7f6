"""The Kafka contestants: Holdfast itself and the peers that read the same topic.

Each has fresh topics, a preparation that is not measured, and one or more processes that are.
"""

import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from benchmarks import broker
from benchmarks.broker import Produced, Progress
from benchmarks.load import ORGANIZATION, Work
from benchmarks.origin import CHECKOUT
from benchmarks.programs import CpuSampler, Program, ProgramEndedError
from compose.ports import choose_port
from schemas import topics
from schemas.codec import Codec
from schemas.limits import QUANTITY_SCALE
from schemas.messages import InventoryTransaction, MeasureChange
from schemas.registry import SchemaIds

KSTREAMS: Final = Path(__file__).with_name("peers") / "kstreams"
HEALTH_WITHIN_S: Final = 2.0
BUILD_WITHIN_S: Final = 600.0
COMMIT_MS: Final = 100  # Kafka Streams' own default under exactly_once_v2.


class Site(NamedTuple):
    """Where a run takes place: broker, registry, fresh topics, and a folder of the run's own."""

    bootstrap: str
    registry_url: str
    folder: Path
    codec: Codec
    ids: SchemaIds


class KafkaContestant(Protocol):
    """Something that reads reservation requests and writes reservation results."""

    @property
    def name(self) -> str:
        """What the figures call it."""
        ...

    @property
    def group(self) -> str:
        """Its consumer group."""
        ...

    @property
    def requests_max(self) -> int:
        """Requests after which its rate is known: a slow peer need not run for minutes."""
        ...

    def prepare(self, site: Site, work: Work, progress: Progress) -> None:
        """Bring the stock in; not measured."""
        ...

    def start(self, site: Site, work: Work) -> list[Program]:
        """Start the processes that decide."""
        ...


def supply_records(site: Site, work: Work) -> list[Produced]:
    """One inventory transaction a leaf, bringing its stock in."""
    changes = [MeasureChange("fno.physicalinvent", work.supply * QUANTITY_SCALE)]
    return [
        Produced(
            leaf.key,
            site.codec.encode_transaction(
                InventoryTransaction(
                    event_id=f"supply-{number}",
                    organization_id=ORGANIZATION,
                    product_id=leaf.product,
                    dimensions=leaf.dimensions,
                    source="fno",
                    changes=changes,
                )
            ),
            leaf.partition,
        )
        for number, leaf in enumerate(work.leaves)
    ]


class Holdfast:
    """Workers of this checkout, each a process with its own disk."""

    group = topics.APP_ID
    requests_max = sys.maxsize

    def __init__(
        self,
        *,
        workers: int = 1,
        processes: int = 1,
        session_timeout_ms: int = 10_000,
        standby: bool = False,
    ) -> None:
        self._workers = workers
        self._processes = processes
        self._session_timeout_ms = session_timeout_ms
        self._standby = standby
        self._health: dict[int, int] = {}
        self.name = "holdfast" if workers == 1 else f"holdfast ({workers} workers)"
        if processes > 1:
            self.name = f"holdfast ({processes} processes)"

    def prepare(self, site: Site, work: Work, progress: Progress) -> None:
        """Send the supply and let a worker apply it; it stops before the requests come."""
        broker.preload(
            site.bootstrap, topics.TRANSACTIONS, supply_records(site, work), progress, "supply"
        )
        take_all(site, self, topics.TRANSACTIONS, work, progress)

    def start(self, site: Site, work: Work) -> list[Program]:
        """Start all workers at once."""
        del work
        return [self.start_worker(site, number) for number in range(1, self._workers + 1)]

    def start_worker(self, site: Site, number: int) -> Program:
        """Start one worker on the disk with this number."""
        argv = [sys.executable, "-m", "holdfast", "worker"]
        argv += ["--bootstrap", site.bootstrap, "--registry-url", site.registry_url]
        argv += ["--data-dir", str(self.disk(site, number)), "--log-format", "json"]
        argv += ["--session-timeout-ms", str(self._session_timeout_ms)]
        self._health[number] = choose_port(None)
        argv += ["--http-port", str(self._health[number])]
        if self._processes > 1:
            argv += ["--processes", str(self._processes)]
        if self._standby:
            argv.append("--standby")
        return Program(
            f"worker {number}",
            argv,
            log=self.log(site, number),
            overrides={"PYTHONPATH": str(CHECKOUT)},
        )

    def all_ready(self) -> bool:
        """Whether every worker has been given its partitions."""
        return all(_answers(f"http://127.0.0.1:{port}/ready") for port in self._health.values())

    @staticmethod
    def disk(site: Site, number: int) -> Path:
        """Data folder of one worker."""
        return site.folder / f"worker-{number}"

    @staticmethod
    def databases(site: Site, number: int) -> Path:
        """Where one worker of one process has a database a partition."""
        return Holdfast.disk(site, number) / "tables"

    @staticmethod
    def log(site: Site, number: int) -> Path:
        """Log of one worker, over all its starts."""
        return site.folder / f"worker-{number}.log"


def _answers(url: str) -> bool:
    try:
        # S310: the address is of our own making.
        with urllib.request.urlopen(url, timeout=HEALTH_WITHIN_S) as answer:  # noqa: S310
            return int(answer.status) == HTTPStatus.OK
    except OSError:
        return False


class StockFaust:
    """A stock Faust application, benchmarks/peers/faust_peer.py."""

    name = "faust"
    group = "peer-faust"
    requests_max = 12_000

    def prepare(self, site: Site, work: Work, progress: Progress) -> None:
        """Nothing: it is given the supply of every key as an option."""

    def start(self, site: Site, work: Work) -> list[Program]:
        """Start one worker."""
        argv = [sys.executable, "-m", "benchmarks.peers.faust_peer"]
        argv += ["--bootstrap", site.bootstrap, "--registry", site.registry_url]
        argv += ["--data", str(site.folder / "faust"), "--group", self.group]
        argv += ["--partitions", str(work.partitions), "--supply", str(work.supply)]
        log = site.folder / "faust.log"
        return [Program("faust", argv, log=log, overrides={"PYTHONPATH": str(CHECKOUT)})]


class KafkaStreams:
    """Kafka Streams with exactly_once_v2, benchmarks/peers/kstreams."""

    group = "peer-kstreams"
    requests_max = sys.maxsize

    def __init__(self, *, threads: int = 1) -> None:
        self._threads = threads
        self.name = f"kstreams ({threads} thread{'s' if threads > 1 else ''})"

    def prepare(self, site: Site, work: Work, progress: Progress) -> None:
        """Build it, when its sources are newer than its jar."""
        del site, work
        build_kstreams(progress)

    def start(self, site: Site, work: Work) -> list[Program]:
        """Start one JVM."""
        libs = KSTREAMS / "target"
        argv = ["java", "-Xms1g", "-Xmx2g", "-cp", f"{libs}/kstreams-peer-1.jar:{libs}/libs/*"]
        argv += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "holdfast.peer.ReservationPeer"]
        argv += ["--bootstrap", site.bootstrap, "--group", self.group]
        argv += ["--state", str(site.folder / "kstreams"), "--threads", str(self._threads)]
        argv += ["--commit-ms", str(COMMIT_MS), "--supply", str(work.supply * QUANTITY_SCALE)]
        argv += ["--requests", topics.REQUESTS, "--results", topics.RESULTS]
        argv += ["--result-schema-id", str(site.ids.id_of("ReservationResult"))]
        return [Program("kstreams", argv, log=site.folder / "kstreams.log", overrides={})]


def build_kstreams(progress: Progress) -> None:
    """Build the Java peer with Maven, unless its jar is newer than its sources."""
    jar = KSTREAMS / "target" / "kstreams-peer-1.jar"
    sources = [KSTREAMS / "pom.xml", *KSTREAMS.glob("src/**/*.java")]
    sources += (CHECKOUT / "schemas").glob("*.avsc")
    if jar.exists() and all(path.stat().st_mtime <= jar.stat().st_mtime for path in sources):
        return
    progress("building the Kafka Streams peer with Maven", 0, 1)
    if shutil.which("mvn") is None or shutil.which("javac") is None:
        raise ProgramEndedError(
            "the Kafka Streams peer is built by Maven with a JDK: "
            "apt-get install maven openjdk-17-jdk-headless"
        )
    answer = subprocess.run(
        ["mvn", "-B", "-q", "-ntp", "-f", str(KSTREAMS / "pom.xml"), "clean", "package"],
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_WITHIN_S,
    )
    if answer.returncode:
        raise ProgramEndedError(f"the Kafka Streams peer does not build:\n{answer.stdout[-3000:]}")


def take_all(
    site: Site, contestant: KafkaContestant, topic: str, work: Work, progress: Progress
) -> float:
    """Let the contestant take all of `topic` as it is now, then stop it; its most memory in MiB."""
    programs = contestant.start(site, work)
    try:
        with (
            CpuSampler([program.pid for program in programs]) as sampler,
            broker.GroupProgress(site.bootstrap, contestant.group, topic, work.partitions) as left,
        ):
            left.wait(programs, progress, f"taking {topic}")
    finally:
        for program in programs:
            program.stop()
    return sampler.resident_mib_max


KAFKA_PEERS: Final[dict[str, Callable[[], list[KafkaContestant]]]] = {
    "faust": lambda: [StockFaust()],
    # The better of the two is what a comparison takes.
    "kstreams": lambda: [KafkaStreams(threads=1), KafkaStreams(threads=2)],
}
