"""Which benchmarks there are, and a session of one: ours and the peer alternating."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from benchmarks import (
    drain,
    failover,
    holds,
    http,
    join,
    latency,
    mixed,
    recovery,
    scale,
    steady,
    sweep,
    view,
)
from benchmarks.broker import Progress
from benchmarks.contestants import KAFKA_PEERS, Holdfast, KafkaContestant
from benchmarks.figures import By, Comparison, Run, compare, merit
from benchmarks.ground import WARM_UP_S, Ground
from benchmarks.load import PROFILES, Work
from benchmarks.origin import here_and_now
from benchmarks.peers.postgres import CLIENTS, PostgresPeer
from benchmarks.peers.redis import RedisPeer

KEPT_SHARE: Final = 0.85  # A peer's variant below this share of its best one runs once only.
SPREAD: Final = "spread"  # The one that is measured with one process and with two.


class Options(NamedTuple):
    """What a person may choose; each benchmark uses what it knows."""

    requests: int = 400_000
    partitions: int = 4
    runs: int = 3
    rate: int = 5_000
    seconds: int = 20
    warm_up_s: float = WARM_UP_S  # Of the broker, before the first run.
    live: int = 1_000_000  # holds: live holds that stand before the measured requests.
    processes: int = 1  # latency: of our worker.
    standby: bool = False  # failover: whether each worker copies the other's partitions.


class UnknownBenchmarkError(ValueError):
    """No benchmark of that name, or no such peer for it; the message lists what there is."""


class _DatabasePeer(Protocol):
    """A peer that is not fed by a topic."""

    def requests_max(self, profile: str) -> int:
        """Requests after which its rate is known."""
        ...

    def run(self, work: Work, progress: Progress) -> Run: ...


Attempt = Callable[[Ground, Options, Progress], Run]

DATABASE_PEERS: Final[Mapping[str, Callable[[], Sequence[_DatabasePeer]]]] = MappingProxyType(
    {
        "postgres": lambda: [PostgresPeer(clients=clients) for clients in CLIENTS],
        "postgres-batched": lambda: [PostgresPeer(batched=True)],
        "redis": lambda: [RedisPeer()],
        "redis-pipelined": lambda: [RedisPeer(clients=8, pipeline=100)],
    }
)


def _drained(profile: str, contestant: KafkaContestant) -> Attempt:
    def attempt(ground: Ground, options: Options, progress: Progress) -> Run:
        work = PROFILES[profile](options.requests, options.partitions)
        return drain.run(ground, contestant, work, progress)

    return attempt


def _driven(profile: str, peer: _DatabasePeer) -> Attempt:
    def attempt(_: Ground, options: Options, progress: Progress) -> Run:
        requests = min(options.requests, peer.requests_max(profile))
        return peer.run(PROFILES[profile](requests, options.partitions), progress)

    return attempt


def _paced_ours(ground: Ground, options: Options, progress: Progress) -> Run:
    return _paced(Holdfast(processes=options.processes))(ground, options, progress)


def _paced(contestant: KafkaContestant) -> Attempt:
    def attempt(ground: Ground, options: Options, progress: Progress) -> Run:
        return latency.run(
            ground,
            contestant,
            progress,
            rate=options.rate,
            seconds=options.seconds,
            partitions=options.partitions,
        )

    return attempt


class Benchmark(NamedTuple):
    """One benchmark: how it measures, our attempts, those of its peers, what compares them."""

    method: str
    ours: Sequence[Attempt]
    peers: Mapping[str, Sequence[Attempt]]
    by: By = "decisions_per_s"


def _profile(profile: str) -> Benchmark:
    peers = {
        name: [_drained(profile, one) for one in kafka()] for name, kafka in KAFKA_PEERS.items()
    }
    for name, databases in DATABASE_PEERS.items():
        peers[name] = [_driven(profile, one) for one in databases()]
    ours = [_drained(profile, Holdfast())]
    if profile == SPREAD:
        ours.append(_drained(profile, Holdfast(processes=2)))
    return Benchmark(drain.METHOD, ours, peers)


def _latency() -> Benchmark:
    peers = {name: [_paced(one) for one in kafka()] for name, kafka in KAFKA_PEERS.items()}
    return Benchmark(latency.METHOD, [_paced_ours], peers, "p99_ms")


def _recovery(ground: Ground, options: Options, progress: Progress) -> Run:
    return recovery.run(ground, progress, requests=options.requests, partitions=options.partitions)


def _steady(options: Options) -> steady.Steady:
    return steady.Steady(
        requests=options.requests,
        rate=min(options.rate, steady.RATE_MAX),
        seconds=max(options.seconds, steady.SECONDS_MIN),
        partitions=options.partitions,
    )


def _failover(ground: Ground, options: Options, progress: Progress) -> Run:
    return failover.run(ground, progress, _steady(options), standby=options.standby)


def _join(ground: Ground, options: Options, progress: Progress) -> Run:
    return join.run(ground, progress, _steady(options))


def _mixed(ground: Ground, options: Options, progress: Progress) -> Run:
    return mixed.run(ground, progress, requests=options.requests, partitions=options.partitions)


def _holds(ground: Ground, options: Options, progress: Progress) -> Run:
    return holds.run(
        ground,
        progress,
        requests=options.requests,
        partitions=options.partitions,
        live=options.live,
    )


def _sweep(ground: Ground, options: Options, progress: Progress) -> Run:
    return sweep.run(ground, progress, holds=options.requests, partitions=options.partitions)


def _scale(ground: Ground, options: Options, progress: Progress) -> Run:
    return scale.run(ground, progress, requests=options.requests)


def _http(ground: Ground, options: Options, progress: Progress) -> Run:
    return http.run(ground, progress, seconds=options.seconds, partitions=options.partitions)


def _view(ground: Ground, options: Options, progress: Progress) -> Run:
    return view.run(
        ground, progress, rate=options.rate, seconds=options.seconds, partitions=options.partitions
    )


BENCHMARKS: Final[Mapping[str, Benchmark]] = MappingProxyType(
    {
        **{profile: _profile(profile) for profile in PROFILES},
        "latency": _latency(),
        "mixed": Benchmark(mixed.METHOD, [_mixed], {}),
        "recovery": Benchmark(recovery.METHOD, [_recovery], {}),
        "failover": Benchmark(failover.METHOD, [_failover], {}),
        "join": Benchmark(join.METHOD, [_join], {}),
        "holds": Benchmark(holds.METHOD, [_holds], {}),
        "scale": Benchmark(scale.METHOD, [_scale], {}),
        "sweep": Benchmark(sweep.METHOD, [_sweep], {}),
        "http": Benchmark(http.METHOD, [_http], {}),
        "view": Benchmark(view.METHOD, [_view], {}),
    }
)


def requests_default(name: str) -> int:
    """Requests of one run when nobody says: those of a million changelog records are 500,000."""
    return {
        "recovery": 500_000,
        "failover": 500_000,
        "join": 500_000,
        "holds": 200_000,
        "scale": 200_000,
        "sweep": 100_000,
    }.get(name, Options().requests)


def session(name: str, peer: str | None, options: Options, progress: Progress) -> Comparison:
    """One benchmark, ours alone or with one peer; see `sessions`."""
    with Ground(progress, options.warm_up_s) as ground:
        return sessions(ground, name, [peer] if peer else [], options, progress)[0]


def sessions(
    ground: Ground,
    name: str,
    peers: Sequence[str],
    options: Options,
    progress: Progress,
    *,
    beside: Sequence[str] = (),
) -> list[Comparison]:
    """Run a benchmark `options.runs` times, ours and the peers alternating: one comparison a peer.

    Our runs are shared by all comparisons. Of variants (processes, threads, clients) a comparison
    takes the one with the best median, of rates or of the 99th percentile; a peer's variant that is
    clearly not it runs only once.
    Behind these come the comparisons of the benchmarks `beside`, which take turns with it.

    Raises:
        UnknownBenchmarkError: no such benchmark, or no such peer for it.
        WrongAnswerError: a contestant answered wrongly; there is no figure then.

    """
    if name not in BENCHMARKS:
        raise UnknownBenchmarkError(f"no benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    benchmark, origin = BENCHMARKS[name], here_and_now()
    for peer in peers:
        if peer not in benchmark.peers:
            known = ", ".join(benchmark.peers) or "none"
            raise UnknownBenchmarkError(f"no peer {peer!r} for {name}; there are: {known}")
    own: list[Run] = []
    variants = {peer: list(benchmark.peers[peer]) for peer in peers}
    theirs: dict[str, list[Run]] = {peer: [] for peer in peers}
    others: dict[str, list[Run]] = {other: [] for other in beside}
    for number in range(1, options.runs + 1):
        numbered = _numbered(progress, number, options.runs)
        own.extend(attempt(ground, options, numbered) for attempt in benchmark.ours)
        for other, runs in others.items():
            runs.extend(attempt(ground, options, numbered) for attempt in BENCHMARKS[other].ours)
        for peer, attempts in variants.items():
            runs = [attempt(ground, options, numbered) for attempt in attempts]
            theirs[peer].extend(runs)
            variants[peer] = promising(attempts, runs, benchmark.by)

    def compared(of: str, runs: Sequence[Run]) -> Comparison:
        one = BENCHMARKS[of]
        return compare(of, runs, method=one.method, origin=origin, by=one.by)

    both = [compared(name, [*own, *theirs.get(peer, ())]) for peer in (peers or [""])]
    return both + [compared(other, runs) for other, runs in others.items()]


def promising(attempts: Sequence[Attempt], runs: Sequence[Run], by: By) -> list[Attempt]:
    """The attempts whose run came within KEPT_SHARE of the best of `runs`."""
    merits = [merit(run, by) for run in runs]
    return [
        attempt
        for attempt, one in zip(attempts, merits, strict=True)
        if one >= KEPT_SHARE * max(merits)
    ]


def _numbered(progress: Progress, number: int, of: int) -> Progress:
    return lambda what, done, total: progress(f"run {number}/{of}, {what}", done, total)
