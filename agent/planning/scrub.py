"""Which published bytes to read again next, and how fast. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import nsmallest
from itertools import accumulate, takewhile

# Together an hour of reading at the slowest rate at most, so that a restart repeats little.
_BATCH_BYTES = 1 << 30
_BATCH_FILES = 1000
# Of the period, what the whole disk takes; and what is kept in hand for times when copies are fetched and nothing is read.
_SHARE = 0.6
_IN_HAND = 0.1
# Small caches are through in minutes rather than stretched over days.
_LEAST_RATE = 4 << 20


@dataclass(frozen=True, slots=True)
class Reading:
    """How far one published tree was read again.

    published_at: whose reading it is; a tree that replaced it begins anew. after: the last path that was read, "" between two
    readings. ended: when the last reading was complete.
    """

    published_at: datetime
    after: str = ""
    ended: datetime | None = None


def next_tree(
    published: Mapping[str, datetime],
    readings: Mapping[str, Reading],
    *,
    sizes: Mapping[str, int],
    now: datetime,
    period: timedelta,
) -> str | None:
    """The tree whose reading is under way, else the one that was checked longest ago, once it is time for it.

    It is time when reading one after the other, in this order, would just end each within a period of when it was checked before.
    """

    def checked(key: str) -> datetime:
        reading = current(readings, key, published[key])
        return reading.ended or published[key]

    for key in sorted(published):
        if current(readings, key, published[key]).after:
            return key
    rate = bytes_per_second(sum(sizes[key] for key in published), period)
    order = sorted(published, key=lambda key: (checked(key), key))
    ahead = accumulate(sizes[key] for key in order)
    late = any(
        checked(key) + period * (1 - _IN_HAND) - timedelta(seconds=size / rate) <= now
        for key, size in zip(order, ahead, strict=True)
    )
    return order[0] if late else None


def current(readings: Mapping[str, Reading], key: str, published_at: datetime) -> Reading:
    """The reading of this very tree, or that of a tree nobody has read again yet."""
    reading = readings.get(key)
    if reading is None or reading.published_at != published_at:
        return Reading(published_at)
    return reading


def next_files(files: Iterable[tuple[str, int]], after: str) -> tuple[str, ...]:
    """The next paths, of (path, bytes) in any order; at least one, none when all were read."""
    left = nsmallest(_BATCH_FILES, (file for file in files if file[0] > after))
    sums = accumulate(size for _, size in left)
    fitting = sum(1 for _ in takewhile(lambda size: size <= _BATCH_BYTES, sums))
    return tuple(path for path, _ in left[: max(fitting, 1)])


def bytes_per_second(total: int, period: timedelta) -> int:
    """Fast enough to read `total` bytes once in the period."""
    return max(int(total / (period.total_seconds() * _SHARE)), _LEAST_RATE)
