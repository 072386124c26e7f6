"""Struct to Avro body, one function per record: its fields in the order of the .avsc.

The twin of `schemas.reading`, written out for the same reasons and held by the same tests. Each
appends to a bytearray, and raises as `schemas.binary` says.
"""

from collections.abc import Sequence
from typing import Final

from schemas.binary import (
    write_boolean,
    write_bytes,
    write_int,
    write_long,
    write_quantity,
    write_text,
    write_text_map,
)
from schemas.messages import (
    DeadLetter,
    InventoryEvent,
    InventoryTransaction,
    LineDetail,
    RequestLine,
    RequestOptions,
    ReservationRequest,
    ReservationResult,
    ResultDetail,
    ResultLine,
    TransactionStatus,
)
from schemas.symbols import ACTIONS, CHANGE_MODES, EVENT_TYPES, STATUSES

_ABSENT: Final = 0  # First branch of a union with null, as one byte.
_PRESENT: Final = 2
_END: Final = 0  # A block of no items ends an array.


def write_request(out: bytearray, request: ReservationRequest) -> None:
    """ReservationRequest.avsc."""
    write_text(out, request.request_id)
    _write_symbol(out, request.action, ACTIONS)
    write_text(out, request.organization_id)
    write_text(out, request.channel)
    if request.lines:
        write_long(out, len(request.lines))
        for line in request.lines:
            _write_request_line(out, line)
    out.append(_END)
    options = request.options
    if options is None:
        out.append(_ABSENT)
        return
    out.append(_PRESENT)
    _write_options(out, options)


def _write_request_line(out: bytearray, line: RequestLine) -> None:
    write_text(out, line.product_id)
    write_text(out, line.dimension_data_source)
    write_text_map(out, line.dimensions)
    write_text(out, line.measure)
    write_quantity(out, line.quantity)
    write_boolean(out, line.check_availability)
    detail = line.detail
    if detail is None:
        out.append(_ABSENT)
        return
    out.append(_PRESENT)
    _write_line_detail(out, detail)


def _write_line_detail(out: bytearray, detail: LineDetail) -> None:
    write_text(out, detail.order_id)
    write_text(out, detail.order_line_id)
    write_text(out, detail.hold_id)
    write_text(out, detail.reservation_id)
    _write_optional_long(out, detail.expires_at_ms)
    _write_optional_long(out, detail.expires_in_ms)
    if detail.minimum_quantity is None:
        out.append(_ABSENT)
    else:
        out.append(_PRESENT)
        write_quantity(out, detail.minimum_quantity)
    write_text(out, detail.external_reference)
    _write_optional_text_map(out, detail.target_dimensions)
    write_int(out, detail.priority)


def _write_options(out: bytearray, options: RequestOptions) -> None:
    write_boolean(out, options.atomic)
    write_boolean(out, options.dry_run)
    write_boolean(out, options.explain)
    write_text(out, options.actor)
    write_text(out, options.offset_failure_id)
    _write_optional_bytes(out, options.configuration)


def write_result(out: bytearray, result: ReservationResult) -> None:
    """ReservationResult.avsc."""
    write_text(out, result.request_id)
    write_int(out, result.code)
    write_long(out, result.sequence)
    write_long(out, result.decided_at_ms)
    write_long(out, result.source_offset)
    write_boolean(out, result.replayed)
    if result.lines:
        write_long(out, len(result.lines))
        for line in result.lines:
            _write_result_line(out, line)
    out.append(_END)


def _write_result_line(out: bytearray, line: ResultLine) -> None:
    write_int(out, line.code)
    write_text(out, line.reservation_id)
    write_text(out, line.hold_id)
    write_quantity(out, line.quantity)
    write_quantity(out, line.available)
    detail = line.detail
    if detail is None:
        out.append(_ABSENT)
        return
    out.append(_PRESENT)
    _write_result_detail(out, detail)


