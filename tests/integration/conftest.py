"""A stack with a worker that decides, once for all integration tests that only ask it."""

import uuid
from collections.abc import Callable, Iterator

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


@pytest.fixture
def product() -> str:
    """A product nobody else uses."""
    return f"P-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def of_its_own(product: str) -> Callable[[str], str]:
    """What a page shows, about `product` instead of the page's.

    The pages all speak of D0002, most of them at the same place. What one takes there, or at a
    level above, is missing from the next one on the same stack.
    """
    return lambda block: block.replace("D0002", product)
