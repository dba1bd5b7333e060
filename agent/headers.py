"""What headers and listings say in numbers, whoever wrote them. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

# A source that asks for more than this is asked again anyway.
_LONGEST_WAIT: Final = 24 * 3600.0
# Of a number of bytes: an exabyte has 19.
_MOST_DIGITS: Final = 18


def byte_count(text: str) -> int | None:
    """None for what is no number, or one that no file has."""
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    return None


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds that a `Retry-After` asks for, as a number or a date; None when it says nothing usable."""
    text = next((v for k, v in headers.items() if k.lower() == "retry-after"), "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_WAIT)
    try:
        when = parsedate_to_datetime(text)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        wait = (when - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(wait, 0.0), _LONGEST_WAIT)


def file_size(value: object) -> int | None:
    """The same for a value out of JSON."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**_MOST_DIGITS:
        return value
    return None


def seconds(value: object, *, otherwise: float) -> float:
    """How long something is good for, at most a day; `otherwise` for what says nothing usable."""
    try:
        found = float(value) if isinstance(value, str | int | float) else 0.0
    except (ValueError, OverflowError):
        return otherwise
    return min(found, _LONGEST_WAIT) if found > 0 else otherwise


def sendable(text: str) -> bool:
    """Whether a header may hold it."""
    return text.isascii() and text.isprintable()
