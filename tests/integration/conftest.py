"""A stack with a worker that decides, once for all integration tests that only ask it."""

import uuid
from collections.abc import Callable, Iterator

import msgspec
import pytest

from producers.settings import Settings
from tests.support.replying import replying

ANSWER_WITHIN_MS = 30_000  # A busy machine may be slow; who does not wait asks for less.


@pytest.fixture(scope="session")
def stack_that_replies() -> Iterator[tuple[Settings, int]]:
    """Servers and a worker of their own, which answers on reply topics as well; its health port."""
    with replying() as (settings, port):
        yield msgspec.structs.replace(settings, timeout_ms=ANSWER_WITHIN_MS), port


@pytest.fixture(scope="session")
def running(stack_that_replies: tuple[Settings, int]) -> Settings:
    """Where that worker decides; tests that use it take products nobody else uses."""
    return stack_that_replies[0]


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
