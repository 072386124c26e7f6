"""Every bound, with its unit and reason, and the relations between them. Both sides obey them."""

from typing import Final

QUANTITY_SCALE: Final = 1_000_000  # Quantities are integers of 10^-6 inside; decimal(18,6) outside.
QUANTITY_MAX: Final = 10**18 - 1  # Largest unscaled decimal(18,6): one below a trillion pieces.
# A sum of measures may exceed one event's bound, but must stay in a signed 64-bit row field.
QUANTITY_SUM_MAX: Final = 2**62

# Behind the id of an ERP event that moved between places: what ends it where it was. The demand
# goes on under the same sequence where it is.
MOVED_FROM: Final = "~left"
REQUEST_ID_LENGTH_MAX: Final = 128  # Characters; part of a row key.
ORGANIZATION_LENGTH_MAX: Final = 64
PRODUCT_LENGTH_MAX: Final = 128
DIMENSION_VALUE_LENGTH_MAX: Final = 64  # Characters; the ERP's own fields end at 50.
DIMENSIONS_MAX: Final = 33  # The closed vocabulary of the original: 13 + 12 + 8.
# Characters of order_id, order_line_id, actor, hold_id, reservation_id, transaction_id.
TEXT_LENGTH_MAX: Final = 128
CHANNEL_LENGTH_MAX: Final = 64
REFERENCE_LENGTH_MAX: Final = 256

LINES_MAX: Final = 512  # Lines a request, as the original's bulk.
CHANGES_MAX: Final = 64  # Measure changes an event.
RECORD_BYTES_MAX: Final = 262_144  # One source record; 512 lines of 400 bytes fit.
# One changelog row; below the broker's default message limit of 1 MiB.
ROW_BYTES_MAX: Final = 900_000
assert RECORD_BYTES_MAX < ROW_BYTES_MAX

# What the topics we write let through (max.message.bytes, and message.max.bytes of the producer):
# a dead letter must hold a source record of the broker's default limit, 1 MiB, and its wrapping.
MESSAGE_BYTES_MAX: Final = 2_097_152
# A copy of a result on a topic of the requester's: its limit is not ours to set, so it must take
# at least this much, and what could be more with its wrapping is not copied.
REPLY_TOPIC_BYTES_MIN: Final = 1_048_576
REPLY_BYTES_MAX: Final = 900_000
CORRELATION_BYTES_MAX: Final = 1_024
assert REPLY_BYTES_MAX + CORRELATION_BYTES_MAX + 1_024 < REPLY_TOPIC_BYTES_MIN
DEAD_LETTER_VALUE_BYTES_MAX: Final = 1_048_576
DEAD_LETTER_KEY_BYTES_MAX: Final = 65_536
DEAD_LETTER_REASON_LENGTH_MAX: Final = 500  # Characters; a reason may quote the input.
assert DEAD_LETTER_VALUE_BYTES_MAX + 2 * DEAD_LETTER_KEY_BYTES_MAX < MESSAGE_BYTES_MAX
assert ROW_BYTES_MAX < MESSAGE_BYTES_MAX

# How long an id is remembered: longer than any client retries.
DEDUPE_WINDOW_MS: Final = 24 * 3_600_000
# How long the ledger of a finished ERP transaction is kept, for statuses that come late.
LEDGER_WINDOW_MS: Final = 90 * 24 * 3_600_000
EXPIRY_MAX_MS: Final = 366 * 24 * 3_600_000  # Longest expiry of a hold, unless a channel sets less.

# Records decided into one transaction: bounds memory and its length.
BATCH_RECORDS_MAX: Final = 8_000
# Records one partition hands over at once: fairness between partitions.
POLL_RECORDS_MAX: Final = 2_000
# Dead letters in a row on one partition before the worker stops: past this the fault is ours (a
# bad deploy), and draining the topic would only hide it.
DEAD_LETTER_RUN_MAX: Final = 1_000
# What a process keeps of its rows, once as blocks of RocksDB and once as product-locations.
CACHE_MB: Final = 256
# About what one takes that has three stock rows with their levels: 5 kB for the first (`holdfast
# bench cost --json`, `remembered_bytes`), 2.7 kB for each further one.
PRODUCT_LOCATION_BYTES: Final = 10_000
# Looked at to see whether a partition is empty: bounds a change of what only an empty one may have.
PRODUCT_LOCATIONS_LOOKED_AT_MAX: Final = 100_000
