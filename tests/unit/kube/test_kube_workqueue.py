"""Keys under several workers, in virtual time."""

import asyncio
import random
from collections import Counter
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry

from shared.kube.errors import Conflict
from shared.kube.metrics import KubeMetrics
from shared.kube.runner import run_workers
from shared.kube.workqueue import ShutDown, WorkQueue
from tests.unit.kube.virtual_time import now


async def test_a_key_added_many_times_waits_once() -> None:
    queue: WorkQueue[str] = WorkQueue("test")
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_added_while_it_is_worked_on_comes_again_when_that_is_done() -> None:
    queue: WorkQueue[str] = WorkQueue("test")
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_of_several_later_times_the_earliest_counts() -> None:
    queue: WorkQueue[str] = WorkQueue("test")
    started = now()
    queue.add_after("a", 60)
    queue.add_after("a", 5)
    queue.add_after("a", 90)
    await queue.get()
    assert now() - started == pytest.approx(5)
    queue.done("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(600):
            await queue.get()


async def test_what_happens_while_a_key_waits_for_a_worker_does_not_bring_it_twice() -> None:
    queue: WorkQueue[str] = WorkQueue("test")
    queue.add("a")
    queue.add_after("a", 0.2)
    assert await queue.get() == "a"
    queue.done("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(600):
            await queue.get()


async def test_failures_wait_longer_each_time_up_to_a_minute_until_forgotten() -> None:
    queue: WorkQueue[str] = WorkQueue("test")
    waits = []
    for _ in range(14):
        started = now()
        queue.add_rate_limited("a")
        await queue.get()
        queue.done("a")
        waits.append(now() - started)
    assert 0.1 <= waits[0] <= 0.3
    # A doubled wait outgrows its jitter of a fifth.
    assert all(after > before for before, after in pairwise(waits[:8]))
    assert all(48 <= wait <= 72 for wait in waits[-4:])
    assert queue.failures("a") == 14
    queue.forget("a")
    started = now()
    queue.add_rate_limited("a")
    await queue.get()
    assert now() - started <= 0.3


async def test_a_worker_that_is_cancelled_as_it_is_woken_passes_the_key_on() -> None:
    queue: WorkQueue[str] = WorkQueue("test")
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    async with asyncio.timeout(1):
        assert await second == "a"
    assert first.cancelled()


async def test_shutdown_drains_what_is_ready_and_takes_nothing_more() -> None:
    queue: WorkQueue[str] = WorkQueue("test")
    idle: WorkQueue[str] = WorkQueue("idle")
    waiter = asyncio.create_task(idle.get())
    queue.add("a")
    queue.add("b")
    queue.add_after("later", 1)
    assert await queue.get() == "a"
    queue.add("a")
    queue.shut_down()
    idle.shut_down()
    queue.add("c")
    assert await queue.get() == "b"
    queue.done("b")
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    await asyncio.sleep(10)
    with pytest.raises(ShutDown):
        await queue.get()
    with pytest.raises(ShutDown):
        await waiter


@pytest.mark.parametrize("seed", range(6))
async def test_many_workers_never_share_a_key_and_see_every_change(seed: int) -> None:
    chance = random.Random(seed)
    queue: WorkQueue[int] = WorkQueue("test")
    wanted: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    busy: set[int] = set()

    async def reconcile(key: int) -> float | None:
        assert key not in busy
        busy.add(key)
        version = wanted[key]
        await asyncio.sleep(chance.random())
        busy.remove(key)
        if chance.random() < 0.2:
            raise Conflict("somebody was faster")
        seen[key] = version
        return chance.choice([None, None, 0.0, 3.0]) if sum(seen.values()) < 500 else None

    async with asyncio.TaskGroup() as group:
        workers = group.create_task(run_workers(queue, reconcile, workers=5, name="test"))
        for _ in range(200):
            key = chance.randrange(8)
            wanted[key] += 1
            queue.add(key)
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() / 4)
        # The longest row of failures that these seeds make ends long before.
        await asyncio.sleep(3600)
        queue.shut_down()
        await workers
    assert seen == wanted
    assert not busy


async def test_passes_that_wait_for_nothing_leave_the_loop_to_others() -> None:
    queue: WorkQueue[int] = WorkQueue("test")
    passes = 0

    async def reconcile(_: int) -> None:
        nonlocal passes
        passes += 1

    for key in range(1000):
        queue.add(key)
    seen = []
    async with asyncio.TaskGroup() as group:
        workers = group.create_task(run_workers(queue, reconcile, workers=4, name="test"))
        while passes < 1000:
            seen.append(passes)
            await asyncio.sleep(0)
        queue.shut_down()
        await workers
    assert max(after - before for before, after in pairwise(seen)) <= 4


async def test_no_failure_ends_a_worker_and_results_are_counted(
    metrics: KubeMetrics, registry: CollectorRegistry
) -> None:
    queue: WorkQueue[str] = WorkQueue("test", metrics=metrics)
    passes: Counter[str] = Counter()

    async def reconcile(key: str) -> float | None:
        passes[key] += 1
        if key == "hangs" and passes[key] == 1:
            await asyncio.Event().wait()
        if key == "raises" and passes[key] == 1:
            raise ZeroDivisionError
        if key == "conflicts" and passes[key] < 3:
            raise Conflict("somebody was faster")
        return 30.0 if key == "again" and passes[key] == 1 else None

    for key in ("hangs", "raises", "conflicts", "again"):
        queue.add(key)
    async with asyncio.TaskGroup() as group:
        group.create_task(run_workers(queue, reconcile, workers=1, name="test", metrics=metrics))
        await asyncio.sleep(600)
        queue.shut_down()
    assert passes == {"hangs": 2, "raises": 2, "conflicts": 3, "again": 2}
    assert all(queue.failures(key) == 0 for key in passes)

    def results(result: str) -> float | None:
        labels = {"controller": "test", "result": result}
        return registry.get_sample_value("controller_runtime_reconcile_total", labels)

    assert (results("success"), results("error"), results("requeue_after")) == (4, 4, 1)
    assert registry.get_sample_value("workqueue_depth", {"name": "test"}) == 0
    assert registry.get_sample_value("workqueue_adds_total", {"name": "test"}) == 9
    assert registry.get_sample_value("workqueue_work_duration_seconds_count", {"name": "test"}) == 9
    failed = registry.get_sample_value(
        "controller_runtime_reconcile_errors_total", {"controller": "test"}
    )
    assert failed == 4
    assert registry.get_sample_value("workqueue_retries_total", {"name": "test"}) == 4


async def test_work_that_takes_long_is_seen_while_it_lasts(
    metrics: KubeMetrics, registry: CollectorRegistry
) -> None:
    queue: WorkQueue[str] = WorkQueue("test", metrics=metrics)

    def shown(name: str) -> float | None:
        return registry.get_sample_value(f"workqueue_{name}_seconds", {"name": "test"})

    for key in ("first", "second"):
        queue.add(key)
        await queue.get()
        await asyncio.sleep(60)
    assert shown("longest_running_processor") == 120
    assert shown("unfinished_work") == 180
    queue.done("first")
    assert shown("longest_running_processor") == 60
    queue.done("second")
    assert shown("unfinished_work") == shown("longest_running_processor") == 0


async def test_it_shows_what_waits_for_how_long_and_what_comes_later() -> None:
    queue: WorkQueue[str] = WorkQueue("test")
    for index in range(7):
        queue.add(f"k{index}")
        await asyncio.sleep(1)
    queue.add_after("later", 30)
    queue.add_rate_limited("failed")
    assert await queue.get() == "k0"
    await asyncio.sleep(2)
    shown = queue.describe()
    assert (shown["waiting"], shown["delayed"], shown["failing"]) == (6 + 1, 1, 1)
    assert [*shown["oldest"].items()][:2] == [("k1", 8.0), ("k2", 7.0)]
    assert len(shown["oldest"]) == 5
    assert shown["working"] == {"k0": 2.0}
    assert queue.busy == 8
    assert shown["next_in"] == 28.0
