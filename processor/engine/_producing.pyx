# cython: language_level=3, boundscheck=False, wraparound=False, binding=False
# cython: auto_pickle=False, embedsignature=False
"""Batches of messages handed to librdkafka straight from the bytes that Python holds.

The quick twin of `processor.engine.producing.PlainBatches`, which says what is done and why. The
rule: confluent-kafka owns the producer and everything about it; here only the one function that
queues messages is called, on the handle that it made. While librdkafka copies a chunk the
interpreter is free: the caller must not change the rows or the list meanwhile.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

DEF CHUNK = 2048  # Messages of one call: bounds the buffer (144 KiB) and the toppar's lock.
DEF COPY = 2  # RD_KAFKA_MSG_F_COPY: the bytes are Python's.

cdef extern from *:
    """
    /* The head of confluent-kafka's Producer (its confluent_kafka.h, `Handle`). */
    typedef struct { PyObject_HEAD void *rk; } hf_handle;

    /* rd_kafka_message_t of rdkafka.h: public, and the same since librdkafka 0.9. */
    typedef struct {
        int err; void *rkt; int32_t partition;
        void *payload; size_t len; void *key; size_t key_len;
        int64_t offset; void *private_;
    } hf_message;
    """
    ctypedef struct hf_handle:
        void *rk
    ctypedef struct hf_message:
        int err
        int32_t partition
        void *payload
        size_t len
        void *key
        size_t key_len

ctypedef int (*produce_batch_t)(void *, int32_t, int, hf_message *, int) noexcept nogil
ctypedef void *(*topic_new_t)(void *, const char *, void *) noexcept nogil
ctypedef void (*topic_destroy_t)(void *) noexcept nogil


@cython.no_gc_clear
cdef class QuickBatches:
    """Queues batches on a producer, by the addresses of three functions of its librdkafka."""

    cdef object producer
    cdef dict topics
    cdef void *rk
    cdef produce_batch_t produce_batch
    cdef topic_new_t topic_new
    cdef topic_destroy_t topic_destroy
    cdef hf_message chunk[CHUNK]
    cdef int filled
    cdef int refused
    cdef int error

    def __cinit__(self, producer, size_t produce_batch, size_t topic_new, size_t topic_destroy):
        self.producer = producer
        self.topics = {}
        self.rk = (<hf_handle *><PyObject *>producer).rk
        self.produce_batch = <produce_batch_t>produce_batch
        self.topic_new = <topic_new_t>topic_new
        self.topic_destroy = <topic_destroy_t>topic_destroy
        memset(self.chunk, 0, sizeof(self.chunk))

    def __dealloc__(self):
        if self.topics is not None:
            for topic in self.topics.values():
                self.topic_destroy(<void *><size_t>topic)

    def queue(self, str topic, int32_t partition, list messages not None):
        """Queue (key, value) pairs; returns how many were refused, and the first error's code."""
        cdef void *rkt = self.topic(topic)
        cdef tuple pair
        self.start()
        for pair in messages:
            self.add(rkt, partition, <PyObject *>pair[0], <PyObject *>pair[1])
        self.flush(rkt, partition)
        return self.refused, self.error

    def queue_rows(
        self, str topic, int32_t partition, dict rows not None, bytes local_kinds not None,
        bytes omitted not None,
    ):
        """Queue rows, but for local kinds and the one key; returns as `queue` does."""
        cdef void *rkt = self.topic(topic)
        cdef PyObject *key
        cdef PyObject *value
        cdef Py_ssize_t at = 0
        cdef const unsigned char *local = <const unsigned char *>PyBytes_AS_STRING(local_kinds)
        cdef Py_ssize_t locals_ = PyBytes_GET_SIZE(local_kinds)
        self.start()
        while PyDict_Next(rows, &at, &key, &value):
            if <object>key is omitted or is_local(key, local, locals_):
                continue
            self.add(rkt, partition, key, value)
        self.flush(rkt, partition)
        return self.refused, self.error

    cdef void *topic(self, str name) except NULL:
        cdef void *rkt
        found = self.topics.get(name)
        if found is not None:
            return <void *><size_t>found
        encoded = name.encode()
        rkt = self.topic_new(self.rk, PyBytes_AS_STRING(encoded), NULL)
        if rkt == NULL:
            raise RuntimeError(f"librdkafka made no handle for topic {name}")
        self.topics[name] = <size_t>rkt
        return rkt

    cdef void start(self) noexcept:
        self.filled = self.refused = self.error = 0

    cdef int add(self, void *rkt, int32_t partition, PyObject *key, PyObject *value) except -1:
        cdef hf_message *message = &self.chunk[self.filled]
        message.key = pointer(key, &message.key_len)
        message.payload = pointer(value, &message.len)
        message.partition = partition
        message.err = 0
        self.filled += 1
        if self.filled == CHUNK:
            self.flush(rkt, partition)
        return 0

    cdef void flush(self, void *rkt, int32_t partition) noexcept:
        cdef int queued, at
        if self.filled == 0:
            return
        with nogil:
            queued = self.produce_batch(rkt, partition, COPY, self.chunk, self.filled)
        if queued != self.filled:
            self.refused += self.filled - queued
            for at in range(self.filled):
                if self.error == 0:
                    self.error = self.chunk[at].err
        self.filled = 0


cdef inline bint is_local(PyObject *key, const unsigned char *local, Py_ssize_t count) noexcept:
    cdef unsigned char kind = (<const unsigned char *>PyBytes_AS_STRING(<object>key))[0]
    cdef Py_ssize_t at
    for at in range(count):
        if local[at] == kind:
            return True
    return False


cdef inline void *pointer(PyObject *found, size_t *length) except? NULL:
    if <object>found is None:
        length[0] = 0
        return NULL
    if not isinstance(<object>found, bytes):
        raise TypeError(f"a message is made of bytes, not {type(<object>found)}")
    length[0] = PyBytes_GET_SIZE(<object>found)
    return PyBytes_AS_STRING(<object>found)
