"""Threads that hang do not keep the process."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from agent.daemons import Abandoned, Check, Daemons, aside

HANGING = """
import asyncio, threading
from agent.daemons import aside

async def main():
    try:
        async with asyncio.timeout(0.1):
            await aside(lambda _: threading.Event().wait())
    except TimeoutError:
        print("given up", flush=True)

asyncio.run(main())
"""


def test_the_process_ends_although_a_thread_hangs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "given up\n"


async def test_results_and_errors_come_back() -> None:
    assert await aside(lambda _: 7) == 7
    with pytest.raises(ValueError, match="x"):
        await aside(lambda _: int("x"))


async def test_a_thread_that_nobody_waits_for_is_told() -> None:
    told = threading.Event()

    def work(check: Check) -> None:
        try:
            while True:
                check()
                time.sleep(0.01)
        except Abandoned:
            told.set()
            raise

    task = asyncio.create_task(aside(work))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await asyncio.to_thread(told.wait, 5)


def test_no_more_threads_than_allowed_work_at_a_time() -> None:
    pool, gate = Daemons(3, name="few"), threading.Event()
    running: set[int] = set()

    def work() -> None:
        running.add(threading.get_ident())
        gate.wait(5)

    futures = [pool.submit(work) for _ in range(20)]
    time.sleep(0.2)
    gate.set()
    for future in futures:
        future.result(5)
    assert len(running) == 3


def test_after_the_shutdown_nothing_new_begins_and_threads_end() -> None:
    pool, gate, began = Daemons(1, name="ending"), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        gate.wait(5)

    running, waiting = pool.submit(work), pool.submit(work)
    assert began.wait(5)
    pool.shutdown(cancel_futures=True)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(work)
    gate.set()
    running.result(5)
    deadline = time.monotonic() + 5
    while any(thread.name == "ending_1" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
