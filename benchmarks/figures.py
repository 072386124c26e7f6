"""What a run gives: figures of one run, and the comparison of several.

Runs alternate between us and the peer, because the machine drifts by more than many a difference;
so only medians, and ratios of medians of one session, say anything.
"""

from collections.abc import Sequence
from statistics import median
from typing import Literal

import msgspec

from benchmarks.origin import Origin

OURS = "holdfast"
Extra = dict[str, float | int | str]
By = Literal["decisions_per_s", "p99_ms"]  # What contestants and their variants are compared by.


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one run of one contestant.

    `cpu_us_per_decision` is of the deciding processes alone, without the broker or the load.
    What the percentiles count is told by the experiment that made the run. `extra` holds what only
    that experiment knows.
    """

    contestant: str
    decisions: int
    seconds: float
    decisions_per_s: float
    cpu_us_per_decision: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    resident_mib: float | None = None
    extra: Extra = {}


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of our runs, the peer's beside them, and their ratio (ours / peer's).

    Attributes:
        compared_by: the field that `ratio` is of.
        commit: of the checkout, with "+" where it was changed since; empty outside of one.
        taken_at: UTC, to the minute.

    """

    name: str
    contestant: str = OURS
    decisions_per_s: float
    cpu_us_per_decision: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    resident_mib: float | None = None
    peer: str | None = None
    peer_decisions_per_s: float | None = None
    peer_cpu_us_per_decision: float | None = None
    peer_p50_ms: float | None = None
    peer_p99_ms: float | None = None
    compared_by: By = "decisions_per_s"
    ratio: float | None = None
    method: str
    machine: str
    commit: str = ""
    taken_at: str = ""
    extra: Extra = {}
    runs: list[Run]


def compare(
    name: str, runs: Sequence[Run], *, method: str, origin: Origin, by: By = "decisions_per_s"
) -> Comparison:
    """Medians over `runs`, some of them ours; of our variants and the peer's the best one."""
    own = _best([run for run in runs if run.contestant.startswith(OURS)], by)
    theirs = [run for run in runs if not run.contestant.startswith(OURS)]
    best = _best(theirs, by) if theirs else []
    compared = Comparison(
        name=name,
        contestant=own[0].contestant,
        decisions_per_s=round(median(run.decisions_per_s for run in own), 3),
        cpu_us_per_decision=_middle([run.cpu_us_per_decision for run in own]),
        p50_ms=_middle([run.p50_ms for run in own]),
        p95_ms=_middle([run.p95_ms for run in own]),
        p99_ms=_middle([run.p99_ms for run in own]),
        resident_mib=_middle([run.resident_mib for run in own]),
        peer=best[0].contestant if best else None,
        peer_decisions_per_s=_middle([run.decisions_per_s for run in best]),
        peer_cpu_us_per_decision=_middle([run.cpu_us_per_decision for run in best]),
        peer_p50_ms=_middle([run.p50_ms for run in best]),
        peer_p99_ms=_middle([run.p99_ms for run in best]),
        compared_by=by,
        method=method,
        machine=origin.machine,
        commit=origin.commit,
        taken_at=origin.taken_at,
        extra=_middle_extra(own),
        runs=list(runs),
    )
    ours, peers = getattr(compared, by), getattr(compared, f"peer_{by}")
    return msgspec.structs.replace(compared, ratio=round(ours / peers, 3)) if peers else compared


def merit(run: Run, by: By) -> float:
    """Larger is better: the rate, or the inverse of the percentile."""
    if by == "decisions_per_s":
        return run.decisions_per_s
    assert run.p99_ms is not None, "a benchmark that is compared by it has it"
    return 1 / run.p99_ms


def _best(runs: Sequence[Run], by: By) -> list[Run]:
    """Runs of the contestant with the highest median merit."""
    by_contestant: dict[str, list[Run]] = {}
    for run in runs:
        by_contestant.setdefault(run.contestant, []).append(run)
    return max(by_contestant.values(), key=lambda some: median(merit(run, by) for run in some))


def variant(contestant: str) -> str:
    """Which of its variants a contestant is: what its name has in brackets."""
    return contestant.partition("(")[2].rstrip(")") or "1 process"


def percentiles(values_ms: Sequence[float]) -> tuple[float, float, float]:
    """50th, 95th and 99th percentile, nearest rank; `values_ms` must not be empty."""
    ordered = sorted(values_ms)
    last = len(ordered) - 1
    p50, p95, p99 = (round(ordered[round(share * last)], 3) for share in (0.50, 0.95, 0.99))
    return p50, p95, p99


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 3) if known else None


def _middle_extra(runs: Sequence[Run]) -> Extra:
    """Median of every numeric extra; a text is the first run's."""
    merged: Extra = {}
    for key in dict.fromkeys(key for run in runs for key in run.extra):
        values = [run.extra[key] for run in runs if key in run.extra]
        numbers = [value for value in values if not isinstance(value, str)]
        merged[key] = round(median(numbers), 3) if numbers else values[0]
    return merged
