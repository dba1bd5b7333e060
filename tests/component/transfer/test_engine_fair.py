"""A source that hardly sends anything, or asks to slow down, does not keep the connections from others."""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.manifest import Algorithm
from agent.policy import SourcePolicy
from agent.transfer import attempts, budget, silence
from agent.transfer.engine import Budget, Engine, FetchJob
from agent.transfer.progress import Progress
from tests.component.transfer.fetching import Signer, remote
from tests.support.faults import FaultServer, Reply, Request, ranged
from tests.support.processes import wait_until

MIB = 1 << 20
# More than what counts as silence.
DRIP = 8 << 10


def drip(content: bytes, rate: int = DRIP) -> Callable[[Request], Reply]:
    def answer(request: Request) -> Reply:
        reply = ranged(content, request)
        return Reply(reply.status, reply.headers, reply.body, rate=rate)

    return answer


class Held:
    """A good source whose answers wait until they are let go. now: how many wait."""

    def __init__(self, content: bytes) -> None:
        self.go = threading.Event()
        self.now = 0
        self._content = content
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Reply:
        with self._lock:
            self.now += 1
        self.go.wait(60)
        with self._lock:
            self.now -= 1
        return ranged(self._content, request)


def job(key: str, names: list[str], content: bytes, url: str, folder: Path) -> FetchJob:
    files = tuple(remote(name, content, Algorithm.SHA256) for name in names)
    return FetchJob(key, files, (Signer(url),), folder / key, folder / f"{key}-journal")


async def full(engine: Engine, places: int) -> None:
    await asyncio.to_thread(
        wait_until,
        lambda: engine.describe()["connections"]["used"] == places,
        seconds=10,
        what="a copy that has all places",
        interval=0.01,
    )


@pytest.mark.parametrize("kind", ["large", "small"])
async def test_a_copy_that_begins_while_a_slow_one_has_all_places_gets_its_share_within_seconds(
    tmp_path: Path, kind: str
) -> None:
    slow, fast = os.urandom(64 * MIB), os.urandom(48 * MIB)
    names = ["s"] if kind == "large" else [f"s{number}" for number in range(64)]
    held = slow if kind == "large" else slow[: 200 << 10]
    moved = Progress()
    engine = Engine(Budget(connections=4), policy=SourcePolicy.unrestricted(), part_size=8 * MIB)

    with (
        FaultServer(drip(held)) as dripping,
        FaultServer(lambda request: ranged(fast, request)) as quick,
    ):
        first = asyncio.create_task(
            engine.fetch(job("slow", names, held, dripping.url, tmp_path), moved)
        )
        await full(engine, 4)
        began = time.monotonic()
        await engine.fetch(job("fast", ["f"], fast, quick.url, tmp_path), Progress())
        took = time.monotonic() - began
        assert quick.accepted > 1
        # The slow one has gone on with what was left to it.
        before = moved.snapshot().bytes_moved
        await asyncio.sleep(3)
        assert moved.snapshot().bytes_moved > before
        first.cancel()
        await asyncio.wait([first])
        await engine.close()
    assert took < 15
    assert (tmp_path / "fast/f").read_bytes() == fast


async def test_who_has_given_way_goes_on_where_it_was(tmp_path: Path) -> None:
    slow, fast = os.urandom(2 * MIB), os.urandom(2 * MIB)
    moved = Progress()
    engine = Engine(Budget(connections=2), policy=SourcePolicy.unrestricted(), part_size=8 * MIB)
    with (
        FaultServer(drip(slow, 256 << 10)) as dripping,
        FaultServer(lambda request: ranged(fast, request)) as quick,
    ):
        first = asyncio.create_task(
            engine.fetch(job("slow", ["a", "b"], slow, dripping.url, tmp_path), moved)
        )
        await full(engine, 2)
        await engine.fetch(job("fast", ["f"], fast, quick.url, tmp_path), Progress())
        assert not first.done()
        await first
        assert len(dripping.requests) == 3
        await engine.close()
    assert (tmp_path / "slow/a").read_bytes() == slow
    assert (tmp_path / "slow/b").read_bytes() == slow
    assert moved.snapshot().bytes_moved == 2 * len(slow)


