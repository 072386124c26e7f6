"""The view's metrics: every name, kind and meaning in one place (Prometheus)."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

ROWS: Final = Counter("holdfast_view_rows_total", "Changelog rows applied to Redis.")
BATCHES: Final = Counter("holdfast_view_batches_total", "Transactions applied to Redis.")
SUPERSEDED: Final = Counter(
    "holdfast_view_superseded_total", "Batches not applied: somebody else had moved on."
)
REBUILDS: Final = Counter("holdfast_view_rebuilds_total", "Generations built and served.")
REDIS_ERRORS: Final = Counter("holdfast_view_redis_errors_total", "Redis did not answer.")
APPLY_SECONDS: Final = Histogram(
    "holdfast_view_apply_seconds",
    "Duration of a transaction of the view.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
)
LAG_RECORDS: Final = Gauge(
    "holdfast_view_lag_records", "Changelog records that are not yet applied.", ["partition"]
)
LAG_SECONDS: Final = Histogram(
    "holdfast_view_lag_seconds",
    "Age of a batch's oldest row, by the broker's clock, when it was readable in Redis.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0),
)
BUILDING: Final = Gauge("holdfast_view_building", "1 while nothing is served: first build.")
