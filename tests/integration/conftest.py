"""A stack with a worker that decides, once for all integration tests that only ask it."""

from collections.abc import Iterator

import pytest

from compose.progress import silent
from holdfast.demo.place import throw_away
from producers.settings import Settings


@pytest.fixture(scope="session")
def running() -> Iterator[Settings]:
    """Servers and a worker of their own; tests that use them take products nobody else uses."""
    with throw_away(silent) as settings:
        yield settings
