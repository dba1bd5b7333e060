"""What the threads of one fetch share."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from agent.transfer.budget import Throttle
from agent.transfer.journal import Journal
from agent.transfer.pool import Pool
from agent.transfer.progress import Progress


class Stopped(Exception):
    """The fetch is over; the thread writes nothing more."""


@dataclass(frozen=True, slots=True, eq=False)
class Workshop:
    """What the threads of one fetch share. root: open folder in which the files appear. past_cache: whether to write past it now.

    room: asked before a file of unknown size grows by so many bytes; raises `Stalled` when these are not to be had.
    """

    root: int
    pool: Pool
    throttle: Throttle
    journal: Journal
    progress: Progress
    past_cache: Callable[[], bool]
    room: Callable[[int], None]
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def direct(self) -> bool:
        """Past the page cache."""
        return self.past_cache()

    def check(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def close_after(self, threads: Sequence[Future[Any]]) -> None:
        """Close folder and journal once these threads are done: a descriptor that is closed earlier may become another file's."""
        left = len(threads)
        lock = threading.Lock()

        def count(_: Future[Any]) -> None:
            nonlocal left
            with lock:
                left -= 1
                last = left == 0
            if last:
                self._close()

        if not threads:
            self._close()
        for thread in threads:
            thread.add_done_callback(count)

    def _close(self) -> None:
        os.close(self.root)
        self.journal.close()
