"""The benchmarks' own rules: the same load every time, and no figure for a wrong answer."""

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import KafkaException
from typer.testing import CliRunner

from benchmarks import (
    backlog,
    catalogue,
    check,
    cost,
    failover,
    figures,
    load,
    mixed,
    origin,
    report,
    steady,
    suite,
    worker_log,
)
from benchmarks.check import Answer, Books, WrongAnswerError
from benchmarks.figures import By, Comparison, Run, percentiles
from benchmarks.openloop import Timing
from benchmarks.origin import Origin
from benchmarks.programs import CpuSampler
from compose.errors import StackError
from holdfast.cli import app
from schemas.codes import Code
from schemas.limits import QUANTITY_SCALE
from schemas.messages import InventoryEvent

HERE = Origin("a machine", "abc1234", "2026-08-01T10:00Z")


def _work(supply: int = 3) -> load.Work:
    stock = load.leaves(2, locations=2, products=1)[:2]
    asks = [load.Ask("a", 0, 2), load.Ask("b", 0, 2), load.Ask("c", 1, 1)]
    return load.Work("small", 2, stock, supply, asks)


def _answers(*changes: Answer) -> list[Answer]:
    right = {
        "a": Answer("a", Code.ACCEPTED, 2 * QUANTITY_SCALE, 1 * QUANTITY_SCALE, 0),
        "b": Answer("b", Code.INSUFFICIENT_STOCK, 0, 1 * QUANTITY_SCALE, 0),
        "c": Answer("c", Code.ACCEPTED, 1 * QUANTITY_SCALE, 2 * QUANTITY_SCALE, 0),
    }
    return list((right | {answer.request_id: answer for answer in changes}).values())


def _run(contestant: str, rate: float, p99_ms: float | None = None) -> Run:
    return Run(contestant=contestant, decisions=1, seconds=1.0, decisions_per_s=rate, p99_ms=p99_ms)


def _compare(name: str, runs: Sequence[Run], *, by: By = "decisions_per_s") -> Comparison:
    return figures.compare(name, runs, method="m", origin=HERE, by=by)


def _books(**changes: dict[int, int]) -> Books:
    """Both asks of leaf 0 and the one of leaf 1 accepted, but for `changes`."""
    right = {"reserved": {0: 4, 1: 1}, "held": {0: 4, 1: 1}, "accepted": {0: 2, 1: 1}}
    return Books(**{of: Counter(({"refused": {}} | right | changes)[of]) for of in Books._fields})


def test_right_answers_are_counted() -> None:
    """The replay accepts what the rules of one counter say, and counts the acceptances."""
    assert check.replay(_work(), check.once_each(_work(), _answers())) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        Answer("b", Code.ACCEPTED, 2 * QUANTITY_SCALE, -QUANTITY_SCALE, 0),
        Answer("a", Code.ACCEPTED, 1 * QUANTITY_SCALE, 1 * QUANTITY_SCALE, 0),
        Answer("c", Code.ACCEPTED, 1 * QUANTITY_SCALE, 3 * QUANTITY_SCALE, 0),
        Answer("c", Code.INSUFFICIENT_STOCK, 0, 3 * QUANTITY_SCALE, 0),
    ],
    ids=["oversold", "granted less", "wrong availability", "refused what fits"],
)
def test_a_wrong_answer_gives_no_figure(wrong: Answer) -> None:
    """Any difference in code, grant or availability is refused."""
    with pytest.raises(WrongAnswerError, match="expected"):
        check.replay(_work(), check.once_each(_work(), _answers(wrong)))


