"""When to write: edits that come together are answered together, and no cache's status is written too often."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
import structlog

_MOST: Final = 10  # edits that never pause are answered after this many quiet times anyway
_KEYS_PER_QUIET: Final = (
    250  # a thousand work lists take many seconds to write: a second more is well spent
)
_LONGEST: Final = 5  # times `quiet`, however many keys wait
_FIRST: Final = 0.2  # of the debounce: a first change waits a moment for others of the same cause
# Copies of many nodes change together: counted up to five times less often.
_NODES_PER_DEBOUNCE: Final = 50
_SLOWEST: Final = 5.0
# Agents tell of moving bytes every 30 s: on 100,000 copies a status is written as often. Summing up one copy takes about 7 µs, so all
# statuses together take a fortieth of a core; and a cache that a fleet of a thousand fills anew costs two statuses.
_COPIES_PER_DEBOUNCE: Final = 3_200
_SLOWEST_OF_ALL: Final = 60.0
_FREE_REWRITES: Final = 5  # what people undo by hand is set right at once
_REWRITE_CAP_SECONDS: Final = 60.0
_REWRITES_FORGOTTEN_SECONDS: Final = 300.0

log = structlog.get_logger(__name__)


class Settling:
    """Collects keys until none came for `quiet` seconds, then hands them on all at once; the more there are, the more
    patiently. For one event loop.
    """

    def __init__(self, hand_on: Callable[[Iterable[str]], None], *, quiet: float) -> None:
        self._hand_on = hand_on
        self._quiet = quiet
        self._keys: set[str] = set()
        self._first = self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Keys that wait."""
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, keys: Iterable[str]) -> None:
        keys = set(keys)
        if not keys:
            return
        loop = asyncio.get_running_loop()
        self._keys |= keys
        self._last = loop.time()
        if self._timer is None:
            self._first = self._last
            self._timer = loop.call_at(self._first + self._quiet, self._ring)

    def stop(self) -> None:
        """Forget what waits."""
        self._keys.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        quiet = self._quiet * min(1 + len(self._keys) / _KEYS_PER_QUIET, _LONGEST)
        due = min(self._last + quiet, self._first + quiet * _MOST)
        if loop.time() < due:
            self._timer = loop.call_at(due, self._ring)
            return
        keys, self._keys, self._timer = self._keys, set(), None
        self._hand_on(keys)


Change = Literal["facts", "copies", "progress"]
"""What changed: specs, services, deletion and the like; what nodes hold; or nothing but bytes."""


class Pace:
    """How long a status has to wait. Time is the caller's monotonic clock."""

    def __init__(self, debounce: float) -> None:
        self._debounce = debounce
        self._written: dict[str, float] = {}
        self._missing: dict[str, int] = {}

    def wait(self, key: str, change: Change, *, nodes: int, caches: int, now: float) -> float:
        """Seconds until a status may be written. Copies of a large fleet are summed up less often, but its last one is told soon."""
        weight = 1.0
        if change == "progress" or (change == "copies" and self._missing.get(key, 1) != 0):
            weight = (
                _SLOWEST if change == "progress" else min(nodes / _NODES_PER_DEBOUNCE, _SLOWEST)
            )
            weight = max(1.0, weight, min(nodes * caches / _COPIES_PER_DEBOUNCE, _SLOWEST_OF_ALL))
        written = self._written.get(key)
        earliest = now if written is None else written + self._debounce * weight
        return max(self._debounce * _FIRST, earliest - now)

    def landed(self, key: str) -> None:
        """A copy came, or went: perhaps the last that was missing."""
        missing = self._missing.get(key)
        if missing:
            self._missing[key] = missing - 1

    def wrote(self, key: str, now: float, *, missing: int = 0) -> None:
        """`missing`: copies that have still to come, or to go, until there is news worth more than a count."""
        self._written[key] = now
        self._missing.pop(key, None)
        if missing:
            self._missing[key] = missing

    def forget(self, key: str) -> None:
        self._written.pop(key, None)
        self._missing.pop(key, None)


class Patience:
    """Who stays in a set for `seconds` without a break. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._since: dict[str, float] = {}

    def over(self, names: Iterable[str]) -> set[str]:
        """Of those in the set now."""
        now = self._clock()
        self._since = {name: self._since.get(name, now) for name in names}
        return {name for name, since in self._since.items() if now - since >= self._seconds}


class Deadline:
    """How long each key may still wait, from when it was first asked about; then it is forgotten. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._since: dict[str, float] = {}

    def left(self, key: str) -> float:
        now = self._clock()
        left = self._since.setdefault(key, now) + self._seconds - now
        if left <= 0:
            del self._since[key]
        return max(0.0, left)

    def forget(self, key: str) -> None:
        self._since.pop(key, None)


class Courtesy:
    """Lets statuses give way while work is under way that will change them, each for a bounded time. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def yields(self, key: str, *, busy: bool, seconds: float) -> bool:
        """`seconds`: how long the key gives way at most, counted from the first time."""
        now = self._clock()
        if busy and now < self._until.setdefault(key, now + seconds):
            return True
        self._until.pop(key, None)
        return False

    def due(self, *, busy: bool) -> list[str]:
        """Of those that gave way, who may go on; to be asked when the work is done, and from time to time."""
        now = self._clock()
        return [key for key, until in self._until.items() if not busy or now >= until]


def timeless(status: Mapping[str, Any]) -> bytes:
    """The same for statuses that differ in nothing but when their conditions changed."""
    conditions = [
        {name: value for name, value in condition.items() if name != "lastTransitionTime"}
        for condition in status.get("conditions") or ()
    ]
    text = orjson.dumps({**status, "conditions": conditions}, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=16).digest()


@dataclass(slots=True)
class _Written:
    content: Hashable
    at: float
    times: int = 1


class Rewrites:
    """Who keeps undoing what we write is answered ever less often. `clock` is monotonic.

    The same content is written to a key a few times at once, then after 1, 2, 4 … 60 s.
    """

    def __init__(self, clock: Callable[[], float], what: str) -> None:
        """`what` is written, for the log."""
        self._clock = clock
        self._what = what
        self._last: OrderedDict[str, _Written] = OrderedDict()

    def wait(self, key: str, content: Hashable) -> float:
        """Seconds until this may be written."""
        last = self._last.get(key)
        if last is None or last.content != content or last.times < _FREE_REWRITES:
            return 0.0
        pause = min(2.0 ** min(last.times - _FREE_REWRITES, 10), _REWRITE_CAP_SECONDS)
        return max(0.0, last.at + pause - self._clock())

    def wrote(self, key: str, content: Hashable) -> None:
        now = self._clock()
        last = self._last.pop(key, None)
        times = 1
        if last is not None and last.content == content:
            times = last.times + 1
        self._last[key] = _Written(content, now, times)
        if times > _FREE_REWRITES:
            log.warning("somebody undoes it", written=self._what, object=key, times=times)
        while next(iter(self._last.values())).at < now - _REWRITES_FORGOTTEN_SECONDS:
            self._last.popitem(last=False)
