"""Key = group → its status."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from controller.execute import Executor
from controller.pacing import Courtesy, Rewrites, timeless
from controller.planning.group import plan_group
from controller.router import Router

_YIELD_SECONDS: Final = 30.0  # its figures follow from work lists, which are written first
_ANSWER_SECONDS: Final = 5.0  # and from what the agents answer, which takes them a moment
_LOOK_AGAIN_SECONDS: Final = 0.5  # groups are few


class GroupPass:
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
        self._courtesy = Courtesy(clock, _YIELD_SECONDS)
        self._rewrites = Rewrites(clock, "status")
        self._answers = Courtesy(clock, _ANSWER_SECONDS)

    async def __call__(self, name: str) -> float | None:
        world = self._router.world
        group = world.groups.get(name)
        there = group is not None
        if self._courtesy.yields(name, busy=there and self._router.placing):
            return _LOOK_AGAIN_SECONDS
        if self._answers.yields(name, busy=there and world.awaits_answers(name)):
            return _LOOK_AGAIN_SECONDS
        if group is None:
            return None
        action = plan_group(world, group, now=self._now())
        if action is None:
            return None
        said = timeless(action.status)
        wait = self._rewrites.wait(name, said)
        if wait > 0:
            return wait
        self._router.group_pace.wrote(name, self._clock())  # before its answer comes
        await self._executor.execute(action)
        self._rewrites.wrote(name, said)
        return None
