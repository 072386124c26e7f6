"""The fault campaign: traffic, faults, and then the checker.

Four things kept apart: the load makes records, the feeder and the reader carry them, the faults
below strike the workers and the broker, and the checker judges afterwards from the topics alone.
Every wait is for progress and has a bound; a campaign that gets stuck fails with the workers' logs.
"""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Literal

import msgspec
from confluent_kafka.admin import AdminClient, NewTopic

from compose.stack import LocalStack
from schemas import topics
from schemas.registry import Registry, register
from tests.support import faults
from tests.support.checker import Findings, check
from tests.support.history import History, read_history
from tests.support.load import Load
from tests.support.site import Site, StuckError
from tests.support.traffic import Feeder, Reader
from tests.support.wire import Wire

Engine = Literal["holdfast", "stock"]
Say = Callable[[str], None]

PRODUCT_REQUESTS: Final = 1_500  # Requests per product: enough that stock runs out.
PRODUCTS_MIN: Final = 20
DRAINED_WITHIN_S: Final = 180.0
RATE_PER_S: Final = 4_000.0
STOCK_GROUP: Final = "stock-engine"
STOCK_QUIET_S: Final = 20.0  # Answers that have not come by then never will.


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a campaign is to do.

    Attributes:
        requests: records to send to reservation-requests.
        kills: `kill -9` of a worker at a random moment; crash points and disks come on top.
        seed: the same seed draws the same faults in the same order.
        only: names of the faults to strike, all of them if empty; `kills` comes on top.

    """

    requests: int = 300_000
    kills: int = 10
    seed: int = 1
    partitions: int = 4
    engine: Engine = "holdfast"
    session_timeout_ms: int = 4_000
    rate_per_s: float = RATE_PER_S
    only: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a campaign found.

    Attributes:
        revived: fault to the number of workers that ended by themselves behind it.
        stops_failed: graceful stops of a worker that listened, with another exit code than 0.

    """

    plan: Plan
    findings: Findings
    faults: dict[str, int]
    longest_stall_during: str
    kills: int
    worker_starts: int
    revived: dict[str, int]
    slowest_stop_s: float
    stops_failed: int
    seconds: float

    def as_line(self) -> str:
        """The outcome as one line of JSON."""
        line = {
            "name": "faults",
            "engine": self.plan.engine,
            "seed": self.plan.seed,
            "partitions": self.plan.partitions,
            **msgspec.to_builtins(self.findings),
            "clean": self.findings.clean,
            "longest_stall_during": self.longest_stall_during,
            "kills": self.kills,
            "faults": self.faults,
            "worker_starts": self.worker_starts,
            "revived": self.revived,
            "slowest_stop_s": round(self.slowest_stop_s, 2),
            "stops_failed": self.stops_failed,
            "seconds": round(self.seconds, 1),
        }
        return json.dumps(line)


def run_campaign(plan: Plan, directory: Path, say: Say) -> Outcome:
    """Run a campaign on a throw-away stack and judge it.

    Raises:
        StuckError: no progress within a bound; the message ends with the workers' logs.

    """
    started = time.monotonic()
    with ExitStack() as stack:
        servers = stack.enter_context(LocalStack(directory / "servers", ("kafka", "registry")))
        bootstrap, registry_url = servers.addresses.kafka_bootstrap, servers.addresses.registry_url
        assert bootstrap is not None
        assert registry_url is not None
        say(f"broker at {bootstrap}, registry at {registry_url}")
        wire = prepare(bootstrap, registry_url, plan)
        products = max(PRODUCTS_MIN, plan.requests // PRODUCT_REQUESTS)
        load = Load(plan.seed, plan.partitions, products, wire, plain=plan.engine == "stock")
        site = Site(
            servers=servers,
            command=_stock_command if plan.engine == "stock" else _worker_command,
            environment=_environment(plan, bootstrap, registry_url),
            directory=directory,
            group=STOCK_GROUP if plan.engine == "stock" else topics.APP_ID,
            bootstrap=bootstrap,
            session_timeout_ms=plan.session_timeout_ms,
            feeder=Feeder(bootstrap, load, plan.rate_per_s),
            reader=Reader(bootstrap, plan.partitions, load, wire),
            random=random.Random(plan.seed),  # noqa: S311 - repeatable, on purpose
            say=say,
        )
        stack.callback(site.end)
        struck = _strike(site, plan)
        say("reading the topics")
        history = _read(site, plan)
    say("checking")
    findings = check(history, wire)
    return Outcome(
        plan=plan,
        findings=findings,
        faults=dict(Counter(name for name, _ in struck)),
        longest_stall_during=_during(struck, findings),
        kills=site.kills,
        worker_starts=site.starts,
        revived=site.revived,
        slowest_stop_s=site.slowest_stop_s,
        stops_failed=site.stops_failed,
        seconds=time.monotonic() - started,
    )


def prepare(bootstrap: str, registry_url: str, plan: Plan) -> Wire:
    """Make topics and register schemas; the checker's reader for them."""
    ids = register(Registry(registry_url, timeout_s=30.0))
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [
        NewTopic(name, plan.partitions if topic.co_partitioned else 1, 1, config=topic.config())
        for name, topic in topics.TOPICS.items()
    ]
    for future in admin.create_topics(wanted).values():
        future.result(60)
    return Wire({number: record for record, number in ids.items()})


def _worker_command(disk: Path, _port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "holdfast", "worker"),
        *("--data-dir", str(disk)),
        *(() if disk.name == "worker-1" else ("--standby",)),
    ]


