"""Key = group → its status."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from controller.execute import Executor
from controller.pacing import Courtesy, Rewrites, timeless
from controller.planning.group import plan_group
from controller.router import Router
from controller.world import World

_YIELD_SECONDS: Final = 30.0  # its figures follow from work lists, which are written first
# And from what the agents answer: that takes one of them a moment, and a fleet as long as the API server takes for its statuses.
_ANSWER_SECONDS: Final = 5.0
_ANSWERS_PER_SECOND: Final = 20
_LONGEST_ANSWER_SECONDS: Final = 60.0
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
        self._courtesy = Courtesy(clock)
        self._rewrites = Rewrites(clock, "status")
        self._answers = Courtesy(clock)

    async def __call__(self, name: str) -> float | None:
        world = self._router.world
        group = world.groups.get(name)
        there = group is not None
        placing = there and self._router.placing
        if self._courtesy.yields(name, busy=placing, seconds=_YIELD_SECONDS):
            return _LOOK_AGAIN_SECONDS
        awaits = there and world.awaits_answers(name)
        if self._answers.yields(name, busy=awaits, seconds=_patience(world, name)):
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


def _patience(world: World, group: str) -> float:
    """Seconds to wait for the answers of the group's agents."""
    seconds = len(world.members.get(group, ())) / _ANSWERS_PER_SECOND
    return min(max(seconds, _ANSWER_SECONDS), _LONGEST_ANSWER_SECONDS)
