"""What goes between a crowd's thread, the event loop, and the threads that open connections for the crowd."""

import asyncio
import os
import threading
from concurrent.futures import Executor, Future
from typing import Final

from agent.transfer.connection import Connection
from agent.transfer.pool import Pool
from agent.transfer.unit import Unit

_NOT_YET: Final = -1


class Exchange:
    """To be made in the event loop. openers: threads that connect, so that the crowd's own waits for nobody.

    opening: connections that they are at.
    """

    def __init__(self, pool: Pool, openers: Executor) -> None:
        self.opening = 0
        self._pool = pool
        self._openers = openers
        self._lock = threading.Lock()
        self._units: list[Unit] = []
        self._opened: list[Connection] = []
        self._is_open = True
        self._is_left = False
        self._bell = _NOT_YET
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._over: list[Unit] = []
        self._is_hungry = False

    # For the event loop.

    def add(self, unit: Unit) -> None:
        """For the crowd to bring."""
        with self._lock:
            self._is_hungry = False
            self._units.append(unit)
            self._ring()

    def close(self) -> None:
        """No unit is added any more."""
        with self._lock:
            self._is_open = False
            self._ring()

    async def news(self) -> tuple[list[Unit], bool]:
        """Waits; units that are over, and whether the crowd wants another one."""
        await self._news.wait()
        self._news.clear()
        with self._lock:
            over, self._over = self._over, []
            return over, self._is_hungry and self._is_open

    def wake(self) -> None:
        """There are news of another kind."""
        self._news.set()

    # For the crowd's thread.

    def listen(self) -> int:
        """A descriptor that can be read whenever there is something to `take`; now for a first time."""
        with self._lock:
            self._bell = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return self._bell

    def take(self) -> tuple[list[Unit], list[Connection]]:
        with self._lock:
            os.eventfd_read(self._bell)
            units, self._units = self._units, []
            opened, self._opened = self._opened, []
        self.opening -= len(opened)
        return units, opened

    @property
    def goes_on(self) -> bool:
        """Whether units are there that were not taken yet, or may still come."""
        with self._lock:
            return self._is_open or bool(self._units)

    def open(self, via: Connection) -> None:
        """To be taken as soon as it is open, or as one that is not `reusable`."""
        self.opening += 1
        future = self._openers.submit(via.open)
        future.add_done_callback(lambda done: self._arrived(done, via))

    def over(self, unit: Unit) -> None:
        with self._lock:
            self._over.append(unit)
        self._loop.call_soon_threadsafe(self._news.set)

    def hunger(self) -> None:
        """Another unit should come."""
        with self._lock:
            told, self._is_hungry = self._is_hungry or bool(self._units), True
        if not told:
            self._loop.call_soon_threadsafe(self._news.set)

    def leave(self) -> None:
        """Nobody takes anything any more: what is opened now goes to the pool."""
        with self._lock:
            self._is_left = True
            left, self._opened = self._opened, []
            os.close(self._bell)
        for via in left:
            self._pool.give_back(via)

    # For the openers' threads.

    def _arrived(self, done: Future[None], via: Connection) -> None:
        if done.cancelled() or done.exception() is not None:
            via.close()
        with self._lock:
            if not self._is_left:
                self._opened.append(via)
                self._ring()
                return
        self._pool.give_back(via)

    def _ring(self) -> None:
        if self._bell != _NOT_YET and not self._is_left:
            os.eventfd_write(self._bell, 1)
