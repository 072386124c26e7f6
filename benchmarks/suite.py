"""The whole table: every figure that was promised, with what was seen beside its floor and goal.

A figure under its floor fails the suite, and so does one that could not be taken. Floors and goals
are for two cores with the broker on the same machine; on another machine the ratios still say
something, the rest is to be read as seen.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final, Literal, NamedTuple

from benchmarks import catalogue, report
from benchmarks.broker import Progress
from benchmarks.catalogue import Options
from benchmarks.figures import OURS, Comparison, Run, variant
from benchmarks.ground import Ground

Sessions = Mapping[str, Comparison]
TWO_PROCESSES: Final = "2 processes"
HOLDS: Final = "holds"
JOIN: Final = "join"
# They take too long for the suite: each is run by its own name, and judged where it was saved.
TEN_MILLION: Final = "holds-live-10000000"
APART: Final = frozenset((TEN_MILLION, JOIN))


class Session(NamedTuple):
    """One session of the suite: its key, benchmark, and what differs from the usual options.

    A session with peers gives one comparison each, saved as `key-peer`; they share our runs. Those
    of `beside` take turns with it and are saved under their names: the machine drifts.
    `minutes` is about what it takes on two cores, for the estimate of what is left. Beside others a
    session whose run takes a minute or more is run `once`; the others, and one alone, three times.
    """

    key: str
    name: str
    minutes: float
    options: Options
    peers: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    once: bool = False
    half_rate_of: Literal["", "the best", "one process"] = ""


SESSIONS: Final = (
    Session(
        "spread",
        "spread",
        9,
        Options(requests=300_000),
        ("kstreams", "faust", "postgres", "redis"),
        ("mixed",),
    ),
    Session("hot", "hot", 1.5, Options(requests=200_000, partitions=1), ("postgres",)),
    Session("latency", "latency", 2.5, Options(seconds=10)),
    Session("latency-half", "latency", 1.5, Options(seconds=6), half_rate_of="the best"),
    Session("latency-half-one", "latency", 1.5, Options(seconds=6), half_rate_of="one process"),
    Session("recovery", "recovery", 0.5, Options(requests=500_000), once=True),
    Session("failover", "failover", 1, Options(requests=500_000), once=True),
    Session("failover-standby", "failover", 1, Options(requests=500_000, standby=True), once=True),
    Session(HOLDS, HOLDS, 2, Options(requests=200_000), once=True),
)


class Target(NamedTuple):
    """One promised figure. `at_least`: larger is better; `note`: what the sessions say of it."""

    figure: str
    session: str
    seen: Callable[[Sessions], float | None]
    floor: float
    goal: float
    at_least: bool = True
    note: Callable[[Sessions], str] | None = None

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


def _sides(key: str) -> Callable[[Sessions], str]:
    """Which variants a ratio is of."""

    def note(sessions: Sessions) -> str:
        one = sessions[key]
        return f"ours: {variant(one.contestant)}; theirs: {variant(one.peer or '')}"

    return note


def _first_answers(sessions: Sessions) -> str:
    extra = sessions["recovery"].extra
    return f"{extra['ready_s']} s to the first answers, the start of the process included"


def _one_process(comparison: Comparison) -> list[Run]:
    return [run for run in comparison.runs if run.contestant == OURS]


def _one_process_rate(comparison: Comparison) -> float | None:
    rates = [run.decisions_per_s for run in _one_process(comparison)]
    return median(rates) if rates else None


def _whole_per_s(drained: Run | Comparison) -> float:
    """The rate from the first append on; figures that do not tell it beside theirs are of that."""
    return float(drained.extra.get("whole_per_s", drained.decisions_per_s))


def _spread_cpu(sessions: Sessions) -> float | None:
    """CPU of one decision with one process: with more they only wait for each other's cores."""
    known = [run.cpu_us_per_decision or 0.0 for run in _one_process(sessions[SPREAD])]
    return median(known) if known else None


def _faust_ratio(sessions: Sessions) -> float | None:
    """The stock worker is one process, so it is held against one of ours."""
    rate, peer = _one_process_rate(sessions[FAUST]), sessions[FAUST].peer_decisions_per_s
    return rate / peer if rate and peer else None


