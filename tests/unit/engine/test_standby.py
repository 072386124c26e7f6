"""Copies of other workers' partitions: when their changelog is asked for, and what is applied."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from processor.engine import standby as module
from processor.engine.standby import Standby
from processor.engine.store import PartitionStore, Position, shared_cache

WITHIN_S = 10.0


class Consumer:
    """Stands in for a consumer of the changelog: it has nothing."""

    started = 0

    async def start(self) -> None:
        """Connect."""
        type(self).started += 1

    async def stop(self) -> None:
        """Hang up."""

    async def end_offsets(self, places: list[Any]) -> Mapping[Any, int]:
        """Nothing was ever written."""
        return dict.fromkeys(places, 0)

    beginning_offsets = end_offsets

    def assign(self, _places: list[Any]) -> None:
        """These are followed."""

    def seek(self, _place: Any, _offset: int) -> None:
        """From here on."""

    async def getmany(self, **_: Any) -> dict[Any, Any]:
        """Nothing comes."""
        await asyncio.sleep(0)
        return {}


def test_a_worker_whose_last_copy_was_taken_asks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fail-over it decides all partitions: there is nothing to follow until one goes."""
    monkeypatch.setattr(module, "changelog_consumer", lambda *_: Consumer())
    monkeypatch.setattr(module, "start_offset", lambda *_: 0)
    Consumer.started = 0

    async def turns(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    async def play() -> None:
        standby = Standby({}, "changelog")
        store: Any = object()
        standby.watch(1, store)
        following = asyncio.ensure_future(standby.run())
        await turns(50)
        assert Consumer.started == 1
        assert standby.take(1) is store
        await turns(200)
        assert Consumer.started == 1
        standby.watch(2, store)
        await turns(50)
        assert Consumer.started == 2
        following.cancel()

    asyncio.run(play())


class Row(NamedTuple):
    """A record of the changelog."""

    offset: int
    key: bytes
    value: bytes
    timestamp: int = 0


class Log(Consumer):
    """Stands in for a consumer of a changelog with these rows in every partition.

    A poll finds what is there when it begins, and ends when it may.
    """

    def __init__(self, *values: bytes) -> None:
        self.rows = [Row(offset, b"a", value) for offset, value in enumerate(values)]
        self.sought: list[int] = []
        self.polling = asyncio.Semaphore(0)
        self.may_end = asyncio.Semaphore(0)
        self._offsets: dict[Any, int] = {}

    async def end_offsets(self, places: list[Any]) -> Mapping[Any, int]:
        """Behind the last row."""
        return dict.fromkeys(places, len(self.rows))

    async def beginning_offsets(self, places: list[Any]) -> Mapping[Any, int]:
        """Nothing was deleted."""
        return dict.fromkeys(places, 0)

    def assign(self, places: list[Any]) -> None:
        """These and no others."""
        self._offsets = dict.fromkeys(places, 0)

    def seek(self, place: Any, offset: int) -> None:
        """From here on."""
        self.sought.append(offset)
        self._offsets[place] = offset

    async def getmany(self, **_: Any) -> dict[Any, Any]:
        """What was there."""
        polled = {place: self.rows[offset:] for place, offset in self._offsets.items()}
        self._offsets = dict.fromkeys(self._offsets, len(self.rows))
        self.polling.release()
        await self.may_end.acquire()
        return {place: rows for place, rows in polled.items() if rows}

    async def next_poll(self) -> None:
        """Let the poll under way end, if there is one, and wait for the next."""
        self.may_end.release()
        async with asyncio.timeout(WITHIN_S):
            await self.polling.acquire()


def opened(path: Path) -> PartitionStore:
    """A database with nothing in it."""
    return PartitionStore(
        path,
        cache=shared_cache(1 << 20),
        topic_id="changelog-1",
        derive=lambda _key, _value: [],
        indexed_kinds=frozenset(),
    )


async def test_a_partition_that_was_decided_meanwhile_is_followed_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken and came back while a poll waited: what that brings is older than its rows."""
    log = Log(b"1", b"2")
    monkeypatch.setattr(module, "changelog_consumer", lambda *_: log)
    standby, store = Standby({}, "changelog"), opened(tmp_path / "db")
    standby.watch(1, store)
    following = asyncio.ensure_future(standby.run())
    async with asyncio.timeout(WITHIN_S):
        await log.polling.acquire()
    assert standby.take(1) is store
    log.rows.append(Row(2, b"a", b"3"))
    store.apply({b"a": b"3"}, Position(3, 0, "changelog-1"))
    standby.watch(1, store)
    await log.next_poll()
    assert (log.sought, store.position.offset, store.get(b"a")) == ([0, 3], 3, b"3")
    log.rows.append(Row(3, b"a", b"4"))
    await log.next_poll()
    await log.next_poll()
    assert (log.sought, store.position.offset, store.get(b"a")) == ([0, 3], 4, b"4")
    following.cancel()


async def test_a_partition_that_was_taken_gets_no_more_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a poll was waiting that brings some; the others are followed on."""
    log = Log(b"1", b"2")
    monkeypatch.setattr(module, "changelog_consumer", lambda *_: log)
    standby, taken, kept = Standby({}, "changelog"), opened(tmp_path / "1"), opened(tmp_path / "2")
    standby.watch(1, taken)
    standby.watch(2, kept)
    following = asyncio.ensure_future(standby.run())
    async with asyncio.timeout(WITHIN_S):
        await log.polling.acquire()
    assert standby.take(1) is taken
    await log.next_poll()
    await log.next_poll()
    assert (taken.position.offset, taken.get(b"a")) == (0, None)
    assert (kept.position.offset, kept.get(b"a")) == (2, b"2")
    following.cancel()
