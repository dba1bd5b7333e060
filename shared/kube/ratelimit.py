"""A token bucket for requests."""

import asyncio


class TokenBucket:
    """`rate` tokens a second, at most `burst` at once; waiters are served in order."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._stamp: float | None = None

    async def take(self) -> float:
        """Wait for one token; returns the seconds waited."""
        now = asyncio.get_running_loop().time()
        wait = self._reserve(now)
        if wait > 0:
            await asyncio.sleep(wait)
        return wait

    def try_take(self, now: float) -> bool:
        """Take a token if there is one; `now` is in seconds on any monotonic clock, always the same one."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _reserve(self, now: float) -> float:
        self._refill(now)
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

    def _refill(self, now: float) -> None:
        if self._stamp is not None:
            elapsed = max(0.0, now - self._stamp)
            self._tokens = min(self._burst, self._tokens + elapsed * self._rate)
        self._stamp = now
