"""Bringing a partition's rows up to its changelog before it decides.

Order matters: first the *stable* committed offsets of the source topics, which
waits until every transaction with pending offsets is decided; then the changelog's end, which so
covers every committed batch; then read_committed up to that end. The watermark row found there, not
the group offset, says where to read on: it was committed with the rows. If the process dies here
nothing has happened; the next owner starts over.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition as AioTopicPartition
from confluent_kafka import OFFSET_INVALID, Consumer, TopicPartition

from processor.engine.faults import Fault
from processor.engine.metrics import RESTORE_SECONDS, RESTORED_ROWS
from processor.engine.store import PartitionStore

FETCH_BYTES_MAX: Final = 4 * 1024 * 1024  # One fetch of one changelog partition.
FETCH_WAIT_MS: Final = 200
# A changelog ends with the marker of a transaction, which is never handed over: that the position
# has passed it is seen between two polls.
POLL_MS: Final = 20
STALL_SECONDS_MAX: Final = 60.0  # Without progress: longer than any transaction stays open.
OFFSETS_TIMEOUT_S: Final = 30.0
# A tombstone may be compacted away delete.retention.ms after it was written: 7 days in topics of
# our making, a day by Kafka's default. A database older than half of the latter could keep rows
# that were deleted meanwhile, so it is rebuilt instead of caught up.
POSITION_AGE_MS_MAX: Final = 12 * 3_600_000

log = structlog.get_logger(__name__)


class SourceOffsets(msgspec.Struct, frozen=True):
    """What the brokers say of one source partition.

    Attributes:
        begin: first offset that retention has left.
        committed: stable group offset, None where nothing was ever committed.

    """

    begin: int
    committed: int | None


class OffsetReader:
    """Stable committed offsets and changelog ends, asked with librdkafka. Methods block."""

    def __init__(self, client: Mapping[str, Any], group_id: str) -> None:
        self._consumer = Consumer(
            {
                **client,
                "group.id": group_id,
                "enable.auto.commit": False,
                # Makes committed() ask for stable offsets: it waits for pending transactions.
                "isolation.level": "read_committed",
            }
        )

    def committed(self, sources: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int | None]:
        """Stable committed offset per source partition; None where nothing was ever committed."""
        wanted = [TopicPartition(topic, partition) for topic, partition in sources]
        found = self._consumer.committed(wanted, timeout=OFFSETS_TIMEOUT_S)
        for entry in found:
            if entry.error is not None:
                raise Fault(f"committed offset of {entry.topic}/{entry.partition}: {entry.error}")
        return {
            (entry.topic, entry.partition): None if entry.offset == OFFSET_INVALID else entry.offset
            for entry in found
        }

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


class Restorer:
    """Restores the changelog partitions of one assignment, all at once."""

    def __init__(
        self,
        client: Mapping[str, Any],
        *,
        changelog: str,
        offsets: OffsetReader,
        executor: Executor,
    ) -> None:
        self._client = client
        self._changelog = changelog
        self._offsets = offsets
        self._executor = executor

    async def restore(
        self, stores: Mapping[int, PartitionStore], sources: Sequence[str]
    ) -> dict[tuple[str, int], SourceOffsets]:
        """Bring every store up to date; returns what the brokers say of the source partitions.

        Raises:
            Fault: the changelog cannot be read to its end.

        """
        loop = asyncio.get_running_loop()
        started = time.monotonic()
        wanted = [(topic, partition) for partition in stores for topic in sources]
        tail = changelog_consumer(self._client, "read_committed")
        ends = changelog_consumer(self._client, "read_uncommitted")
        try:
            committed = await loop.run_in_executor(self._executor, self._offsets.committed, wanted)
            await asyncio.gather(tail.start(), ends.start())
            rows, begins = await self._read_changelogs(tail, ends, stores, wanted)
        finally:
            await asyncio.gather(ends.stop(), tail.stop())
        seconds = time.monotonic() - started
        RESTORED_ROWS.inc(rows)
        RESTORE_SECONDS.observe(seconds)
        log.info("restored", partitions=sorted(stores), rows=rows, seconds=round(seconds, 3))
        return {key: SourceOffsets(begins[key], committed[key]) for key in wanted}

    async def _read_changelogs(
        self,
        tail: AIOKafkaConsumer,
        ends: AIOKafkaConsumer,
        stores: Mapping[int, PartitionStore],
        sources: Sequence[tuple[str, int]],
    ) -> tuple[int, dict[tuple[str, int], int]]:
        tps = {p: AioTopicPartition(self._changelog, p) for p in stores}
        # The true end, open transactions included: reading to it waits until they are decided.
        end_offsets = await ends.end_offsets(list(tps.values()))
        source_tps = [AioTopicPartition(topic, partition) for topic, partition in sources]
        begin_offsets = await ends.beginning_offsets([*tps.values(), *source_tps])
        tail.assign(list(tps.values()))
        behind: dict[int, int] = {}
        for partition, tp in tps.items():
            start = start_offset(
                stores[partition], begin_offsets[tp], end_offsets[tp], int(time.time() * 1000)
            )
            tail.seek(tp, start)
            if start < end_offsets[tp]:
                behind[partition] = end_offsets[tp]
        rows = await self._follow(tail, stores, behind)
        now_ms = int(time.time() * 1000)
        for partition, tp in tps.items():
            stores[partition].reach(await tail.position(tp), now_ms)
        return rows, {(tp.topic, tp.partition): begin_offsets[tp] for tp in source_tps}

    async def _follow(
        self, tail: AIOKafkaConsumer, stores: Mapping[int, PartitionStore], behind: dict[int, int]
    ) -> int:
        """Apply records until every partition in `behind` has reached its end offset."""
        rows = 0
        progress_at = time.monotonic()
        while behind:
            tps = [AioTopicPartition(self._changelog, p) for p in behind]
            polled = await tail.getmany(*tps, timeout_ms=POLL_MS)
            for tp, records in polled.items():
                rows += len(records)
                stores[tp.partition].follow(records)
                progress_at = time.monotonic()
            for partition, end in list(behind.items()):
                # Past control records too: they are never delivered, but move the position.
                if await tail.position(AioTopicPartition(self._changelog, partition)) >= end:
                    del behind[partition]
                    progress_at = time.monotonic()
            if time.monotonic() - progress_at > STALL_SECONDS_MAX:
                raise Fault(
                    f"changelog partitions {sorted(behind)} did not move for {STALL_SECONDS_MAX} s"
                )
        return rows


def changelog_consumer(client: Mapping[str, Any], isolation_level: str) -> AIOKafkaConsumer:
    """A consumer without a group, for partitions that are assigned and sought by hand."""
    return AIOKafkaConsumer(
        **client,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=isolation_level,
        max_partition_fetch_bytes=FETCH_BYTES_MAX,
        fetch_max_bytes=4 * FETCH_BYTES_MAX,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        # TCP and the broker have checked; a third time costs a tenth of a restore.
        check_crcs=False,
    )


def start_offset(store: PartitionStore, begin: int, end: int, now_ms: int) -> int:
    """Where to read the changelog from; wipes a database that cannot be caught up.

    Behind the last rows there is the marker of their transaction: who lacks that alone lacks
    nothing, however old it is.
    """
    position = store.position
    if position.offset == 0:
        return begin
    ahead = store.written > end
    trimmed = position.offset < begin
    lacks_rows = position.offset < end - 1
    old = lacks_rows and now_ms - position.timestamp_ms > POSITION_AGE_MS_MAX
    if not (ahead or trimmed or old):
        return position.offset
    log.warning(
        "rebuilding a database that cannot be caught up",
        path=str(store.path),
        position=position.offset,
        changelog_begin=begin,
        changelog_end=end,
        ahead=ahead,
        trimmed=trimmed,
        old=old,
    )
    store.wipe()
    return begin