def _one_process_whole(spread: Comparison) -> float | None:
    rates = [_whole_per_s(run) for run in _one_process(spread)]
    return median(rates) if rates else None


def _mixed_relative(sessions: Sessions) -> float | None:
    """Mixed work is measured over the whole of one process's drain, and held against the same."""
    rate = _one_process_whole(sessions[SPREAD]) if SPREAD in sessions else None
    return sessions[MIXED].decisions_per_s / rate if rate else None


SPREAD: Final = "spread-kstreams"
FAUST: Final = "spread-faust"
MIXED: Final = "mixed"
_APART_BY: Final = {
    TEN_MILLION: "Ten million live holds: `holdfast bench holds --live 10000000 --runs 1 --save`.",
    JOIN: "A worker that joins: `holdfast bench join --save`.",
}
_HOW_TO_READ: Final = (
    "PostgreSQL and Redis flush each answer to disk; Kafka acknowledges from the page cache. "
    "Recovery, fail-over and live holds: one run."
)
_AT_MOST: Final = False


def _latency(span: str, p50_field: str, p99_field: str) -> tuple[Target, ...]:
    """From append: what Holdfast takes. From due: what a sender sees, its own producer included."""
    at_5000, at_half = "latency at 5,000/s", "latency at half of spread"
    return (
        Target(f"{at_5000}, {span}: p50 ms", "latency", _of("latency", p50_field), 8, 4, _AT_MOST),
        Target(
            f"{at_5000}, {span}: p99 ms", "latency", _of("latency", p99_field), 35, 20, _AT_MOST
        ),
        *(
            Target(f"{at_half}{of}, {span}: p99 ms", key, _of(key, p99_field), 60, 30, _AT_MOST)
            for key, of in (("latency-half", ""), ("latency-half-one", " with one process"))
        ),
    )


def _restored_million(sessions: Sessions) -> float | None:
    """Seconds for a million records: the run's own number is what its requests came to."""
    return 1e6 / sessions["recovery"].decisions_per_s


def _ratio(figure: str, session: str, floor: float, goal: float) -> Target:
    return Target(figure, session, _of(session, "ratio"), floor, goal, note=_sides(session))


def _holds(what: str, session: str) -> tuple[Target, ...]:
    rate, memory = _of(session, "relative"), _of(session, "resident_mib")
    return (
        Target(f"{what}: rate relative to empty", session, rate, 0.7, 0.9),
        Target(f"{what}: memory of the worker, MiB", session, memory, 1_500, 600, _AT_MOST),
    )


TARGETS: Final = (
    _ratio("spread: ratio to Kafka Streams", SPREAD, 0.9, 1.3),
    Target("spread: CPU µs a decision", SPREAD, _spread_cpu, 15, 9, _AT_MOST),
    Target("spread: ratio to stock Faust, one process each", FAUST, _faust_ratio, 15, 25),
    _ratio("spread: ratio to PostgreSQL, one request a transaction", "spread-postgres", 2.2, 4),
    _ratio("spread: ratio to Redis Lua, one request a round trip", "spread-redis", 1.2, 2.5),
    Target(
        "hot: decisions/s", "hot-postgres", _of("hot-postgres", "decisions_per_s"), 45_000, 100_000
    ),
    _ratio("hot: ratio to PostgreSQL", "hot-postgres", 8, 20),
    *_latency("append to readable", "append_p50_ms", "append_p99_ms"),
    *_latency("due to readable", "p50_ms", "p99_ms"),
    Target("mixed relative to spread", MIXED, _mixed_relative, 0.7, 0.9),
    Target(
        "recovery, the restore of 1,000,000 changelog records: s",
        "recovery",
        _restored_million,
        5,
        2,
        _AT_MOST,
        _first_answers,
    ),
    Target(
        "fail-over: stall beyond the session timeout, s",
        "failover",
        _of("failover", "stall_beyond_session_s"),
        6,
        3,
        _AT_MOST,
    ),
    Target(
        "fail-over with standby: stall beyond it, s",
        "failover-standby",
        _of("failover-standby", "stall_beyond_session_s"),
        2,
        0.5,
        _AT_MOST,
    ),
    Target(
        "a worker joins under load: longest wait at a partition that stays, s",
        JOIN,
        _of(JOIN, "kept_stall_s"),
        1,
        1,
        _AT_MOST,
    ),
    *_holds("a million live holds", HOLDS),
    *_holds("ten million live holds", TEN_MILLION),
)


