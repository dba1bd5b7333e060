"""How a program ends: by itself, by a signal, by a part that fails."""

import asyncio
import json
import signal
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from shared.ops.lifecycle import run_until

PROGRAM = """
import asyncio, sys
from shared.ops import lifecycle, logging

logging.configure("info", "json")

async def main(stop):
    print("up", flush=True)
    await stop.wait()
    print("draining", flush=True)
    if sys.argv[1] == "slow":
        await asyncio.sleep(60)
    return 7

sys.exit(lifecycle.run(main, state=lambda: {"models": 3}))
"""


def started(pace: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, pace],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_program_drain_and_end_with_its_own_code(number: signal.Signals) -> None:
    child = started("quick")
    child.send_signal(number)
    out, err = child.communicate(timeout=20)
    assert (out, child.returncode) == ("draining\n", 7)
    assert number.name in err


def test_a_program_leaves_no_core_not_even_to_a_pipe() -> None:
    program = """
import asyncio, ctypes, resource, sys
from shared.ops import lifecycle

async def main(stop):
    print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
    return 0

sys.exit(lifecycle.run(main))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "(0, 0) 0\n"


def test_a_second_signal_ends_it_at_once() -> None:
    child = started("slow")
    child.send_signal(signal.SIGTERM)
    assert child.stdout is not None
    assert child.stdout.readline() == "draining\n"
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=20)
    assert child.returncode == 128 + signal.SIGTERM


def test_sigusr2_logs_the_state_and_the_program_goes_on() -> None:
    child = started("quick")
    child.send_signal(signal.SIGUSR2)
    assert child.stderr is not None
    assert "models" in child.stderr.readline()
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=20)
    assert child.returncode == 7


def test_what_nobody_expected_is_one_line_of_the_log_and_ends_the_program() -> None:
    program = """
import asyncio, sys
from shared.ops import lifecycle, logging

logging.configure("info", "json")

async def breaks():
    raise ZeroDivisionError("by nought")

async def main(stop):
    await lifecycle.run_until(stop, {"good": asyncio.sleep(60), "bad": breaks()})
    return 0

sys.exit(lifecycle.run(main))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (line["event"], line["level"]) == ("crashed", "error")
    assert "ZeroDivisionError: by nought" in line["exception"]


@pytest.mark.parametrize(
    ("end", "why"), [("raise ZeroDivisionError", "crashed"), ("return", "ended by itself")]
)
def test_why_a_program_ends_is_told_amid_any_flood_of_lines(end: str, why: str) -> None:
    program = f"""
import asyncio, sys
import structlog
from shared.ops import lifecycle, logging

logging.configure("info", "json")

async def part():
    for _ in range(5000):
        structlog.get_logger("flood").error("pass failed")
    {end}

async def main(stop):
    await lifecycle.run_until(stop, {{"part": part()}})
    return 1

sys.exit(lifecycle.run(main))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    *flood, last = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(flood) < 5000
    assert last["event"] == why


class Part:
    def __init__(self) -> None:
        self.ended = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended = True


async def test_a_stop_ends_every_part_and_waits_for_it() -> None:
    stop, parts = asyncio.Event(), [Part(), Part()]
    asyncio.get_running_loop().call_soon(stop.set)
    await run_until(stop, {"a": parts[0].run(), "b": parts[1].run()})
    assert all(part.ended for part in parts)


async def test_a_part_that_fails_ends_the_others_and_is_heard() -> None:
    part = Part()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as failed:
        await run_until(asyncio.Event(), {"good": part.run(), "bad": fails()})
    assert failed.group_contains(ZeroDivisionError)
    assert part.ended


async def test_a_part_that_returns_ends_the_program_and_is_named() -> None:
    part = Part()
    with capture_logs() as said:
        await run_until(asyncio.Event(), {"good": part.run(), "brief": asyncio.sleep(0)})
    assert part.ended
    assert said == [{"event": "ended by itself", "parts": ["brief"], "log_level": "error"}]
