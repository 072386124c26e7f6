"""What the gateway needs from the rest of the deployment, as it is given it at start.

Producers never import the processor: the reading side comes as `schemas.queries.Queries`, and
whoever can read, check and apply configurations comes as `Configurations`.
"""

from typing import Any, Protocol

import msgspec


class Refusal(Exception):
    """A configuration that is not put to work; the text says why."""


class Unavailable(Exception):
    """It cannot be asked just now; the text says why."""


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a configuration.

    Attributes:
        version: its number.
        partitions: how many there are.
        in_force: how many of them decide by it now.

    """

    version: int
    partitions: int
    in_force: int


class Configurations(Protocol):
    """Reads and applies configuration documents. Blocking: called on a thread."""

    def current(self) -> dict[str, Any]:
        """The document in force, as JSON members; the default where none was applied.

        Raises:
            Unavailable: the broker does not answer.

        """
        ...

    def apply(self, document: dict[str, Any], actor: str) -> Applied:
        """Check a document, number it one above the one in force, and apply it everywhere.

        Raises:
            Refusal: it is wrong, or would corrupt what is stored.
            Unavailable: the broker does not answer.

        """
        ...
