"""Figures of a drained backlog: its rate is that of its second half.

In the first half a contestant warms up: a Java machine compiles, caches fill, what comes first
waits for connections. What runs for months is what the second half is like.
"""

from bisect import bisect_right
from collections.abc import Sequence

from benchmarks.figures import Extra, Run, percentiles
from benchmarks.programs import CpuSampler


def figures(
    name: str,
    answered_ms: Sequence[float],
    waited_ms: Sequence[float],
    cpu: CpuSampler,
    *,
    extra: Extra | None = None,
    after: float = 0.5,
) -> Run:
    """Rate and CPU of the second half; of the whole as `whole_per_s` and `whole_cpu_us`.

    Args:
        name: the contestant.
        answered_ms: wall time of every answer, in any order.
        waited_ms: what the percentiles are of.
        cpu: samples of the deciding processes over all that time.
        extra: what else is told of the run.
        after: it is counted from the time at which this share was answered.

    """
    ordered = sorted(answered_ms)
    whole = whole_per_s, whole_cpu_us = _since(ordered, ordered[0], cpu)
    start_ms = ordered[int(after * (len(ordered) - 1))]
    # The second half of a small backlog may be one batch, answered at one instant.
    per_s, cpu_us = _since(ordered, start_ms, cpu) if start_ms < ordered[-1] else whole
    p50, p95, p99 = percentiles(waited_ms)
    return Run(
        contestant=name,
        decisions=len(ordered),
        seconds=round((ordered[-1] - ordered[0]) / 1000, 3),
        decisions_per_s=per_s,
        cpu_us_per_decision=cpu_us,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        extra={"whole_per_s": whole_per_s, "whole_cpu_us": whole_cpu_us, **(extra or {})},
    )


def _since(ordered: Sequence[float], start_ms: float, cpu: CpuSampler) -> tuple[float, float]:
    """Answers a second after `start_ms`, up to the last, and CPU us of each."""
    counted = len(ordered) - bisect_right(ordered, start_ms)
    seconds = (ordered[-1] - start_ms) / 1000
    if not counted:  # All were answered at one instant: too few to tell.
        return 0.0, 0.0
    used_s = cpu.between_s(start_ms, ordered[-1])
    return round(counted / seconds, 1), round(used_s * 1e6 / counted, 2)
