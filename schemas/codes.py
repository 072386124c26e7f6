"""The numbered list of outcomes: one code for every way a request, event or record can end.

Numbers are contract: never reused, never renumbered. The order inside a block is the order in which
the checks are made, which is contract too (style section A1: the order of refusals is part of the
answer).
"""

from enum import IntEnum
from typing import Final


class Code(IntEnum):
    """How one request line, request, inventory transaction or record ended."""

    # Granted.
    ACCEPTED = 1  # done in full
    PARTIAL = 2  # done in part: the granted quantity says how much
    # The request as a whole is refused.
    REQUEST_ID_INVALID = 10  # empty, too long, or with control characters
    REQUEST_ID_REUSED = 11  # the id was answered before, for other content
    NO_LINES = 12
    TOO_MANY_LINES = 13
    ACTION_UNKNOWN = 14
    ORGANIZATION_INVALID = 15
    SPANS_PARTITIONS = 16  # a line belongs to another partition: the client composes baskets across
    RESERVATION_DISABLED = 17  # the feature toggle OnHandReservation is off
    BASKET_REFUSED = 18  # atomic: this line was fine, another was not
    TEXT_INVALID = 19  # channel, order, reference or actor too long or with control characters
    CONFIGURATION_INVALID = 20
    # A line is refused before stock is looked at.
    PRODUCT_INVALID = 30
    DATA_SOURCE_UNKNOWN = 31
    DIMENSION_UNKNOWN = 32
    DIMENSION_VALUE_INVALID = 33
    PARTITION_DIMENSION_MISSING = 34
    LEVEL_NOT_RESERVABLE = 35  # the dimension combination is not one that can be reserved
    MEASURE_UNKNOWN = 36
    MEASURE_NOT_RESERVABLE = 37  # no availability measure is mapped to it
    DATA_SOURCE_PROTECTED = 38  # fno belongs to the ERP
    MEASURE_RESERVED = 39  # an on-hand change may not touch a reservation measure
    QUANTITY_INVALID = 40  # zero, or a sign the action does not allow
    QUANTITY_OUT_OF_RANGE = 41
    EXPIRY_INVALID = 42  # not after the request, or beyond the channel's maximum
    TOO_MANY_CHANGES = 43
    # A line is refused by the stock or the hold.
    INSUFFICIENT_STOCK = 60
    HOLD_UNKNOWN = 61
    HOLD_CLOSED = 62  # released, offset or expired in full
    HOLD_EXPIRED = 63  # past expiry and grace, or past expiry and the stock is gone
    RESERVATION_UNKNOWN = 64  # no such reservation id on that product and dimensions
    NOTHING_RESERVED = 65
    AVAILABILITY_BOUND = 66  # too many crossing levels to check within the bound
    FAILURE_UNKNOWN = 67  # no such entry in the list of offset failures
    # How an inventory transaction ended.
    APPLIED = 80  # measures changed; no offset was due
    OFFSET_APPLIED = 81
    OFFSET_PARTIAL = 82  # part of it found nothing reserved
    DUPLICATE = 83  # this event id was counted before
    STALE = 84  # an older sequence or count than the last one seen
    OFFSET_NOTHING_RESERVED = 85
    OFFSET_WRONG_RESERVATION = 86  # no such hold or reservation id
    OFFSET_WRONG_DIMENSIONS = 87  # the id belongs to other dimension values
    OFFSET_REVERTED = 88  # a compensation re-instated the hold
    EXPIRED = 89  # a hold ended by its expiry
    ROWS_CONTRADICT = 90  # the auditor: stored totals are not the sum of their holds
    # Why a record went to the dead letters.
    RECORD_EMPTY = 100
    RECORD_TOO_LARGE = 101
    RECORD_NOT_AVRO = 102  # no Confluent frame, or the body does not decode
    SCHEMA_UNKNOWN = 103
    SCHEMA_UNEXPECTED = 104  # a known schema, but not one of this topic
    KEY_MISSING = 105
    KEY_MISMATCH = 106  # the key does not match the body
    PARTITION_MISMATCH = 107  # the record is not in the partition of its key
    STATUS_UNMAPPED = 108  # the connector's mapping does not know the ERP's status
    ROW_INVALID = 109  # a row of an ERP that says no transaction


GRANTED: Final = frozenset({Code.ACCEPTED, Code.PARTIAL})
