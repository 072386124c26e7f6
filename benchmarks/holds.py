"""Live holds: how the rate depends on how many there are already.

The same number of requests is measured after 1,000 holds, 10,000, and so on; the ratio of the last
rate to the first says whether the curve bends.
"""

from collections.abc import Sequence
from typing import Final

from benchmarks import drain
from benchmarks.broker import Progress
from benchmarks.contestants import Holdfast
from benchmarks.figures import Run
from benchmarks.load import spread

LIVE: Final = (1_000, 100_000, 1_000_000)
METHOD: Final = (
    f"as spread, after {' / '.join(f'{live:,}' for live in LIVE)} holds were made and the worker "
    "started again; the figure is the last one's, rate_N that after N holds"
)


def run(progress: Progress, *, requests: int, partitions: int, live: Sequence[int] = LIVE) -> Run:
    """One drain for every number of live holds; the last with the rates of all."""
    runs = [
        drain.run(Holdfast(), spread(holds + requests, partitions), progress, already=holds)
        for holds in live
    ]
    rates = {f"rate_{holds}": one.decisions_per_s for holds, one in zip(live, runs, strict=True)}
    last = runs[-1]
    last.extra.update(rates)
    last.extra["relative"] = round(last.decisions_per_s / runs[0].decisions_per_s, 3)
    return last
