"""The symbols of every Avro enum, by index. A test holds them against the .avsc."""

from typing import Final

ACTIONS: Final = (
    "RESERVE",
    "UNRESERVE",
    "RELEASE",
    "EXTEND",
    "CONFIRM",
    "AMEND",
    "TRANSFER",
    "RETRY_OFFSET",
    "DISMISS_OFFSET",
    "CONFIGURE",
    "TICK",
    "UNKNOWN",
)
CHANGE_MODES: Final = ("ADD", "SET")
STATUSES: Final = (
    "UNKNOWN",
    "QUOTATION_ISSUE",
    "ON_ORDER",
    "RESERVED_ORDERED",
    "RESERVED_PHYSICAL",
    "PICKED",
    "DEDUCTED",
    "SOLD",
    "QUOTATION_RECEIPT",
    "ORDERED",
    "ARRIVED",
    "REGISTERED",
    "RECEIVED",
    "PURCHASED",
    "CANCELLED",
    "DELETED",
)
ENDED: Final = frozenset({"CANCELLED", "DELETED"})  # Of the statuses: the demand is gone.
EVENT_TYPES: Final = (
    "TRANSACTION",
    "OFFSET_APPLIED",
    "OFFSET_FAILED",
    "OFFSET_REVERTED",
    "OFFSET_RESOLVED",
    "HOLD_EXPIRED",
    "HOLD_SHORT",
    "SUPPLY_SHORT",
    "CONFIGURATION",
    "DRIFT",
    "OTHER",
)
