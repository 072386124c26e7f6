"""A stack with a worker that decides, once for all integration tests that only ask it."""

from collections.abc import Iterator

import msgspec
import pytest

from compose.progress import silent
from holdfast.demo.place import throw_away
from producers.settings import Settings

ANSWER_WITHIN_MS = 30_000  # A busy machine may be slow; who does not wait asks for less.


@pytest.fixture(scope="session")
def running() -> Iterator[Settings]:
    """Servers and a worker of their own; tests that use them take products nobody else uses."""
    with throw_away(silent) as settings:
        yield msgspec.structs.replace(settings, timeout_ms=ANSWER_WITHIN_MS)
