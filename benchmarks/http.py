"""The HTTP gateway: one process of it, one worker, broker, Redis and view on the same machine.

As fast as the connections are answered gives the rates; an open loop at 1,000 a second gives the
latencies, from the instant at which a request was due. A reservation is answered when its
transaction is committed, so a connection asks only a few times a second: too few of them, and it is
the client that is measured. The load is a process of its own, and its share of a core is told, and
how late it sent what was due: near 1, or late, it would be the load that was measured.
"""

import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from benchmarks import settings
from benchmarks.broker import Progress
from benchmarks.check import WrongAnswerError
from benchmarks.contestants import Holdfast, Site
from benchmarks.figures import Extra, Run, percentiles
from benchmarks.ground import Ground
from benchmarks.http_load import Figures, Task
from benchmarks.origin import CHECKOUT
from benchmarks.programs import Program, cpu_s, tree_of, wait_until
from compose.ports import choose_port
from compose.stack import LocalStack
from producers.gateway import consistency
from producers.security.caller import SCOPES
from producers.security.issuer import LocalIssuer

HOST: Final = "127.0.0.1"
ENVIRONMENT: Final = "default"
BASE: Final = f"/api/environment/{ENVIRONMENT}/"
PRODUCTS: Final = 100
STOCK: Final = 100_000_000
CONNECTIONS: Final = 256
QUERY_CONNECTIONS: Final = 64
BULK_CONNECTIONS: Final = 8
BULK_LINES: Final = 512
RATE: Final = 1_000
WARM_UP_S: Final = 3.0
READY_WITHIN_S: Final = 90.0
SETTLE_WITHIN_S: Final = 60.0
LOAD_WITHIN_S: Final = 600.0
METHOD: Final = (
    f"decisions/s: single reservations over {CONNECTIONS} kept-alive connections; CPU of the "
    f"gateway process each; percentiles: single reservations in an open loop at {RATE}/s, from the "
    f"instant due to the answer; bulk: {BULK_CONNECTIONS} connections with {BULK_LINES} lines a "
    f"request; query: index query of one product by colour, {QUERY_CONNECTIONS} connections, once "
    "the view holds what was written; "
    "reserved quantities checked at the end; load_share: of a core, by the process that asks; "
    "load_late: from the instant due to the request's first byte"
)


class Door(NamedTuple):
    """The gateway that is measured."""

    program: Program
    port: int
    token: str


class Measured(NamedTuple):
    """Figures of one task, and CPU seconds of the gateway over it."""

    figures: Figures
    gateway_cpu_s: float


def run(ground: Ground, progress: Progress, *, seconds: int, partitions: int) -> Run:
    """Start everything, ask five ways, check what is reserved."""
    progress("http: making topics, starting redis", 0, 1)
    with ground.fresh(partitions) as site, LocalStack(servers=("redis",)) as stack:
        assert stack.addresses.redis_url is not None
        ours = Holdfast()
        programs = [ours.start_worker(site, 1)]
        try:
            wait_until(ours.all_ready, within_s=READY_WITHIN_S, what="worker", alive=programs)
            programs.append(_view(site, stack.addresses.redis_url))
            door = _gateway(site, stack.addresses.redis_url)
            programs.append(door.program)
            wait_until(
                lambda: _is_up(door), within_s=READY_WITHIN_S, what="gateway", alive=programs
            )
            _bring_stock_in(door)
            return _measure(door, progress, seconds)
        finally:
            for program in reversed(programs):
                program.stop()


def _view(site: Site, redis_url: str) -> Program:
    argv = [sys.executable, "-m", "holdfast", "view", "run", "--bootstrap", site.bootstrap]
    return Program(
        "view",
        [*argv, "--redis", redis_url, "--http-port", str(choose_port(None))],
        log=site.folder / "view.log",
        overrides={"PYTHONPATH": str(CHECKOUT)},
    )


def _gateway(site: Site, redis_url: str) -> Door:
    keys, port = site.folder / "identity", choose_port(None)
    issuer = LocalIssuer(keys, audience="holdfast")
    token = issuer.issue("bench", scopes=SCOPES, environments=[ENVIRONMENT], lifetime_s=36_000)
    argv = [sys.executable, "-m", "holdfast", "gateway", "--host", HOST, "--port", str(port)]
    argv += ["--bootstrap", site.bootstrap, "--registry", site.registry_url, "--redis", redis_url]
    program = Program(
        "gateway",
        [*argv, "--local-keys", str(keys), "--environments", f"{ENVIRONMENT}=compatible"],
        log=site.folder / "gateway.log",
        overrides={"PYTHONPATH": str(CHECKOUT)},
    )
    return Door(program, port, token)


def _is_up(door: Door) -> bool:
    try:
        _asked(door, "onhand/indexquery", _question(0))
    except OSError:
        return False
    return True


def _asked(door: Door, path: str, body: object) -> object:
    return _told(door, path, body)[0]


def _view_is_there(door: Door) -> bool:
    """Whether the view holds everything that was written through the gateway."""
    return _told(door, "onhand/indexquery", _question(0))[1] == consistency.READ_YOUR_WRITES


