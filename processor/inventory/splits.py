"""Split transactions: one part of an order line becomes two, and nothing of it is offset twice.

An ERP that picks three of four reserved pieces makes the old transaction smaller and a new one for
the rest, in two events that may come in either order. Taken alone, the first looks like a reduced
demand and the second like a new one. So what a transaction of an order line loses, with the holds
that went for it, and what a new one gains are kept for a short while: what merely moved takes its
holds along, or leaves them where they are.

The rule: only transactions that name the same order and order line are parts of each other, what
one loses was gained by none before it came, the one that gains was never seen before, and the two
events lie no more than `SPLIT_WINDOW_MS` apart.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from processor.inventory import rows as row
from processor.inventory.identity import GROUP
from processor.inventory.state import PartitionState
from schemas.messages import TransactionStatus

SPLIT_WINDOW_MS: Final = 60_000  # Broker time between the two halves; an ERP writes both at once.
PARTS_MAX: Final = 16  # Of an order line within the window; the oldest is forgotten.
OFFSETS_MAX: Final = 64  # Holds of one part: with as many parts, a quarter of a row's bytes.
FORMAT: Final = 2  # A row of format 1, of an earlier release, is out of its window: nothing moved.


class Told:
    """A transaction's status, as it was told or is tried again."""

    __slots__ = ("event_id", "organization_id", "product_id", "status")

    def __init__(
        self, event_id: str, organization_id: str, product_id: str, status: TransactionStatus
    ) -> None:
        self.event_id = event_id
        self.organization_id = organization_id
        self.product_id = product_id
        self.status = status


class Part(msgspec.Struct, frozen=True, array_like=True):
    """What one transaction gained, being new, or the holds that went with what it lost.

    One of which others have taken all that it gained stays: it says when the transaction came.
    """

    transaction_id: str
    at_ms: int
    gained: int
    lost: list[row.Offset]


class Split(msgspec.Struct, frozen=True, array_like=True):
    """Parts of one order line, the oldest first."""

    format: int
    parts: list[Part]


def gain(state: PartitionState, told: Told, quantity: int) -> list[row.Offset]:
    """A new transaction has this quantity: the holds of what others have just lost are its own."""
    key = _key(told)
    if key is None:
        return []
    found: list[row.Offset] = []
    kept: list[Part] = []
    left = quantity
    for part in _parts(state, key):
        is_gain = not part.lost
        taken = cut(part.lost, left)
        found += taken
        left -= total(taken)
        if is_gain or part.lost:
            kept.append(part)
    _write(state, key, [*kept, Part(told.status.transaction_id, state.clock_ms, left, [])])
    return found


def lose(
    state: PartitionState, told: Told, quantity: int, has: Callable[[str], int]
) -> list[tuple[str, int]]:
    """A transaction has so much less: which others have gained it since it came, how much each.

    None more than it `has` by now: it may have been reduced, or have ended.
    """
    key = _key(told)
    if key is None:
        return []
    found: list[tuple[str, int]] = []
    parts = _parts(state, key)
    for index in range(_newer_than(parts, told.status.transaction_id), len(parts)):
        part = parts[index]
        most = min(quantity, part.gained)
        amount = min(most, has(part.transaction_id)) if most else 0
        if amount:
            found.append((part.transaction_id, amount))
            parts[index] = msgspec.structs.replace(part, gained=part.gained - amount)
            quantity -= amount
    if found:
        _write(state, key, parts)
    return found


def _newer_than(parts: list[Part], transaction_id: str) -> int:
    """Where the parts begin that came after the transaction; 0 if it came before all of them."""
    for index, part in enumerate(parts):
        if part.transaction_id == transaction_id and not part.lost:
            return index + 1
    return 0


def lost(state: PartitionState, told: Told, holds: list[row.Offset]) -> None:
    """These holds went with what the transaction lost; the next new one may claim them."""
    key = _key(told)
    if key is not None and holds:
        kept = add([], holds, OFFSETS_MAX)
        part = Part(told.status.transaction_id, state.clock_ms, 0, kept)
        _write(state, key, [*_parts(state, key), part])


def cut(offsets: list[row.Offset], quantity: int) -> list[row.Offset]:
    """Take up to so much off the end of the list; returns it."""
    gone: list[row.Offset] = []
    while quantity and offsets:
        last = offsets.pop()
        part = min(last.quantity, quantity)
        if part < last.quantity:
            offsets.append(row.Offset(last.hold_key, last.quantity - part, last.hold))
        gone.append(row.Offset(last.hold_key, part, last.hold))
        quantity -= part
    return gone


def add(offsets: list[row.Offset], more: list[row.Offset], most: int) -> list[row.Offset]:
    """Append to the list; beyond `most` of them the last one stands for the rest."""
    for one in more:
        if len(offsets) < most:
            offsets.append(one)
        else:
            last = offsets[-1]
            offsets[-1] = row.Offset(last.hold_key, last.quantity + one.quantity, last.hold)
    return offsets


def total(offsets: list[row.Offset]) -> int:
    """How much all of them took."""
    return sum(one.quantity for one in offsets)


def last_ms(stored: bytes) -> int:
    """When something was last noted in the row; 0 if all of it is out of its window."""
    return max((part.at_ms for part in _decode(stored)), default=0)


def _key(told: Told) -> bytes | None:
    status = told.status
    if not status.order_id or not status.order_line_id:
        return None
    words = (told.organization_id, status.order_id, status.order_line_id)
    return b"S" + GROUP.join(words).encode()


def _decode(stored: bytes) -> list[Part]:
    of_format: list[object] = msgspec.msgpack.decode(stored)
    return msgspec.msgpack.decode(stored, type=Split).parts if of_format[0] == FORMAT else []


def _parts(state: PartitionState, key: bytes) -> list[Part]:
    """What the row says that is within its window."""
    stored = state.rows.get(key)
    since_ms = state.clock_ms - SPLIT_WINDOW_MS
    return [] if stored is None else [one for one in _decode(stored) if one.at_ms > since_ms]


def _write(state: PartitionState, key: bytes, parts: list[Part]) -> None:
    state.put(key, msgspec.msgpack.encode(Split(FORMAT, parts[-PARTS_MAX:])))
    state.forget_later(key)
