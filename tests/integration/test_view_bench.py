"""`holdfast bench view` end to end, tiny: every decision reached the view, every question answered.

No figure is judged here: this machine is shared with everything else.
"""

import json
import subprocess
import sys

import pytest


@pytest.mark.kafka
def test_every_decision_is_seen_by_the_view_and_timed() -> None:
    """The lag of each counted request is known, and questions have a rate and a latency."""
    words = ("view", "--rate", "50", "--seconds", "2", "--partitions", "2", "--runs", "1")
    answer = subprocess.run(
        [sys.executable, "-m", "holdfast", "bench", *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    (run,) = json.loads(answer.stdout.splitlines()[-1])["runs"]
    assert run["decisions"] == 100
    assert 0 < run["p50_ms"] <= run["p99_ms"] <= run["extra"]["max_lag_ms"] + 0.1
    assert run["extra"]["queries_per_s"] > 0
    assert run["extra"]["query_p95_ms"] <= run["extra"]["query_p99_ms"]