def test_a_lost_and_a_doubled_answer_give_no_figure() -> None:
    """Every request is answered exactly once."""
    with pytest.raises(WrongAnswerError, match="unanswered"):
        check.once_each(_work(), _answers()[1:])
    with pytest.raises(WrongAnswerError, match="twice"):
        check.once_each(_work(), [*_answers(), _answers()[0]])


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"accepted": {0: 2}}, "2 answers to 3 requests"),
        ({"held": {0: 3, 1: 2}}, "counters say 4 pieces, records 3"),
        ({"reserved": {0: 10, 1: 1}, "held": {0: 10, 1: 1}}, "oversold"),
        ({"accepted": {0: 1, 1: 1}, "refused": {0: 1}}, "1 were refused, and 5 are free"),
        ({"reserved": {0: 7, 1: 1}, "held": {0: 7, 1: 1}}, "7 pieces for 2"),
        ({"reserved": {0: 1, 1: 1}, "held": {0: 1, 1: 1}}, "1 pieces for 2"),
        ({"reserved": {0: 3, 1: 1}, "held": {0: 3, 1: 1}}, "3 pieces are held of 4"),
        ({"reserved": {0: 5}, "held": {0: 5}, "accepted": {0: 3}}, "5 pieces are held of 4"),
    ],
    ids=["lost", "differ", "oversold", "in vain", "too many", "nothing", "less", "elsewhere"],
)
def test_books_that_do_not_fit_give_no_figure(
    changes: dict[str, dict[int, int]], fault: str
) -> None:
    """Records, counters and supply agree for every stock key, and what fits is held."""
    plenty = _work(supply=9)
    check.totals(plenty, _books(), as_asked=True)
    with pytest.raises(WrongAnswerError, match=fault):
        check.totals(plenty, _books(**changes), as_asked=True)


def test_a_peer_that_draws_its_own_requests_may_refuse_what_does_not_fit() -> None:
    """Leaves and pieces are its own; a refusal with less free than the largest request is right."""
    books = _books(reserved={0: 3}, held={0: 3}, accepted={0: 1}, refused={0: 2})
    check.totals(_work(supply=5), books, as_asked=False)
    with pytest.raises(WrongAnswerError, match="2 were refused, and 3 are free"):
        check.totals(_work(supply=6), books, as_asked=False)


class _EvenCpu(CpuSampler):
    """A tenth of a core before the second second, half of one from then."""

    def __init__(self) -> None:
        super().__init__([])

    def between_s(self, start_ms: float, end_ms: float) -> float:
        early_ms = max(0.0, min(end_ms, 1_000) - start_ms)
        return (0.1 * early_ms + 0.5 * (end_ms - start_ms - early_ms)) / 1_000


def test_the_second_half_of_a_backlog_is_what_counts() -> None:
    """What warms up is in the rate and the CPU of the whole, and not in the figure's."""
    answered_ms = [0.0, *range(100, 1_001, 100), *range(1_010, 1_101, 10), 1_100]
    run = backlog.figures("holdfast", answered_ms[::-1], answered_ms, _EvenCpu(), extra={"of": 1})
    assert (run.decisions, run.seconds) == (22, 1.1)
    assert run.decisions_per_s == 110.0  # 11 after the eleventh, which came at 1,000 ms.
    assert run.cpu_us_per_decision == 4545.45
    assert run.extra == {"whole_per_s": 19.1, "whole_cpu_us": 7142.86, "of": 1}
    assert run.p99_ms == 1_100
    whole = backlog.figures("holdfast", answered_ms, answered_ms, _EvenCpu(), after=0.0)
    assert whole.decisions_per_s == whole.extra["whole_per_s"] == 19.1


def test_a_second_half_of_one_batch_is_not_counted_alone() -> None:
    """A small backlog, whose later half was answered at one instant, has the rate of all."""
    run = backlog.figures("holdfast", [0.0, 100.0, 100.0, 100.0], [0.0], _EvenCpu())
    assert run.decisions_per_s == run.extra["whole_per_s"] == 30.0


def test_a_backlog_answered_at_one_instant_has_no_rate() -> None:
    """So few answers that the broker's clock cannot tell them apart give 0, not a division."""
    assert backlog.figures("holdfast", [5.0, 5.0], [0.0, 0.0], _EvenCpu()).decisions_per_s == 0


