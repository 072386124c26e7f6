"""The benchmarks' own rules: the same load every time, and no figure for a wrong answer."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from benchmarks import catalogue, check, cost, figures, load, report, suite
from benchmarks.check import Answer, WrongAnswerError
from benchmarks.figures import Run, compare, percentiles
from schemas.codes import Code
from schemas.limits import QUANTITY_SCALE


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


def _run(contestant: str, rate: float) -> Run:
    return Run(contestant=contestant, decisions=1, seconds=1.0, decisions_per_s=rate)


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


def test_totals_that_do_not_fit_give_no_figure() -> None:
    """Records, counters and supply must agree in the end."""
    work = _work()
    check.totals(work, reserved={0: 2, 1: 1}, held=3, records=3)
    with pytest.raises(WrongAnswerError, match="answers"):
        check.totals(work, reserved={0: 2, 1: 1}, held=3, records=2)
    with pytest.raises(WrongAnswerError, match="counters"):
        check.totals(work, reserved={0: 2, 1: 1}, held=4, records=3)
    with pytest.raises(WrongAnswerError, match="oversold"):
        check.totals(work, reserved={0: 4}, held=4, records=3)
    plenty = work._replace(supply=9)
    check.totals(plenty, reserved={0: 2, 1: 1}, held=3, records=3)
    with pytest.raises(WrongAnswerError, match="all fit"):
        check.totals(plenty, reserved={}, held=0, records=3)


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
    comparison = compare("spread", runs, method="m", machine="here")
    assert comparison.decisions_per_s == 20.0
    assert comparison.peer == "peer (2 threads)"
    assert comparison.ratio == 4.0


def test_percentiles_are_nearest_rank() -> None:
    """Of 0 to 100, the percentiles are themselves."""
    assert percentiles(list(range(101))) == (50, 95, 99)


def test_the_report_says_what_was_saved(tmp_path: Path) -> None:
    """Saved figures come back in tables, plots and the marked part of a README, nowhere else."""
    runs = [_run("holdfast", 20_000.0), _run("faust", 1_000.0)]
    report.save(compare("spread", runs, method="m", machine="a machine"), tmp_path)
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
    assert "ten million" not in text.lower()
    table = (tmp_path / "table.md").read_text()
    assert "| spread | 20,000 |" in table
    assert "| levels | 1: 10.0, 2: 12.0 |" in table
    assert "spread: faust" in (tmp_path / "rates.svg").read_text()
    assert (tmp_path / "cost.svg").read_text().count("<polyline") == 1


def test_ten_million_holds_are_shown_where_they_were_saved(tmp_path: Path) -> None:
    """They take too long for the suite, so they are saved apart, and the table says by what."""
    held = compare("holds", [_run("holdfast", 9.0)], method="m", machine="a machine")
    held.extra["relative"] = 0.8
    report.save(held, tmp_path, suite.TEN_MILLION)
    told = suite.promised(tmp_path)
    assert "| ten million live holds: rate relative to empty | 0.7 | 0.9 | 0.8 |" in told
    assert "bench holds --live 10000000" in told


def test_the_readme_quotes_the_saved_figures() -> None:
    """The marked part of the project's README is what the saved figures say, word for word."""
    readme = Path(__file__).parents[2] / "README.md"
    assert report.marked_part(readme.read_text()) == suite.promised()


def test_an_interrupted_or_failed_suite_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
            raise WrongAnswerError("lost")
        assert options.requests == 100
        runs = [_run("holdfast", 20.0)]
        own = [
            compare(name, [*runs, _run(peer, 4.0)], method="m", machine="here") for peer in peers
        ]
        others = [
            compare(other, [_run("holdfast", 15.0)], method="m", machine="here") for other in beside
        ]
        return own + others

    monkeypatch.setattr(catalogue, "sessions", session)
    lines, faults = suite.run(
        lambda *_: None,
        size=suite.Size(requests=100),
        folder=tmp_path,
        sessions=[one for one in suite.SESSIONS if one.key in ("spread", "hot")],
    )
    seen = {line.figure: line.verdict for line in lines}
    assert seen["spread: ratio to PostgreSQL, one request a transaction"] == "goal"
    assert seen["hot: decisions/s"] == "NO FIGURE"
    assert seen["mixed relative to spread"] == "floor"
    assert faults == ["hot: lost"]
    assert "spread-redis" in report.load_keyed(tmp_path)


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
    assert {target.session for target in suite.TARGETS} == {*keys, suite.TEN_MILLION}
    others = {other for session in suite.SESSIONS for other in session.beside}
    assert others <= set(catalogue.BENCHMARKS)
    with pytest.raises(catalogue.UnknownBenchmarkError, match="latency-half"):
        suite.run(lambda *_: None, size=suite.Size(), only="nothing")


def test_a_slow_variant_of_a_peer_runs_once() -> None:
    """Only variants near the best of the first round run again."""

    def attempt(rate: float) -> catalogue.Attempt:
        return lambda _options, _progress: _run("peer", rate)

    rates = (10.0, 9.0, 5.0)
    attempts = [attempt(rate) for rate in rates]
    runs = [_run("peer", rate) for rate in rates]
    assert catalogue.promising(attempts, runs) == attempts[:2]


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
            compare("latency", [_run("holdfast", 1.0)], method="m", machine="here"),
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
