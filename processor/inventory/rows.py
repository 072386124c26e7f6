"""Rows of one partition: their keys, their values, and the index rows derived from them.

A key is a kind byte, for grouped kinds a group of 12 bytes, then the rest. A value is a msgpack
array with the format number first; holds and answers have a fixed head before it, so that an index
or an age is read without decoding.

    P + location(12) + "L" + dimensions          stock leaf: one stock row, as it was told of
    P + location(12) + "N" + dimensions + 1E + measure   level: total of one reservation id's holds
    H + reservation(12) + number(8)              hold
    R + request id                               what a request was answered
    E + event id                                 likewise for inventory transactions
    S + organization + 1E + order + 1E + line    what its ERP transactions lost or gained lately
    T + organization + 1E + transaction id       ledger of one ERP inventory transaction
    F + failure id                               an offset that failed and waits
    D + forget at(8) + sequence(8)               remembered ids to forget then
    C                                            configuration in force

Index rows, kept beside the database only, derived from holds:

    X + due(8) + hold key                            what the sweep does next
    Y + location(12) + due(8) + hold key without H   when stock frees; value: quantity(8)
    O + reservation(12) + order(8) + number(8)       holds of one order

Numbers in keys and heads are big-endian, so that key order is the order of age. The rule: a row
says all that a reader needs to understand it; no configuration has to be at hand.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, Protocol

import msgspec

from processor.inventory.identity import GROUP, Dimensions, canonical
from processor.inventory.row_bodies import (
    Answer as Answer,
    AnswerDetail as AnswerDetail,
    AnswerLine as AnswerLine,
    Failure as Failure,
    Hold as Hold,
    Leaf as Leaf,
    Ledger as Ledger,
    LevelRow as LevelRow,
    Offset as Offset,
    Place as Place,
)

FORMAT: Final = 1
GROUP_LENGTH: Final[Mapping[int, int]] = {
    ord("P"): 13,
    ord("H"): 13,
    ord("F"): 1,
    ord("D"): 1,
    ord("X"): 1,
    ord("Y"): 13,
    ord("O"): 21,
}
LOCAL_KINDS: Final = frozenset(b"XYO")
REWRITTEN_KINDS: Final[Mapping[int, int]] = {ord("P"): GROUP_LENGTH[ord("P")]}  # Sums.
INDEXED_KINDS: Final = frozenset(b"H")  # Whose rows they are made of.
CONFIGURATION_KEY: Final = b"C"
KIND_LEAF: Final = ord("L")
KIND_LEVEL: Final = ord("N")
NEVER_MS: Final = 2**63 - 1  # Due of a hold without expiry: after everything else.

LIVE: Final = 0  # Counts against availability until its expiry.
LAPSED: Final = 1  # Expired and no longer counted; a confirmation within the grace may revive it.

_HOLD_HEAD: Final = struct.Struct(">q12sq8s")
HOLD_HEAD_BYTES: Final = _HOLD_HEAD.size
_ANSWER_HEAD: Final = struct.Struct(">q8s")
ANSWER_HEAD_BYTES: Final = _ANSWER_HEAD.size
_NO_ORDER: Final = bytes(8)
_GROUP: Final = GROUP.encode()
_encode: Final = msgspec.msgpack.Encoder().encode


class RowReader(Protocol):
    """Rows that are only looked up; a dict of them will do."""

    def get(self, key: bytes, /) -> bytes | None:
        """Value of the row, or None."""
        ...


class RowAccess(RowReader, Protocol):
    """The rows of one partition, as the engine gives them (`engine.ports.Rows`)."""

    def put(self, key: bytes, value: bytes, /) -> None:
        """Write the row."""
        ...

    def delete(self, key: bytes, /) -> None:
        """Delete the row."""
        ...

    def scan(self, group: bytes, after: bytes = b"", /) -> Iterator[tuple[bytes, bytes]]:
        """Rows of the group with a key greater than `after`, in key order."""
        ...

    def next_group(self, after: bytes, /) -> bytes | None:
        """First group behind `after` of the same kind that has committed rows."""
        ...

    def pending_groups(self, kind: bytes, /) -> set[bytes]:
        """Groups of the kind with writes that are not committed yet."""
        ...


# Keys.


def leaf_key(location: bytes, dimensions: Dimensions) -> bytes:
    """Key of a stock leaf."""
    return b"P%bL%b" % (location, canonical(dimensions))


def location_of(key: bytes) -> bytes:
    """Location of a stock leaf or a level, by its key."""
    return key[1:13]


def level_key(location: bytes, spelled: bytes, measure: str) -> bytes:
    """Key of a level; `spelled`: its dimension values as `identity.canonical` spells them."""
    return b"P%bN%b%b%b" % (location, spelled, _GROUP, measure.encode())


def hold_key(reservation: bytes, number: int) -> bytes:
    """Key of a hold."""
    return b"H%b%b" % (reservation, number.to_bytes(8, "big"))


def ledger_key(organization_id: str, transaction_id: str) -> bytes:
    """Key of a transaction's ledger."""
    return f"T{organization_id}{GROUP}{transaction_id}".encode()


def failure_key(failure_id: str) -> bytes:
    """Key of an offset failure."""
    return b"F" + failure_id.encode()


def order_hash(order_id: str) -> bytes:
    """Eight bytes that stand for an order in the index; zero for none."""
    if not order_id:
        return _NO_ORDER
    return blake2b(order_id.encode(), digest_size=8).digest()