async def test_more_copies_than_places_come_in_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_TURN_SECONDS", 1.0)
    slow, fast = os.urandom(64 * MIB), os.urandom(2 * MIB)
    moved = Progress()
    engine = Engine(Budget(connections=1), policy=SourcePolicy.unrestricted(), part_size=8 * MIB)
    with (
        FaultServer(drip(slow)) as dripping,
        FaultServer(lambda request: ranged(fast, request)) as quick,
    ):
        first = asyncio.create_task(
            engine.fetch(job("slow", ["s"], slow, dripping.url, tmp_path), moved)
        )
        await full(engine, 1)
        async with asyncio.timeout(15):
            await engine.fetch(job("fast", ["f"], fast, quick.url, tmp_path), Progress())
        before = moved.snapshot().bytes_moved
        await asyncio.sleep(3)
        assert moved.snapshot().bytes_moved > before
        first.cancel()
        await asyncio.wait([first])
        await engine.close()
    assert (tmp_path / "fast/f").read_bytes() == fast


@pytest.mark.parametrize("kind", ["large", "small"])
async def test_a_source_that_throttles_takes_no_connection_from_another_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(attempts, "_TRIES", 1000)
    # In four ranges: what one copy has at least, where answers begin at once.
    content = os.urandom(32 * MIB)
    names = ["b"] if kind == "large" else [f"b{number}" for number in range(64)]
    refused = content if kind == "large" else content[: 20 << 10]
    held = Held(content)
    engine = Engine(Budget(connections=8), policy=SourcePolicy.unrestricted(), part_size=8 * MIB)

    def more(refusals: int) -> None:
        throttling.wait_for(len(throttling.requests) + refusals)

    with (
        FaultServer(lambda _: Reply(503, {"Retry-After": "1"})) as throttling,
        FaultServer(held) as good,
    ):
        bad = asyncio.create_task(
            engine.fetch(job("bad", names, refused, throttling.url, tmp_path), Progress())
        )
        await asyncio.to_thread(throttling.wait_for, 5)
        fine = asyncio.create_task(
            engine.fetch(job("fine", ["f"], content, good.url, tmp_path), Progress())
        )
        await asyncio.to_thread(
            wait_until, lambda: held.now == 4, seconds=10, what="its connections", interval=0.01
        )
        await asyncio.to_thread(more, 2)
        assert held.now == 4
        held.go.set()
        await fine
        bad.cancel()
        await asyncio.wait([bad])
        await engine.close()
    assert (tmp_path / "fine/f").read_bytes() == content


async def test_who_waits_for_a_place_meanwhile_keeps_to_the_pause_that_a_source_asks_for(
    tmp_path: Path,
) -> None:
    content = os.urandom(16 * MIB)
    asked: list[float] = []

    def answer(request: Request) -> Reply:
        asked.append(time.monotonic())
        if request.number == 0:
            return Reply(429, {"Retry-After": "2"})
        if request.number < 4:
            time.sleep(1)
        return ranged(content, request)

    engine = Engine(Budget(connections=8), policy=SourcePolicy.unrestricted(), part_size=MIB)
    with FaultServer(answer) as server:
        await engine.fetch(job("f", ["f"], content, server.url, tmp_path), Progress())
        await engine.close()
    assert (tmp_path / "f/f").read_bytes() == content
    # Four connections at first; what was under way before goes on.
    assert min(asked[4:]) - asked[0] >= 2


