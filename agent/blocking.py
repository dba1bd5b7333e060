"""The one bounded pool for work that blocks: hashing, fsync, deleting, walking folders."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from agent.daemons import Daemons

P = ParamSpec("P")
T = TypeVar("T")

# Disk work gains little from more threads, and every publish or look takes only one.
_THREADS = 6


class Blocking:
    """`await blocking(function, …)` runs it in the pool.

    A cancelled await returns only when the thread has: nothing goes on writing behind the caller's back.
    """

    def __init__(self, threads: int = _THREADS) -> None:
        self._pool = Daemons(threads, name="blocking")

    async def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, partial(function, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await _settled(future)
            raise

    async def cancellable(self, function: Callable[[threading.Event], T]) -> T:
        """The same for a function that looks at the event from time to time and may end early."""
        stop = threading.Event()
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, function, stop)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop.set()
            await _settled(future)
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


async def _settled(future: asyncio.Future[T]) -> None:
    """Waits until the thread is done, however often the waiting task is cancelled meanwhile."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
    future.cancelled() or future.exception()
