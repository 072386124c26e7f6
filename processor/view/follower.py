"""Keeps Redis in step with the changelog: builds a generation where there is none, then follows.

The rule: nothing is remembered but in Redis. Whenever something is not as expected (another
generation is served, a position is not where it was left, Redis was away), the positions are read
from Redis again and the changelog from there on. Where a generation cannot be caught up, another is
built beside it while it is still served.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import redis
import structlog
from confluent_kafka import KafkaException

from processor.view import metrics
from processor.view.applier import Applier, Superseded
from processor.view.changelog import Changelog
from processor.view.generations import Client, Generations, now_ms
from processor.view.keys import FORMAT, GenerationKeys, Names, Position, Report, encode
from processor.view.plan import Batch, position_of
from processor.view.refusal import in_words
from processor.view.settings import ViewSettings
from schemas import topics
from schemas.access import refusal

POLL_S: Final = 0.5
REPORT_EVERY_S: Final = 0.5
SUPERSEDED_WAIT_S: Final = 0.1  # Lets somebody else who applies get on.
RETRY_AFTER_S: Final = 0.5  # Redis or the broker is away.
# Times that a new generation is filled on to where the served one has come meanwhile; each takes a
# small part of the one before, unless applying is no faster than what is written.
CATCH_UPS_MAX: Final = 10
# The mark of a deleted row may be compacted away this long after it was written; a generation that
# was not followed for half of that could keep rows that are gone.
POSITION_AGE_MS_MAX: Final = topics.TOMBSTONE_RETENTION_MS // 2

log = structlog.get_logger(__name__)


class Stopped(Exception):
    """It was asked to stop."""


class Outdated(Exception):
    """The served generation cannot be caught up with the changelog: another must be built."""


class Unreadable(Exception):
    """Redis or the brokers did not do what was asked; the text says why, and what to do."""


class Follower:
    """One process's work. Blocking; `stop` may be called from a signal handler or a thread."""

    def __init__(
        self, settings: ViewSettings, kafka: Mapping[str, Any], topic: str = topics.CHANGELOG
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._topic = topic
        self._names = Names(settings.prefix)
        self._redis: Client = redis.Redis.from_url(**settings.connection())
        self._generations = Generations(self._redis, self._names)
        self._stopping = threading.Event()
        self._reported_at = 0.0
        self._began_at = 0.0  # When the transaction under way was begun.
        self._behind_since_ms: dict[int, int] = {}
        self.is_following = False

    def stop(self) -> None:
        """Make `run` return soon, after the transaction under way."""
        self._stopping.set()

    def run(self) -> None:
        """Follow until `stop`; builds what is missing first.

        Raises:
            ChangelogMissing: the topic is not there.

        """
        while not self._stopping.is_set():
            changelog = Changelog(self._kafka, self._topic)
            try:
                self._run_once(changelog)
            except Stopped:
                return
            except Superseded as reason:
                metrics.SUPERSEDED.inc()
                log.info("reading the positions again", reason=str(reason))
                self._stopping.wait(SUPERSEDED_WAIT_S)
            except redis.RedisError as error:
                metrics.REDIS_ERRORS.inc()
                log.warning("redis cannot be used", error=in_words(error))
                self._stopping.wait(RETRY_AFTER_S)
            except KafkaException as error:
                log.warning("the changelog cannot be read", error=self._why(error))
                self._stopping.wait(RETRY_AFTER_S)
            finally:
                self.is_following = False
                changelog.close()

    def rebuild(self) -> str:
        """Build another generation beside the served one, and serve it; returns its name.

        Raises:
            Superseded: somebody else was faster.
            Stopped: it was asked to stop.
            Unreadable: Redis does not answer, or the changelog cannot be read.

        """
        changelog = Changelog(self._kafka, self._topic)
        try:
            name, before = self._build(changelog)
            if before is not None:
                self._drop(before)
        except redis.RedisError as error:
            raise Unreadable(in_words(error)) from error
        except KafkaException as error:
            raise Unreadable(self._why(error)) from error
        finally:
            changelog.close()
        return name.decode()

    def _why(self, error: KafkaException) -> str:
        return refusal(self._kafka) or str(error.args[0].str())

    def _run_once(self, changelog: Changelog) -> None:
        name = self._generations.live()
        metrics.BUILDING.set(name is None)
        if name is None:
            log.info("nothing is served: building")
            name, _ = self._build(changelog)
            metrics.BUILDING.set(0)
        try:
            self._follow(changelog, self._names.generation(name))
        except Outdated as reason:
            if self._generations.live() != name:  # It was dropped while it was looked at.
                raise Superseded("another generation is served, or none") from reason
            log.warning("the generation cannot be caught up: building", reason=str(reason))
            _, before = self._build(changelog)
            if before is not None:
                # Beside the following, which it would hold up for as long as the copy is large.
                drop = threading.Thread(target=self._drop, args=(before,), daemon=True)
                drop.start()

    def _drop(self, name: bytes) -> None:
        """Delete a generation that is no longer served."""
        try:
            self._generations.drop(name)
        except redis.RedisError as error:
            log.warning(
                "an old generation is deleted with the next build",
                name=name.decode(),
                error=str(error),
            )

    # A new generation.

    def _build(self, changelog: Changelog) -> tuple[bytes, bytes | None]:
        """Fill a new generation up to the end of the changelog, and serve it.

        Returns its name, and that of the one that was served before.
        """
        started = time.monotonic()
        served = self._generations.live()
        self._generations.drop_abandoned()
        keys = self._generations.begin()
        try:
            self._fill(changelog, keys, served)
        except (Superseded, Stopped):
            self._generations.drop(keys.name)
            raise
        metrics.REBUILDS.inc()
        seconds = round(time.monotonic() - started, 1)
        log.info("generation served", generation=keys.name.decode(), seconds=seconds)
        return keys.name, served

    def _fill(self, changelog: Changelog, keys: GenerationKeys, served: bytes | None) -> None:
        partitions = changelog.partitions()
        self._redis.mset(
            {
                keys(b"format"): FORMAT,
                keys(b"topic"): changelog.topic_id(),
                keys(b"partitions"): len(partitions),
            }
        )
        with self._applier(keys, serving=False) as applier:
            positions = applier.positions(partitions)
            self._fill_to(changelog.ends(partitions), applier, changelog, positions)
            for _ in range(CATCH_UPS_MAX):
                ahead = self._ahead(changelog, served, positions)
                if not ahead:
                    break
                self._fill_to(ahead, applier, changelog, positions)
        applied = {
            partition: position for partition, position in positions.items() if position.offset
        }
        if not self._generations.switch(keys, served, applied):
            raise Superseded("another generation is served, or redis was wiped")

    def _ahead(
        self, changelog: Changelog, served: bytes | None, positions: Mapping[int, Position]
    ) -> dict[int, int]:
        """Where the served generation has come further meanwhile: who reads must not go back."""
        if served is None:
            return {}
        keys = self._names.generation(served)
        made_by = self._redis.mget(keys(b"format"), keys(b"topic"))
        if made_by != [FORMAT, changelog.topic_id()]:
            return {}  # Its positions say nothing here.
        stored = self._redis.mget([keys.at(partition) for partition in positions])
        reached = zip(positions.items(), map(position_of, stored), strict=True)
        return {
            partition: other.offset
            for (partition, position), other in reached
            if other.offset > position.offset
        }

    def _fill_to(
        self,
        ends: Mapping[int, int],
        applier: Applier,
        changelog: Changelog,
        positions: dict[int, Position],
    ) -> None:
        """Apply everything up to these ends, and keep the positions in step."""
        changelog.seek(positions)
        reported = time.monotonic()
        while any(changelog.position(partition) < end for partition, end in ends.items()):
            self._stop_if_asked()
            for batch in self._advance(applier, changelog):
                positions[batch.partition] = batch.end()
            if time.monotonic() - reported > REPORT_EVERY_S:
                reported = time.monotonic()
                self._generations.report(applier.keys)
        for batch in self._finish(applier):
            positions[batch.partition] = batch.end()

    # The generation that is served.

    def _follow(self, changelog: Changelog, keys: GenerationKeys) -> None:
        partitions = changelog.partitions()
        with self._applier(keys, serving=True) as applier:
            positions = applier.positions(partitions)
            self._check(changelog, keys, positions)
            changelog.seek(positions)
            log.info("following", generation=keys.name.decode(), partitions=len(partitions))
            self.is_following = True
            while True:
                self._stop_if_asked()
                self._advance(applier, changelog)
                if time.monotonic() - self._reported_at > REPORT_EVERY_S:
                    self._finish(applier)  # What was fetched counts as applied in the report.
                    self._report(changelog, keys, partitions)

    def _check(
        self, changelog: Changelog, keys: GenerationKeys, positions: Mapping[int, Position]
    ) -> None:
        """Whether the generation can be caught up.

        Raises:
            Outdated: it cannot.

        """
        format_, topic_id = self._redis.mget(keys(b"format"), keys(b"topic"))
        if format_ != FORMAT:
            raise Outdated("another release built it")
        if topic_id != changelog.topic_id():
            raise Outdated("the changelog was made anew")
        ends = changelog.ends([*positions])
        for partition, position in positions.items():
            if position.offset > ends[partition]:
                raise Outdated(f"partition {partition} ends before the position")
            age_ms = now_ms() - position.appended_at_ms
            behind = 0 < position.offset < ends[partition] - 1
            if behind and age_ms > POSITION_AGE_MS_MAX:
                raise Outdated(f"partition {partition} was not followed for too long")

    def _report(self, changelog: Changelog, keys: GenerationKeys, partitions: list[int]) -> None:
        """Say how far behind it is; find out whether another generation is served."""
        self._reported_at = time.monotonic()
        now = now_ms()
        lags = {partition: changelog.lag(partition) for partition in partitions}
        for partition, lag in lags.items():
            metrics.LAG_RECORDS.labels(partition).set(lag)
            if lag:
                self._behind_since_ms.setdefault(partition, now)
            else:
                self._behind_since_ms.pop(partition, None)
        oldest = min(self._behind_since_ms.values(), default=now)
        report = Report(sum(lags.values()), now - oldest, now)
        # Kept for a while only: a generation that was dropped must not come back through it.
        self._redis.set(keys.health, encode(report), ex=60)
        if self._generations.live() != keys.name:
            raise Superseded("another generation is served, or none")

    # Both.

    def _applier(self, keys: GenerationKeys, *, serving: bool) -> Applier:
        answers_ms = self._settings.answers_ms
        return Applier(self._redis, self._names, keys, serving=serving, answers_ms=answers_ms)

    def _advance(self, applier: Applier, changelog: Changelog) -> Sequence[Batch]:
        """Fetch, and have Redis apply it; what it has applied meanwhile of what was fetched before.

        While Redis is at work the next records are fetched; nothing is waited for but its answer
        until that is there.
        """
        fetched = changelog.poll(0 if applier.is_under_way else POLL_S)
        applied = self._finish(applier)
        if fetched:
            self._began_at = time.monotonic()
            applier.begin(fetched)
        return applied

    def _finish(self, applier: Applier) -> Sequence[Batch]:
        applied = applier.finish()
        if applied:
            self._count(applied)
        return applied

    def _count(self, applied: Sequence[Batch]) -> None:
        metrics.APPLY_SECONDS.observe(time.monotonic() - self._began_at)
        metrics.BATCHES.inc()
        metrics.ROWS.inc(sum(len(batch.rows) for batch in applied))
        now = now_ms()
        oldest_ms = min(batch.first_at_ms or now for batch in applied)
        metrics.LAG_SECONDS.observe(max(0, now - oldest_ms) / 1000)

    def _stop_if_asked(self) -> None:
        if self._stopping.is_set():
            raise Stopped
