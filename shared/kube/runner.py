"""Workers that take keys from a queue and reconcile them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from shared.kube.errors import ApiError
from shared.kube.metrics import KubeMetrics
from shared.kube.workqueue import ShutDown, WorkQueue

K = TypeVar("K")

# A pass makes a few requests of at most 30 s each; beyond this it hangs.
_PASS_SECONDS: Final = 120.0

log = structlog.get_logger(__name__)


async def run_workers(
    queue: WorkQueue[K],
    reconcile: Callable[[K], Awaitable[float | None]],
    *,
    workers: int,
    name: str,
    metrics: KubeMetrics | None = None,
) -> None:
    """Work until cancelled or the queue is shut down.

    `reconcile` returns the seconds after which to look again, or None. When it raises, the key is retried at a
    growing interval; nothing a key does ends a worker.
    """
    if metrics is not None:
        metrics.workers.labels(name).set(workers)
    async with asyncio.TaskGroup() as group:
        for index in range(workers):
            group.create_task(_work(queue, reconcile, name, metrics), name=f"{name}-{index}")


async def _work(
    queue: WorkQueue[K],
    reconcile: Callable[[K], Awaitable[float | None]],
    name: str,
    metrics: KubeMetrics | None,
) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            key = await queue.get()
        except ShutDown:
            return
        started = loop.time()
        if metrics is not None:
            metrics.active_workers.labels(name).inc()
        try:
            async with asyncio.timeout(_PASS_SECONDS):
                again = await reconcile(key)
        except ApiError as exc:
            # Conflicts and outages are everyday; the retry is the answer.
            log.info("pass failed", controller=name, key=str(key), why=exc.message[:500])
            queue.add_rate_limited(key)
            result = "error"
        except Exception:
            log.exception("pass failed", controller=name, key=str(key))
            queue.add_rate_limited(key)
            result = "error"
        else:
            queue.forget(key)
            result = "success"
            if again is not None:
                queue.add_after(key, again)
                result = "requeue_after"
        finally:
            queue.done(key)
            if metrics is not None:
                metrics.active_workers.labels(name).dec()
        if metrics is not None:
            metrics.passed(name, result, loop.time() - started)
        # A pass that had nothing to wait for kept the loop; thousands in a row would keep it from renewing the lease.
        await asyncio.sleep(0)
