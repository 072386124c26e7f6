"""The read view: how far it is behind at a rate of decisions, and what questions cost.

Lag counts from the broker's append time of a result to the first look at Redis (one every 5 ms) in
which the view's position is beyond the request. Questions are asked of Redis from this process,
without HTTP, while nothing is decided: as many as 32 under way give the rate, and an open loop the
latency, from the instant at which a question was due.
"""

import asyncio
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import redis
import uvloop

from benchmarks import broker, drain
from benchmarks.broker import Progress
from benchmarks.check import WrongAnswerError
from benchmarks.contestants import Holdfast, Site
from benchmarks.figures import Extra, Run, percentiles
from benchmarks.ground import Ground
from benchmarks.latency import PROBES, WARM_UP_S_MAX, WARM_UP_S_MIN, stages, warm_up_s
from benchmarks.load import ORGANIZATION, Work, spread
from benchmarks.openloop import OpenLoop
from benchmarks.programs import CpuSampler, Program, wait_until
from compose.stack import LocalStack
from processor.view.generations import Generations
from processor.view.keys import Names
from processor.view.plan import position_of
from processor.view.queries import RedisQueries
from processor.view.settings import ViewSettings
from schemas import topics
from schemas.queries import OnHandQuery, ViewHealth, ViewUnavailable

LOOK_EVERY_S: Final = 0.005  # Each look costs about 0.2 ms of the machine that is measured.
READY_WITHIN_S: Final = 120.0
UNDER_WAY: Final = 32
QUESTIONS_RATE: Final = 1_000
QUESTIONS_S: Final = 5
METHOD: Final = (
    "percentiles: view lag, from append of a result to the view's position beyond its request "
    f"(looked at every {LOOK_EVERY_S * 1000:g} ms), in an open loop of decisions, "
    f"once {WARM_UP_S_MIN} to {WARM_UP_S_MAX} s at the same rate are caught up with; "
    "CPU of the view process a decision; "
    f"queries_per_s: one product by colour, {UNDER_WAY} under way, without HTTP; "
    f"query_p99_ms: open loop at {QUESTIONS_RATE}/s, from the instant due"
)


class Answered(NamedTuple):
    """Where a request was decided, and when its result was appended (s)."""

    partition: int
    offset: int
    appended_s: float


class PositionLog:
    """Looks at the view's positions on a thread, and remembers every change with its time."""

    def __init__(self, view: ViewSettings, partitions: int) -> None:
        self._redis: Any = redis.Redis.from_url(**view.connection())
        served = Generations(self._redis, Names(view.prefix)).live()
        assert served is not None
        keys = Names(view.prefix).generation(served)
        self._places = [keys.at(number) for number in range(partitions)]
        self._offsets: list[list[int]] = [[] for _ in range(partitions)]
        self._times_s: list[list[float]] = [[] for _ in range(partitions)]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._redis.close()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            stored = self._redis.mget(self._places)
            now_s = time.time()
            for number, value in enumerate(stored):
                offset = position_of(value).sources.get(topics.REQUESTS, 0)
                seen = self._offsets[number]
                if not seen or offset > seen[-1]:
                    seen.append(offset)
                    self._times_s[number].append(now_s)

    def reached_s(self, partition: int, offset: int) -> float | None:
        """When the position was first seen beyond an offset, None if never."""
        place = bisect_right(self._offsets[partition], offset)
        times = self._times_s[partition]
        return times[place] if place < len(times) else None


def run(ground: Ground, progress: Progress, *, rate: int, seconds: int, partitions: int) -> Run:
    """A worker and a view on a fresh broker and Redis."""
    work = spread(PROBES + rate * (warm_up_s(rate) + seconds), partitions)
    progress("view: making topics, starting redis", 0, 1)
    with ground.fresh(partitions) as site, LocalStack(servers=("redis",)) as stack:
        assert stack.addresses.redis_url is not None
        view = ViewSettings(redis_url=stack.addresses.redis_url)
        contestant = Holdfast()
        contestant.prepare(site, work, progress)
        programs = [*contestant.start(site, work), _view_program(site, view)]
        try:
            _wait_until_level(view, programs)
            progress(f"view: {rate} decisions/s for {warm_up_s(rate) + seconds} s", 0, 1)
            measured, cpu = _lags(site, work, view, rate, programs)
            progress("view: questions", 0, 1)
            extra = uvloop.run(_questions(view, work))
        finally:
            for program in programs:
                program.stop()
    return _figures(measured, cpu, extra, rate)


def _view_program(site: Site, view: ViewSettings) -> Program:
    argv = [sys.executable, "-m", "holdfast", "view", "run", "--bootstrap", site.bootstrap]
    return Program(
        "view", [*argv, "--redis", view.redis_url], log=Path(site.folder) / "view.log", overrides={}
    )


