"""What all fetches together may use, shared fairly between them and changeable while they run."""

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

# A thread that waits for its bytes looks at its stop flag this often.
_SLICE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Budget:
    """connections: to all sources together. bytes_in_flight: received but not written. bytes_per_second: None = no limit."""

    connections: int = 16
    bytes_in_flight: int = 128 << 20
    open_files: int = 256
    bytes_per_second: int | None = None


class Slots:
    """A number of places, one held per unit of work; whoever holds the fewest gets the next one. For one event loop."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def resize(self, capacity: int) -> None:
        """More places are given out at once; fewer as they come back."""
        self._capacity = capacity
        self._give()

    @asynccontextmanager
    async def hold(self, owner: str) -> AsyncIterator[None]:
        await self._take(owner)
        try:
            yield
        finally:
            self._return(owner)

    async def _take(self, owner: str) -> None:
        if not self._waiting and self._held.total() < self._capacity:
            self._held[owner] += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._give()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._return(owner)
            else:
                self._forget(owner, turn)
            raise

    def _return(self, owner: str) -> None:
        self._held[owner] -= 1
        if self._held[owner] <= 0:
            del self._held[owner]
        self._give()

    def _give(self) -> None:
        while self._waiting and self._held.total() < self._capacity:
            owner = min(self._waiting, key=lambda name: self._held[name])
            turn = self._waiting[owner].popleft()
            if not self._waiting[owner]:
                del self._waiting[owner]
            if not turn.done():
                self._held[owner] += 1
                turn.set_result(None)

    def _forget(self, owner: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(owner)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[owner]


class Throttle:
    """A token bucket of bytes for threads; its burst is what a second allows."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._lock = threading.Lock()
        self._rate = bytes_per_second
        self._balance = 0.0
        self._stamp = time.monotonic()

    def set_rate(self, bytes_per_second: int | None) -> None:
        with self._lock:
            self._rate = bytes_per_second

    def spend(self, count: int, stop: threading.Event) -> None:
        """After `count` bytes were received: wait until they are paid for, or `stop` is set."""
        with self._lock:
            if self._rate is None:
                return
            now = time.monotonic()
            earned = (now - self._stamp) * self._rate
            self._balance = min(self._balance + earned, float(self._rate)) - count
            self._stamp = now
            wait = max(0.0, -self._balance / self._rate)
        while wait > 0 and not stop.wait(min(wait, _SLICE_SECONDS)):
            wait -= _SLICE_SECONDS
