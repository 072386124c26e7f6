"""The engine's metrics: every name, kind and meaning in one place (Prometheus)."""

from prometheus_client import Counter, Gauge, Histogram

_COMMIT_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)

DECIDED = Counter(
    "holdfast_records_decided_total", "Source records decided and committed.", ["topic"]
)
DEAD_LETTERS = Counter("holdfast_dead_letters_total", "Records sent to the dead letters.")
REPLIES_REFUSED = Counter(
    "holdfast_replies_refused_total",
    "Results not copied to the topic that their request named, by reason.",
    ["reason"],
)
BATCHES = Counter("holdfast_batches_committed_total", "Kafka transactions committed.")
ABORTED = Counter(
    "holdfast_batches_aborted_total", "Kafka transactions aborted; their records are read again."
)
TRANSACTION_RETRIES = Counter(
    "holdfast_transaction_retries_total",
    "Requests of a transaction asked again: leaders moved, or a broker was away.",
    ["step"],
)
FETCH_RETRIES = Counter(
    "holdfast_fetch_retries_total",
    "Times leaders of source partitions were looked for: they moved, or a broker was away.",
)
BATCH_RECORDS = Histogram(
    "holdfast_batch_records",
    "Source records per transaction.",
    buckets=(1, 10, 100, 500, 1000, 2000, 4000, 8000),
)
COMMIT_SECONDS = Histogram(
    "holdfast_commit_seconds", "Duration of a transaction.", buckets=_COMMIT_BUCKETS
)
STORE_SECONDS = Histogram(
    "holdfast_store_seconds",
    "Duration of the RocksDB write after a commit.",
    buckets=_COMMIT_BUCKETS,
)
ROWS_WAITING = Gauge(
    "holdfast_rows_waiting",
    "Committed rows, and their groups, that wait in memory to be written to RocksDB.",
)
RESTORED_ROWS = Counter("holdfast_restored_rows_total", "Changelog rows restored.")
STANDBY_ROWS = Counter(
    "holdfast_standby_rows_total", "Changelog rows of other workers' partitions, kept as copies."
)
RESTORE_SECONDS = Histogram("holdfast_restore_seconds", "Duration of a restore on assignment.")
PARTITIONS_OWNED = Gauge("holdfast_partitions_owned", "Partitions this worker decides for now.")
DRIFTS = Counter(
    "holdfast_drifts_total",
    "Contradictions between stored rows that the auditor found: see the DRIFT events.",
)
AUDIT_PASSES = Counter(
    "holdfast_audit_passes_total", "Times the auditor came round all rows of a partition."
)
WATERMARK_DIFFERENCES = Counter(
    "holdfast_watermark_differences_total",
    "Assignments on which the committed group offset differed from the watermark row.",
)
