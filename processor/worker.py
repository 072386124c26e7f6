"""One worker process: settings in, records decided until a signal ends it.

SIGTERM and SIGINT stop it gracefully: the transaction under way finishes or is aborted, the
partitions are handed over, the databases are flushed. Anything that goes wrong ends it at once
(`engine.faults.fail_stop`).
"""

import logging
import sys
from typing import Any, Final

import faust
import structlog

from processor import COMPILED
from processor.engine.app import EngineSettings, create_app
from processor.engine.faults import Fault
from processor.engine.ports import Domain
from processor.probes import serve_probes
from processor.settings import WorkerSettings
from schemas import topics
from schemas.access import READ, WRITE, lacking, refusal

log = structlog.get_logger()
# Of a session timeout. That a member is gone the others learn with their next one: part of a stall.
HEARTBEATS: Final = 20
LOG_PERIOD_S: Final = 5.0
LOG_MESSAGES_MAX: Final = 1_000  # Distinct messages remembered.

# What it does with topics, beside its changelog; ticks are requests of its own.
RIGHTS: Final = {
    topics.REQUESTS: READ | WRITE,
    topics.TRANSACTIONS: READ,
    topics.RESULTS: WRITE,
    topics.EVENTS: WRITE,
    topics.DEAD_LETTERS: WRITE,
}


class _OncePerPeriod(logging.Filter):
    """Let a message pass once a period: a client library repeats itself while a broker is away."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether this format string of this logger was silent long enough."""
        key = (record.name, str(record.msg))
        if record.created - self._last.get(key, 0.0) < LOG_PERIOD_S:
            return False
        if len(self._last) > LOG_MESSAGES_MAX:
            self._last.clear()
        self._last[key] = record.created
        return True


def configure_logging(log_format: str) -> None:
    """One line per event, on stderr; `log_format` is console or json."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_OncePerPeriod())
    # Faust and aiokafka narrate every rebalance; what matters of it the engine says itself.
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def run(settings: WorkerSettings, domain: Domain) -> None:
    """Run until a signal; does not return before everything has been handed over.

    Raises:
        Fault: the brokers refuse this worker or do not allow it enough, or the cluster's topics are
            not as declared.
        NotListening: its HTTP port is taken.

    """
    why = refusal(settings.kafka.librdkafka())
    if why:
        raise Fault(why)
    app = create_app(
        EngineSettings(
            app_id=topics.APP_ID,
            bootstrap=settings.kafka.bootstrap_servers,
            table=topics.STOCK_TABLE,
            sources=topics.SOURCES,
            data_dir=settings.data_dir,
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_ms=max(100, settings.session_timeout_ms // HEARTBEATS),
            group_instance_id=settings.group_instance_id,
            cache_bytes=settings.cache_mb * 1024 * 1024,
            standby=settings.standby,
            crash_at=settings.crash_at,
            crash_after=settings.crash_after,
        ),
        domain,
        settings.kafka,
    )
    why = lacking(
        settings.kafka.librdkafka(),
        of_topics=RIGHTS
        | {app.changelog: READ | WRITE}
        | dict.fromkeys(settings.reply_topics, WRITE),
        of_groups={topics.APP_ID: READ},
    )
    if why:
        raise Fault(why)
    app.prepare()
    log.info("core", compiled=COMPILED)
    if settings.http_port:
        serve_probes(settings.http_port, lambda: app.flow.assignment is not None)
    worker = faust.Worker(app, loglevel="WARNING", override_logging=False, redirect_stdouts=False)
    try:
        worker.execute_from_commandline()
    finally:
        app.release()
