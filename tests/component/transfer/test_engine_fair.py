"""A source that hardly sends anything does not keep the connections from others."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.manifest import Algorithm
from agent.policy import SourcePolicy
from agent.transfer import budget
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
