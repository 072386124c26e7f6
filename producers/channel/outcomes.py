"""What a request can come to, seen from the channel that asked.

A refusal is an answer (`ReservationResult` with its code). The two outcomes of this module are not
answers: `Unknown` says that the client does not know, which is a fact to act on (`lookup`), never
an error to swallow; `Undecided` says that the record was set aside as a dead letter and changed
nothing.
"""

import msgspec

from schemas.codes import GRANTED, Code
from schemas.messages import InventoryEvent, ReservationResult


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """No answer within the time given: it may have been decided, or still be.

    `lookup(request_id)` settles it: the same request is sent again, and whatever happened first
    counts. A dry run's is the id that it went under, not the one it was given.
    """

    request_id: str
    reason: str


class Undecided(msgspec.Struct, frozen=True, kw_only=True):
    """The record went to the dead letters; nothing was changed by it.

    A channel client that computes keys otherwise than the worker is configured is the usual cause.
    """

    request_id: str
    code: int
    reason: str


Answer = ReservationResult | Unknown | Undecided
"""Outcome of a reservation request."""

EventAnswer = InventoryEvent | Unknown | Undecided
"""Outcome of an inventory transaction: its event of type TRANSACTION."""


class ChannelError(Exception):
    """The client cannot work: no broker, no topic, closed. The message says what to do."""


class InFlightError(ValueError):
    """The same id is under way with other content: ids name one request each."""


class RecordTooLargeError(ValueError):
    """The request does not fit in one record: split it."""


def granted(answer: Answer) -> bool:
    """Whether the request was accepted, in full or in part."""
    return isinstance(answer, ReservationResult) and answer.code in GRANTED


def code_name(code: int) -> str:
    """Name of a result code, also of one that this version does not know."""
    try:
        return Code(code).name
    except ValueError:
        return f"CODE_{code}"
