"""The whole table: every figure that was promised, with what was seen beside its floor and goal.

A figure under its floor fails the suite. Floors and goals are for two cores with the broker on the
same machine; on another machine the ratios still say something, the rest is to be read as seen.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from benchmarks import catalogue, report
from benchmarks.broker import Progress
from benchmarks.catalogue import Options
from benchmarks.figures import Comparison

Sessions = Mapping[str, Comparison]


class Session(NamedTuple):
    """One session of the suite: its key, benchmark, peer and options that differ."""

    key: str
    name: str
    peer: str | None = None
    requests: int = 400_000
    half_rate: bool = False


SESSIONS: Final = (
    Session("spread-kstreams", "spread", "kstreams"),
    Session("spread-faust", "spread", "faust"),
    Session("spread-postgres", "spread", "postgres", 200_000),
    Session("spread-redis", "spread", "redis", 200_000),
    Session("hot-postgres", "hot", "postgres", 100_000),
    Session("latency", "latency"),
    Session("latency-half", "latency", half_rate=True),
    Session("mixed", "mixed"),
    Session("recovery", "recovery", requests=500_000),
    Session("failover", "failover", requests=500_000),
    Session("holds", "holds", requests=200_000),
)


class Target(NamedTuple):
    """One promised figure. `at_least`: larger is better."""

    figure: str
    session: str
    seen: Callable[[Sessions], float | None]
    floor: float
    goal: float
    at_least: bool = True

    def meets(self, seen: float, bound: float) -> bool:
        """Whether `seen` is on the right side of `bound`."""
        return seen >= bound if self.at_least else seen <= bound


def _of(key: str, field: str) -> Callable[[Sessions], float | None]:
    """A field of a session's figures, or of its extras."""

    def seen(sessions: Sessions) -> float | None:
        comparison = sessions[key]
        value = getattr(comparison, field, None)
        return value if value is not None else comparison.extra.get(field)  # type: ignore[return-value]

    return seen


def _mixed_relative(sessions: Sessions) -> float:
    return sessions["mixed"].decisions_per_s / sessions["spread-kstreams"].decisions_per_s


TARGETS: Final = (
    Target(
        "spread: ratio to Kafka Streams",
        "spread-kstreams",
        _of("spread-kstreams", "ratio"),
        0.9,
        1.3,
    ),
    Target(
        "spread: CPU µs a decision",
        "spread-kstreams",
        _of("spread-kstreams", "cpu_us_per_decision"),
        15,
        9,
        at_least=False,
    ),
    Target("spread: ratio to stock Faust", "spread-faust", _of("spread-faust", "ratio"), 15, 25),
    Target(
        "spread: ratio to PostgreSQL", "spread-postgres", _of("spread-postgres", "ratio"), 2.2, 4
    ),
    Target("spread: ratio to Redis Lua", "spread-redis", _of("spread-redis", "ratio"), 1.2, 2.5),
    Target(
        "hot: decisions/s", "hot-postgres", _of("hot-postgres", "decisions_per_s"), 45_000, 100_000
    ),
    Target("hot: ratio to PostgreSQL", "hot-postgres", _of("hot-postgres", "ratio"), 8, 20),
    Target("latency at 5,000/s: p50 ms", "latency", _of("latency", "p50_ms"), 8, 4, at_least=False),
    Target(
        "latency at 5,000/s: p99 ms", "latency", _of("latency", "p99_ms"), 35, 20, at_least=False
    ),
    Target(
        "latency at half of spread: p99 ms",
        "latency-half",
        _of("latency-half", "p99_ms"),
        60,
        30,
        at_least=False,
    ),
    Target("mixed relative to spread", "mixed", _mixed_relative, 0.7, 0.9),
    Target(
        "recovery of 1,000,000 rows: s",
        "recovery",
        _of("recovery", "restore_s"),
        5,
        2,
        at_least=False,
    ),
    Target(
        "fail-over: stall beyond the session timeout, s",
        "failover",
        _of("failover", "stall_beyond_session_s"),
        6,
        3,
        at_least=False,
    ),
    Target("1,000,000 live holds relative to 1,000", "holds", _of("holds", "relative"), 0.7, 0.9),
    Target(
        "memory with 1,000,000 live holds: MiB",
        "holds",
        _of("holds", "resident_mib"),
        1_500,
        600,
        at_least=False,
    ),
)


class Line(NamedTuple):
    """One line of the table."""

    figure: str
    floor: float
    goal: float
    seen: float
    verdict: str


def run(progress: Progress, *, runs: int, only: Sequence[str] = ()) -> list[Line]:
    """Run the sessions (those named in `only`, or all), save their figures, judge the targets."""
    done: dict[str, Comparison] = {}
    for session in SESSIONS:
        if only and session.key not in only:
            continue
        options = Options(requests=session.requests, runs=runs)
        if session.half_rate:
            known = done.get("spread-kstreams") or done.get("spread-faust")
            if known is None:
                continue
            options = options._replace(rate=max(1, int(known.decisions_per_s / 2)))
        done[session.key] = catalogue.session(
            session.name, session.peer, options, _titled(progress, session.key)
        )
        report.save(done[session.key])
    return judge(MappingProxyType(done))


def judge(sessions: Sessions) -> list[Line]:
    """Lines of the targets whose sessions are there."""
    lines = []
    for target in TARGETS:
        if target.session not in sessions:
            continue
        if target.seen is _mixed_relative and "spread-kstreams" not in sessions:
            continue
        seen = target.seen(sessions)
        assert seen is not None, f"{target.figure}: its session does not measure it"
        verdict = "goal" if target.meets(seen, target.goal) else "floor"
        if not target.meets(seen, target.floor):
            verdict = "UNDER"
        lines.append(Line(target.figure, target.floor, target.goal, round(seen, 3), verdict))
    return lines


def _titled(progress: Progress, key: str) -> Progress:
    return lambda what, done, of: progress(f"{key}: {what}", done, of)
