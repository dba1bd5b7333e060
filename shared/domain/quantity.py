"""Kubernetes quantities such as `10Gi`, as whole bytes."""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

_QUANTITY = re.compile(
    r"(?P<sign>[+-]?)(?P<number>\d+\.?\d*|\.\d+)(?P<suffix>[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?"
)
_BINARY: Final = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL: Final = {
    "n": -9,
    "u": -6,
    "m": -3,
    "": 0,
    "k": 3,
    "M": 6,
    "G": 9,
    "T": 12,
    "P": 15,
    "E": 18,
}
# Kubernetes caps quantities at 2^63 - 1.
_MAX: Final = 2**63 - 1


def parse_quantity(value: int | str) -> int:
    """Whole bytes, rounded up as Kubernetes does. ValueError when it is not a quantity, or negative."""
    match = _QUANTITY.fullmatch(str(value).strip()) if not isinstance(value, bool) else None
    if match is None:
        raise ValueError(f"{value!r} is not a quantity such as 10Gi")
    suffix = match["suffix"] or ""
    number = Decimal(match["number"])
    if suffix in _BINARY:
        exact = number * (1 << _BINARY[suffix])
    else:
        exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
        exact = number.scaleb(exponent)
    if match["sign"] == "-" and exact > 0:
        raise ValueError(f"{value!r} is negative")
    return min(int(exact.to_integral_value(ROUND_CEILING)), _MAX)


def format_quantity(count: int) -> str:
    """The canonical quantity: the largest binary suffix that divides it, else plain digits."""
    for suffix, bits in reversed(_BINARY.items()):
        if count and count % (1 << bits) == 0:
            return f"{count >> bits}{suffix}"
    return str(count)


def human_bytes(count: int) -> str:
    """For messages: three significant digits or fewer, such as `1.5 GiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(amount) < 1024:
            return (
                f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
            )
        amount /= 1024
    return f"{amount:.1f} PiB"
