"""The threads that work for one fetch, and how they are stopped."""

import asyncio
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from agent.transfer.workshop import Workshop

T = TypeVar("T")
# What takes its time goes on step by step, and yields between them.
Steps = Generator[None, None, T]

# Others' short work in the same threads waits no longer than this.
_TURN_SECONDS: Final = 0.25
# What cancelling waits for at most. A thread that still looks up a name by then sees the stop flag before it writes.
_STOP_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Pools:
    """Of all fetches together. hashing: digests in order, and what is short. reading: what is on disk, again."""

    transfer: Executor
    hashing: Executor
    reading: Executor


class Crew:
    """shop: what the threads share; closed when the last of them is done."""

    def __init__(self, pools: Pools, shop: Workshop) -> None:
        self.pools = pools
        self._shop = shop
        self._busy: set[Future[Any]] = set()

    def __len__(self) -> int:
        """Threads that work or have something to do."""
        return len(self._busy)

    async def do(self, pool: Executor, function: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self.begin(pool, function))

    def begin(self, pool: Executor, function: Callable[[], T]) -> Future[T]:
        """Nobody needs to wait for it."""
        future = pool.submit(function)
        self._busy.add(future)
        future.add_done_callback(self._busy.discard)
        return future

    async def do_in_turns(self, pool: Executor, steps: Steps[T]) -> T:
        """All steps, with others' work in between."""
        while True:
            ended = await self.do(pool, lambda: _turn(steps))
            if ended is not None:
                return ended.value

    async def stop(self) -> None:
        """No thread writes any more when this returns, however it is cancelled meanwhile."""
        self._shop.stop.set()
        deadline = monotonic() + _STOP_SECONDS
        while self._busy and monotonic() < deadline:
            self._shop.pool.abort(self._shop)
            await _uncancelled(asyncio.sleep(0.01))

    def close(self) -> None:
        self._shop.close_after(list(self._busy))


@dataclass(frozen=True, slots=True)
class _Ended(Generic[T]):
    value: T


def _turn(steps: Steps[T]) -> _Ended[T] | None:
    until = monotonic() + _TURN_SECONDS
    try:
        while monotonic() < until:
            next(steps)
    except StopIteration as end:
        return _Ended(end.value)
    return None


async def _uncancelled(pause: Any) -> None:
    """Waits out a short pause even when the task is cancelled in it: cancelling is already under way."""
    task = asyncio.ensure_future(pause)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
