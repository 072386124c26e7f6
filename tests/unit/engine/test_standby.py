"""Copies of other workers' partitions: when their changelog is asked for."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from processor.engine import standby as module
from processor.engine.standby import Standby


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