def test_a_transaction_ends_with_what_it_took() -> None:
    """The quantity of an offset is that of its own event; one told twice is not as expected."""

    def event(kind: str, code: Code, quantity: int = 0) -> tuple[InventoryEvent, int]:
        told = InventoryEvent(
            event_type=kind,
            code=code,
            sequence=1,
            at_ms=0,
            source_topic="t",
            source_offset=0,
            source_id="one",
            quantity=quantity,
        )
        return told, 7

    ended = event("TRANSACTION", Code.OFFSET_APPLIED)
    took = event("OFFSET_APPLIED", Code.OFFSET_APPLIED, 2)
    assert mixed.transactions([ended, took]) == [("one", (Code.OFFSET_APPLIED, 2), 7)]
    assert mixed.transactions([ended, took, took]) == [("one", (Code.OFFSET_APPLIED, 4), 7)]


def test_a_worker_log_tells_what_is_decided_and_restored(tmp_path: Path) -> None:
    """The last beginning and what was added to it, the sum over restores; no unfinished line."""
    log = tmp_path / "worker.log"
    assert worker_log.deciding(log) == set()
    lines = [
        {"event": "restored", "rows": 10, "seconds": 0.5},
        {"event": "deciding", "partitions": [0, 1]},
        {"event": "restored", "rows": 7, "seconds": 0.25},
        {"event": "deciding", "partitions": [1]},
        {"event": "deciding more", "partitions": [2]},
    ]
    text = "\n".join(["not JSON", *map(json.dumps, lines), '{"event": "deciding", "part'])
    log.write_text(text)
    assert worker_log.deciding(log) == {1, 2}
    assert worker_log.restored(log) == (17, 0.75)


