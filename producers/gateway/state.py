"""One gateway: what its endpoints share, put together once at start."""

import asyncio
import contextlib
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from producers.gateway.metrics import Metrics
from producers.gateway.places import Places
from producers.gateway.ports import Configurations, Unavailable
from producers.gateway.positions import Positions
from producers.gateway.settings import GatewaySettings
from producers.gateway.writer import Writer
from producers.security.issuer import LocalIssuer
from producers.security.ratelimit import RateLimit
from producers.security.verify import Verifier
from schemas.queries import Queries, ViewUnavailable

if TYPE_CHECKING:  # It needs what is here.
    from producers.gateway.v1.events import Events

CONFIGURATION_EVERY_S: Final = 5.0
TOPIC_EVERY_TURNS: Final = 6
log = structlog.get_logger()


class Gateway:
    """What endpoints share.

    Attributes:
        writer: the way into the topics.
        queries: the way to what was decided.
        jobs: progress of the jobs that run here, by id.
        events: the event stream; None until it is given one.
        places: names and keys of the configuration in force; renewed while running.
        issuer: development identity provider, None in production.

    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        writer: Writer,
        queries: Queries,
        configurations: Configurations,
        document: Mapping[str, Any],
        verifier: Verifier,
        issuer: LocalIssuer | None = None,
    ) -> None:
        self.settings = settings
        self.writer = writer
        self.queries = queries
        self.configurations = configurations
        self.places = Places(document)
        self.verifier = verifier
        self.issuer = issuer
        self.positions = Positions()
        self.metrics = Metrics(writer)
        self.limit = RateLimit(settings.rate_per_s, settings.burst)
        # Tokens that are not accepted count by address, whatever the limit of clients is.
        self.failures = RateLimit(20.0, 100)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.jobs: dict[str, Any] = {}
        self.events: Events | None = None

    async def open(self) -> None:
        """Connect, and follow the configuration.

        Raises:
            ChannelError: no broker answers, or the topics are not there.

        """
        await self.writer.open()
        self.start(self._follow_configuration())

    def start(self, work: Any) -> None:
        """Run work beside the requests; it ends with the gateway at the latest."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def renew_configuration(self, *, from_view: bool = False) -> None:
        """Take over the configuration in force: from the topic, or where the view has it."""
        try:
            document = await self._document(from_view=from_view)
            newer = document["version"] >= self.places.version  # The view may be behind.
            if newer and document != self.places.document:
                self.places = Places(document)
                log.info("configuration taken over", version=self.places.version)
        except Unavailable as error:
            log.warning("the configuration could not be read", reason=str(error))
        except (KeyError, TypeError, ValueError) as error:
            log.exception("the configuration is not understood; the last one stays", why=str(error))

    async def _document(self, *, from_view: bool) -> Mapping[str, Any]:
        if not from_view:
            return await asyncio.to_thread(self.configurations.current)
        try:
            return await self.queries.configuration()
        except ViewUnavailable:
            return self.places.document

    async def _follow_configuration(self) -> None:
        """Look where the view has it, often; in the topic, a read of all versions, seldom."""
        for turn in itertools.count(1):
            await asyncio.sleep(CONFIGURATION_EVERY_S)
            try:
                await self.renew_configuration(from_view=turn % TOPIC_EVERY_TURNS != 0)
            except Exception:
                log.exception("the configuration could not be renewed; the last one stays")

    def end_streams(self) -> None:
        """End the answers that have no end of their own."""
        if self.events is not None:
            self.events.end()

    async def close(self) -> None:
        """End what runs beside, wait for outcomes under way, let go of the broker."""
        self.end_streams()
        for task in list(self.tasks):
            task.cancel()
        for task in list(self.tasks):
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await self.writer.close()
        await self.queries.close()
