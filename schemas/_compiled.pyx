# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
# cython: auto_pickle=False, embedsignature=False
"""The usual records, read and written by compiled code: the quick way past `schemas.reading` and
`schemas.writing`, its pure twins.

The rule: this module answers only what it is sure of. Each reader takes a framed record and returns
its struct (`read_plain` its parts), each writer the reverse (`write_plain` only for what was read as
plain, so it raises instead); where anything is out of the ordinary (another frame, a record
cut short, an Avro form our own writers do not use, a value of another type, a number out of range)
they return None, change nothing, and the caller asks the pure twin, whose answer or error is the
one that counts. So there is one place that says what is refused, and with which words.

It holds four things that plain C would forget: every length is compared with what is left before it
is used; nothing is allocated by a count before the bytes for it are there; one record never makes
the next one slower or wrong; and no Python code runs between the first and the last byte written,
so one output buffer does for all.

It is built for structs of exactly these fields; with others it refuses to be imported, so that one
built from an older source steps aside for the pure twin.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from cpython.dict cimport PyDict_CheckExact, PyDict_GetItem, PyDict_Next, PyDict_SetItem, PyDict_Size
from cpython.list cimport (
    PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE, PyList_New, PyList_SET_ITEM,
)
from cpython.long cimport PyLong_AsLongLong, PyLong_Check, PyLong_FromLongLong
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_Check, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from schemas import messages, symbols
from schemas.codes import Code
from schemas.limits import (
    MESSAGE_BYTES_MAX, QUANTITY_SUM_MAX, RECORD_BYTES_MAX, REQUEST_ID_LENGTH_MAX,
)

cdef extern from *:
    """
    #include <string.h>

    static inline uint64_t hf_load8(const unsigned char *at) {
        uint64_t word; memcpy(&word, at, 8); return word;
    }
    static inline uint64_t hf_load4(const unsigned char *at) {
        uint32_t word; memcpy(&word, at, 4); return word;
    }

    static inline int hf_is_ascii(const unsigned char *at, Py_ssize_t length) {
        uint64_t seen = 0;
        for (; length >= 8; at += 8, length -= 8) seen |= hf_load8(at);
        for (; length > 0; at++, length--) seen |= *at;
        return (seen & 0x8080808080808080ULL) == 0;
    }

    /* Slot of a short text (1 to 32 bytes) among 4096: any hash will do, a clash costs time only. */
    static inline uint32_t hf_slot(const unsigned char *at, Py_ssize_t length) {
        uint64_t first, last, rest = (uint64_t)length;
        if (length >= 8) {
            first = hf_load8(at);
            last = hf_load8(at + length - 8);
            if (length > 16) rest += hf_load8(at + 8) * 0x9E3779B97F4A7C15ULL;
            if (length > 24) rest ^= hf_load8(at + 16);
        } else if (length >= 4) {
            first = hf_load4(at);
            last = hf_load4(at + length - 4);
        } else {
            first = at[0];
            last = at[length >> 1] | (uint64_t)at[length - 1] << 8;
        }
        first = (first ^ rest) * 0xFF51AFD7ED558CCDULL;
        first = (first ^ (first >> 32) ^ last) * 0xC4CEB9FE1A85EC53ULL;
        return (uint32_t)(first >> 52);
    }

    static inline int hf_bits(uint64_t value) {
        return value ? 64 - __builtin_clzll(value) : 0;
    }
    """
    bint hf_is_ascii(const unsigned char *at, Py_ssize_t length) noexcept
    uint32_t hf_slot(const unsigned char *at, Py_ssize_t length) noexcept
    int hf_bits(uint64_t value) noexcept
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 largest)
    void *PyUnicode_1BYTE_DATA(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    bint PyBool_Check(object value) noexcept

cdef enum:
    FRAME = 5
    SHORT = 32  # Longest text that is remembered, in bytes.
    SLOTS = 4096  # Texts remembered; as many as `hf_slot` tells apart.
    BUFFER = 262144  # Bytes; a longer record is left to the pure twin.


cdef object fitting(object struct, tuple fields):
    """The struct, if its fields are those that the functions below read and write, in order."""
    if struct.__struct_fields__ != fields:
        raise ImportError(f"schemas._compiled was built for another {struct.__name__}")
    return struct


cdef object RequestLine = fitting(messages.RequestLine, (
    "product_id", "dimension_data_source", "dimensions", "measure", "quantity",
    "check_availability", "detail",
))
cdef object LineDetail = fitting(messages.LineDetail, (
    "order_id", "order_line_id", "hold_id", "reservation_id", "expires_at_ms", "expires_in_ms",
    "minimum_quantity", "external_reference", "target_dimensions", "priority",
))
cdef object RequestOptions = fitting(messages.RequestOptions, (
    "atomic", "dry_run", "explain", "actor", "offset_failure_id", "configuration",
))
cdef object ReservationRequest = fitting(messages.ReservationRequest, (
    "request_id", "action", "organization_id", "channel", "lines", "options",
))
cdef object Term = fitting(messages.Term, ("measure", "quantity"))
cdef object ResultDetail = fitting(messages.ResultDetail, (
    "invalid_quantity", "expires_at_ms", "level", "terms", "next_free_at_ms", "message",
))
cdef object ResultLine = fitting(messages.ResultLine, (
    "code", "reservation_id", "hold_id", "quantity", "available", "detail",
))
cdef object ReservationResult = fitting(messages.ReservationResult, (
    "request_id", "code", "sequence", "decided_at_ms", "source_offset", "replayed", "lines",
))
cdef object MeasureChange = fitting(messages.MeasureChange, ("measure", "quantity", "dimensions"))
cdef object TransactionStatus = fitting(messages.TransactionStatus, (
    "transaction_id", "status", "sequence", "quantity", "order_id", "order_line_id",
    "reservation_id", "hold_id", "auto_offset",
))
cdef object InventoryTransaction = fitting(messages.InventoryTransaction, (
    "event_id", "organization_id", "product_id", "dimension_data_source", "dimensions", "source",
    "mode", "modified_at_ms", "changes", "transaction",
))
cdef object InventoryEvent = fitting(messages.InventoryEvent, (
    "event_type", "code", "sequence", "at_ms", "source_topic", "source_offset", "source_id",
    "organization_id", "product_id", "dimensions", "transaction_id", "reservation_id", "hold_id",
    "order_id", "channel", "quantity", "invalid_quantity", "available", "message",
))

cdef tuple ACTIONS = symbols.ACTIONS
cdef tuple CHANGE_MODES = symbols.CHANGE_MODES
cdef tuple STATUSES = symbols.STATUSES
cdef tuple EVENT_TYPES = symbols.EVENT_TYPES
cdef dict ACTION_INDEX = {symbol: index for index, symbol in enumerate(ACTIONS)}
cdef dict CHANGE_MODE_INDEX = {symbol: index for index, symbol in enumerate(CHANGE_MODES)}
cdef dict STATUS_INDEX = {symbol: index for index, symbol in enumerate(STATUSES)}
cdef dict EVENT_TYPE_INDEX = {symbol: index for index, symbol in enumerate(EVENT_TYPES)}

cdef Py_ssize_t SOURCE_BYTES_MAX = RECORD_BYTES_MAX
cdef Py_ssize_t ANSWER_BYTES_MAX = MESSAGE_BYTES_MAX
cdef int64_t QUANTITY_LIMIT = QUANTITY_SUM_MAX

cdef Py_ssize_t REQUEST_ID_MAX = REQUEST_ID_LENGTH_MAX
cdef int64_t RESERVE = ACTIONS.index("RESERVE")
cdef int64_t ACCEPTED = Code.ACCEPTED

cdef PyObject *remembered[SLOTS]
cdef unsigned char buffer[BUFFER]


cdef int decline() except -1:
    raise ValueError


# ---------------------------------------------------------------------------------- reading

cdef struct Cursor:
    const unsigned char *at
    const unsigned char *end


cdef inline bint open_frame(Cursor *c, value, bytes frame, Py_ssize_t bytes_max) noexcept:
    cdef Py_ssize_t size
    if not PyBytes_CheckExact(value) or PyBytes_GET_SIZE(frame) != FRAME:
        return False
    size = PyBytes_GET_SIZE(value)
    if size <= FRAME or size > bytes_max:
        return False
    c.at = <const unsigned char *>PyBytes_AS_STRING(value)
    if memcmp(c.at, PyBytes_AS_STRING(frame), FRAME):
        return False
    c.end = c.at + size
    c.at += FRAME
    return True


cdef inline int byte(Cursor *c) except -1:
    cdef int value
    if c.at >= c.end:
        decline()
    value = c.at[0]
    c.at += 1
    return value


cdef int64_t long_number(Cursor *c) except? -1:
    cdef uint64_t raw = 0
    cdef unsigned char part
    cdef int shift = 0
    while shift < 70:
        if c.at >= c.end:
            decline()
        part = c.at[0]
        c.at += 1
        if shift == 63 and part > 1:  # More than 64 bits.
            decline()
        raw |= <uint64_t>(part & 0x7F) << shift
        if part < 0x80:
            return <int64_t>(raw >> 1) ^ -<int64_t>(raw & 1)
        shift += 7
    return decline()


cdef inline int64_t int_number(Cursor *c) except? -1:
    cdef int64_t value = long_number(c)
    if not -0x80000000 <= value <= 0x7FFFFFFF:
        decline()
    return value


cdef inline Py_ssize_t length(Cursor *c) except -1:
    """Length of a text or count of items: not negative, and not more than there are bytes left."""
    cdef int64_t value
    if c.at < c.end and not c.at[0] & 0x81:
        value = c.at[0] >> 1
        c.at += 1
    else:
        value = long_number(c)
    if value < 0 or value > c.end - c.at:
        decline()
    return value


cdef inline bint boolean(Cursor *c) except -1:
    cdef int value = byte(c)
    if value > 1:
        decline()
    return value


cdef inline bint present(Cursor *c) except -1:
    cdef int value = byte(c)
    if value & ~2:
        decline()
    return value != 0


cdef inline object decoded(const unsigned char *at, Py_ssize_t size):
    cdef object found
    if not hf_is_ascii(at, size):
        return PyUnicode_DecodeUTF8(<const char *>at, size, NULL)
    found = PyUnicode_New(size, 127)
    memcpy(PyUnicode_1BYTE_DATA(found), at, size)
    return found


cdef inline object text(Cursor *c):
    cdef Py_ssize_t size = length(c)
    cdef const unsigned char *at = c.at
    c.at += size
    if size == 0:
        return ""
    return decoded(at, size)


cdef object name(Cursor *c):
    """A text that comes again and again: names, products, values of dimensions.

    The same string object as last time, mostly: no allocation, and its hash is known already.
    """
    cdef Py_ssize_t size = length(c)
    cdef const unsigned char *at = c.at
    cdef uint32_t slot
    cdef PyObject *known
    cdef object found
    c.at += size
    if size == 0:
        return ""
    if size > SHORT:
        return decoded(at, size)
    slot = hf_slot(at, size)
    known = remembered[slot]
    if known != NULL:
        found = <object>known
        if PyUnicode_GET_LENGTH(found) == size and not memcmp(PyUnicode_1BYTE_DATA(found), at, size):
            return found
    found = decoded(at, size)
    if PyUnicode_GET_LENGTH(found) == size:  # ASCII
        Py_INCREF(found)
        remembered[slot] = <PyObject *>found
        if known != NULL:
            Py_DECREF(<object>known)
    return found


cdef inline object quantity(Cursor *c):
    cdef int size = byte(c)
    cdef int64_t value
    cdef int index
    if size & 1 or size > 16 or size >> 1 > c.end - c.at:
        decline()
    size >>= 1
    if size == 0:
        return 0
    value = <signed char>c.at[0]
    for index in range(1, size):
        value = <int64_t>(<uint64_t>value << 8) | c.at[index]
    c.at += size
    return PyLong_FromLongLong(value)


cdef inline object optional_quantity(Cursor *c):
    return quantity(c) if present(c) else None


cdef inline object optional_long(Cursor *c):
    return PyLong_FromLongLong(long_number(c)) if present(c) else None


cdef inline object optional_bytes(Cursor *c):
    cdef Py_ssize_t size
    if not present(c):
        return None
    size = length(c)
    c.at += size
    return PyBytes_FromStringAndSize(<const char *>c.at - size, size)


cdef inline object symbol(Cursor *c, tuple symbols):
    cdef int64_t index = long_number(c)
    if index < 0 or index >= PyTuple_GET_SIZE(symbols):
        decline()
    return <object>PyTuple_GET_ITEM(symbols, index)


cdef inline int end_of_block(Cursor *c) except -1:
    """Our writers put all items into one block; more than one is left to the pure twin."""
    if byte(c):
        decline()
    return 0


cdef dict text_map(Cursor *c):
    cdef dict texts = {}
    cdef Py_ssize_t count = length(c)
    cdef object key, value
    if count == 0:
        return texts
    for _ in range(count):
        key = name(c)
        value = name(c)
        PyDict_SetItem(texts, key, value)
    end_of_block(c)
    return texts


cdef inline object optional_text_map(Cursor *c):
    return text_map(c) if present(c) else None


ctypedef object (*ReadItem)(Cursor *c)


cdef inline list items(Cursor *c, ReadItem read):
    cdef Py_ssize_t count = length(c)
    cdef list found = PyList_New(count)
    cdef Py_ssize_t index
    cdef object item
    if count == 0:
        return found
    for index in range(count):
        item = read(c)
        Py_INCREF(item)
        PyList_SET_ITEM(found, index, item)
    end_of_block(c)
    return found


cdef object finished(Cursor *c, object record):
    return record if c.at == c.end else None


def read_request(value, bytes frame not None):
    """ReservationRequest.avsc, framed; None: ask the pure twin."""
    cdef Cursor c
    if not open_frame(&c, value, frame, SOURCE_BYTES_MAX):
        return None
    try:
        return finished(&c, request(&c))
    except Exception:
        return None


cdef object request(Cursor *c):
    cdef object request_id = text(c)
    cdef object action = symbol(c, ACTIONS)
    cdef object organization_id = name(c)
    cdef object channel = name(c)
    cdef list lines = items(c, request_line)
    cdef object options = request_options(c) if present(c) else None
    return ReservationRequest(request_id, action, organization_id, channel, lines, options)


cdef object request_line(Cursor *c):
    cdef object product_id = name(c)
    cdef object data_source = name(c)
    cdef dict dimensions = text_map(c)
    cdef object measure = name(c)
    cdef object asked = quantity(c)
    cdef object check = boolean(c)
    cdef object detail = line_detail(c) if present(c) else None
    return RequestLine(product_id, data_source, dimensions, measure, asked, check, detail)


cdef object line_detail(Cursor *c):
    cdef object order_id = text(c)
    cdef object order_line_id = text(c)
    cdef object hold_id = text(c)
    cdef object reservation_id = text(c)
    cdef object expires_at_ms = optional_long(c)
    cdef object expires_in_ms = optional_long(c)
    cdef object minimum_quantity = optional_quantity(c)
    cdef object external_reference = text(c)
    cdef object target_dimensions = optional_text_map(c)
    cdef object priority = int_number(c)
    return LineDetail(
        order_id=order_id,
        order_line_id=order_line_id,
        hold_id=hold_id,
        reservation_id=reservation_id,
        expires_at_ms=expires_at_ms,
        expires_in_ms=expires_in_ms,
        minimum_quantity=minimum_quantity,
        external_reference=external_reference,
        target_dimensions=target_dimensions,
        priority=priority,
    )


cdef object request_options(Cursor *c):
    cdef object atomic = boolean(c)
    cdef object dry_run = boolean(c)
    cdef object explain = boolean(c)
    cdef object actor = text(c)
    cdef object offset_failure_id = text(c)
    cdef object configuration = optional_bytes(c)
    return RequestOptions(
        atomic=atomic,
        dry_run=dry_run,
        explain=explain,
        actor=actor,
        offset_failure_id=offset_failure_id,
        configuration=configuration,
    )


def read_plain(value, key, bytes frame not None):
    """The parts of a plain request: of one line, RESERVE, without options and rare fields.

    Request id, channel, place (the record's key, the organization, and the bytes from the product
    to the measure), quantity, whether availability is checked. None: it is not plain, or not sure
    to be; its id must be printable ASCII of the allowed length. The bytes are not decoded here:
    whoever knows them from a record that was decoded knows that they are sound.
    """
    cdef Cursor c
    cdef Span carried, request_id, organization, channel, place
    if not PyBytes_CheckExact(key) or not open_frame(&c, value, frame, SOURCE_BYTES_MAX):
        return None
    carried.at = <const unsigned char *>PyBytes_AS_STRING(key)
    carried.size = PyBytes_GET_SIZE(key)
    try:
        span(&c, &request_id)
        if not 0 < request_id.size <= REQUEST_ID_MAX or not is_printable(&request_id):
            return None
        if long_number(&c) != RESERVE:
            return None
        span(&c, &organization)
        span(&c, &channel)
        if long_number(&c) != 1:
            return None
        place.at = c.at
        skip_place(&c)
        place.size = c.at - place.at
        asked = quantity(&c)
        checked = boolean(&c)
        if present(&c) or byte(&c) or present(&c) or c.at != c.end:  # Detail, next block, options.
            return None
    except Exception:
        return None
    where = joined(&carried, &organization, &place)
    return bytes_of(&request_id), bytes_of(&channel), where, asked, checked


cdef struct Span:
    const unsigned char *at
    Py_ssize_t size


cdef inline int span(Cursor *c, Span *found) except -1:
    found.size = length(c)
    found.at = c.at
    c.at += found.size
    return 0


cdef inline bytes bytes_of(Span *found):
    return PyBytes_FromStringAndSize(<const char *>found.at, found.size)


cdef inline bint is_printable(Span *found) noexcept:
    cdef Py_ssize_t index
    for index in range(found.size):
        if not 0x20 <= found.at[index] <= 0x7E:
            return False
    return True


cdef inline int skip_place(Cursor *c) except -1:
    """Product, data source, dimensions, measure."""
    cdef Span passed
    cdef Py_ssize_t count
    span(c, &passed)
    span(c, &passed)
    count = length(c)
    for _ in range(2 * count):
        span(c, &passed)
    if count:
        end_of_block(c)
    return span(c, &passed)


cdef inline bytes joined(Span *first, Span *second, Span *third):
    """With two lengths in front: no other three parts give the same bytes."""
    cdef uint64_t head = <uint64_t>first.size << 32 | <uint64_t>second.size
    cdef bytes made = PyBytes_FromStringAndSize(NULL, 8 + first.size + second.size + third.size)
    cdef char *at = PyBytes_AS_STRING(made)
    memcpy(at, &head, 8)
    at += 8
    memcpy(at, first.at, first.size)
    at += first.size
    memcpy(at, second.at, second.size)
    memcpy(at + second.size, third.at, third.size)
    return made


def read_result(value, bytes frame not None):
    """ReservationResult.avsc, framed; None: ask the pure twin."""
    cdef Cursor c
    if not open_frame(&c, value, frame, ANSWER_BYTES_MAX):
        return None
    try:
        return finished(&c, result(&c))
    except Exception:
        return None


cdef object result(Cursor *c):
    cdef object request_id = text(c)
    cdef object code = int_number(c)
    cdef object sequence = long_number(c)
    cdef object decided_at_ms = long_number(c)
    cdef object source_offset = long_number(c)
    cdef object replayed = boolean(c)
    cdef list lines = items(c, result_line)
    return ReservationResult(
        request_id, code, sequence, decided_at_ms, source_offset, replayed, lines
    )


cdef object result_line(Cursor *c):
    cdef object code = int_number(c)
    cdef object reservation_id = text(c)
    cdef object hold_id = text(c)
    cdef object granted = quantity(c)
    cdef object available = quantity(c)
    cdef object detail = result_detail(c) if present(c) else None
    return ResultLine(code, reservation_id, hold_id, granted, available, detail)


cdef object result_detail(Cursor *c):
    cdef object invalid_quantity = quantity(c)
    cdef object expires_at_ms = optional_long(c)
    cdef object level = name(c)
    cdef list terms = items(c, term)
    cdef object next_free_at_ms = optional_long(c)
    cdef object message = text(c)
    return ResultDetail(
        invalid_quantity=invalid_quantity,
        expires_at_ms=expires_at_ms,
        level=level,
        terms=terms,
        next_free_at_ms=next_free_at_ms,
        message=message,
    )


cdef object term(Cursor *c):
    cdef object measure = name(c)
    return Term(measure, quantity(c))


def read_transaction(value, bytes frame not None):
    """InventoryTransaction.avsc, framed; None: ask the pure twin."""
    cdef Cursor c
    if not open_frame(&c, value, frame, SOURCE_BYTES_MAX):
        return None
    try:
        return finished(&c, transaction(&c))
    except Exception:
        return None


cdef object transaction(Cursor *c):
    cdef object event_id = text(c)
    cdef object organization_id = name(c)
    cdef object product_id = name(c)
    cdef object data_source = name(c)
    cdef dict dimensions = text_map(c)
    cdef object source = name(c)
    cdef object mode = symbol(c, CHANGE_MODES)
    cdef object modified_at_ms = optional_long(c)
    cdef list changes = items(c, measure_change)
    cdef object reached = transaction_status(c) if present(c) else None
    return InventoryTransaction(
        event_id=event_id,
        organization_id=organization_id,
        product_id=product_id,
        dimension_data_source=data_source,
        dimensions=dimensions,
        source=source,
        mode=mode,
        modified_at_ms=modified_at_ms,
        changes=changes,
        transaction=reached,
    )


cdef object measure_change(Cursor *c):
    cdef object measure = name(c)
    cdef object changed = quantity(c)
    return MeasureChange(measure, changed, optional_text_map(c))


cdef object transaction_status(Cursor *c):
    cdef object transaction_id = text(c)
    cdef object status = symbol(c, STATUSES)
    cdef object sequence = long_number(c)
    cdef object reached = quantity(c)
    cdef object order_id = text(c)
    cdef object order_line_id = text(c)
    cdef object reservation_id = text(c)
    cdef object hold_id = text(c)
    cdef object auto_offset = boolean(c)
    return TransactionStatus(
        transaction_id=transaction_id,
        status=status,
        sequence=sequence,
        quantity=reached,
        order_id=order_id,
        order_line_id=order_line_id,
        reservation_id=reservation_id,
        hold_id=hold_id,
        auto_offset=auto_offset,
    )


def read_event(value, bytes frame not None):
    """InventoryEvent.avsc, framed; None: ask the pure twin."""
    cdef Cursor c
    if not open_frame(&c, value, frame, ANSWER_BYTES_MAX):
        return None
    try:
        return finished(&c, event(&c))
    except Exception:
        return None


cdef object event(Cursor *c):
    cdef object event_type = symbol(c, EVENT_TYPES)
    cdef object code = int_number(c)
    cdef object sequence = long_number(c)
    cdef object at_ms = long_number(c)
    cdef object source_topic = name(c)
    cdef object source_offset = long_number(c)
    cdef object source_id = text(c)
    cdef object organization_id = name(c)
    cdef object product_id = name(c)
    cdef dict dimensions = text_map(c)
    cdef object transaction_id = text(c)
    cdef object reservation_id = text(c)
    cdef object hold_id = text(c)
    cdef object order_id = text(c)
    cdef object channel = name(c)
    cdef object concerned = quantity(c)
    cdef object invalid_quantity = quantity(c)
    cdef object available = quantity(c)
    cdef object message = text(c)
    return InventoryEvent(
        event_type=event_type,
        code=code,
        sequence=sequence,
        at_ms=at_ms,
        source_topic=source_topic,
        source_offset=source_offset,
        source_id=source_id,
        organization_id=organization_id,
        product_id=product_id,
        dimensions=dimensions,
        transaction_id=transaction_id,
        reservation_id=reservation_id,
        hold_id=hold_id,
        order_id=order_id,
        channel=channel,
        quantity=concerned,
        invalid_quantity=invalid_quantity,
        available=available,
        message=message,
    )


# ---------------------------------------------------------------------------------- writing

cdef struct Sink:
    unsigned char *at
    unsigned char *end


cdef inline int room(Sink *s, Py_ssize_t size) except -1:
    if s.end - s.at < size:
        decline()
    return 0


cdef inline int put_byte(Sink *s, unsigned char value) except -1:
    room(s, 1)
    s.at[0] = value
    s.at += 1
    return 0


cdef inline int put_long(Sink *s, int64_t value) except -1:
    cdef uint64_t raw = (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)
    room(s, 10)
    while raw > 0x7F:
        s.at[0] = <unsigned char>(raw & 0x7F | 0x80)
        s.at += 1
        raw >>= 7
    s.at[0] = <unsigned char>raw
    s.at += 1
    return 0


cdef inline int64_t number(object value) except? -1:
    if not PyLong_Check(value) or PyBool_Check(value):
        decline()
    return PyLong_AsLongLong(value)


cdef inline int put_number(Sink *s, object value) except -1:
    return put_long(s, number(value))


cdef inline int put_int(Sink *s, object value) except -1:
    cdef int64_t plain = number(value)
    if not -0x80000000 <= plain <= 0x7FFFFFFF:
        decline()
    return put_long(s, plain)


cdef inline int put_boolean(Sink *s, object value) except -1:
    if value is True:
        return put_byte(s, 1)
    if value is not False:
        decline()
    return put_byte(s, 0)


cdef inline int put_text(Sink *s, object value) except -1:
    cdef Py_ssize_t size
    cdef const char *raw
    if not PyUnicode_Check(value):
        decline()
    raw = PyUnicode_AsUTF8AndSize(value, &size)
    put_long(s, size)
    room(s, size)
    memcpy(s.at, raw, size)
    s.at += size
    return 0


cdef inline int put_quantity(Sink *s, object value) except -1:
    cdef int64_t plain = number(value)
    cdef int size, index
    if not -QUANTITY_LIMIT <= plain <= QUANTITY_LIMIT:
        decline()
    size = (hf_bits(<uint64_t>(~plain if plain < 0 else plain)) >> 3) + 1
    room(s, 9)
    s.at[0] = <unsigned char>(size << 1)
    for index in range(size, 0, -1):
        s.at[index] = <unsigned char>(plain & 0xFF)
        plain >>= 8
    s.at += size + 1
    return 0


cdef inline int put_optional_long(Sink *s, object value) except -1:
    if value is None:
        return put_byte(s, 0)
    put_byte(s, 2)
    return put_number(s, value)


cdef inline int put_optional_quantity(Sink *s, object value) except -1:
    if value is None:
        return put_byte(s, 0)
    put_byte(s, 2)
    return put_quantity(s, value)


cdef inline int put_raw(Sink *s, bytes value) except -1:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value)
    room(s, size)
    memcpy(s.at, PyBytes_AS_STRING(value), size)
    s.at += size
    return 0


cdef inline int put_optional_bytes(Sink *s, object value) except -1:
    if value is None:
        return put_byte(s, 0)
    if not PyBytes_CheckExact(value):
        decline()
    put_byte(s, 2)
    put_long(s, PyBytes_GET_SIZE(value))
    return put_raw(s, value)


cdef inline int put_symbol(Sink *s, object value, dict indexes) except -1:
    cdef PyObject *index
    if not PyUnicode_Check(value):
        decline()
    index = PyDict_GetItem(indexes, value)
    if index == NULL:
        decline()
    return put_number(s, <object>index)


cdef int put_text_map(Sink *s, object value) except -1:
    cdef Py_ssize_t position = 0
    cdef PyObject *key
    cdef PyObject *part
    if not PyDict_CheckExact(value):
        decline()
    if PyDict_Size(value):
        put_long(s, PyDict_Size(value))
        while PyDict_Next(value, &position, &key, &part):
            put_text(s, <object>key)
            put_text(s, <object>part)
    return put_byte(s, 0)


cdef inline int put_optional_text_map(Sink *s, object value) except -1:
    if value is None:
        return put_byte(s, 0)
    put_byte(s, 2)
    return put_text_map(s, value)


ctypedef int (*PutItem)(Sink *s, object item) except -1


cdef inline int put_items(Sink *s, object value, PutItem put) except -1:
    cdef Py_ssize_t count, index
    if not PyList_CheckExact(value):
        decline()
    count = PyList_GET_SIZE(value)
    if count:
        put_long(s, count)
        for index in range(count):
            put(s, <object>PyList_GET_ITEM(value, index))
    return put_byte(s, 0)


cdef inline int put_record(Sink *s, object value, PutItem put) except -1:
    """A record in a union with null."""
    if value is None:
        return put_byte(s, 0)
    put_byte(s, 2)
    return put(s, value)


cdef inline int begin(Sink *s, bytes frame) except -1:
    if PyBytes_GET_SIZE(frame) != FRAME:
        decline()
    s.at = buffer
    s.end = buffer + BUFFER
    return put_raw(s, frame)


cdef inline bytes written(Sink *s):
    return PyBytes_FromStringAndSize(<const char *>buffer, s.at - buffer)


cdef inline object framed(object record, bytes frame, PutItem put):
    cdef Sink s
    try:
        begin(&s, frame)
        put(&s, record)
    except Exception:
        return None
    return written(&s)


cdef inline int expect(object value, object struct) except -1:
    if type(value) is not struct:
        decline()
    return 0


def write_request(request, bytes frame not None):
    """ReservationRequest.avsc, framed; None: ask the pure twin."""
    return framed(request, frame, put_request)


cdef int put_request(Sink *s, object request) except -1:
    expect(request, ReservationRequest)
    put_text(s, request.request_id)
    put_symbol(s, request.action, ACTION_INDEX)
    put_text(s, request.organization_id)
    put_text(s, request.channel)
    put_items(s, request.lines, put_request_line)
    return put_record(s, request.options, put_request_options)


cdef int put_request_line(Sink *s, object line) except -1:
    expect(line, RequestLine)
    put_text(s, line.product_id)
    put_text(s, line.dimension_data_source)
    put_text_map(s, line.dimensions)
    put_text(s, line.measure)
    put_quantity(s, line.quantity)
    put_boolean(s, line.check_availability)
    return put_record(s, line.detail, put_line_detail)


cdef int put_line_detail(Sink *s, object detail) except -1:
    expect(detail, LineDetail)
    put_text(s, detail.order_id)
    put_text(s, detail.order_line_id)
    put_text(s, detail.hold_id)
    put_text(s, detail.reservation_id)
    put_optional_long(s, detail.expires_at_ms)
    put_optional_long(s, detail.expires_in_ms)
    put_optional_quantity(s, detail.minimum_quantity)
    put_text(s, detail.external_reference)
    put_optional_text_map(s, detail.target_dimensions)
    return put_int(s, detail.priority)


cdef int put_request_options(Sink *s, object options) except -1:
    expect(options, RequestOptions)
    put_boolean(s, options.atomic)
    put_boolean(s, options.dry_run)
    put_boolean(s, options.explain)
    put_text(s, options.actor)
    put_text(s, options.offset_failure_id)
    return put_optional_bytes(s, options.configuration)


def write_result(result, bytes frame not None):
    """ReservationResult.avsc, framed; None: ask the pure twin."""
    return framed(result, frame, put_result)


cdef int put_result(Sink *s, object result) except -1:
    expect(result, ReservationResult)
    put_text(s, result.request_id)
    put_int(s, result.code)
    put_number(s, result.sequence)
    put_number(s, result.decided_at_ms)
    put_number(s, result.source_offset)
    put_boolean(s, result.replayed)
    return put_items(s, result.lines, put_result_line)


cdef int put_result_line(Sink *s, object line) except -1:
    expect(line, ResultLine)
    put_int(s, line.code)
    put_text(s, line.reservation_id)
    put_text(s, line.hold_id)
    put_quantity(s, line.quantity)
    put_quantity(s, line.available)
    return put_record(s, line.detail, put_result_detail)


cdef int put_result_detail(Sink *s, object detail) except -1:
    expect(detail, ResultDetail)
    put_quantity(s, detail.invalid_quantity)
    put_optional_long(s, detail.expires_at_ms)
    put_text(s, detail.level)
    put_items(s, detail.terms, put_term)
    put_optional_long(s, detail.next_free_at_ms)
    return put_text(s, detail.message)


cdef int put_term(Sink *s, object term) except -1:
    expect(term, Term)
    put_text(s, term.measure)
    return put_quantity(s, term.quantity)


def write_plain(
    bytes request_id not None, bytes reservation not None, tuple words not None,
    bytes frame not None,
):
    """ReservationResult.avsc, framed, of a plain request that was granted.

    `reservation`: the reservation id as bytes, not as text; `words`: number of the hold, quantity,
    what is left, sequence, decided at (ms), source offset.

    Raises:
        ValueError: a number that the schema does not hold.
        OverflowError: a number of more than 64 bits.

    """
    cdef Sink s
    number_, granted, available, sequence, decided_at_ms, source_offset = words
    cdef Py_ssize_t size = 2 * PyBytes_GET_SIZE(reservation)
    cdef bytes digits = b"-%d" % number_
    begin(&s, frame)
    put_long(&s, PyBytes_GET_SIZE(request_id))
    put_raw(&s, request_id)
    put_long(&s, ACCEPTED)
    put_number(&s, sequence)
    put_number(&s, decided_at_ms)
    put_number(&s, source_offset)
    put_byte(&s, 0)  # Not replayed.
    put_long(&s, 1)  # One line.
    put_long(&s, ACCEPTED)
    put_long(&s, size)
    put_hex(&s, reservation)
    put_long(&s, size + PyBytes_GET_SIZE(digits))
    put_hex(&s, reservation)
    put_raw(&s, digits)
    put_quantity(&s, granted)
    put_quantity(&s, available)
    put_byte(&s, 0)  # No detail.
    put_byte(&s, 0)  # No further line.
    return written(&s)


cdef inline int put_hex(Sink *s, bytes value) except -1:
    cdef const unsigned char *digits = b"0123456789abcdef"
    cdef const unsigned char *raw = <const unsigned char *>PyBytes_AS_STRING(value)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(value), index
    room(s, 2 * size)
    for index in range(size):
        s.at[2 * index] = digits[raw[index] >> 4]
        s.at[2 * index + 1] = digits[raw[index] & 0xF]
    s.at += 2 * size
    return 0


def write_transaction(transaction, bytes frame not None):
    """InventoryTransaction.avsc, framed; None: ask the pure twin."""
    return framed(transaction, frame, put_transaction)


cdef int put_transaction(Sink *s, object transaction) except -1:
    expect(transaction, InventoryTransaction)
    put_text(s, transaction.event_id)
    put_text(s, transaction.organization_id)
    put_text(s, transaction.product_id)
    put_text(s, transaction.dimension_data_source)
    put_text_map(s, transaction.dimensions)
    put_text(s, transaction.source)
    put_symbol(s, transaction.mode, CHANGE_MODE_INDEX)
    put_optional_long(s, transaction.modified_at_ms)
    put_items(s, transaction.changes, put_measure_change)
    return put_record(s, transaction.transaction, put_transaction_status)


cdef int put_measure_change(Sink *s, object change) except -1:
    expect(change, MeasureChange)
    put_text(s, change.measure)
    put_quantity(s, change.quantity)
    return put_optional_text_map(s, change.dimensions)


cdef int put_transaction_status(Sink *s, object status) except -1:
    expect(status, TransactionStatus)
    put_text(s, status.transaction_id)
    put_symbol(s, status.status, STATUS_INDEX)
    put_number(s, status.sequence)
    put_quantity(s, status.quantity)
    put_text(s, status.order_id)
    put_text(s, status.order_line_id)
    put_text(s, status.reservation_id)
    put_text(s, status.hold_id)
    return put_boolean(s, status.auto_offset)


def write_event(event, bytes frame not None):
    """InventoryEvent.avsc, framed; None: ask the pure twin."""
    return framed(event, frame, put_event)


cdef int put_event(Sink *s, object event) except -1:
    expect(event, InventoryEvent)
    put_symbol(s, event.event_type, EVENT_TYPE_INDEX)
    put_int(s, event.code)
    put_number(s, event.sequence)
    put_number(s, event.at_ms)
    put_text(s, event.source_topic)
    put_number(s, event.source_offset)
    put_text(s, event.source_id)
    put_text(s, event.organization_id)
    put_text(s, event.product_id)
    put_text_map(s, event.dimensions)
    put_text(s, event.transaction_id)
    put_text(s, event.reservation_id)
    put_text(s, event.hold_id)
    put_text(s, event.order_id)
    put_text(s, event.channel)
    put_quantity(s, event.quantity)
    put_quantity(s, event.invalid_quantity)
    put_quantity(s, event.available)
    return put_text(s, event.message)
