"""Key = cache → its finalizer and its status."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from controller.actions import ApplyCacheStatus
from controller.execute import Executor
from controller.pacing import Courtesy
from controller.planning.cache import plan_cache
from controller.router import Router

_YIELD_SECONDS: Final = (
    30.0  # a burst of a thousand work lists takes about as long on a small machine
)
_LOOK_AGAIN_SECONDS: Final = 0.1


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
        self._courtesy = Courtesy(_YIELD_SECONDS)

    async def __call__(self, key: str) -> float | None:
        world = self._router.world
        cache = world.caches.get(key)
        if cache is None:
            return None
        busy = self._router.placing and cache.guarded and not cache.deleting
        if self._courtesy.yields(key, busy=busy, now=self._clock()):
            return _LOOK_AGAIN_SECONDS
        action = plan_cache(world, cache, now=self._now())
        if isinstance(action, ApplyCacheStatus):  # before its answer comes, which is routed too
            self._router.cache_pace.wrote(key, self._clock())
        if action is not None:
            await self._executor.execute(action)
        return None
