"""Threads for what may hang for ever: dead file systems, name servers, libraries. The process ends without them."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
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
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._count = 0
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._work.put((future, partial(fn, *args, **kwargs)))
            if self._count < self._most and not self._idle.acquire(blocking=False):
                self._count += 1
                name = f"{self._name}_{self._count}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Threads end when nothing is left to do; that is never waited for."""
        if wait:
            raise ValueError("a thread may hang for ever: none is waited for")
        with self._lock:
            self._closed = True
            if cancel_futures:
                self._drop()
            for _ in range(self._count):
                self._work.put(None)

    def _drop(self) -> None:
        with suppress(Empty):
            while True:
                if (item := self._work.get_nowait()) is not None:
                    item[0].cancel()

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            _carry_out(*item)
            del item  # between two calls nothing of the first is kept
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
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as exc:
        future.set_exception(exc)


_daemons = Daemons(_THREADS, name="source")
