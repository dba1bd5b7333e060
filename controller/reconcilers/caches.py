"""Key = cache → its finalizer and its status."""

from collections.abc import Callable
from datetime import datetime

from controller.actions import ApplyCacheStatus
from controller.execute import Executor
from controller.planning.cache import plan_cache
from controller.router import Router


class CachePass:
    """`now`: wall clock, for transition times; `clock`: monotonic."""

    def __init__(
        self,
        router: Router,
        executor: Executor,
        *,
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._router = router
        self._executor = executor
        self._now = now
        self._clock = clock

    async def __call__(self, key: str) -> None:
        world = self._router.world
        cache = world.caches.get(key)
        busy = cache is not None and cache.guarded and not cache.deleting and self._router.placing
        if self._router.courtesy.yields(key, busy=busy) or cache is None:
            return
        action = plan_cache(world, cache, now=self._now())
        if isinstance(action, ApplyCacheStatus):  # before its answer comes, which is routed too
            missing = _missing(action)
            self._router.cache_pace.wrote(key, self._clock(), missing=missing)
        if action is not None:
            await self._executor.execute(action)


def _missing(action: ApplyCacheStatus) -> int:
    """Copies until it is all there, or all gone."""
    copies = action.status.get("copies") or {}
    total: int = copies.get("total", 0)
    return total if action.cache.deleting else total - copies.get("available", 0)