# Values.

# Head of the array and the format; the rest of a level row without words is four empty fields and
# the quantity 0, a byte each.
_LEVEL_START: Final = _encode(LevelRow(FORMAT, "", "", {}, "", 0))[:-5]


def due_of(hold: Hold, grace_ms: int) -> int:
    """When the sweep looks at the hold next: its expiry, or the end of its grace."""
    if hold.expires_at_ms == 0:
        return NEVER_MS
    return hold.expires_at_ms + (grace_ms if hold.state == LAPSED else 0)


def encode_hold(hold: Hold, location: bytes, due_ms: int) -> bytes:
    """Value of a hold row."""
    order = order_hash(hold.order_id) if hold.order_id else _NO_ORDER
    counted = hold.quantity if hold.state == LIVE else 0
    return _HOLD_HEAD.pack(due_ms, location, counted, order) + _encode(hold)


_decode_hold: Final = msgspec.msgpack.Decoder(Hold).decode
_decode_place: Final = msgspec.msgpack.Decoder(Place).decode
_decode_leaf: Final = msgspec.msgpack.Decoder(Leaf).decode
_decode_level: Final = msgspec.msgpack.Decoder(LevelRow).decode
_decode_answer: Final = msgspec.msgpack.Decoder(Answer).decode
_decode_ledger: Final = msgspec.msgpack.Decoder(Ledger).decode
_decode_failure: Final = msgspec.msgpack.Decoder(Failure).decode


def decode_hold(value: bytes) -> Hold:
    """Hold behind a row's value."""
    return _decode_hold(value[HOLD_HEAD_BYTES:])


def decode_hold_body(body: bytes | msgspec.Raw) -> Hold:
    """Hold without a head, as a ledger keeps it."""
    return _decode_hold(body)


def hold_location(value: bytes) -> bytes:
    """Location of a hold row, without decoding it."""
    return value[8:20]


def at_location(value: bytes, location: bytes) -> bytes:
    """Value of the hold row under another location."""
    return value[:8] + location + value[20:]


def decode_place(hold: Hold) -> Place:
    """What the hold holds."""
    return _decode_place(hold.place)


def encode_place(place: Place) -> bytes:
    """Encoded once per level, copied into every hold."""
    return _encode(place)


def encode_row(row: Leaf | Ledger | Failure) -> bytes:
    """Value of a row without head."""
    return _encode(row)


def decode_leaf(value: bytes) -> Leaf:
    """Stock leaf behind a row's value."""
    return _decode_leaf(value)


def decode_level(value: bytes) -> LevelRow:
    """Level behind a row's value."""
    return _decode_level(value)


def decode_ledger(value: bytes) -> Ledger:
    """Ledger behind a row's value."""
    return _decode_ledger(value)


def decode_failure(value: bytes) -> Failure:
    """Offset failure behind a row's value."""
    return _decode_failure(value)


def level_head(place_row: bytes) -> bytes:
    """All of a level row but its quantity, which is encoded behind it.

    The fields between the format and the quantity are those of the encoded place.
    """
    return _LEVEL_START + place_row[1:]


def encode_answer(decided_at_ms: int, digest: bytes, answer: object) -> bytes:
    """Value of an answer row. `answer` is an `Answer`, or a tuple of its shape."""
    return _ANSWER_HEAD.pack(decided_at_ms, digest) + _encode(answer)


def answer_head(value: bytes) -> tuple[int, bytes]:
    """When the answer was given, and the digest of what was asked."""
    decided_at_ms, digest = _ANSWER_HEAD.unpack_from(value)
    return decided_at_ms, digest


def decode_answer(value: bytes) -> Answer:
    """Answer behind a row's value."""
    return _decode_answer(value[ANSWER_HEAD_BYTES:])


# Index.


def index_rows(key: bytes, value: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Index rows of a row, from its key and the head of its value alone."""
    if key[0] != 72:  # H
        return ()
    due = value[:8]
    order = value[28:36]
    rows: list[tuple[bytes, bytes]] = []
    if due != _NEVER:
        rows.append((b"X%b%b" % (due, key), b""))
        if value[20:28] != _ZERO:
            rows.append((b"Y%b%b%b" % (value[8:20], due, key[1:]), value[20:28]))
    if order != _NO_ORDER:
        rows.append((b"O%b%b%b" % (key[1:13], order, key[13:]), b""))
    return rows


def index_beside_due(key: bytes, value: bytes) -> list[bytes]:
    """Keys of the index rows of a hold that has an expiry, but for the one in order of due."""
    keys: list[bytes] = []
    if value[20:28] != _ZERO:
        keys.append(b"Y%b%b%b" % (value[8:20], value[:8], key[1:]))
    order = value[28:36]
    if order != _NO_ORDER:
        keys.append(b"O%b%b%b" % (key[1:13], order, key[13:]))
    return keys


_NEVER: Final = NEVER_MS.to_bytes(8, "big")
_ZERO: Final = bytes(8)


def raw(encoded: bytes) -> msgspec.Raw:
    """Encoded bytes to be put into a row as they are."""
    return msgspec.Raw(encoded)


def with_changes(hold: Hold, **changes: Any) -> Hold:
    """The hold with some fields changed."""
    return msgspec.structs.replace(hold, **changes)
