import asyncio
import threading
import time

import pytest

from agent.transfer import budget
from agent.transfer.budget import Slots, Throttle


async def test_slots_are_shared_evenly_between_owners() -> None:
    slots = Slots(4)
    running: dict[str, int] = {"a": 0, "b": 0}
    peak_total = 0
    shares: list[tuple[int, int]] = []

    async def work(owner: str) -> None:
        nonlocal peak_total
        async with slots.hold(owner):
            running[owner] += 1
            peak_total = max(peak_total, sum(running.values()))
            await asyncio.sleep(0.001)
            shares.append((running["a"], running["b"]))
            running[owner] -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(work("a"))
        await asyncio.sleep(0)
        for _ in range(10):
            group.create_task(work("b"))
    assert peak_total == 4
    # While both want work, the one that came later has its half.
    assert (2, 2) in shares


async def test_what_others_wait_for_in_vain_is_owed_to_them_up_to_their_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slots = Slots(4)
    async with slots.hold_several("a", 4):
        waiting = [asyncio.create_task(slots.hold("b").__aenter__()) for _ in range(8)]
        await asyncio.sleep(0)
        # It may come free by itself.
        assert slots.owed("a") == 0
        monkeypatch.setattr(budget, "_PATIENCE_SECONDS", -1.0)
        assert slots.owed("a") == 2
        other = asyncio.create_task(slots.hold("c").__aenter__())
        await asyncio.sleep(0)
        # Three have one each, and nobody two thirds of another.
        assert slots.owed("a") == 2
        assert slots.owed("b") == 0
        for task in (*waiting, other):
            task.cancel()
        await asyncio.wait([*waiting, other])
        assert slots.owed("a") == 0


async def test_fewer_places_than_owners_are_held_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_PATIENCE_SECONDS", -1.0)
    slots = Slots(1)
    async with slots.hold("a"):
        waiting = asyncio.create_task(slots.hold("b").__aenter__())
        await asyncio.sleep(0)
        assert slots.owed("a") == 0
        monkeypatch.setattr(budget, "_TURN_SECONDS", -1.0)
        assert slots.owed("a") == 1
    await asyncio.wait_for(waiting, 5)


async def test_who_has_waited_longest_is_next_where_nobody_has_less() -> None:
    slots = Slots(1)
    order: list[str] = []

    async def work(owner: str) -> None:
        async with slots.hold(owner):
            order.append(owner)

    async with slots.hold("a"):
        tasks = [asyncio.create_task(work(owner)) for owner in "bbbc"]
        await asyncio.sleep(0)
    await asyncio.wait(tasks)
    assert order == ["b", "c", "b", "b"]


async def test_a_cancelled_wait_gives_its_place_to_the_next() -> None:
    slots = Slots(1)
    entered = asyncio.Event()

    async def enter() -> None:
        async with slots.hold("a"):
            entered.set()

    async with slots.hold("b"):
        waiting = asyncio.create_task(enter())
        next_one = asyncio.create_task(enter())
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.wait_for(next_one, 5)
    assert entered.is_set()


async def test_more_slots_take_effect_at_once() -> None:
    slots = Slots(1)
    async with slots.hold("a"):
        waiting = asyncio.create_task(slots.hold("a").__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
        slots.resize(2)
        await asyncio.wait_for(waiting, 5)


async def test_several_places_are_given_only_while_nobody_waits_for_them() -> None:
    slots = Slots(4)
    async with slots.hold_several("a", 8) as alone:
        assert alone == 4
        # Those that it did not get show that there is work for more.
        assert slots.wanted == 8
        place = slots.hold("b")
        waiting = asyncio.create_task(place.__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)
    async with slots.hold_several("a", 8) as beside:
        assert beside == 3
    await place.__aexit__(None, None, None)


async def test_who_is_worth_more_places_has_them_until_somebody_waits() -> None:
    slots = Slots(4)
    async with slots.hold_several("a", 9, limit=8) as alone:
        assert alone == 8
        waiting = asyncio.create_task(slots.hold("b").__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 5)


def test_the_throttle_keeps_to_its_rate_after_the_first_second() -> None:
    throttle = Throttle(1_000_000)
    stop = threading.Event()
    started = time.monotonic()
    for _ in range(15):
        throttle.spend(100_000, stop)
    # 1.5 s of bytes, of which the bucket may give up to one second in advance.
    assert time.monotonic() - started >= 0.4


def test_a_throttled_thread_stops_when_told() -> None:
    throttle = Throttle(1)
    stop = threading.Event()
    thread = threading.Thread(target=throttle.spend, args=(1_000_000, stop))
    thread.start()
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def test_a_new_rate_counts_for_those_that_wait_already() -> None:
    throttle = Throttle(1)
    thread = threading.Thread(target=throttle.spend, args=(1_000_000, threading.Event()))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    throttle.set_rate(None)
    thread.join(5)
    assert not thread.is_alive()


def test_a_slow_rate_is_received_in_small_bites() -> None:
    assert Throttle(None).bite == Throttle(1 << 30).bite == 2 << 20
    assert Throttle(4 << 20).bite == 512 << 10
    assert Throttle(1).bite == 64 << 10