class Line(NamedTuple):
    """One line of the table; `seen` is None when there is no figure."""

    figure: str
    floor: float
    goal: float
    seen: float | None
    verdict: str


class Size(NamedTuple):
    """What a person may change of every session: runs, and smaller loads to try the suite out."""

    runs: int = 3
    requests: int | None = None
    seconds: int | None = None
    live: int = 1_000_000

    @property
    def is_trial(self) -> bool:
        """Whether its figures are not those that are promised, and so are not kept."""
        return self._replace(runs=min(self.runs, Size().runs)) != Size()


def run(
    progress: Progress,
    *,
    size: Size,
    only: str | None = None,
    folder: Path = report.RESULTS,
    sessions: Sequence[Session] = SESSIONS,
) -> tuple[list[Line], list[str]]:
    """Run the sessions (or the one named `only`), saving each as it ends, unless it is a trial.

    Returns:
        The lines of the sessions that ran, and what went wrong: a session without a figure does not
        keep the others from theirs.

    """
    wanted = [one for one in sessions if only in (None, one.key)]
    if not wanted:
        known = ", ".join(one.key for one in sessions)
        raise catalogue.UnknownBenchmarkError(f"no session {only!r}; there are: {known}")
    saved = report.load_keyed(folder)
    known_before = saved if only else {key: saved[key] for key in APART & saved.keys()}
    done: dict[str, Comparison] = {}
    faults: list[str] = []
    left_min = sum(one.minutes for one in wanted)
    with Ground(progress) as ground:
        for session in wanted:
            titled = _Titled(progress, session, left_min)
            try:
                runs = 1 if session.once and only is None else size.runs
                options = _options(session, size, {**known_before, **done})._replace(runs=runs)
                for key, comparison in _take(ground, session, options, titled):
                    done[key] = comparison
                    if not size.is_trial:
                        report.save(comparison, key, folder)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                faults.append(f"{session.key}: {type(error).__name__}: {error}")
            left_min -= session.minutes
    keys = {key for one in wanted for key in keys_of(one)}
    if only is None:
        keys |= known_before.keys()
    return judge({**known_before, **done}, keys), faults


def _take(
    ground: Ground, session: Session, options: Options, progress: Progress
) -> Iterator[tuple[str, Comparison]]:
    """The session's comparisons with the keys under which they are saved."""
    for one in catalogue.sessions(
        ground, session.name, session.peers, options, progress, beside=session.beside
    ):
        peer = (one.peer or "").partition(" ")[0]
        own = session.key if one.name == session.name else one.name
        yield f"{own}-{peer}" if peer else own, one


def keys_of(session: Session) -> list[str]:
    """The keys under which a session's comparisons are saved."""
    own = [f"{session.key}-{peer}" for peer in session.peers] or [session.key]
    return [*own, *session.beside]


def key_of(name: str, peer: str | None, options: Options) -> str:
    """The key of figures taken by name: the benchmark, the peer, and what is not as usual.

    How often it was run and what came before is not in it: figures of more runs replace fewer.
    """
    usual = Options(requests=catalogue.requests_default(name))
    asked = options._replace(runs=usual.runs, warm_up_s=usual.warm_up_s)._asdict()
    differs = {field: value for field, value in asked.items() if value != getattr(usual, field)}
    parts = [field if value is True else f"{field}-{value}" for field, value in differs.items()]
    return "-".join([name, *([peer] if peer else []), *parts])


def session_of(key: str) -> str | None:
    """The session that saves its figures under this key, if one does."""
    return next((one.key for one in SESSIONS if key in keys_of(one)), None)


def all_keys(sessions: Sessions) -> set[str]:
    """What the whole table is judged by: every session, and what was saved apart."""
    return {key for one in SESSIONS for key in keys_of(one)} | (APART & sessions.keys())


