"""How many connections are worth while: as few as bring as much as more would. Pure."""

import math
from typing import Final

# On a fast network a few fill disk and processor, and more only get in each other's way; the longer each waits for
# answers, the more of them fill the same link.
_NEAR: Final = 4
_PER_SECOND: Final = 1000
# A trial lets new connections come to speed, then compares. It must bring this much more to be kept.
_WARM_SECONDS: Final = 0.25
_LOOK_SECONDS: Final = 0.5
_GAIN: Final = 1.15
# After a trial that brought nothing, or a source that asked to slow down.
_REST_SECONDS: Final = 15.0
# From one connection to as many as there may ever be.
_DOUBLINGS: Final = 8
TICK_SECONDS: Final = 0.25


class Pace:
    """Tries twice as many connections from time to time, and keeps them when that brings clearly more bytes.

    Times are a monotonic clock's.
    """

    def __init__(self, *, most: int) -> None:
        self.width = min(most, _NEAR)
        self._most = most
        self._since: tuple[float, int] | None = None
        self._trial: tuple[int, float] | None = None
        self._warm_until = self._rest_until = -math.inf

    def limit(self, most: int) -> None:
        """The budget changed."""
        self._most = most
        self.width = min(self.width, most)

    def look(
        self, *, now: float, moved: int, wanted: int, copies: int, latency: float | None
    ) -> int:
        """The width from now on.

        moved: bytes received since the start. wanted: connections that there is work for. copies: fetches that share
        them. latency: seconds until answers begin, None before the first.
        """
        each = _NEAR + int((latency or 0) * _PER_SECOND)
        least = each * max(1, copies)
        self.width = min(self._most, max(self.width, least))
        if now < self._warm_until or (wanted <= self.width and self._trial is None):
            self._since = None
        elif self._since is None:
            self._since = (now, moved)
        elif now - self._since[0] >= _LOOK_SECONDS:
            rate = (moved - self._since[1]) / (now - self._since[0])
            self._since = (now, moved)
            self._judge(rate, now, least)
            if self._trial is None and now >= self._rest_until and wanted > self.width:
                self._try(rate, now)
        return self.width

    def _judge(self, rate: float, now: float, least: int) -> None:
        if self._trial is None:
            return
        width, before = self._trial
        self._trial = None
        if rate < before * _GAIN:
            self.width = min(self._most, max(width, least))
            self._rest_until = now + _REST_SECONDS

    def _try(self, rate: float, now: float) -> None:
        if self.width < self._most:
            self._trial = (self.width, rate)
            self.width = min(self._most, 2 * self.width)
            self._warm_until = now + _WARM_SECONDS


class Restraint:
    """How many connections one copy may have: each time its source asks to slow down, half of them; after a rest, twice as many each second.

    Times are a monotonic clock's.
    """

    def __init__(self, *, most: int) -> None:
        self._width = most
        self._rest_until = -math.inf

    def slow_down(self, *, now: float, share: int) -> None:
        """The source had enough of us. share: connections that the copy could have had."""
        self._width = max(1, min(self.width(now=now), share) // 2)
        self._rest_until = now + _REST_SECONDS

    def width(self, *, now: float) -> int:
        rested = min(now - self._rest_until, _DOUBLINGS)
        return self._width << max(0, int(rested))
