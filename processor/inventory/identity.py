"""Names of things: the hashes that stand in row keys, and the texts that stand in answers.

The rule: an identity depends on what it names alone (organization, product, dimension values,
measure), never on the configuration. So a changed hierarchy or formula moves no row and renames no
hold.

A reservation id is 24 hexadecimal digits (12 bytes); a hold id is the reservation id, a dash, and
the number of the hold: `sequence of the decision * HOLD_LINES_MAX + line`. A hold id therefore
leads to its row without an index.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

from schemas import limits

HASH_BYTES: Final = 12  # 96 bits: a collision among a billion products is one in 10^11.
HOLD_LINES_MAX: Final = 512
RESERVATION_TEXT_LENGTH: Final = 2 * HASH_BYTES
assert limits.LINES_MAX <= HOLD_LINES_MAX

UNIT: Final = "\x1f"  # Between dimension values: never part of one, control characters are refused.
GROUP: Final = "\x1e"  # Between the dimensions and what follows them.

Dimensions = Mapping[str, str]


def canonical(dimensions: Dimensions) -> bytes:
    """The dimensions in one spelling: by name, empty values left out."""
    return UNIT.join(
        [f"{name}={dimensions[name]}" for name in sorted(dimensions) if dimensions[name]]
    ).encode()


def _hash(parts: Iterable[bytes]) -> bytes:
    """96-bit hash of the parts, each with its length before it."""
    framed = b"".join([b"%b%b" % (len(part).to_bytes(4, "big"), part) for part in parts])
    return blake2b(framed, digest_size=HASH_BYTES).digest()


def location_hash(organization_id: str, product_id: str, partition_values: Iterable[str]) -> bytes:
    """What one decision looks at: one product at one value of the partition dimensions."""
    values = [value.encode() for value in partition_values]
    return _hash([organization_id.encode(), product_id.encode(), *values])


def reservation_hash(organization_id: str, product_id: str, spelled: bytes, measure: str) -> bytes:
    """A product at one level of dimension values under one measure: shared by all its holds.

    `spelled`: the dimension values as `canonical` spells them.
    """
    return _hash([organization_id.encode(), product_id.encode(), spelled, measure.encode()])


def reservation_text(reservation: bytes) -> str:
    """The reservation id as text."""
    return reservation.hex()


def hold_text(reservation_id: str, number: int) -> str:
    """The hold id as text."""
    return f"{reservation_id}-{number}"


def parse_reservation(text: str) -> bytes | None:
    """The hash behind a reservation id, None if it is not one."""
    if len(text) != RESERVATION_TEXT_LENGTH or not text.isascii():
        return None
    try:
        reservation = bytes.fromhex(text)
    except ValueError:
        return None
    # Only the one spelling that we gave out: upper case and spaces mean the same to fromhex.
    return reservation if reservation.hex() == text else None


def parse_hold(text: str) -> tuple[bytes, int] | None:
    """Reservation hash and number behind a hold id, None if it is not one."""
    reservation_id, _, digits = text.partition("-")
    reservation = parse_reservation(reservation_id)
    if reservation is None or not digits.isdecimal() or not digits.isascii() or len(digits) > 19:
        return None
    number = int(digits)
    if str(number) != digits or number >= 2**63:
        return None
    return reservation, number