def _stock_command(disk: Path, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "tests.fault.stock_engine"),
        *("--datadir", str(disk), "worker", "--web-port", str(port)),
    ]


def _environment(plan: Plan, bootstrap: str, registry_url: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "SCHEMA_REGISTRY_URL": registry_url,
        "HOLDFAST_SESSION_TIMEOUT_MS": str(plan.session_timeout_ms),
        "HOLDFAST_CACHE_MB": "32",
    }


def script(plan: Plan, draw: random.Random) -> list[faults.Fault]:
    """The faults of a campaign, in the order in which they strike."""
    kills: list[faults.Fault] = [
        faults.kill if number % 3 else faults.kill_one_of_two for number in range(1, plan.kills + 1)
    ]
    if plan.engine == "stock":
        return [faults.kill] * plan.kills
    chosen = [fault for fault in faults.SINGLE if not plan.only or fault.__name__ in plan.only]
    chosen += kills
    draw.shuffle(chosen)
    return chosen


def _during(struck: list[tuple[str, int]], findings: Findings) -> str:
    """Names of the faults that fell into the longest stall.

    They may be several: the next one strikes when answers flow, not when every partition had one.
    """
    began_at_ms = findings.longest_stall_began_ms
    end_ms = began_at_ms + findings.longest_stall_s * 1000
    before = ["start", *(name for name, began_ms in struck if began_ms <= began_at_ms)]
    within = [name for name, began_ms in struck if began_at_ms < began_ms < end_ms]
    return ", ".join([before[-1], *within])


def _strike(site: Site, plan: Plan) -> list[tuple[str, int]]:
    """Let the traffic run and the faults strike; stops the workers when all is answered.

    Returns the faults with the time at which each began, milliseconds since 1970 UTC.
    """
    chosen = script(plan, site.random)
    share = plan.requests // (len(chosen) + 1)
    struck: list[tuple[str, int]] = []
    for draft in site.feeder.load.opening():
        site.feeder.send(draft)
    site.feeder.flush()
    site.reader.start()
    site.feeder.start()
    site.start_worker()
    site.feeder.order(share)
    site.wait_answers(1)
    for number, fault in enumerate(chosen, start=1):
        site.say(f"{number} of {len(chosen)}: {fault.__name__}, {site.reader.count} answers so far")
        site.fault = fault.__name__
        struck.append((fault.__name__, time.time_ns() // 1_000_000))
        fault(site, share)
    site.feeder.order(max(0, plan.requests - site.feeder.ordered))
    site.say("no more faults: waiting for the last answers")
    site.feeder.close()
    _drain(site, plan)
    return struck


def _drain(site: Site, plan: Plan) -> None:
    """Wait for the last answer, then stop everything.

    Stock Faust loses some: there the wait ends when no answer has come for a while.
    """
    if plan.engine == "stock":
        with suppress(StuckError):
            while site.reader.count < site.feeder.answerable:
                site.wait_answers(1, within_s=STOCK_QUIET_S)
    else:
        answered = site.feeder.answerable
        site.wait("the last answers", lambda: site.reader.count >= answered, DRAINED_WITHIN_S)
        site.wait_applied()
    for worker in [worker for worker in site.workers if worker.alive]:
        site.stop(worker, starting=True)
    site.reader.close()


def _read(site: Site, plan: Plan) -> History:
    """The history of a campaign that is over."""
    history = read_history(site.bootstrap, site.group, plan.partitions, topics.CHANGELOG)
    if plan.engine == "stock":  # Its rows are its own affair.
        return msgspec.structs.replace(history, rows=None)
    return history
