"""The whole disk is read again once in the period, no faster than that takes: the real reader and real files, in a time of its own."""

import asyncio
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

import agent.blocking
from agent.node import scrub
from agent.planning.scrub import bytes_per_second
from agent.storage.store import Store
from agent.transfer import budget
from shared.domain.storage_key import storage_key
from tests.support.trees import EPOCH, publish

MIB = 1 << 20
# So short that 4 MiB a second, the slowest rate, are too few.
PERIOD = timedelta(seconds=30)
TREES = {"s3://b/large": 60 * MIB, "s3://b/middle": 40 * MIB, "s3://b/small": 10 * MIB}
TOTAL = sum(TREES.values())
PERIODS = 3


class Time:
    """Goes on only while somebody waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        await asyncio.sleep(0)

    def event(self) -> threading.Event:
        return _Event(self)


class _Event(threading.Event):
    def __init__(self, time: Time) -> None:
        super().__init__()
        self._time = time

    def wait(self, timeout: float | None = None) -> bool:
        if not self.is_set():
            # No wait is so short that a float does not show it.
            self._time.seconds += max(timeout or 0, 1e-6)
        return self.is_set()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(budget, "time", made)
    monkeypatch.setattr(agent.blocking, "threading", SimpleNamespace(Event=made.event))
    monkeypatch.setattr(scrub, "asyncio", SimpleNamespace(sleep=made.sleep))
    monkeypatch.setattr(scrub, "_REST_SECONDS", 0.5)
    return made


async def reading(
    root: Path, time: Time, busy: Callable[[float], bool]
) -> tuple[dict[str, list[float]], list[tuple[float, int]]]:
    """For some periods: when each tree was read to its end, and when how many bytes were read."""
    store = Store.open(root)
    pieces: list[tuple[float, int]] = []
    for uri, size in TREES.items():
        publish(store, {"a": os.urandom(size // 2), "b": bytes(size // 2)}, uri=uri)
    reader = scrub.Scrub(
        store,
        root,
        period=PERIOD,
        busy=lambda: busy(time.seconds),
        found=lambda key, damaged: pytest.fail(f"{key}: {damaged}"),
        read=lambda count: pieces.append((time.seconds, count)),
        clock=lambda: EPOCH + timedelta(seconds=time.seconds),
    )
    ended: dict[str, list[float]] = {storage_key(uri): [0.0] for uri in TREES}
    running = asyncio.create_task(reader.run())
    while time.seconds < PERIODS * PERIOD.total_seconds() and not running.done():
        await asyncio.sleep(0.001)
        for key, at in reader.describe()["ended"].items():
            if at is not None and (seconds := (at - EPOCH).total_seconds()) != ended[key][-1]:
                ended[key].append(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    store.close()
    return ended, pieces


@pytest.mark.parametrize("busy_from", [None, 20.0])
async def test_all_of_it_is_read_once_in_each_period_even_if_copies_are_fetched_meanwhile(
    tmp_path: Path, time: Time, busy_from: float | None
) -> None:
    def busy(now: float) -> bool:
        return busy_from is not None and busy_from <= now < busy_from + 2

    ended, pieces = await reading(tmp_path, time, busy)
    for times in ended.values():
        assert len(times) > PERIODS
        gaps = [after - before for before, after in pairwise(times)]
        assert max(gaps) <= PERIOD.total_seconds()
        # And not much more often, since it takes the disk's time from those who need it.
        assert min(gaps[1:]) >= PERIOD.total_seconds() * 0.7
    assert not [at for at, _ in pieces if busy(at)]


async def test_no_second_brings_more_than_the_rate(tmp_path: Path, time: Time) -> None:
    _, pieces = await reading(tmp_path, time, lambda _: False)
    rate = bytes_per_second(TOTAL, PERIOD)
    assert rate < TOTAL / PERIOD.total_seconds() * 2
    for at, _ in pieces[:: len(pieces) // 50]:
        within = sum(count for when, count in pieces if at <= when < at + 5)
        # A second's worth may have been saved up.
        assert within <= rate * 6 + MIB
