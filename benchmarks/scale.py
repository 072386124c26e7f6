"""Scale: one, two and four workers, over four to 64 partitions.

On one machine more workers share its cores with each other and the broker; what the table shows is
the cost of more workers and more partitions, not the growth of a cluster.
"""

from collections.abc import Sequence
from typing import Final

from benchmarks import drain
from benchmarks.broker import Progress
from benchmarks.contestants import Holdfast
from benchmarks.figures import Run
from benchmarks.ground import Ground
from benchmarks.load import spread

SHAPES: Final = ((1, 4), (2, 4), (4, 4), (1, 16), (1, 64), (4, 64))
METHOD: Final = (
    "as spread, with W workers on P partitions (rate_WxP); the figure is that of the first shape; "
    "all workers share this one machine with the broker"
)


def run(
    ground: Ground, progress: Progress, *, requests: int, shapes: Sequence[tuple[int, int]] = SHAPES
) -> Run:
    """One drain for every shape; the first with the rates of all."""
    runs = [
        drain.run(ground, Holdfast(workers=workers), spread(requests, partitions), progress)
        for workers, partitions in shapes
    ]
    first = runs[0]
    for (workers, partitions), one in zip(shapes, runs, strict=True):
        first.extra[f"rate_{workers}x{partitions}"] = one.decisions_per_s
    return first
