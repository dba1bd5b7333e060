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
# Large writes are what makes a disk fast; a thread holds one such buffer.
BUFFER_BYTES: Final = 2 << 20
# Places come free by themselves sooner than this, unless who holds them gets next to nothing.
_PATIENCE_SECONDS: Final = 1.0
# Where there are fewer places than owners, they are taken in turns: a new connection each time, and its first bytes.
_TURN_SECONDS: Final = 30.0
# What a slow rate makes of it: a multiple of what direct writes are aligned to.
_LEAST_BITE: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Budget:
    """connections: to all sources together; as many as this for small files alone, others need a thread and a buffer each.

    bytes_in_flight: received but not written. bytes_per_second: None = no limit.
    """

    connections: int = 256
    bytes_in_flight: int = 128 << 20
    open_files: int = 256
    bytes_per_second: int | None = None


class Slots:
    """A number of places, one held per unit of work; whoever holds the fewest gets the next one, and of several who waits longest.

    For one event loop.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._since: dict[str, float] = {}
        self._taken = 0.0
        self._missed = 0

    def resize(self, capacity: int) -> None:
        """More places are given out at once; fewer as they come back."""
        if capacity != self._capacity:
            self._capacity = capacity
            self._give()

    @property
    def wanted(self) -> int:
        """Places held, waited for, and those that holders of several did not get."""
        return self._held.total() + sum(map(len, self._waiting.values())) + self._missed

    @property
    def capacity(self) -> int:
        return self._capacity

    def owed(self, owner: str) -> int:
        """How many of its places are due to others, who have waited for a while and have less than their share."""
        share = self._capacity // max(1, len(self._held.keys() | self._waiting.keys()))
        now = time.monotonic()
        due = sum(
            min(len(turns), max(0, max(1, share) - self._held[name]))
            for name, turns in self._waiting.items()
            if name != owner and self._since[name] < now - _PATIENCE_SECONDS
        )
        in_turns = not share and self._taken < now - _TURN_SECONDS
        return max(0, min(due, self._held[owner] - (0 if in_turns else max(1, share))))

    @asynccontextmanager
    async def hold(self, owner: str) -> AsyncIterator[None]:
        await self._take(owner)
        try:
            yield
        finally:
            self._return(owner)

    @asynccontextmanager
    async def hold_several(
        self, owner: str, most: int, *, limit: int | None = None
    ) -> AsyncIterator[int]:
        """One place as `hold`, and up to `most` together as long as nobody waits for them; yields how many.

        limit: for these, in place of the capacity.
        """
        await self._take(owner)
        count = 1
        while count < most and not self._waiting and self._held.total() < (limit or self._capacity):
            self._held[owner] += 1
            count += 1
        missed = most - count
        self._missed += missed
        try:
            yield count
        finally:
            self._missed -= missed
            for _ in range(count):
                self._return(owner)

    async def _take(self, owner: str) -> None:
        if not self._waiting and self._held.total() < self._capacity:
            self._held[owner] += 1
            self._taken = time.monotonic()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._since.setdefault(owner, time.monotonic())
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
            owner = min(self._waiting, key=lambda name: (self._held[name], self._since[name]))
            turn = self._waiting[owner].popleft()
            self._since[owner] = self._taken = time.monotonic()
            self._tidy(owner)
            if not turn.done():
                self._held[owner] += 1
                turn.set_result(None)

    def _forget(self, owner: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(owner)
        if queue is not None and turn in queue:
            queue.remove(turn)
            self._tidy(owner)

    def _tidy(self, owner: str) -> None:
        if not self._waiting[owner]:
            del self._waiting[owner], self._since[owner]


class Throttle:
    """A token bucket of bytes for threads; its burst is what a second allows. moved: bytes received since the start."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._lock = threading.Lock()
        self._rate = bytes_per_second
        self._stamp = time.monotonic()
        self._paid = 0.0
        self.moved = 0

    @property
    def bite(self) -> int:
        """Bytes that a thread should receive at a time, so that it does not keep its server waiting for long."""
        rate = self._rate
        if rate is None:
            return BUFFER_BYTES
        return min(BUFFER_BYTES, max(1, rate // 8 // _LEAST_BITE) * _LEAST_BITE)

    def set_rate(self, bytes_per_second: int | None) -> None:
        """For those that wait already, too."""
        with self._lock:
            self._earn()
            self._rate = bytes_per_second

    def spend(self, count: int, stop: threading.Event) -> None:
        """After `count` bytes were received: wait until these and all before them are paid for, or `stop` is set."""
        with self._lock:
            self._earn()
            self.moved += count
            mine = self.moved
        while (wait := self._wait(mine)) > 0 and not stop.wait(min(wait, _SLICE_SECONDS)):
            pass

    def _wait(self, mine: int) -> float:
        with self._lock:
            self._earn()
            return max(0.0, mine - self._paid) / self._rate if self._rate else 0.0

    def _earn(self) -> None:
        now = time.monotonic()
        if self._rate is None:
            self._paid = self.moved
        else:
            earned = self._paid + (now - self._stamp) * self._rate
            self._paid = min(earned, self.moved + self._rate)
        self._stamp = now
