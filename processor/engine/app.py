"""The Faust application.

App, agent, table, group membership and worker lifecycle; the engine does the rest.
"""

import asyncio
import gc
import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import faust
import msgspec
import structlog
from faust.serializers.schemas import Schema

from processor.engine.brokers import Brokers
from processor.engine.cycle import Cycle
from processor.engine.faults import crash_points, fail_stop
from processor.engine.ownership import EngineTableManager, Kafka, Ownership
from processor.engine.ports import Domain
from processor.engine.record_batches import replace_parsing
from processor.engine.restore import OffsetReader, Restorer
from processor.engine.standby import Standby
from processor.engine.ticks import TICK_SECONDS, Ticker
from processor.engine.transaction import ANSWER_SECONDS_MAX, TransactionWriter
from processor.engine.transport import BatchTransport, Polled
from schemas.limits import CACHE_MB

INIT_TIMEOUT_S: Final = 60.0  # Fencing waits for what an earlier incarnation left open.
STOP_SECONDS_MAX: Final = 4.5
# Of the session timeout: who takes a dead worker's partitions over soon finds its transaction
# aborted, if the broker looks for those often. Less would be short for a broker that restarts.
TRANSACTION_SHARE: Final = 0.9
# Each time over what was allocated since and still lives: what is in flight, and new places (2 us
# for each). Nothing is decided meanwhile. What has grown old is never looked at: who keeps objects
# that refer to each other must part them (`PartitionDecider.let_go`).
COLLECT_SECONDS: Final = 1.0
COMPLETE_SECONDS: Final = 1.0  # Between two looks for rows that have waited long enough.

log = structlog.get_logger(__name__)


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the engine is told; read from nowhere else.

    Attributes:
        app_id: consumer group, and prefix of the changelog and of the transactional id.
        bootstrap: Kafka addresses, comma-separated.
        table: name of the Faust table whose changelog holds the rows.
        sources: source topics; all have the partition count of the changelog.
        data_dir: directory of this worker alone; safe to lose.
        session_timeout_ms: silence after which the group gives this worker's partitions away; also
            what bounds how long an open transaction of a dead worker holds back readers.
        heartbeat_ms: pause between two signs of life; a third of the session timeout or less.
        group_instance_id: static membership (KIP-345), None for none.
        cache_bytes: RocksDB block cache of the worker; the deciders of all its partitions together
            may keep about as much of their rows.
        standby: keep copies of the partitions that others decide.
        crash_at, crash_after: crash point of the fault campaign and batches to let pass first.

    """

    app_id: str
    bootstrap: str
    table: str
    sources: Sequence[str]
    data_dir: Path
    session_timeout_ms: int = 10_000
    heartbeat_ms: int = 500
    group_instance_id: str | None = None
    cache_bytes: int = CACHE_MB << 20
    standby: bool = False
    crash_at: str | None = None
    crash_after: int = 0


class _PolledSchema(Schema):
    """Hands the agent the polled records as they are.

    Decode errors are the decider's, not Faust's.
    """

    def compile(self, app: Any, **_: Any) -> Callable[..., Any]:
        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001
            return app.create_event(None, message.value, {}, message)

        return decode


class EngineApp(faust.App):
    """A Faust app whose tables, commits and recovery are the engine's."""

    changelog: str
    flow: Cycle
    ownership: Ownership
    writer: TransactionWriter
    source_brokers: Brokers
    offsets: OffsetReader
    ticker: Ticker
    standby: Standby | None
    _stop_by: float = math.inf
    _stop_timer: threading.Timer | None = None

    def prepare(self) -> None:
        """Before the group is joined: topics are right, earlier incarnations fenced. Blocks.

        Raises:
            Fault: a topic is missing or the partition counts differ.

        """
        self.ownership.learn_topics()
        self.writer.start(INIT_TIMEOUT_S)
        # What is loaded now stays: not looked at again. Inside a batch nothing is collected: the
        # records of a batch hold no cycles, and looking for some cost a sixth of its time.
        gc.collect()
        gc.freeze()
        gc.disable()

    async def on_stop(self) -> None:
        """Stop gracefully, within a bound.

        Past it the process ends at once, which loses nothing.
        """
        self._stop_by = time.monotonic() + STOP_SECONDS_MAX
        self._stop_timer = threading.Timer(
            STOP_SECONDS_MAX, fail_stop, args=("the graceful stop took too long",)
        )
        self._stop_timer.daemon = True
        self._stop_timer.start()
        await super().on_stop()

    def release(self) -> None:
        """After everything has stopped: databases flushed and closed, while there is time. Blocks.

        The partitions have been handed over by now. What is not flushed is left as a kill would
        leave it, and caught up from the changelog by the next start.
        """
        self.flow.close()
        self.offsets.close()
        if self._stop_timer is not None:
            self._stop_timer.cancel()
        left = self.ownership.close(self._stop_by)
        if left:
            log.warning("no time to flush: the next start catches up more", databases=left)
            logging.shutdown()
            os._exit(0)  # Closing a database flushes it.


