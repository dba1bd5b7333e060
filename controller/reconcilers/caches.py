"""Key = cache → its finalizer and its status."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from controller.actions import AddFinalizer, ApplyCacheStatus
from controller.execute import Executor
from controller.pacing import Rewrites, timeless
from controller.planning.cache import plan_cache
from controller.router import Router

# A burst of a thousand work lists takes about as long on a small machine.
_YIELD_SECONDS: Final = 30.0


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
        self._rewrites = Rewrites(clock, "status")
        self._guards = Rewrites(clock, "finalizer")

    async def __call__(self, key: str) -> float | None:
        world = self._router.world
        cache = world.caches.get(key)
        busy = cache is not None and cache.guarded and not cache.deleting and self._router.placing
        if self._router.courtesy.yields(key, busy=busy, seconds=_YIELD_SECONDS) or cache is None:
            return None
        action = plan_cache(world, cache, now=self._now())
        if isinstance(action, AddFinalizer):
            return await self._guard(action)
        if not isinstance(action, ApplyCacheStatus):
            if action is not None:
                await self._executor.execute(action)
            return None
        said = timeless(action.status)
        wait = self._rewrites.wait(key, said)
        if wait > 0:
            return wait
        # Before its answer comes, which is routed too.
        self._router.cache_pace.wrote(key, self._clock(), missing=_missing(action))
        await self._executor.execute(action)
        self._rewrites.wrote(key, said)
        return None

    async def _guard(self, action: AddFinalizer) -> float | None:
        cache = action.cache
        wait = self._guards.wait(cache.key, cache.uid)
        if wait > 0:
            return wait
        await self._executor.execute(action)
        self._guards.wrote(cache.key, cache.uid)
        return None


def _missing(action: ApplyCacheStatus) -> int:
    """Copies until it is all there, or all gone."""
    copies = action.status.get("copies") or {}
    total: int = copies.get("total", 0)
    return total if action.cache.deleting else total - copies.get("available", 0)
