"""Kubernetes quantities such as `10Gi`, as whole bytes."""

import re
from typing import Final

_QUANTITY = re.compile(
    r"(?P<sign>[+-]?)(?=\.?[0-9])(?P<whole>[0-9]*)\.?(?P<fraction>[0-9]*)"
    r"(?P<suffix>[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?"
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
# Kubernetes caps quantities, and all its numbers, at 2^63 - 1.
MAX: Final = 2**63 - 1
# The CRDs allow no longer text; it also keeps the arithmetic small.
MAX_LENGTH: Final = 64
# Beyond it any number of at most 64 digits is either capped or rounds up to one byte.
_MAX_EXPONENT: Final = 100


def parse_quantity(value: int | str) -> int:
    """Whole bytes, rounded up as Kubernetes does. ValueError when it is not a quantity, or negative."""
    text = "" if isinstance(value, bool) else str(value)
    match = _QUANTITY.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise ValueError(f"{value!r} is not a quantity such as 10Gi")
    suffix, fraction = match["suffix"] or "", match["fraction"]
    digits = int(match["whole"] + fraction)
    if match["sign"] == "-" and digits:
        raise ValueError(f"{value!r} is negative")
    if suffix in _BINARY:
        digits, exponent = digits << _BINARY[suffix], 0
    elif suffix in _DECIMAL:
        exponent = _DECIMAL[suffix]
    else:
        exponent = max(-_MAX_EXPONENT, min(int(suffix[1:]), _MAX_EXPONENT))
    shift = exponent - len(fraction)
    # -(-a // b) rounds up.
    count: int = digits * 10**shift if shift >= 0 else -(-digits // 10**-shift)
    return min(count, MAX)


def format_quantity(count: int) -> str:
    """The canonical quantity: the largest binary suffix that divides it, else plain digits."""
    for suffix, bits in reversed(_BINARY.items()):
        if count and count % (1 << bits) == 0:
            return f"{count >> bits}{suffix}"
    return str(count)


def human_bytes(count: int) -> str:
    """For messages: `512 B`, `1.5 GiB`, `200 GiB`."""
    number, unit = _scaled(count)
    return f"{number} {unit}B"


def brief_quantity(count: int) -> str:
    """For the columns of kubectl: a quantity of about three digits, such as `45.2Gi`."""
    number, unit = _scaled(count)
    return number + unit


def _scaled(count: int) -> tuple[str, str]:
    amount = float(count)
    for unit in ("", *_BINARY):
        number = f"{amount:.0f}" if not unit or amount >= 99.95 else f"{amount:.1f}"
        # What would be shown as 1024 is 1.0 of the next unit.
        if float(number) < 1024:
            break
        amount /= 1024
    return number, unit
