"""`holdfast bench` end to end, tiny: the answers are right and the JSON has its shape.

No figure is judged here: this machine is shared with everything else.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import catalogue, drain, load
from benchmarks.contestants import KAFKA_PEERS, Holdfast
from benchmarks.ground import Ground

FIELDS = {
    "name",
    "decisions_per_s",
    "cpu_us_per_decision",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "peer",
    "ratio",
    "runs",
}


# A figure needs a broker that has had this load for long; whether it is right does not.
SOON = (
    "from benchmarks import latency; latency.WARM_UP_S_MAX = 1;"
    "from holdfast.cli import main; main()"
)


def _bench(*words: str) -> dict[str, Any]:
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            SOON,
            "bench",
            *words,
            "--runs",
            "1",
            "--warm-up",
            "1",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    figures: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    assert figures.keys() >= FIELDS
    return figures


def _silent(_what: str, _done: int, _of: int) -> None:
    return None


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    """A broker that is not warm."""
    with Ground(_silent, warm_up_s=0) as ground:
        yield ground


@pytest.mark.kafka
def test_bench_of_both_sides() -> None:
    """Ours and a peer answer the same small load rightly, and both have their figures."""
    figures = _bench("reject", "--peer", "redis", "--requests", "3000", "--partitions", "2")
    contestants = {run["contestant"].partition(" ")[0]: run for run in figures["runs"]}
    assert contestants.keys() == {"holdfast", "redis"}
    assert contestants["holdfast"]["decisions"] == contestants["redis"]["decisions"] == 3000
    assert 0 < contestants["holdfast"]["extra"]["accepted"] < 3000
    assert figures["ratio"] > 0


@pytest.mark.kafka
@pytest.mark.parametrize("peer", ["faust", "kstreams"])
def test_kafka_peers_answer_rightly(peer: str, ground: Ground) -> None:
    """A Kafka peer answers every request once, as the replay says (it raises otherwise)."""
    run = drain.run(ground, KAFKA_PEERS[peer]()[0], load.reject(3_000, 2), _silent)
    assert run.decisions == 3_000
    assert 0 < int(run.extra["accepted"]) < 3_000


@pytest.mark.parametrize("peer", ["postgres", "postgres-batched", "redis", "redis-pipelined"])
def test_database_peers_lose_nothing(peer: str) -> None:
    """A database peer's totals agree with its load (the check raises otherwise)."""
    variant = catalogue.DATABASE_PEERS[peer]()[0]
    work = load.reject(4_000, 2)
    run = variant.run(work, _silent)
    assert run.decisions == 4_000
    assert run.decisions_per_s > 0


@pytest.mark.kafka
def test_latency_counts_every_request() -> None:
    """In the open loop every request is answered, rightly, and timed."""
    words = ["--rate", "50", "--seconds", "2", "--partitions", "2"]
    figures = _bench("latency", *words)
    assert figures["runs"][0]["decisions"] == 100
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    own = figures["extra"]
    assert -1 < own["append_p50_ms"] <= own["append_p99_ms"] <= figures["p99_ms"] + 1


@pytest.mark.kafka
def test_every_decision_is_seen_by_the_view_and_timed() -> None:
    """The lag of each counted request is known, and questions have a rate and a latency."""
    (run,) = _bench("view", "--rate", "50", "--seconds", "2", "--partitions", "2")["runs"]
    assert run["decisions"] == 100
    assert 0 < run["p50_ms"] <= run["p99_ms"] <= run["extra"]["max_lag_ms"] + 0.1
    assert run["extra"]["queries_per_s"] > 0
    assert run["extra"]["query_p95_ms"] <= run["extra"]["query_p99_ms"]


def test_a_peer_that_is_none_is_named() -> None:
    """An unknown peer is a usage error that lists those there are."""
    answer = subprocess.run(
        [sys.executable, "-m", "holdfast", "bench", "spread", "--peer", "oracle"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 2
    assert "kstreams" in answer.stderr


@pytest.mark.kafka
def test_runs_on_one_broker_start_from_nothing(ground: Ground) -> None:
    """A run finds no answers, no stock and no position of the one before it."""
    for work in (load.reject(2_000, 2), load.hot(1_000, 1)):
        run = drain.run(ground, Holdfast(), work, _silent)
        assert run.decisions == len(work.asks)
