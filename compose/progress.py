"""What the stack says while it downloads and starts.

The stack itself prints nothing: it calls a `Progress`, and the caller decides where that goes.
"""

import threading
import time
from typing import Protocol

from rich.console import Console


class Progress(Protocol):
    """Receives one line about one server; called from several threads."""

    def __call__(self, server: str, message: str, /) -> None:
        """Take one message."""


def silent(_server: str, _message: str, /) -> None:
    """Say nothing."""


def console_lines(console: Console) -> Progress:
    """Print each message as a line with the seconds since now, for a person who waits."""
    started_s = time.monotonic()
    lock = threading.Lock()

    def say(server: str, message: str, /) -> None:
        elapsed_s = time.monotonic() - started_s
        with lock:
            console.print(
                f"[dim]{elapsed_s:6.1f} s[/dim]  [bold]{server:<9}[/bold] {message}",
                highlight=False,
                soft_wrap=True,
            )

    return say