def test_a_survivor_keeps_only_its_own_databases(tmp_path: Path) -> None:
    """What an earlier worker left of other partitions is deleted, and nothing else."""
    for name in ("stock-1.db", "stock-10.db", "stock-2.db", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows").touch()
    failover.forget_others(tmp_path, {1})
    assert {path.name for path in tmp_path.iterdir()} == {"stock-1.db", "other"}


def test_taking_over_what_was_there_before_gives_no_figure() -> None:
    """The state is restored, not only what the dead worker wrote under load."""
    steady_load = steady.Steady(requests=20_000, rate=2_000, seconds=30, partitions=4)
    whole = steady_load.whole()
    steady.check_restored(60_000, whole, steady_load)
    with pytest.raises(WrongAnswerError, match="24813 changelog records"):
        steady.check_restored(24_813, whole, steady_load)


def test_a_stall_is_the_longest_wait_around_the_event() -> None:
    """Waits of the load's own beginning are none of it."""
    timings = [Timing(0, 0.0, 9.0), Timing(700, 7.0, 7.5), Timing(800, 8.0, 10.25)]
    run = steady.figures("holdfast", timings, 100, {"of": 1})
    assert (run.decisions, run.extra) == (2, {"rate": 100, "stall_s": 2.25, "of": 1})
    assert steady.stall_s(timings[:2], 100) == 0.5


@pytest.mark.parametrize("profile", sorted(load.PROFILES))
def test_a_load_is_the_same_every_time(profile: str) -> None:
    """Two calls give the same work, with an id for every request."""
    work = load.PROFILES[profile](2_000, 4)
    assert work == load.PROFILES[profile](2_000, 4)
    assert len({ask.request_id for ask in work.asks}) == 2_000
    assert {ask.quantity for ask in work.asks} == {1, 2, 3}


def test_spread_is_even_over_partitions() -> None:
    """16 locations are four for each of four partitions, 64,000 stock keys in all."""
    work = load.spread(64_000, 4)
    assert len(work.leaves) == 64_000
    assert Counter(leaf.partition for leaf in work.leaves) == dict.fromkeys(range(4), 16_000)


def test_reject_refuses_most() -> None:
    """About nine of ten requests of that load find no stock left."""
    work = load.reject(40_000, 4)
    free = [work.supply] * len(work.leaves)
    accepted = 0
    for ask in work.asks:
        fits = ask.quantity <= free[ask.leaf]
        free[ask.leaf] -= ask.quantity * fits
        accepted += fits
    assert 0.05 < accepted / len(work.asks) < 0.15


def test_comparison_takes_medians_and_the_better_variant() -> None:
    """The ratio is our median over the median of the peer's best variant."""
    runs = [_run("holdfast", rate) for rate in (10.0, 30.0, 20.0)]
    runs += [_run("peer (1 thread)", 4.0), _run("peer (2 threads)", 5.0)]
    comparison = _compare("spread", runs)
    assert comparison.decisions_per_s == 20.0
    assert comparison.peer == "peer (2 threads)"
    assert comparison.ratio == 4.0


def test_latency_is_compared_by_the_99th_percentile() -> None:
    """Of variants at one rate the quicker counts, and the ratio is that of the percentiles."""
    runs = [_run("holdfast", 10.0, 4.0), _run("peer (1 thread)", 9.9, 8.0)]
    runs += [_run("peer (2 threads)", 10.1, 16.0)]
    comparison = _compare("latency", runs, by="p99_ms")
    assert comparison.peer == "peer (1 thread)"
    assert comparison.ratio == 0.5
    assert (comparison.compared_by, comparison.commit) == ("p99_ms", "abc1234")


def test_percentiles_are_nearest_rank() -> None:
    """Of 0 to 100, the percentiles are themselves."""
    assert percentiles(list(range(101))) == (50, 95, 99)


def test_the_report_says_what_was_saved(tmp_path: Path) -> None:
    """Saved figures come back in tables, plots and the marked part of a README, nowhere else."""
    runs = [_run("holdfast", 20_000.0), _run("holdfast (2 processes)", 30_000.0)]
    report.save(_compare("spread", [*runs, _run("faust", 1_000.0)]), "spread-faust", tmp_path)
    standby = _compare("failover", [_run("holdfast", 10.0)])
    standby.extra["standby"] = "true"
    report.save(standby, "failover-standby", tmp_path)
    curve = cost.Curve("levels", [cost.Point(1, 10.0), cost.Point(2, 12.0)])
    report.save_cost(
        cost.Costs(
            method="m",
            machine="here",
            curves=[curve],
            rows={"hold": 196.0},
            stored_bytes_per_hold=1,
            remembered_bytes=1,
        ),
        tmp_path,
    )
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.README_BEGIN}\nstale\n{report.README_END}\nafter\n")
    report.write(suite.promised(tmp_path), tmp_path, readme)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "stale" not in text
    assert report.marked_part(text) == suite.promised(tmp_path)
    assert "| spread: ratio to stock Faust, one process each | 15 | 25 | 20 |" in text
    assert "Ratios of spread with one process of ours: 20.00 to faust." in text
    assert "Taken with `make bench` at abc1234 (2026-08-01) on a machine." in text
    assert "ten million" not in text.lower()
    table = (tmp_path / "table.md").read_text()
    assert "| spread-faust | holdfast (2 processes) | 30,000 |" in table
    assert "| failover-standby (standby true) | holdfast | 10 |" in table
    assert "| levels | 1: 10.0, 2: 12.0 |" in table
    drawn = (tmp_path / "rates.svg").read_text()
    assert "spread: holdfast (2 processes)" in drawn
    assert "spread: faust" in drawn
    assert (tmp_path / "cost.svg").read_text().count("<polyline") == 1


def test_what_is_saved_apart_is_shown_and_judged(tmp_path: Path) -> None:
    """What takes too long for the suite is part of every whole table, once it is there."""
    held = _compare("holds", [_run("holdfast", 9.0)])
    held.extra["relative"] = 0.6
    options = catalogue.Options(requests=200_000, live=10_000_000, runs=1)
    report.save(held, suite.key_of("holds", None, options), tmp_path)
    told = suite.promised(tmp_path)
    figure = "ten million live holds: rate relative to empty"
    assert f"| {figure} | 0.7 | 0.9 | 0.6 (under its floor) |" in told
    assert "bench holds --live 10000000" in told
    sessions = report.load_keyed(tmp_path)
    assert suite.TEN_MILLION in suite.all_keys(sessions)
    lines, _ = suite.run(
        lambda *_: None,
        size=suite.Size(),
        folder=tmp_path,
        sessions=[suite.Session("none", "none", 0, catalogue.Options())],
    )
    assert {line.figure: line.verdict for line in lines}[figure] == "UNDER"


def test_every_benchmark_has_its_place_in_the_report() -> None:
    """Figures that were saved are shown, whichever benchmark they are of."""
    assert set(report.ORDER) == set(catalogue.BENCHMARKS)