def _options(session: Session, size: Size, known: Sessions) -> Options:
    options = session.options._replace(
        requests=size.requests or session.options.requests,
        seconds=size.seconds or session.options.seconds,
        live=size.live,
    )
    if not session.half_rate_of:
        return options
    if SPREAD not in known:
        raise TimeoutError("its rate is half of that of spread, which has no figure")
    spread = known[SPREAD]
    rate, processes = _one_process_whole(spread) or 0.0, 1
    if session.half_rate_of == "the best" and TWO_PROCESSES in spread.contestant:
        rate, processes = _whole_per_s(spread), 2
    return options._replace(rate=max(1, int(rate / 2)), processes=processes)


def judge(sessions: Sessions, keys: set[str] | None = None) -> list[Line]:
    """Lines of the targets: those of `keys`, or those whose sessions are there."""
    lines = []
    for target in TARGETS:
        if target.session not in (sessions if keys is None else keys):
            continue
        seen = target.seen(sessions) if target.session in sessions else None
        figure = target.figure
        if target.note is not None and seen is not None:
            figure += f" ({target.note(sessions)})"
        if seen is None:
            verdict = "NO FIGURE"
        elif not target.meets(seen, target.floor):
            verdict = "UNDER"
        else:
            verdict = "goal" if target.meets(seen, target.goal) else "floor"
        seen = None if seen is None else round(seen, 3)
        lines.append(Line(figure, target.floor, target.goal, seen, verdict))
    return lines


def promised(folder: Path = report.RESULTS) -> str:
    """The saved figures against floors and goals, in Markdown: what the README quotes."""
    sessions = report.load_keyed(folder)
    lines = judge(sessions)
    if not lines:
        return "No figures are saved here yet; `make bench` takes them.\n"
    told = ["| figure | floor | goal | seen |", "| --- | ---: | ---: | ---: |"]
    for line in lines:
        seen = "" if line.seen is None else f"{line.seen:,g}"
        seen += " (under its floor)" if line.verdict == "UNDER" else ""
        told.append(f"| {line.figure} | {line.floor:,g} | {line.goal:,g} | {seen} |")
    told += [
        "",
        _taken([sessions[key] for key in sorted(all_keys(sessions) & sessions.keys())]),
        *(by for key, by in _APART_BY.items() if key in sessions),
        *_with_one_process(sessions),
        _HOW_TO_READ,
        "Every run, the cost of a decision and plots: [results](benchmarks/results/table.md).",
    ]
    return "\n".join(told) + "\n"


def _taken(comparisons: Sequence[Comparison]) -> str:
    """On what machine and at which commits; figures of earlier releases do not say."""
    machines = "; ".join(dict.fromkeys(one.machine for one in comparisons))
    commits = ", ".join(dict.fromkeys(one.commit for one in comparisons if one.commit))
    days = sorted({one.taken_at.partition("T")[0] for one in comparisons if one.taken_at})
    when = f" at {commits} ({' to '.join(dict.fromkeys((days[0], days[-1])))})" if commits else ""
    return f"Taken with `make bench`{when} on {machines}."


def _with_one_process(sessions: Sessions) -> list[str]:
    """A sentence with the ratio of one process of ours to each peer of spread."""
    told = []
    for key, one in sessions.items():
        rate = _one_process_rate(one)
        if one.name == "spread" and session_of(key) and rate and one.peer_decisions_per_s:
            told.append(f"{rate / one.peer_decisions_per_s:.2f} to {one.peer}")
    return [f"Ratios of spread with one process of ours: {', '.join(told)}."] if told else []


class _Titled:
    """Progress that says which session is under way and about how long all the rest takes."""

    def __init__(self, progress: Progress, session: Session, left_min: float) -> None:
        self._progress = progress
        self._session = session
        self._left_min = left_min
        self._began_s = time.monotonic()

    def __call__(self, what: str, done: int, of: int) -> None:
        passed_min = (time.monotonic() - self._began_s) / 60
        later_min = self._left_min - self._session.minutes
        left_min = later_min + max(0.0, self._session.minutes - passed_min)
        self._progress(f"~{left_min:.0f} min left, {self._session.key}: {what}", done, of)