async def test_who_cannot_leave_is_not_asked_to_instead_of_who_can(tmp_path: Path) -> None:
    """A server that knows no ranges would have to send all that came of a file again."""
    slow, fast = os.urandom(6 * MIB), os.urandom(2 * MIB)

    def answer(request: Request) -> Reply:
        reply = ranged(slow, request) if request.path.startswith("/r") else Reply(200, {}, slow)
        return Reply(reply.status, reply.headers, reply.body, rate=DRIP)

    engine = Engine(Budget(connections=4), policy=SourcePolicy.unrestricted(), part_size=8 * MIB)
    with (
        FaultServer(answer) as dripping,
        FaultServer(lambda request: ranged(fast, request)) as quick,
    ):
        first = asyncio.create_task(
            engine.fetch(
                job("slow", ["a", "b", "c", "r"], slow, dripping.url, tmp_path), Progress()
            )
        )
        await full(engine, 4)
        async with asyncio.timeout(15):
            await engine.fetch(job("fast", ["f"], fast, quick.url, tmp_path), Progress())
        first.cancel()
        await asyncio.wait([first])
        await engine.close()
    assert (tmp_path / "fast/f").read_bytes() == fast


async def test_no_more_is_given_up_than_others_wait_for(tmp_path: Path) -> None:
    large, small, fast = os.urandom(64 * MIB), os.urandom(200 << 10), os.urandom(2 * MIB)
    slow = {"l": large, **{f"s{number}": small for number in range(16)}}

    def answer(request: Request) -> Reply:
        return drip(slow[request.path.partition("?")[0][1:]])(request)

    files = tuple(remote(name, content) for name, content in slow.items())
    engine = Engine(Budget(connections=4), policy=SourcePolicy.unrestricted(), part_size=8 * MIB)

    def waiting() -> list[int]:
        fetches = engine.describe()["fetches"]
        return [fetch["units_waiting"] for fetch in fetches if fetch["key"] == "slow"]

    with (
        FaultServer(answer) as dripping,
        FaultServer(lambda request: ranged(fast, request)) as quick,
    ):
        both = FetchJob(
            "slow", files, (Signer(dripping.url),), tmp_path / "slow", tmp_path / "journal"
        )
        first = asyncio.create_task(engine.fetch(both, Progress()))
        await full(engine, 4)
        before = waiting()
        await engine.fetch(job("fast", ["f"], fast, quick.url, tmp_path), Progress())
        await asyncio.sleep(1)
        # A range has left, which is asked for again; the small files have not.
        assert waiting() == before
        first.cancel()
        await asyncio.wait([first])
        await engine.close()
    assert (tmp_path / "fast/f").read_bytes() == fast


async def test_who_was_cut_before_it_could_leave_takes_its_next_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "_TURN_SECONDS", -1.0)
    monkeypatch.setattr(budget, "_PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr(silence, "SILENCE_SECONDS", 2.0)
    slow, fast = os.urandom(4 * MIB), os.urandom(2 * MIB)
    asked: list[str] = []

    def answer(request: Request) -> Reply:
        asked.append(request.path[1])
        reply = ranged(slow, request)
        if len(asked) == 1:
            # What a thread receives before it looks up, and then nothing.
            return Reply(reply.status, reply.headers, reply.body, stall_after=2 * MIB)
        # Longer than the pause before another attempt.
        time.sleep(1.5)
        return reply if asked[-1] == "s" else Reply(200, {}, fast)

    moved = Progress()
    engine = Engine(Budget(connections=1), policy=SourcePolicy.unrestricted(), part_size=8 * MIB)
    with FaultServer(answer) as server:
        first = asyncio.create_task(
            engine.fetch(job("slow", ["s"], slow, server.url, tmp_path), moved)
        )
        await asyncio.to_thread(
            wait_until,
            lambda: moved.snapshot().bytes_moved == 2 * MIB,
            seconds=10,
            what="the last byte",
            interval=0.01,
        )
        names = ["f1", "f2", "f3"]
        await engine.fetch(job("fast", names, fast, server.url, tmp_path), Progress())
        await first
        await engine.close()
    assert "".join(asked) == "sfsff"