def _wait_until_level(view: ViewSettings, programs: Sequence[Program]) -> None:
    """Wait until the supply is in the view."""

    async def health() -> ViewHealth | None:
        queries = RedisQueries(view)
        try:
            return await queries.health()
        except ViewUnavailable:
            return None
        finally:
            await queries.close()

    def is_level() -> bool:
        found = asyncio.run(health())
        return found is not None and found.state == "following" and not found.lag_records

    wait_until(is_level, within_s=READY_WITHIN_S, what="the view follows", alive=programs)


def _lags(
    site: Site, work: Work, view: ViewSettings, rate: int, programs: list[Program]
) -> tuple[list[tuple[float, float]], CpuSampler]:
    """(append time in s, lag in ms) of every counted request."""
    records = drain.request_records(site, work)
    loop = OpenLoop(site, work.partitions, rate)
    view_pid = programs[-1].pid
    try:
        with CpuSampler([view_pid]) as cpu, PositionLog(view, work.partitions) as log:
            for _ in stages(loop, work, records, rate, programs):
                _wait_until_level(view, programs)
            time.sleep(10 * LOOK_EVERY_S)
    finally:
        loop.close()
    counted = {ask.request_id.encode() for ask in work.asks[PROBES + rate * warm_up_s(rate) :]}
    return [_lag(one, log) for one in _answered(site, work.partitions, counted)], cpu


def _answered(site: Site, partitions: int, counted: set[bytes]) -> list[Answered]:
    found = []
    for message in broker.read_all(site.bootstrap, topics.RESULTS, partitions):
        if message.key() in counted:
            result = site.codec.decode_result(message.value())
            appended_s = message.timestamp()[1] / 1000
            found.append(Answered(message.partition(), result.source_offset, appended_s))
    if len(found) != len(counted):
        raise WrongAnswerError(f"{len(found)} answers to {len(counted)} requests")
    return found


def _lag(answered: Answered, log: PositionLog) -> tuple[float, float]:
    reached_s = log.reached_s(answered.partition, answered.offset)
    if reached_s is None:
        raise WrongAnswerError(f"the view never reached {answered}")
    return answered.appended_s, (reached_s - answered.appended_s) * 1000


async def _questions(view: ViewSettings, work: Work) -> Extra:
    """Rate and latency of the on-hand question about one product."""
    products = sorted({leaf.product for leaf in work.leaves})
    queries = RedisQueries(view)

    async def ask(number: int) -> None:
        product = products[number % len(products)]
        query = OnHandQuery(
            organization_ids=(ORGANIZATION,), product_ids=(product,), group_by=("colorid",)
        )
        if not (await queries.on_hand(query)).rows:
            raise WrongAnswerError(f"no stock of {product}")

    try:
        await ask(0)
        per_s, cpu_us = await _closed_loop(ask)
        _, p95, p99 = percentiles(await _open_loop(ask))
    finally:
        await queries.close()
    return {
        "queries_per_s": round(per_s, 1),
        "query_cpu_us": round(cpu_us, 1),
        "query_p95_ms": p95,
        "query_p99_ms": p99,
    }


async def _closed_loop(ask: Any) -> tuple[float, float]:
    """Questions a second with `UNDER_WAY` under way, and this process's CPU for each."""
    done = 0
    started, cpu = time.monotonic(), time.process_time()

    async def keep_asking() -> None:
        nonlocal done
        while time.monotonic() - started < QUESTIONS_S:
            done += 1
            await ask(done)

    await asyncio.gather(*[keep_asking() for _ in range(UNDER_WAY)])
    seconds = time.monotonic() - started
    return done / seconds, (time.process_time() - cpu) * 1e6 / done


async def _open_loop(ask: Any) -> list[float]:
    """Milliseconds of every question, from the instant at which it was due."""
    took_ms: list[float] = []
    started = time.monotonic() + 0.1

    async def timed(number: int) -> None:
        await ask(number)
        took_ms.append((time.monotonic() - started - number / QUESTIONS_RATE) * 1000)

    async with asyncio.TaskGroup() as group:
        for number in range(QUESTIONS_RATE * QUESTIONS_S):
            wait_s = started + number / QUESTIONS_RATE - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            group.create_task(timed(number))
    return took_ms


def _figures(measured: list[tuple[float, float]], cpu: CpuSampler, extra: Extra, rate: int) -> Run:
    first_s, last_s = min(measured)[0], max(measured)[0]
    lags_ms = [lag_ms for _, lag_ms in measured]
    p50, p95, p99 = percentiles(lags_ms)
    return Run(
        contestant="holdfast",
        decisions=len(measured),
        seconds=round(last_s - first_s, 3),
        decisions_per_s=round(len(measured) / (last_s - first_s), 1),
        cpu_us_per_decision=round(
            cpu.between_s(first_s * 1000, last_s * 1000) * 1e6 / len(measured), 2
        ),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        resident_mib=cpu.resident_mib_max,
        extra={"rate": rate, "max_lag_ms": round(max(lags_ms), 1), **extra},
    )
