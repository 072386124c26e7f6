"""Warm standby: copies of partitions that other workers decide, kept up as their batches commit.

A worker that has one takes a dead worker's partition over by reading what was committed since its
last poll, instead of everything. The rule: a copy is an ordinary database at some offset of its
changelog, written only from committed records, so taking it over needs no step of its own: it is
caught up like any other (`restore`). If the process dies here nothing has happened; the copy is
behind, as after any stop.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from processor.engine.metrics import STANDBY_ROWS
from processor.engine.restore import changelog_consumer, start_offset
from processor.engine.store import PartitionStore

RECORDS_MAX: Final = 2_000  # Applied at a time: about 10 ms, in which nothing is decided.
POLL_MS: Final = 100
RETRY_S: Final = 1.0  # After the broker was away.

log = structlog.get_logger(__name__)


class Standby:
    """Follows the changelog of the partitions it was given, until they are taken back."""

    def __init__(self, client: Mapping[str, Any], changelog: str) -> None:
        self._client = client
        self._changelog = changelog
        self._stores: dict[int, PartitionStore] = {}
        self._changes = 0  # Of what is followed: a poll from before a change is not applied.
        self._changed = asyncio.Event()

    def watch(self, number: int, store: PartitionStore) -> None:
        """Follow this partition from where its database is."""
        self._stores[number] = store
        self._note()

    def take(self, number: int) -> PartitionStore | None:
        """Stop following; returns the database, None if the partition was not followed."""
        store = self._stores.pop(number, None)
        if store is not None:
            self._note()
        return store

    def take_all(self) -> dict[int, PartitionStore]:
        """Stop following everything; returns the databases."""
        stores, self._stores = self._stores, {}
        self._note()
        return stores

    def follows(self, number: int) -> bool:
        """Whether the partition is followed."""
        return number in self._stores

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._stores:
                continue
            consumer: AIOKafkaConsumer = changelog_consumer(self._client, "read_committed")
            try:
                await consumer.start()
                while self._stores:
                    await self._follow(consumer)
            except KafkaError as error:
                log.warning("standby: the changelog cannot be read now", error=str(error))
                self._changed.set()
                await asyncio.sleep(RETRY_S)
            finally:
                await consumer.stop()

    def _note(self) -> None:
        self._changes += 1
        self._changed.set()

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        """Follow what is there now, until that changes."""
        changes = self._changes
        tps = {number: TopicPartition(self._changelog, number) for number in self._stores}
        ends = await consumer.end_offsets(list(tps.values()))
        begins = await consumer.beginning_offsets(list(tps.values()))
        if self._changes != changes:
            return
        consumer.assign(list(tps.values()))
        for number, tp in tps.items():
            now_ms = int(time.time() * 1000)
            consumer.seek(tp, start_offset(self._stores[number], begins[tp], ends[tp], now_ms))
        while self._changes == changes:
            polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_MAX)
            if self._changes == changes:
                self._apply(polled)

    def _apply(self, polled: dict[TopicPartition, list[Any]]) -> None:
        for tp, records in polled.items():
            self._stores[tp.partition].follow(records)
            STANDBY_ROWS.inc(len(records))