def _write_result_detail(out: bytearray, detail: ResultDetail) -> None:
    write_quantity(out, detail.invalid_quantity)
    _write_optional_long(out, detail.expires_at_ms)
    write_text(out, detail.level)
    if detail.terms:
        write_long(out, len(detail.terms))
        for term in detail.terms:
            write_text(out, term.measure)
            write_quantity(out, term.quantity)
    out.append(_END)
    _write_optional_long(out, detail.next_free_at_ms)
    write_text(out, detail.message)


def write_transaction(out: bytearray, transaction: InventoryTransaction) -> None:
    """InventoryTransaction.avsc."""
    write_text(out, transaction.event_id)
    write_text(out, transaction.organization_id)
    write_text(out, transaction.product_id)
    write_text(out, transaction.dimension_data_source)
    write_text_map(out, transaction.dimensions)
    write_text(out, transaction.source)
    _write_symbol(out, transaction.mode, CHANGE_MODES)
    _write_optional_long(out, transaction.modified_at_ms)
    if transaction.changes:
        write_long(out, len(transaction.changes))
        for change in transaction.changes:
            write_text(out, change.measure)
            write_quantity(out, change.quantity)
            _write_optional_text_map(out, change.dimensions)
    out.append(_END)
    status = transaction.transaction
    if status is None:
        out.append(_ABSENT)
        return
    out.append(_PRESENT)
    _write_status(out, status)


def _write_status(out: bytearray, status: TransactionStatus) -> None:
    write_text(out, status.transaction_id)
    _write_symbol(out, status.status, STATUSES)
    write_long(out, status.sequence)
    write_quantity(out, status.quantity)
    write_text(out, status.order_id)
    write_text(out, status.order_line_id)
    write_text(out, status.reservation_id)
    write_text(out, status.hold_id)
    write_boolean(out, status.auto_offset)


def write_event(out: bytearray, event: InventoryEvent) -> None:
    """InventoryEvent.avsc."""
    _write_symbol(out, event.event_type, EVENT_TYPES)
    write_int(out, event.code)
    write_long(out, event.sequence)
    write_long(out, event.at_ms)
    write_text(out, event.source_topic)
    write_long(out, event.source_offset)
    write_text(out, event.source_id)
    write_text(out, event.organization_id)
    write_text(out, event.product_id)
    write_text_map(out, event.dimensions)
    write_text(out, event.transaction_id)
    write_text(out, event.reservation_id)
    write_text(out, event.hold_id)
    write_text(out, event.order_id)
    write_text(out, event.channel)
    write_quantity(out, event.quantity)
    write_quantity(out, event.invalid_quantity)
    write_quantity(out, event.available)
    write_text(out, event.message)


def write_dead_letter(out: bytearray, letter: DeadLetter) -> None:
    """DeadLetter.avsc."""
    write_int(out, letter.code)
    write_text(out, letter.reason)
    write_text(out, letter.topic)
    write_int(out, letter.partition)
    write_long(out, letter.offset)
    write_long(out, letter.timestamp_ms)
    _write_optional_bytes(out, letter.key)
    _write_optional_bytes(out, letter.value)


def _write_symbol(out: bytearray, value: str, symbols: Sequence[str]) -> None:
    if value not in symbols:
        raise ValueError(f"{value!r} is none of {', '.join(symbols)}")
    write_long(out, symbols.index(value))


def _write_optional_long(out: bytearray, value: int | None) -> None:
    if value is None:
        out.append(_ABSENT)
        return
    out.append(_PRESENT)
    write_long(out, value)


def _write_optional_bytes(out: bytearray, value: bytes | None) -> None:
    if value is None:
        out.append(_ABSENT)
        return
    out.append(_PRESENT)
    write_bytes(out, value)


def _write_optional_text_map(out: bytearray, value: dict[str, str] | None) -> None:
    if value is None:
        out.append(_ABSENT)
        return
    out.append(_PRESENT)
    write_text_map(out, value)
