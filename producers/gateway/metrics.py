"""Figures of a gateway for Prometheus."""

from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12)


class _Writer(Protocol):
    @property
    def in_flight(self) -> int: ...


class Metrics:
    """Counters by area and status; areas are few and fixed, so that labels stay bounded."""

    def __init__(self, writer: _Writer) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "holdfast_gateway_requests",
            "Requests by area and HTTP status.",
            ("area", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "holdfast_gateway_request_seconds",
            "From the request's head to its answer.",
            ("area",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.records = Counter(
            "holdfast_gateway_records",
            "Records written, by how they ended: known, unknown (202) or not sent.",
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
        self._answered: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.known = self.records.labels("known")
        in_flight = Gauge(
            "holdfast_gateway_in_flight",
            "Records sent and not yet answered.",
            registry=self.registry,
        )
        in_flight.set_function(lambda: writer.in_flight)

    def answered(self, area: str, status: int, seconds: float) -> None:
        """Count an answer. Its counters are remembered: looking one up costs 5 us, counting 1."""
        found = self._answered.get((area, status))
        if found is None:
            found = self.requests.labels(area, str(status)), self.seconds.labels(area)
            self._answered[area, status] = found
        found[0].inc()
        found[1].observe(seconds)
