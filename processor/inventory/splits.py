"""Split transactions: one part of an order line becomes two, and nothing of it is offset twice.

An ERP that picks three of four reserved pieces makes the old transaction smaller and a new one for
the rest, in two events that may come in either order. Taken alone, the first looks like a reduced
demand and the second like a new one. So what a transaction of an order line loses, and what a new
one brings, are set against each other for a short while: what merely moved was offset already.

The rule: only transactions that name the same order and order line are parts of each other, the
new one must not have been seen before, and the two events lie no more than `SPLIT_WINDOW_MS` apart.
"""

from typing import Final, NamedTuple

import msgspec

from processor.inventory import rows as row
from processor.inventory.identity import GROUP
from processor.inventory.state import PartitionState
from schemas.messages import TransactionStatus

SPLIT_WINDOW_MS: Final = 60_000  # Broker time between the two halves; an ERP writes both at once.


class Told(NamedTuple):
    """A transaction's status, as it was told or is tried again."""

    event_id: str
    organization_id: str
    product_id: str
    status: TransactionStatus


class Split(msgspec.Struct, frozen=True, array_like=True):
    """What an order line's transactions lost (above zero) or gained (below) lately."""

    format: int
    balance: int
    at_ms: int


def take_over(state: PartitionState, told: Told, due: int, ledger: row.Ledger) -> int:
    """How much of what a new transaction is due was offset by the one it was split from."""
    key = _key(told)
    if key is None:
        return 0
    balance = _balance(state, key)
    moved = min(due, max(balance, 0))
    ledger.offset_quantity += moved
    _write(state, key, balance - due)
    return moved


def moved(state: PartitionState, told: Told, lost: int) -> int:
    """How much of what a transaction lost a new one has taken from the holds instead."""
    key = _key(told)
    if key is None:
        return 0
    balance = _balance(state, key)
    _write(state, key, balance + lost)
    return min(lost, max(-balance, 0))


def _key(told: Told) -> bytes | None:
    status = told.status
    if not status.order_id or not status.order_line_id:
        return None
    words = (told.organization_id, status.order_id, status.order_line_id)
    return b"S" + GROUP.join(words).encode()


def _balance(state: PartitionState, key: bytes) -> int:
    stored = state.rows.get(key)
    if stored is None:
        return 0
    split = msgspec.msgpack.decode(stored, type=Split)
    return split.balance if split.at_ms + SPLIT_WINDOW_MS > state.clock_ms else 0


def last_ms(stored: bytes) -> int:
    """When the row was written last."""
    return msgspec.msgpack.decode(stored, type=Split).at_ms


def _write(state: PartitionState, key: bytes, balance: int) -> None:
    state.put(key, msgspec.msgpack.encode(Split(row.FORMAT, balance, state.clock_ms)))
    state.forget_later(key)
