"""Adding amounts exactly: Python's own operators round at 28 digits, and an amount may have 38. Pure."""

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact, InvalidOperation

# Far more digits than a sum can have; if one still had to be rounded, that would be an error.
_EXACT = Context(prec=1000, traps=[Inexact, InvalidOperation])


def total(amounts: Iterable[Decimal | None]) -> Decimal:
    """The exact sum; None counts as zero."""
    found = Decimal(0)
    for amount in amounts:
        if amount is not None:
            found = _EXACT.add(found, amount)
    return found


def difference(left: Decimal, right: Decimal) -> Decimal:
    """Exactly left minus right."""
    return _EXACT.subtract(left, right)