@pytest.mark.parametrize(
    ("words", "only"),
    [
        (["spread", "--peer", "redis", "--runs", "1"], "spread"),
        (["failover", "--standby"], "failover-standby"),
        (["mixed"], "spread"),
    ],
)
def test_rows_of_the_table_are_taken_by_the_table(words: list[str], only: str) -> None:
    """`--save` of one benchmark replaces none, and says what does."""
    answer = CliRunner().invoke(app, ["bench", *words, "--save"])
    assert answer.exit_code == 2
    assert f"bench table --only {only}" in " ".join(answer.output.split())


def test_unusual_options_are_saved_apart() -> None:
    """Figures of another rate or size do not replace those of the usual one."""
    options = catalogue.Options(rate=1_000, standby=True, runs=1)
    key = suite.key_of("latency", "kstreams", options)
    assert key == "latency-kstreams-rate-1000-standby"
    assert suite.session_of(key) is None
    assert suite.session_of("latency") == "latency"


def test_a_figure_names_its_commit(tmp_path: Path) -> None:
    """With a plus where tracked files differ, but for what the benchmarks write; or nothing."""
    assert origin.commit(tmp_path) == ""

    def git(*words: str) -> str:
        told = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@f.g", *words]
        return subprocess.run(told, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    for name in ("code.py", "README.md", "benchmarks/results/one.json"):
        (tmp_path / name).write_text("before")
    git("add", ".")
    git("commit", "-m", "one")
    name = git("rev-parse", "--short", "HEAD")
    for written in ("README.md", "benchmarks/results/one.json"):
        (tmp_path / written).write_text("after")
    assert origin.commit(tmp_path) == name
    (tmp_path / "code.py").write_text("after")
    assert origin.commit(tmp_path) == f"{name}+"


def test_the_readme_quotes_the_saved_figures() -> None:
    """The marked part of the project's README is what the saved figures say, word for word."""
    readme = Path(__file__).parents[2] / "README.md"
    assert report.marked_part(readme.read_text()) == suite.promised()


@pytest.mark.parametrize(
    "fault",
    [
        WrongAnswerError("lost"),
        StackError("no server"),
        KafkaException("no broker"),
        RuntimeError("pgbench: no"),
        ConnectionError("redis"),
        LookupError("no thread"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_an_interrupted_or_failed_suite_keeps_what_it_has(
    fault: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that gives no figure is told, and the sessions around it are saved and judged."""

    def session(
        _ground: object,
        name: str,
        peers: list[str],
        options: catalogue.Options,
        _: object,
        *,
        beside: tuple[str, ...],
    ) -> list[figures.Comparison]:
        if name == "hot":
            raise fault
        assert options.requests == 300_000
        runs = [_run("holdfast", 20.0)]
        own = [_compare(name, [*runs, _run(peer, 4.0)]) for peer in peers]
        others = [_compare(other, [_run("holdfast", 15.0)]) for other in beside]
        return own + others

    monkeypatch.setattr(catalogue, "sessions", session)
    lines, faults = suite.run(
        lambda *_: None,
        size=suite.Size(),
        folder=tmp_path,
        sessions=[one for one in suite.SESSIONS if one.key in ("spread", "hot")],
    )
    seen = {line.figure: line.verdict for line in lines}
    figure = "spread: ratio to PostgreSQL, one request a transaction"
    assert seen[f"{figure} (ours: 1 process; theirs: 1 process)"] == "goal"
    assert seen["hot: decisions/s"] == "NO FIGURE"
    assert seen["mixed relative to spread"] == "floor"
    assert faults == [f"hot: {type(fault).__name__}: {fault}"]
    assert "spread-redis" in report.load_keyed(tmp_path)


def test_a_trial_of_the_suite_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures of fewer runs or smaller loads are judged, and replace none."""
    monkeypatch.setattr(
        catalogue, "sessions", lambda *_, **__: [_compare("mixed", [_run("holdfast", 1.0)])]
    )
    mixed_alone = [suite.Session("mixed", "mixed", 1, catalogue.Options())]
    for size in (suite.Size(runs=1), suite.Size(requests=100)):
        suite.run(lambda *_: None, size=size, folder=tmp_path, sessions=mixed_alone)
    assert report.load_keyed(tmp_path) == {}
    suite.run(lambda *_: None, size=suite.Size(runs=5), folder=tmp_path, sessions=mixed_alone)
    assert report.load_keyed(tmp_path).keys() == {"mixed"}


def test_a_session_alone_takes_medians(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs also of one that runs once beside all others, for want of time."""
    asked: list[int] = []

    def session(*args: object, **_: object) -> list[figures.Comparison]:
        options = args[3]
        assert isinstance(options, catalogue.Options)
        asked.append(options.runs)
        return []

    monkeypatch.setattr(catalogue, "sessions", session)
    once = [one for one in suite.SESSIONS if one.once][:2]
    for only in (None, once[0].key):
        suite.run(lambda *_: None, size=suite.Size(), only=only, folder=tmp_path, sessions=once)
    assert asked == [1, 1, 3]


def test_every_promised_figure_has_a_session() -> None:
    """No target names a session that nobody runs, nor `--only` one that is not there."""
    keys = {key for session in suite.SESSIONS for key in suite.keys_of(session)}
    assert {target.session for target in suite.TARGETS} == {*keys, *suite.APART}
    others = {other for session in suite.SESSIONS for other in session.beside}
    assert others <= set(catalogue.BENCHMARKS)
    with pytest.raises(catalogue.UnknownBenchmarkError, match="latency-half"):
        suite.run(lambda *_: None, size=suite.Size(), only="nothing")


def test_mixed_work_is_held_against_the_whole_of_spread() -> None:
    """Both rates are from the first append on; of figures that do not say so, they are."""
    mixed_work = _compare("mixed", [_run("holdfast", 30.0)])
    for extra in ({"whole_per_s": 40.0}, {}):
        one = msgspec.structs.replace(_run("holdfast", 60.0 if extra else 40.0), extra=extra)
        sessions = {suite.SPREAD: _compare("spread", [one]), suite.MIXED: mixed_work}
        (line,) = [one for one in suite.judge(sessions) if one.figure.startswith("mixed")]
        assert line.seen == 0.75


def test_a_slow_variant_of_a_peer_runs_once() -> None:
    """Only variants near the best of the first round run again."""

    def attempt(rate: float) -> catalogue.Attempt:
        return lambda _options, _progress: _run("peer", rate)

    rates = (10.0, 9.0, 5.0)
    attempts = [attempt(rate) for rate in rates]
    runs = [_run("peer", rate) for rate in rates]
    assert catalogue.promising(attempts, runs, "decisions_per_s") == attempts[:2]
    quicker = [_run("peer", 1.0, p99_ms) for p99_ms in (9.0, 4.5, 5.0)]
    assert catalogue.promising(attempts, quicker, "p99_ms") == attempts[1:]


def test_the_cost_of_a_decision_is_measured_in_process() -> None:
    """Every curve has a figure for every value, and every kind of row its bytes."""
    costs = cost.run(lambda *_: None, lines_measured=64, holds_max=100, products_max=100)
    assert {curve.of for curve in costs.curves} == {"levels", "lines", "holds", "products"}
    assert all(point.cpu_us > 0 for curve in costs.curves for point in curve.points)
    assert costs.rows["hold"] > 0
    assert costs.rows["answer"] > 0


def test_the_table_judges_against_floor_and_goal() -> None:
    """A figure under its floor is named so; a missing session leaves its lines out."""
    sessions = {
        "latency": msgspec.structs.replace(
            _compare("latency", [_run("holdfast", 1.0)]),
            p50_ms=3.0,
            p99_ms=36.0,
            extra={"append_p50_ms": 5.0},
        )
    }
    verdicts = {line.figure: line.verdict for line in suite.judge(sessions)}
    assert verdicts == {
        "latency at 5,000/s, append to readable: p50 ms": "floor",
        "latency at 5,000/s, append to readable: p99 ms": "NO FIGURE",
        "latency at 5,000/s, due to readable: p50 ms": "goal",
        "latency at 5,000/s, due to readable: p99 ms": "UNDER",
    }
