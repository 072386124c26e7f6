"""What the values of rows hold, as structs.

The rule: data only. They stand apart from `rows` because that module is compiled, and compiled code
cannot define a `msgspec.Struct` with options.
"""

import msgspec


class Place(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a reservation id stands for."""

    organization_id: str
    product_id: str
    dimensions: dict[str, str]
    measure: str


class Leaf(msgspec.Struct, array_like=True, gc=False):
    """One stock row. Quantities by measure; `counted_at_ms` by measure that was ever SET."""

    format: int
    organization_id: str
    product_id: str
    dimensions: dict[str, str]
    quantities: dict[str, int]
    counted_at_ms: dict[str, int]


class LevelRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Total of the holds of one reservation id that are live or not yet swept."""

    format: int
    organization_id: str
    product_id: str
    dimensions: dict[str, str]
    measure: str
    reserved: int


class Hold(msgspec.Struct, array_like=True, gc=False):
    """One accepted line. `expires_at_ms` 0: never. `place` is an encoded `Place`."""

    format: int
    state: int
    place: msgspec.Raw
    quantity: int
    created_at_ms: int
    expires_at_ms: int
    original_quantity: int
    channel: str = ""
    order_id: str = ""
    order_line_id: str = ""
    actor: str = ""
    external_reference: str = ""
    priority: int = 0
    checked: bool = True


class AnswerDetail(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`ResultDetail` as it is remembered."""

    invalid_quantity: int
    expires_at_ms: int | None
    level: str
    terms: list[tuple[str, int]]
    next_free_at_ms: int | None
    message: str


class AnswerLine(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`ResultLine` as it is remembered; `number` -1: no hold."""

    code: int
    reservation: bytes
    number: int
    quantity: int
    available: int
    detail: AnswerDetail | None = None


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a request was answered."""

    format: int
    code: int
    lines: list[AnswerLine]


class Offset(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A hold that an ERP transaction took over: enough to bring it back."""

    hold_key: bytes
    quantity: int
    hold: msgspec.Raw


class Ledger(msgspec.Struct, array_like=True, gc=False):
    """One ERP inventory transaction: how far it went, and what it took over so far."""

    format: int
    organization_id: str
    transaction_id: str
    sequence: int
    status: str
    quantity: int
    offset_quantity: int
    product_id: str
    dimensions: dict[str, str]
    offsets: list[Offset]
    updated_at_ms: int
    event_id: str


class Failure(msgspec.Struct, array_like=True, gc=False):
    """An offset that found nothing, or not all of it: waits until it is retried or dismissed."""

    format: int
    failure_id: str
    code: int
    organization_id: str
    transaction_id: str
    product_id: str
    dimensions: dict[str, str]
    status: str
    quantity: int
    reservation_id: str
    hold_id: str
    order_id: str
    order_line_id: str
    auto_offset: bool
    event_id: str
    at_ms: int
    tries: int = 1


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """What is kept in the watermark row."""

    format: int
    clock_ms: int
    sequence: int
    counters: dict[str, int]
