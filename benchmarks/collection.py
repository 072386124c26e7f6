"""No garbage collection while something is measured.

A full pass over hundreds of thousands of objects stops a process for a third of a second.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python's collector off; what was collected before is the caller's choice."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
