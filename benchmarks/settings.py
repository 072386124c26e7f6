"""The one place of this room that reads the environment: what the programs under test inherit."""

import os
from collections.abc import Mapping


def environment(overrides: Mapping[str, str]) -> dict[str, str]:
    """Environment of a program under test: this process's own, with `overrides` winning."""
    return {**os.environ, **overrides}
