"""From start to exit: signals, drain, exit codes."""

import asyncio
import ctypes
import os
import resource
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import orjson
import structlog

from shared.ops.stacks import stacks

log = structlog.get_logger(__name__)

_PR_SET_DUMPABLE = 4


def run(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, int]],
    *,
    state: Callable[[], dict[str, Any]] | None = None,
) -> int:
    """Run `main(stop)` to its end and return its exit code.

    SIGTERM and SIGINT set `stop`; a second one ends the process at once. SIGUSR2 logs `state()` and the stacks.
    What nobody expected is logged and ends it with 1: whoever started it starts it again.
    """
    _leave_no_core()
    try:
        return asyncio.run(_run(main, state))
    except Exception:
        log.exception("crashed")
        return 1


def _leave_no_core() -> None:
    """A core would hold credentials. A pattern that is a pipe minds no limit, only whether the process may be dumped."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


async def _run(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, int]],
    state: Callable[[], dict[str, Any]] | None,
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("second signal, stopping at once", signal=number.name)
            os._exit(128 + number)
        log.info("stopping", signal=number.name)
        stop.set()

    def dump() -> None:
        picture = {**(state() if state is not None else {}), **stacks()}
        text = orjson.dumps(picture, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        log.info("state", tasks=len(asyncio.all_tasks()), state=text)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    loop.add_signal_handler(signal.SIGUSR2, dump)
    return await main(stop)


async def run_until(stop: asyncio.Event, parts: dict[str, Coroutine[Any, Any, Any]]) -> None:
    """Run the named parts side by side until `stop` is set or one of them ends, then cancel and await the rest.

    Raises what a part raised (as an ExceptionGroup); a part that returns ends the program as `stop` does.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part, name=name) for name, part in parts.items()]
        waiter = group.create_task(stop.wait(), name="stop")
        done, _ = await asyncio.wait([*tasks, waiter], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            log.error("ended by itself", parts=sorted(task.get_name() for task in done))
        for task in (*tasks, waiter):
            task.cancel()