def _told(door: Door, path: str, body: object) -> tuple[object, str]:
    """What was answered, and how consistent a query's answer is said to be."""
    request = urllib.request.Request(
        f"http://{HOST}:{door.port}{BASE}{path}",
        msgspec.json.encode(body),
        {"Authorization": f"Bearer {door.token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=SETTLE_WITHIN_S) as answer:  # noqa: S310 - our own
        return msgspec.json.decode(answer.read()), answer.headers[consistency.HEADER] or ""


def _question(product: int) -> dict[str, object]:
    filters = {"organizationId": ["usmf"], "productId": [f"bench-{product}"]}
    return {"filters": filters, "returnNegative": True}


def _bring_stock_in(door: Door) -> None:
    lines = [
        {
            "id": f"supply-{product}-{site}",
            "organizationId": "usmf",
            "productId": f"bench-{product}",
            "dimensions": {"siteId": str(site), "locationId": f"{site}1", "colorId": "red"},
            "quantities": {"pos": {"inbound": STOCK}},
        }
        for product in range(PRODUCTS)
        for site in range(1, 5)
    ]
    answers = _asked(door, "onhand/bulk", lines)
    assert isinstance(answers, list)
    if any(answer["statusCode"] != 200 for answer in answers):
        raise WrongAnswerError(f"the supply was refused: {answers[0]}")


def _measure(door: Door, progress: Progress, seconds: int) -> Run:
    total = 0

    def ask(kind: str, rate: int, connections: int, lines: int = 1) -> Measured:
        nonlocal total
        for name, length_s in (("warm", WARM_UP_S), ("real", float(seconds))):
            progress(f"http: {kind}, {f'{rate}/s' if rate else 'as fast as can be'}", 0, 1)
            path = {"reserve": "onhand/reserve", "bulk": "onhand/reserve/bulk"}.get(
                kind, "onhand/indexquery"
            )
            task = Task(
                kind=kind,
                host=HOST,
                port=door.port,
                token=door.token,
                path=BASE + path,
                prefix=f"{kind}-{rate}-{name}-",
                connections=connections,
                rate=rate,
                seconds=length_s,
                products=PRODUCTS,
                lines=lines,
            )
            measured = _carry_out(door, task)
            total += measured.figures.granted
        return measured

    single, paced = ask("reserve", 0, CONNECTIONS), ask("reserve", RATE, CONNECTIONS)
    bulk = ask("bulk", 0, BULK_CONNECTIONS, BULK_LINES)
    # Else the gateway would wait for the view before each answer; its lag is `bench view`'s figure.
    wait_until(lambda: _view_is_there(door), within_s=SETTLE_WITHIN_S, what="view")
    asked, asked_paced = ask("query", 0, QUERY_CONNECTIONS), ask("query", RATE, CONNECTIONS)
    _check(door, total)
    return _figures(single, paced, bulk, asked, asked_paced)


def _carry_out(door: Door, task: Task) -> Measured:
    before_s = cpu_s(tree_of(door.program.pid))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.http_load"],
        input=msgspec.json.encode(task),
        stdout=subprocess.PIPE,
        cwd=Path(CHECKOUT),
        env=settings.environment({}),
        timeout=LOAD_WITHIN_S,
        check=True,
    )
    used_s = cpu_s(tree_of(door.program.pid)) - before_s
    figures = msgspec.json.decode(done.stdout, type=Figures)
    if figures.wrong or (task.kind != "query" and figures.granted != figures.requests * task.lines):
        raise WrongAnswerError(
            f"{task.kind}: {figures.wrong} of {figures.requests} answers were not 200, "
            f"{figures.granted} reservations granted; {figures.first_wrong}"
        )
    return Measured(figures, used_s)


def _check(door: Door, total: int) -> None:
    """What is reserved is what was granted, once each."""

    def reserved() -> int:
        found = 0
        for product in range(PRODUCTS):
            rows = _asked(door, "onhand/indexquery", _question(product))
            assert isinstance(rows, list)
            found += sum(row["quantities"]["iv"]["softreserved"] for row in rows)
        return found

    if reserved() != total:
        raise WrongAnswerError(f"{reserved()} are reserved, {total} were granted")


def _figures(
    single: Measured, paced: Measured, bulk: Measured, asked: Measured, asked_paced: Measured
) -> Run:
    p50, p95, p99 = percentiles(paced.figures.took_ms)
    q50, _, q99 = percentiles(asked_paced.figures.took_ms)
    one, many, questions = single.figures, bulk.figures, asked.figures
    extra: Extra = {
        "bulk_lines_per_s": round(many.granted / many.seconds, 1),
        "bulk_cpu_us_per_line": round(bulk.gateway_cpu_s * 1e6 / many.granted, 2),
        "query_per_s": round(questions.requests / questions.seconds, 1),
        "query_cpu_us": round(asked.gateway_cpu_s * 1e6 / questions.requests, 2),
        "query_p50_ms": q50,
        "query_p99_ms": q99,
        "rate": RATE,
        "load_share_single": round(one.cpu_s / one.seconds, 2),
        "load_share_bulk": round(many.cpu_s / many.seconds, 2),
        "load_share_query": round(questions.cpu_s / questions.seconds, 2),
        "load_late_p99_ms": percentiles(paced.figures.late_ms)[2],
    }
    return Run(
        contestant="holdfast",
        decisions=one.granted,
        seconds=round(one.seconds, 3),
        decisions_per_s=round(one.granted / one.seconds, 1),
        cpu_us_per_decision=round(single.gateway_cpu_s * 1e6 / one.granted, 2),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        extra=extra,
    )
