"""Every topic once: name, key, value, partitions, retention, timestamp type.

`holdfast topics create` makes them; `holdfast topics check` refuses a cluster whose topics differ.
The partition count is fixed for life: it decides who owns which stock. Source, result, event and
changelog topics share it, so that partition n of each belongs to the same owner.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

REQUESTS: Final = "reservation-requests"
TRANSACTIONS: Final = "inventory-transactions"
RESULTS: Final = "reservation-results"
EVENTS: Final = "inventory-events"
DEAD_LETTERS: Final = "dead-letters"
CONFIGURATION: Final = "configuration"
STOCK_TABLE: Final = "stock"
APP_ID: Final = "holdfast"
CHANGELOG: Final = f"{APP_ID}-{STOCK_TABLE}-changelog"  # The name Faust derives for the table.

DAY_MS: Final = 24 * 3_600_000
PARTITIONS_DEFAULT: Final = 8


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """One topic as it must be on the cluster.

    `co_partitioned`: has the deployment's partition count, else one partition.
    `schema`: record name of the value, None for raw rows.
    """

    name: str
    key: str
    schema: str | None
    co_partitioned: bool = True
    cleanup_policy: str = "delete"
    retention_ms: int = 7 * DAY_MS
    timestamp_type: str = "LogAppendTime"

    @property
    def subject(self) -> str:
        """Subject of its value's schema in the registry (Confluent's TopicNameStrategy)."""
        return f"{self.name}-value"

    def config(self) -> dict[str, str]:
        """Topic configuration to create with, and to compare against."""
        settings = {
            "cleanup.policy": self.cleanup_policy,
            "message.timestamp.type": self.timestamp_type,
        }
        if self.cleanup_policy == "delete":
            settings["retention.ms"] = str(self.retention_ms)
        return settings


TOPICS: Final[Mapping[str, Topic]] = {
    topic.name: topic
    for topic in (
        Topic(name=REQUESTS, key="organization|site|location", schema="ReservationRequest"),
        Topic(name=TRANSACTIONS, key="organization|site|location", schema="InventoryTransaction"),
        Topic(name=RESULTS, key="request id", schema="ReservationResult"),
        Topic(name=EVENTS, key="id of the source record", schema="InventoryEvent"),
        Topic(
            name=DEAD_LETTERS,
            key="original key",
            schema="DeadLetter",
            co_partitioned=False,
            retention_ms=30 * DAY_MS,
        ),
        Topic(name=CHANGELOG, key="row key", schema=None, cleanup_policy="compact"),
        Topic(
            name=CONFIGURATION,
            key="version",
            schema=None,
            co_partitioned=False,
            cleanup_policy="compact",
        ),
    )
}
SOURCES: Final = (REQUESTS, TRANSACTIONS)
