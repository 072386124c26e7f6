"""Quantities as people write them, to and from the integers of 10^-6 that cross the wire.

No float is taken: 0.1 + 0.2 is not 0.3, and a warehouse notices.
"""

from decimal import Decimal

from schemas.limits import QUANTITY_MAX, QUANTITY_SCALE

Quantity = int | str | Decimal


class QuantityError(ValueError):
    """The quantity cannot be said in decimal(18,6)."""


def to_unscaled(quantity: Quantity) -> int:
    """Integer of 10^-6 for a quantity in pieces (or the product's unit).

    Raises:
        QuantityError: not a number, more than six decimals, or larger than decimal(18,6) holds.

    """
    if isinstance(quantity, bool | float):
        raise QuantityError(f"quantity {quantity!r}: give an int, a str or a Decimal")
    try:
        pieces = Decimal(quantity)
        if not pieces.is_finite():
            raise QuantityError(f"quantity {quantity!r} is not a number")
        # Compared before it is scaled: 1E+999999 must not become an integer of a million digits.
        if abs(pieces) > QUANTITY_MAX:
            raise QuantityError(f"quantity {quantity!r} is beyond 999,999,999,999.999999")
        unscaled = pieces * QUANTITY_SCALE
        # The second: digits beyond a decimal context's own are rounded away, not refused, by it.
        if unscaled != unscaled.to_integral_value() or unscaled / QUANTITY_SCALE != pieces:
            raise QuantityError(f"quantity {quantity!r} has more than six decimals")
    except ArithmeticError as error:  # No number, or one that no context of decimal holds.
        raise QuantityError(f"quantity {quantity!r} is not a number") from error
    if abs(unscaled) > QUANTITY_MAX:
        raise QuantityError(f"quantity {quantity!r} is beyond 999,999,999,999.999999")
    return int(unscaled)


def to_pieces(unscaled: int) -> Decimal:
    """Pieces for an integer of 10^-6, without trailing zeros and never in exponent form."""
    pieces = Decimal(unscaled) / QUANTITY_SCALE
    if pieces == pieces.to_integral_value():
        return pieces.quantize(Decimal(1))
    return pieces.normalize()


def pieces_text(unscaled: int) -> str:
    """Pieces as people read them: `9`, `0.5`, `-3`."""
    return f"{to_pieces(unscaled):f}"
