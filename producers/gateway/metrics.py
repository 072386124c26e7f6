"""Figures of a gateway for Prometheus."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)
_BUCKETS: Final = (*(str(bound) for bound in SECONDS), "+Inf")


class _Writer(Protocol):
    @property
    def in_flight(self) -> int: ...


class Metrics:
    """Counters by area and status; areas are few and fixed, so that labels stay bounded.

    Attributes:
        answered: counts an answer: area, HTTP status, seconds.

    """

    def __init__(self, writer: _Writer) -> None:
        self.registry = CollectorRegistry()
        self._answers = _Answers()
        self.registry.register(self._answers)
        self.answered = self._answers.count
        self.records = Counter(
            "holdfast_gateway_records",
            "Records written, by how they ended: known, or unknown (202).",
            ("end",),
            registry=self.registry,
        )
        self.refused = Counter(
            "holdfast_gateway_refused",
            "Requests refused before they were looked at: unauthenticated, scope, rate.",
            ("why",),
            registry=self.registry,
        )
        self.stale = Counter(
            "holdfast_gateway_stale_queries",
            "Queries answered before the view had reached the caller's own writes.",
            registry=self.registry,
        )
        self.known = self.records.labels("known")
        in_flight = Gauge(
            "holdfast_gateway_in_flight",
            "Records sent and not yet answered.",
            registry=self.registry,
        )
        in_flight.set_function(lambda: writer.in_flight)


class _Answers(Collector):
    """Answers and how long they took. Plain numbers of one thread: the library's cost 5 us each."""

    def __init__(self) -> None:
        self._requests: dict[tuple[str, int], int] = {}
        self._seconds: dict[str, list[int]] = {}  # By area: answers in each bucket.
        self._sums: dict[str, float] = {}

    def count(self, area: str, status: int, seconds: float) -> None:
        """Count an answer."""
        place = area, status
        if place not in self._requests:
            self._requests[place] = 0
            self._seconds.setdefault(area, [0] * (len(SECONDS) + 1))
            self._sums.setdefault(area, 0.0)
        self._requests[place] += 1
        self._seconds[area][bisect_left(SECONDS, seconds)] += 1
        self._sums[area] += seconds

    def collect(self) -> Iterator[Metric]:
        """What a scrape is told."""
        requests = CounterMetricFamily(
            "holdfast_gateway_requests",
            "Requests by area and HTTP status.",
            labels=("area", "status"),
        )
        for (area, status), number in list(self._requests.items()):
            requests.add_metric((area, str(status)), number)
        yield requests
        seconds = HistogramMetricFamily(
            "holdfast_gateway_request_seconds",
            "From the request's head to its answer.",
            labels=("area",),
        )
        for area, counts in list(self._seconds.items()):
            buckets = list(zip(_BUCKETS, map(float, accumulate(counts)), strict=True))
            seconds.add_metric((area,), buckets, self._sums[area])
        yield seconds
