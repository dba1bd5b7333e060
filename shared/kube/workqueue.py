"""Keys that wait for work, with the semantics of client-go's rate-limiting work queue, but what comes now does not come later too."""

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

from shared.domain.backoff import delay
from shared.kube.metrics import KubeMetrics

K = TypeVar("K")

_RETRY_BASE_SECONDS: Final = 0.2
_RETRY_CAP_SECONDS: Final = 60.0


# What `describe` names.
_SHOWN: Final = 5


class ShutDown(Exception):
    """The queue is shut down and empty-handed: workers end."""


class WorkQueue(Generic[K]):
    """A key waits at most once, is worked on by one worker at a time, and is never lost.

    A key that is added while it is worked on is queued again when that worker is `done`. Bounded by the number of
    distinct keys. For one event loop.
    """

    def __init__(self, name: str, *, metrics: KubeMetrics | None = None) -> None:
        self.name = name
        self._metrics = metrics
        self._ready: deque[K] = deque()
        self._dirty: dict[K, float] = {}
        self._processing: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._due: dict[K, float] = {}
        self._timers: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._stopped = False
        if metrics is not None:
            metrics.queue_depth.labels(name).set(0)
            metrics.queue_retries.labels(name)
            metrics.unfinished_seconds.labels(name).set_function(lambda: sum(self._ages()))
            metrics.longest_seconds.labels(name).set_function(
                lambda: max(self._ages(), default=0.0)
            )

    def add(self, key: K) -> None:
        """Queue the key now, and no more for later; without effect when it waits already."""
        if self._stopped or key in self._dirty:
            return
        self._due.pop(key, None)
        self._dirty[key] = asyncio.get_running_loop().time()
        if self._metrics is not None:
            self._metrics.queue_adds.labels(self.name).inc()
        if key not in self._processing:
            self._ready.append(key)
            self._wake()

    def add_after(self, key: K, seconds: float) -> None:
        """Queue the key later; of several times the earliest counts. Without effect when it waits now: who takes it sees what is new."""
        if seconds <= 0:
            self.add(key)
            return
        if key in self._dirty:
            return
        due = asyncio.get_running_loop().time() + seconds
        if self._stopped or self._due.get(key, due + 1) <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._timers, (due, self._sequence, key))
        self._set_alarm()

    def add_rate_limited(self, key: K) -> None:
        """Queue the key after a wait that doubles with every failure since `forget`, from 0.2 s to 60 s."""
        failures = self._failures.get(key, 0) + 1
        self._failures[key] = failures
        if self._metrics is not None:
            self._metrics.queue_retries.labels(self.name).inc()
        jitter = random.random()  # noqa: S311  # spread, not secrecy
        self.add_after(
            key, delay(failures, base=_RETRY_BASE_SECONDS, cap=_RETRY_CAP_SECONDS, jitter=jitter)
        )

    def forget(self, key: K) -> None:
        """The key succeeded: its next failure waits the shortest time again."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)

    async def get(self) -> K:
        """The next key; the caller must call `done`. Raises `ShutDown` when there will be none."""
        while not self._ready:
            if self._stopped:
                raise ShutDown
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                # The wake-up that was meant for us must not be lost.
                if waiter.done() and not waiter.cancelled():
                    self._wake()
                raise
            finally:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        key = self._ready.popleft()
        since = self._dirty.pop(key)
        now = asyncio.get_running_loop().time()
        self._processing[key] = now
        self._observe(now - since)
        return key

    def done(self, key: K) -> None:
        """The worker is through with the key; it is queued again if it was added meanwhile."""
        since = self._processing.pop(key, None)
        if self._metrics is not None and since is not None:
            worked = asyncio.get_running_loop().time() - since
            self._metrics.work_seconds.labels(self.name).observe(worked)
        if key in self._dirty:
            self._ready.append(key)
            self._wake()

    def shut_down(self) -> None:
        """Take no more keys and let `get` raise once the ready ones are handed out."""
        self._stopped = True
        if self._alarm is not None:
            self._alarm.cancel()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def __len__(self) -> int:
        """Keys that wait now, those for a later time left out."""
        return len(self._ready)

    @property
    def busy(self) -> int:
        """Keys that wait now, or are worked on."""
        return len(self._ready) + len(self._processing)

    def describe(self) -> dict[str, Any]:
        """For a person's eyes: how many keys wait, now and for later, and the few that have waited, or been worked on, longest."""
        now = asyncio.get_running_loop().time()
        ready = {key: self._dirty[key] for key in self._ready}
        return {
            "waiting": len(ready),
            "oldest": _longest(ready, now),
            "working": _longest(self._processing, now),
            "delayed": len(self._due),
            "failing": len(self._failures),
            "next_in": round(min(self._due.values()) - now, 1) if self._due else None,
        }

    def _ages(self) -> list[float]:
        """Seconds for which keys have been worked on; also asked for without a loop, when nothing is."""
        if not self._processing:
            return []
        now = asyncio.get_running_loop().time()
        return [now - since for since in self._processing.values()]

    def _observe(self, waited: float) -> None:
        if self._metrics is not None:
            self._metrics.queue_seconds.labels(self.name).observe(waited)
            self._metrics.queue_depth.labels(self.name).set(len(self._ready))

    def _wake(self) -> None:
        if self._metrics is not None:
            self._metrics.queue_depth.labels(self.name).set(len(self._ready))
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if self._timers:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_at(self._timers[0][0], self._ring)

    def _ring(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._timers and self._timers[0][0] <= now:
            due, _, key = heapq.heappop(self._timers)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        self._set_alarm()


def _longest(since: Mapping[K, float], now: float) -> dict[str, float]:
    """Seconds, by key."""
    first = heapq.nsmallest(_SHOWN, since, key=lambda key: since[key])
    return {str(key): round(now - since[key], 1) for key in first}
