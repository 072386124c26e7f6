"""Live holds: how the rate depends on how many there are already.

The same number of requests is measured after 1,000 holds and after many; the ratio of the rates
says whether the curve bends.
"""

from typing import Final

from benchmarks import drain
from benchmarks.broker import Progress
from benchmarks.contestants import Holdfast
from benchmarks.figures import Run
from benchmarks.ground import Ground
from benchmarks.load import spread

EMPTY: Final = 1_000  # Live holds that count as none.
METHOD: Final = (
    f"as spread, after {EMPTY:,} and after `--live` holds were made by real requests, the broker "
    "had compacted what they left (it took compacted_s) and the worker was started again; the "
    "figure is the last one's, rate_N that after N holds; resident_making_mib: its most memory "
    "while the holds were made"
)


def run(ground: Ground, progress: Progress, *, requests: int, partitions: int, live: int) -> Run:
    """One drain almost without holds, one after `live`; the last with the rates of both."""
    counts = (EMPTY, live)
    runs = [
        drain.run(ground, Holdfast(), spread(holds + requests, partitions), progress, already=holds)
        for holds in counts
    ]
    rates = {f"rate_{holds}": one.decisions_per_s for holds, one in zip(counts, runs, strict=True)}
    last = runs[-1]
    last.extra.update(rates)
    last.extra["live"] = live
    last.extra["relative"] = round(last.decisions_per_s / runs[0].decisions_per_s, 3)
    return last
