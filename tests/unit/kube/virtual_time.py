"""An event loop whose clock runs ahead while nothing happens, so that minutes pass in milliseconds and always the same way."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")

# What was sent over loopback in this process is there at once; the rest is for a kernel that is busy elsewhere.
_GRACE_SECONDS: Final = 0.001
# Not zero, as the clock of a real machine.
_START: Final = 1000.0
# What has not happened by then never will; a fraction of a second in fact.
PATIENCE: Final = 600.0


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        # The one file that is always there is the loop's own.
        ready = super().select(_GRACE_SECONDS if len(self.get_map()) > 1 else 0)
        if not ready:
            self.ahead += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Sockets are real. `time()` stands still while anything can be done, and then leaps to the next timer.

    Work for threads is done on the spot: nothing that is under way would keep the clock from leaping.
    """

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return _START + self._clock.ahead

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Args], T], *args: *Args
    ) -> asyncio.Future[T]:
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as exc:
            done.set_exception(exc)
        return done


def now() -> float:
    return asyncio.get_running_loop().time()
