"""Request ids: unique without asking anybody, and in the order of time, so that logs sort."""

import secrets
import time
import uuid


def new_request_id() -> str:
    """UUID version 7 (RFC 9562): 48 bits of milliseconds, then chance. 36 characters."""
    milliseconds = time.time_ns() // 1_000_000
    chance = secrets.randbits(74)
    number = (milliseconds & (1 << 48) - 1) << 80
    number |= 0x7 << 76 | (chance >> 62) << 64  # Version and 12 bits of chance.
    number |= 0b10 << 62 | chance & (1 << 62) - 1  # Variant and 62 bits of chance.
    return str(uuid.UUID(int=number))
