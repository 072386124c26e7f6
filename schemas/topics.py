"""Every topic once: name, key, value, partitions, retention, timestamp type.

`holdfast topics create` makes them; `holdfast topics check` refuses a cluster whose topics differ.
The partition count is fixed for life: it decides who owns which stock. Source, result, event and
changelog topics share it, so that partition n of each belongs to the same owner.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from schemas.limits import MESSAGE_BYTES_MAX

REQUESTS: Final = "reservation-requests"
TRANSACTIONS: Final = "inventory-transactions"
RESULTS: Final = "reservation-results"
EVENTS: Final = "inventory-events"
DEAD_LETTERS: Final = "dead-letters"
CONFIGURATION: Final = "configuration"
POSITIONS: Final = "connector-positions"  # Up to where an ERP was told on, with what was told.
STOCK_TABLE: Final = "stock"
APP_ID: Final = "holdfast"
CHANGELOG: Final = f"{APP_ID}-{STOCK_TABLE}-changelog"  # The name Faust derives for the table.

DAY_MS: Final = 24 * 3_600_000
PARTITIONS_DEFAULT: Final = 8

# There while `holdfast migrate` is under way, and none of TOPICS: it may be all that has the state.
STAGING: Final = "holdfast-migration"

# How long the changelog keeps the mark of a deleted row. A worker's disk that is older than this
# may hold rows whose deletion it can no longer learn of: long before, it is restored whole
# (`processor.engine.restore`).
TOMBSTONE_RETENTION_MS: Final = 7 * DAY_MS


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One topic as it must be on the cluster.

    `co_partitioned`: has the deployment's partition count, else one partition.
    `schema`: record name of the value, None for raw rows.
    `message_bytes_max`: largest batch the broker takes; None for the broker's default.
    """

    name: str
    key: str
    schema: str | None
    co_partitioned: bool = True
    cleanup_policy: str = "delete"
    retention_ms: int = 7 * DAY_MS
    timestamp_type: str = "LogAppendTime"
    message_bytes_max: int | None = None

    @property
    def subject(self) -> str:
        """Subject of its value's schema in the registry (Confluent's TopicNameStrategy)."""
        return f"{self.name}-value"

    def required(self) -> dict[str, str]:
        """Configuration without which the worker or its guarantees do not work: `check` insists."""
        settings = {
            "cleanup.policy": self.cleanup_policy,
            "message.timestamp.type": self.timestamp_type,
        }
        if self.message_bytes_max is not None:
            settings["max.message.bytes"] = str(self.message_bytes_max)
        return settings

    def config(self) -> dict[str, str]:
        """Configuration to create with. Beyond what is required, an operator may change it."""
        tunable = {"retention.ms": str(self.retention_ms)}
        if self.cleanup_policy == "compact":
            tunable = _TABLE_CONFIG
        return {**tunable, **self.required()}


# A table's log is read whole by a worker with an empty disk, so it is kept close to the table.
_TABLE_CONFIG: Final = {
    # Compact when a fifth is outdated, not half: restoring reads 1.25 times the rows, not twice.
    "min.cleanable.dirty.ratio": "0.2",
    # The open segment is never compacted: it ends at 64 MiB (a second of reading), not at 1 GiB,
    "segment.bytes": str(64 * 1024 * 1024),
    # and after an hour, not a week, where little is written.
    "segment.ms": str(3_600_000),
    "delete.retention.ms": str(TOMBSTONE_RETENTION_MS),
}

TOPICS: Final[Mapping[str, Topic]] = {
    topic.name: topic
    for topic in (
        Topic(name=REQUESTS, key="organization|site|location", schema="ReservationRequest"),
        Topic(name=TRANSACTIONS, key="organization|site|location", schema="InventoryTransaction"),
        Topic(
            name=RESULTS,
            key="request id",
            schema="ReservationResult",
            message_bytes_max=MESSAGE_BYTES_MAX,
        ),
        Topic(
            name=EVENTS,
            key="id of the source record",
            schema="InventoryEvent",
            message_bytes_max=MESSAGE_BYTES_MAX,
        ),
        Topic(
            name=DEAD_LETTERS,
            key="original key",
            schema="DeadLetter",
            co_partitioned=False,
            retention_ms=30 * DAY_MS,
            message_bytes_max=MESSAGE_BYTES_MAX,
        ),
        Topic(
            name=CHANGELOG,
            key="row key",
            schema=None,
            cleanup_policy="compact",
            message_bytes_max=MESSAGE_BYTES_MAX,
        ),
        Topic(
            name=CONFIGURATION,
            key="version",
            schema=None,
            co_partitioned=False,
            cleanup_policy="compact",
        ),
        Topic(
            name=POSITIONS,
            key="connector",
            schema=None,
            co_partitioned=False,
            cleanup_policy="compact",
        ),
    )
}
SOURCES: Final = (REQUESTS, TRANSACTIONS)


def described() -> list[dict[str, str]]:
    """Every topic in words: the rows of `holdfast topics list` and of the table in README.md."""
    return [
        {
            "topic": topic.name,
            "key": topic.key,
            "value": topic.schema or "bytes",
            "partitions": f"{PARTITIONS_DEFAULT} by default" if topic.co_partitioned else "1",
            "kept": f"{topic.retention_ms // DAY_MS} days"
            if topic.cleanup_policy == "delete"
            else "latest of each key",
            "timestamp": topic.timestamp_type,
        }
        for topic in TOPICS.values()
    ]


def markdown_table() -> str:
    """Table of the topics for a page."""
    rows = described()
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    # A bar would end the cell, in a code span too.
    escaped = [[cell.replace("|", r"\|") for cell in cells] for cells in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)
