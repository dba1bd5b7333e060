"""Reading again and again, so seldom that it is no burden."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Final, Generic, TypeVar

from controller.cli.outcome import Exit, Problem

T = TypeVar("T")

_SECONDS: Final = 2.0
# A reading of a large fleet takes its time; the API server gets at least nine times as much to rest.
_REST: Final = 9.0


class Rounds(Generic[T]):
    """`async for value, stale in Rounds(read)`, for ever. stale: why `value` is not of this moment; None when it is.

    A first failure is raised, and one that does not pass by itself.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[T]],
        *,
        seconds: float = _SECONDS,
        until: float | None = None,
    ) -> None:
        """until: loop time at which it is read once more, however short the rest was."""
        self._read = read
        self._seconds = seconds
        self._until = until

    async def __aiter__(self) -> AsyncIterator[tuple[T, str | None]]:
        loop = asyncio.get_running_loop()
        last: tuple[T, datetime] | None = None
        while True:
            started = loop.time()
            try:
                value, stale = await self._read(), None
                last = value, datetime.now().astimezone()
            except Problem as problem:
                if last is None or problem.exit is not Exit.RETRYABLE:
                    raise
                value = last[0]
                stale = f"As of {last[1]:%H:%M:%S}. {problem.sentence}"
            yield value, stale
            rest = max(self._seconds, _REST * (loop.time() - started))
            left = math.inf if self._until is None else self._until - loop.time()
            await asyncio.sleep(min(rest, left) if left > 0 else rest)
