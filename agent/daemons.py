"""Threads for what may hang for ever: dead file systems, name servers, libraries. The process ends without them."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Check = Callable[[], None]

# As many calls may hang before others wait for them.
_THREADS: Final = 32


class Abandoned(Exception):
    """Raised in a thread whose result nobody waits for any more."""


class Daemons(Executor):
    """Up to `most` threads. Python's own pool is joined before the process ends, however long that takes."""

    def __init__(self, most: int, *, name: str) -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._count = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        self._work.put((future, partial(fn, *args, **kwargs)))
        with self._lock:
            if self._count < self._most and not self._idle.acquire(blocking=False):
                self._count += 1
                name = f"{self._name}_{self._count}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
        return future

    def _run(self) -> None:
        while True:
            _carry_out(*self._work.get())
            self._idle.release()


async def aside(function: Callable[[Check], T]) -> T:
    """The function's result, from such a thread. Once this await is cancelled, its `check` raises `Abandoned`."""
    gone = threading.Event()

    def check() -> None:
        if gone.is_set():
            raise Abandoned

    try:
        return await asyncio.get_running_loop().run_in_executor(_daemons, function, check)
    except asyncio.CancelledError:
        gone.set()
        raise


def _carry_out(future: Future[Any], work: Callable[[], Any]) -> None:
    """A frame of its own: between two calls nothing of the first is kept."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as exc:
        future.set_exception(exc)


_daemons = Daemons(_THREADS, name="source")