def create_app(settings: EngineSettings, domain: Domain, kafka: Kafka) -> EngineApp:
    """Build the app; nothing is connected before it starts."""
    replace_parsing()
    # Under static membership a worker may come back on another host, with an empty disk.
    name = settings.group_instance_id or _instance_name(settings)
    app = EngineApp(
        settings.app_id,
        broker=[f"kafka://{address}" for address in settings.bootstrap.split(",")],
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.heartbeat_ms / 1000,
        broker_rebalance_timeout=max(30.0, settings.session_timeout_ms / 1000),
        broker_request_timeout=max(90.0, settings.session_timeout_ms / 1000),
        broker_max_poll_interval=300.0,
        broker_credentials=kafka.faust_credentials(),
        consumer_group_instance_id=settings.group_instance_id,
        # The member's name in Faust's assignments; by default one that a host and a port make up.
        canonical_url=f"http://member/{quote(name, safe='')}",
        consumer_auto_offset_reset="earliest",
        datadir=str(settings.data_dir),
        processing_guarantee="at_least_once",  # Faust's own exactly-once is not used.
        stream_buffer_maxsize=1024,
        stream_wait_empty=True,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        reply_create_topic=False,
        web_enabled=False,
        worker_redirect_stdouts=False,
        TableManager=EngineTableManager,
        autodiscover=False,
    )
    app.transport = BatchTransport(app.conf.broker_consumer, app)
    table = app.Table(
        settings.table,
        store="memory://",  # Rows are the engine's; Faust keeps the changelog's name and its owner.
        key_type=bytes,
        value_type=bytes,
    )
    app.changelog = table.changelog_topic.get_topic_name()
    _wire(app, settings, domain, kafka, f"{settings.app_id}-{name}")
    _declare_agent(app, settings)
    _declare_timers(app)
    if app.standby is not None:
        _declare_standby(app, app.standby)
    return app


def _wire(
    app: EngineApp, settings: EngineSettings, domain: Domain, kafka: Kafka, name: str
) -> None:
    reach = crash_points(settings.crash_at, settings.crash_after)
    # Two: what is at hand does not wait for the transactions of who had the rest.
    executor = ThreadPoolExecutor(2, thread_name_prefix="offsets")
    app.writer = TransactionWriter(
        Brokers(kafka.aiokafka(), client_id=name, answer_within_s=ANSWER_SECONDS_MAX),
        transactional_id=name,
        transaction_timeout_ms=int(settings.session_timeout_ms * TRANSACTION_SHARE),
        changelog=app.changelog,
        output_topics=tuple(domain.output_topics),
        dead_letters=domain.dead_letter_topic,
        local_kinds=domain.local_kinds,
        reach=reach,
    )
    app.source_brokers = Brokers(
        kafka.aiokafka(), client_id=f"{name}-sources", answer_within_s=ANSWER_SECONDS_MAX
    )
    app.offsets = OffsetReader(kafka.librdkafka(), settings.app_id)
    app.ticker = Ticker(kafka.librdkafka(), domain)
    app.flow = Cycle(domain, app.writer, on_aborted=app.tables.assign_again, reach=reach)
    app.standby = Standby(kafka.aiokafka(), app.changelog) if settings.standby else None
    app.ownership = Ownership(
        domain,
        kafka,
        group_id=settings.app_id,
        instance_id=settings.group_instance_id,
        changelog=app.changelog,
        sources=settings.sources,
        directory=settings.data_dir / "tables",
        cache_bytes=settings.cache_bytes,
        restorer=Restorer(
            kafka.aiokafka(), changelog=app.changelog, offsets=app.offsets, executor=executor
        ),
        standby=app.standby,
        executor=executor,
    )


def _declare_agent(app: EngineApp, settings: EngineSettings) -> None:
    source = app.topic(*settings.sources, schema=_PolledSchema())

    @app.agent(source, name="decide")  # type: ignore[untyped-decorator]
    async def decide(stream: Any) -> None:
        """Every record of the partitions this worker owns, one partition after the other."""
        take, follow = app.flow.take, app.ticker.follow
        async for event in stream.events():
            polled: Polled = event.value
            try:
                await take(polled)
                follow(app.flow.assignment, polled)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - Faust would ack and go on
                fail_stop("deciding failed", error)


def _declare_timers(app: EngineApp) -> None:
    @app.timer(interval=COLLECT_SECONDS)  # type: ignore[untyped-decorator]
    async def collect_garbage() -> None:
        """Collect the cycles that asyncio and Faust make, between batches."""
        gc.collect(0)

    @app.timer(interval=TICK_SECONDS / 2)  # type: ignore[untyped-decorator]
    async def tick() -> None:
        """Keep time moving where something comes due."""
        app.ticker.tick(app.flow.assignment)

    @app.timer(interval=COMPLETE_SECONDS)  # type: ignore[untyped-decorator]
    async def complete() -> None:
        """Leave no row waiting where no records come."""
        app.flow.complete()


def _declare_standby(app: EngineApp, standby: Standby) -> None:
    @app.task  # type: ignore[untyped-decorator]
    async def follow() -> None:
        """Keep the copies up."""
        try:
            await standby.run()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - a copy that was written wrongly is worse
            fail_stop("the standby broke", error)


def _instance_name(settings: EngineSettings) -> str:
    """Name of this data directory, for the transactional id: a restart fences what it left open."""
    path = settings.data_dir / "instance-id"
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    name = path.read_text().strip() if path.exists() else ""
    if not name:
        name = uuid.uuid4().hex
        written = path.with_suffix(".new")
        written.write_text(name)
        written.replace(path)  # Whole or not at all: two workers of one name end each other.
    return name
