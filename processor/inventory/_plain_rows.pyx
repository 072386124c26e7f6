# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
# cython: auto_pickle=False, embedsignature=False
"""The two rows of a plain grant, written at once: the quick twin of `plain.pure_rows`.

The rule: byte by byte what msgspec writes (the shortest form of every number). What is written here
has a bound, so that one buffer on the stack does; beyond it the pure twin is asked.
"""

from hashlib import blake2b

from cpython.bytes cimport (
    PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE,
)
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    BUFFER = 2048  # A place has an organization, a product and the dimensions of a level.
    REST = 160  # All but the place and the channel.
    HASH = 12  # `identity.HASH_BYTES`.
    CONTENT_AT = 24  # In a stamp (`lines.Target`).
    PLACE_AT = 40

cdef object DIGEST = blake2b(digest_size=8)  # Copied: a third less than making one.


def plain_rows(bytes stamp not None, tuple said not None):
    """As `plain.pure_rows`; None: ask it."""
    cdef uint8_t buffer[BUFFER]
    cdef const uint8_t *known = <const uint8_t *>PyBytes_AS_STRING(stamp)
    cdef bytes channel
    cdef int64_t quantity, clock_ms, number, available
    cdef bint checked
    channel, quantity, clock_ms, number, available, checked = said
    cdef Py_ssize_t place = PyBytes_GET_SIZE(stamp) - PLACE_AT
    cdef Py_ssize_t words = PyBytes_GET_SIZE(channel)
    if place < 0 or place + words + REST > BUFFER or words > 255 or quantity <= 0:
        return None
    cdef uint8_t *at = put_int(buffer, 0x7FFFFFFFFFFFFFFF)  # Due: never.
    at = put(at, known, HASH)  # Location.
    at = put_int(at, quantity)
    memset(at, 0, 8)  # No order.
    at = put(at + 8, b"\x9e\x01\x00", 3)  # The body: 14 fields; format, live.
    at = put(at, known + PLACE_AT, place)
    at = put_number(at, quantity)
    at = put_number(at, clock_ms)
    at[0] = 0  # No expiry.
    at = put_number(at + 1, quantity)
    at = put_text(at, channel)
    at = put(at, b"\xa0\xa0\xa0\xa0\x00", 5)  # Order, its line, actor, reference, priority.
    at[0] = 0xC3 if checked else 0xC2
    hold = PyBytes_FromStringAndSize(<char *>buffer, at + 1 - buffer)
    digest = digest_of(buffer, known + CONTENT_AT, channel, quantity, checked)
    at = put_int(buffer, clock_ms)
    at = put(at, <const uint8_t *>PyBytes_AS_STRING(digest), 8)
    at = put(at, b"\x93\x01\x01\x91\x96\x01\xc4\x0c", 8)  # Format, code, one line: its code,
    at = put(at, known + HASH, HASH)  # reservation,
    at = put_number(at, number)
    at = put_number(at, quantity)
    at = put_number(at, available)
    at[0] = 0xC0  # no detail.
    return hold, PyBytes_FromStringAndSize(<char *>buffer, at + 1 - buffer)


cdef bytes digest_of(
    uint8_t *buffer, const uint8_t *content, bytes channel, int64_t quantity, bint checked
):
    """`lines.line_digest` of a plain request."""
    cdef uint8_t *at = put(buffer, content, PLACE_AT - CONTENT_AT)
    at = put(at, b"RESERVE|", 8)
    at = put(at, <const uint8_t *>PyBytes_AS_STRING(channel), PyBytes_GET_SIZE(channel))
    at[0] = c"|"
    at = put_decimal(at + 1, quantity)
    at = put(at, b"|True", 5) if checked else put(at, b"|False", 6)
    words = PyBytes_FromStringAndSize(<char *>buffer, at - buffer)
    digest = DIGEST.copy()
    digest.update(words)
    return digest.digest()


cdef inline uint8_t *put(uint8_t *at, const uint8_t *found, Py_ssize_t size) noexcept:
    memcpy(at, found, size)
    return at + size


cdef inline uint8_t *put_big(uint8_t *at, uint64_t value, int width) noexcept:
    cdef int place
    for place in range(width):
        at[place] = <uint8_t>(value >> (8 * (width - 1 - place)))
    return at + width


cdef inline uint8_t *put_int(uint8_t *at, int64_t value) noexcept:
    return put_big(at, <uint64_t>value, 8)


cdef inline uint8_t *put_number(uint8_t *at, int64_t value) noexcept:
    """In msgpack's shortest form."""
    if value >= 0:
        if value < 0x80:
            return put_big(at, <uint64_t>value, 1)
        if value < 0x100:
            at[0] = 0xCC
            return put_big(at + 1, <uint64_t>value, 1)
        if value < 0x10000:
            at[0] = 0xCD
            return put_big(at + 1, <uint64_t>value, 2)
        if value < 0x100000000:
            at[0] = 0xCE
            return put_big(at + 1, <uint64_t>value, 4)
        at[0] = 0xCF
        return put_big(at + 1, <uint64_t>value, 8)
    if value >= -0x20:
        return put_big(at, <uint64_t>value, 1)
    if value >= -0x80:
        at[0] = 0xD0
        return put_big(at + 1, <uint64_t>value, 1)
    if value >= -0x8000:
        at[0] = 0xD1
        return put_big(at + 1, <uint64_t>value, 2)
    if value >= -0x80000000:
        at[0] = 0xD2
        return put_big(at + 1, <uint64_t>value, 4)
    at[0] = 0xD3
    return put_big(at + 1, <uint64_t>value, 8)


cdef inline uint8_t *put_text(uint8_t *at, bytes text) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    if size < 32:
        at[0] = <uint8_t>(0xA0 | size)
        return put(at + 1, <const uint8_t *>PyBytes_AS_STRING(text), size)
    at[0] = 0xD9
    at[1] = <uint8_t>size
    return put(at + 2, <const uint8_t *>PyBytes_AS_STRING(text), size)


cdef inline uint8_t *put_decimal(uint8_t *at, int64_t value) noexcept:
    """Of a positive number."""
    cdef uint8_t digits[20]
    cdef int count = 0
    while value:
        digits[count] = <uint8_t>(c"0" + value % 10)
        value //= 10
        count += 1
    while count:
        count -= 1
        at[0] = digits[count]
        at += 1
    return at
