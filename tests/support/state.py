"""The rows of the changelog, read without the engine's help, against the model's stock.

The layout is that of `processor/inventory/rows.py`, decoded here a second time: a kind byte, for
some kinds a hash, and a msgpack array that says in full what the row is about.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tests.support.model import RESERVED, Model, Place, node_of

GROUP_BYTES: Final = 13
HOLD_HEAD_BYTES: Final = 36  # due, location, quantity, order
ANSWER_HEAD_BYTES: Final = 16  # decided at, digest
SEPARATOR: Final = "\x1e"

State = dict[tuple[Any, ...], Any]


def state_of_rows(rows: Mapping[bytes, bytes]) -> State:
    """What the rows of one partition say."""
    state: State = {}
    for key, value in rows.items():
        state.update(_entries(key, value))
    return state


def _entries(key: bytes, value: bytes) -> Iterator[tuple[tuple[Any, ...], Any]]:
    kind = chr(key[0])
    if kind == "P" and key[GROUP_BYTES : GROUP_BYTES + 1] == b"L":
        _, organization_id, product_id, dimensions, quantities, *_ = _array(value)
        row = frozenset(dimensions.items())
        for measure, quantity in quantities.items():
            if quantity:
                yield ("measure", organization_id, product_id, row, measure), quantity
    elif kind == "P":
        _, organization_id, product_id, dimensions, measure, reserved = _array(value)[:6]
        if reserved:
            yield ("reserved", organization_id, product_id, node_of(dimensions), measure), reserved
    elif kind == "H":
        text = key[1:GROUP_BYTES].hex()
        number = int.from_bytes(key[GROUP_BYTES:], "big")
        hold = _array(value[HOLD_HEAD_BYTES:])
        organization_id, product_id, dimensions, measure = hold[2]
        place = (organization_id, product_id, node_of(dimensions), measure)
        yield ("hold", f"{text}-{number}", *place), hold[3]
    elif kind == "R":
        yield ("answer", key[1:].decode()), _array(value[ANSWER_HEAD_BYTES:])[1]
    elif kind == "E":
        yield ("event", key[1:].decode()), True
    elif kind == "T":
        ledger = _array(value)
        yield ("ledger", key[1:].decode()), (ledger[3], ledger[6])


def _array(value: bytes) -> list[Any]:
    array: list[Any] = msgspec.msgpack.decode(value)
    return array


def watermark_offsets(rows: Mapping[bytes, bytes]) -> dict[str, int]:
    """The offsets that the rows contain, by source topic, from the engine's own row."""
    value = rows.get(b"W")
    return {} if value is None else dict(_array(value)[1])


def state_of_model(model: Model, id_of: Mapping[Place, str]) -> State:
    """What the rows must say."""
    state: State = {}
    for (organization_id, product_id, *_), shelf in model.shelves.items():
        about = (organization_id, product_id)
        for row, leaf in shelf.leaves.items():
            for measure, quantity in leaf.measures.items():
                if quantity:
                    state["measure", *about, row, measure] = quantity
        for node, holds in shelf.holds.items():
            reserved = shelf.reserved(node)
            if reserved:
                state["reserved", *about, node, RESERVED] = reserved
            text = id_of.get(Place(*about, node), "")
            for hold in holds.values():
                number = f"{text}-{hold.number}"
                state["hold", number, *about, node, RESERVED] = hold.quantity
    for request_id, (_, answer) in model.answers.items():
        state["answer", request_id] = int(answer.code)
    for event_id in model.events:
        state["event", event_id] = True
    for (organization_id, transaction_id), entry in model.ledger.items():
        key = f"{organization_id}{SEPARATOR}{transaction_id}"
        state["ledger", key] = (entry.sequence, entry.offset)
    return state


def differences(rows: Mapping[bytes, bytes], model: Model, id_of: Mapping[Place, str]) -> list[str]:
    """Every entry in which the rows and the model differ, in words."""
    seen = state_of_rows(rows)
    wanted = state_of_model(model, id_of)
    return [
        f"{key}: {seen.get(key)}, not {wanted.get(key)}"
        for key in seen.keys() | wanted.keys()
        if seen.get(key) != wanted.get(key)
    ]
