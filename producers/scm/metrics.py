"""The connector's metrics: every name, kind and meaning in one place (Prometheus)."""

from prometheus_client import Counter, Gauge, Histogram

PUBLISHED = Counter("holdfast_connector_published_total", "Rows told on and committed.")
IGNORED = Counter("holdfast_connector_ignored_total", "Rows whose status changes nothing.")
REFUSED = Counter(
    "holdfast_connector_refused_total", "Rows sent to the dead letters, by code.", ["code"]
)
COMMITS = Counter("holdfast_connector_commits_total", "Kafka transactions committed.")
ABORTED = Counter(
    "holdfast_connector_aborts_total", "Kafka transactions aborted; their rows are sent again."
)
SOURCE_UP = Gauge("holdfast_connector_source_up", "1 while the source can be read.")
ROW_AGE = Histogram(
    "holdfast_connector_row_age_seconds",
    "From a row's insertion into the outbox to its commit in Kafka.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 600.0),
)
WAITING = Gauge(
    "holdfast_connector_waiting_seconds",
    "Age of the oldest outbox row that is not told on; grows with a long transaction in the ERP.",
)
HELD_BACK = Gauge(
    "holdfast_connector_held_back",
    "1 while rows wait for transactions of the ERP that were open when they were seen.",
)
WEBHOOK = Counter("holdfast_connector_webhook_total", "Webhook requests, by answer.", ["status"])
