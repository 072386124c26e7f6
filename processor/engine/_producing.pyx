# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
# cython: auto_pickle=False, embedsignature=False
"""Record batches made straight from the bytes that Python holds.

The quick twin of `processor.engine.producing.PlainEncoder`, which says what is made; byte by byte
the same. The rule: only pointers are taken while the interpreter is held. While a chunk is copied
it is free: the caller must not change the rows or the list meanwhile.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.ref cimport PyObject
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from crc32c import crc32c

DEF CHUNK = 2048  # Messages between two looks at the interpreter: bounds the pointers (64 KiB).
DEF HEAD = 61  # Bytes of a batch before its records.
DEF CRC_AT = 17
DEF CRC_FROM = 21  # What the checksum covers begins at the attributes.
DEF RECORD_HEAD_MAX = 21  # Length, attributes, timestamp, offset, two lengths, header count.

cdef struct message_t:
    const uint8_t *key
    const uint8_t *value
    Py_ssize_t key_length  # -1: none.
    Py_ssize_t value_length


cdef class Encoder:
    """Encodes for one producer id, epoch and moment."""

    cdef int64_t producer_id
    cdef int16_t epoch
    cdef int64_t timestamp_ms
    cdef Py_ssize_t bytes_max
    cdef message_t chunk[CHUNK]
    cdef int filled
    cdef int taken  # Messages of the chunk that are in a batch.
    cdef uint8_t *batch
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef int32_t count
    cdef int32_t sequence
    cdef list done

    def __cinit__(self, int64_t producer_id, int16_t epoch, int64_t timestamp_ms,
                  Py_ssize_t bytes_max):
        self.producer_id = producer_id
        self.epoch = epoch
        self.timestamp_ms = timestamp_ms
        self.bytes_max = bytes_max
        self.batch = NULL
        self.capacity = 0

    def __dealloc__(self):
        free(self.batch)

    def batches(self, list messages not None, int32_t sequence):
        """Batches of (key, value) pairs, and the number of records of each."""
        cdef tuple pair
        self.start(sequence)
        for pair in messages:
            self.add(<PyObject *>pair[0], <PyObject *>pair[1])
        return self.finish()

    def batches_of_rows(self, dict rows not None, bytes local_kinds not None, int32_t sequence):
        """Batches of rows in their order, but for local kinds."""
        cdef PyObject *key
        cdef PyObject *value
        cdef Py_ssize_t at = 0
        cdef const uint8_t *local = <const uint8_t *>PyBytes_AS_STRING(local_kinds)
        cdef Py_ssize_t locals_ = PyBytes_GET_SIZE(local_kinds)
        self.start(sequence)
        while PyDict_Next(rows, &at, &key, &value):
            if not is_local(key, local, locals_):
                self.add(key, value)
        return self.finish()

    cdef void start(self, int32_t sequence) noexcept:
        self.sequence = sequence
        self.done = []
        self.filled = 0
        self.size = HEAD
        self.count = 0

    cdef int add(self, PyObject *key, PyObject *value) except -1:
        cdef message_t *message = &self.chunk[self.filled]
        message.key = pointer(key, &message.key_length)
        message.value = pointer(value, &message.value_length)
        self.filled += 1
        if self.filled == CHUNK:
            self.encode()
        return 0

    cdef object finish(self):
        self.encode()
        if self.count:
            self.close()
        done, self.done = self.done, None
        return done

    cdef int encode(self) except -1:
        """Put the chunk into batches."""
        cdef bint has_room
        self.taken = 0
        while self.taken < self.filled:
            with nogil:
                has_room = self.fill()
            if not has_room:
                raise MemoryError
            if self.taken < self.filled:
                self.close()
        self.filled = 0
        return 0

    cdef bint fill(self) noexcept nogil:
        """Put messages into the batch until it is full; False: there is no memory."""
        cdef message_t *message
        cdef Py_ssize_t body, most
        while self.taken < self.filled:
            message = &self.chunk[self.taken]
            body = 3 + length_of(self.count) + sized(message.key_length)
            body += sized(message.value_length)
            most = self.size + length_of(body) + body
            if self.count and most >= self.bytes_max:
                return True
            if most > self.capacity and not self.grow(most):
                return False
            self.put(message, body)
            self.taken += 1
        return True

    cdef bint grow(self, Py_ssize_t least) noexcept nogil:
        cdef Py_ssize_t capacity = max(least, 2 * self.capacity)
        cdef void *grown = realloc(self.batch, capacity)
        if grown == NULL:
            return False
        self.batch = <uint8_t *>grown
        self.capacity = capacity
        return True

    cdef void put(self, message_t *message, Py_ssize_t body) noexcept nogil:
        cdef uint8_t *at = self.batch + self.size
        at = put_varint(at, body)
        at[0] = 0  # Attributes.
        at[1] = 0  # Milliseconds behind the first record's.
        at = put_varint(at + 2, self.count)
        at = put_bytes(at, message.key, message.key_length)
        at = put_bytes(at, message.value, message.value_length)
        at[0] = 0  # Headers.
        self.size = at + 1 - self.batch
        self.count += 1

    cdef int close(self) except -1:
        """Write the head of the batch, and begin the next."""
        cdef uint8_t *at = self.batch
        put_int(at, 0, 8)  # Base offset: the broker's.
        put_int(at + 8, self.size - 12, 4)
        put_int(at + 12, -1, 4)  # Leader epoch: the broker's.
        at[16] = 2  # Magic.
        put_int(at + 21, 0x10, 2)  # Attributes: transactional, not compressed, time of creation.
        put_int(at + 23, self.count - 1, 4)
        put_int(at + 27, self.timestamp_ms, 8)
        put_int(at + 35, self.timestamp_ms, 8)
        put_int(at + 43, self.producer_id, 8)
        put_int(at + 51, self.epoch, 2)
        put_int(at + 53, self.sequence, 4)
        put_int(at + 57, self.count, 4)
        put_int(at + CRC_AT, crc32c(<uint8_t[:self.size - CRC_FROM]>(at + CRC_FROM)), 4)
        self.done.append((PyBytes_FromStringAndSize(<char *>at, self.size), self.count))
        self.sequence = <int32_t>((<int64_t>self.sequence + self.count) & 0x7FFFFFFF)
        self.size = HEAD
        self.count = 0
        return 0


cdef inline void put_int(uint8_t *at, int64_t value, int width) noexcept nogil:
    """Big-endian."""
    cdef int place
    for place in range(width):
        at[place] = <uint8_t>(value >> (8 * (width - 1 - place)))


cdef inline uint64_t zigzag(int64_t value) noexcept nogil:
    return (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)


cdef inline int length_of(int64_t value) noexcept nogil:
    """Bytes of the value as a varint."""
    cdef uint64_t left = zigzag(value) >> 7
    cdef int length = 1
    while left:
        left >>= 7
        length += 1
    return length


cdef inline Py_ssize_t sized(Py_ssize_t length) noexcept nogil:
    """Bytes of a key or value with its length in front."""
    return length_of(length) + (length if length > 0 else 0)


cdef inline uint8_t *put_varint(uint8_t *at, int64_t value) noexcept nogil:
    cdef uint64_t left = zigzag(value)
    while left > 0x7F:
        at[0] = <uint8_t>(left | 0x80)
        left >>= 7
        at += 1
    at[0] = <uint8_t>left
    return at + 1


cdef inline uint8_t *put_bytes(uint8_t *at, const uint8_t *found, Py_ssize_t length) noexcept nogil:
    at = put_varint(at, length)
    if length > 0:
        memcpy(at, found, length)
        at += length
    return at


cdef inline bint is_local(PyObject *key, const uint8_t *local, Py_ssize_t count) noexcept:
    cdef uint8_t kind = (<const uint8_t *>PyBytes_AS_STRING(<object>key))[0]
    cdef Py_ssize_t at
    for at in range(count):
        if local[at] == kind:
            return True
    return False


cdef inline const uint8_t *pointer(PyObject *found, Py_ssize_t *length) except? NULL:
    if <object>found is None:
        length[0] = -1
        return NULL
    if not isinstance(<object>found, bytes):
        raise TypeError(f"a message is made of bytes, not {type(<object>found)}")
    length[0] = PyBytes_GET_SIZE(<object>found)
    return <const uint8_t *>PyBytes_AS_STRING(<object>found)
