"""The World as the page sees it, on the replica that leads and on one that waits."""

from collections.abc import Callable
from dataclasses import replace

from controller.planning.work_list import plan_node
from controller.world import World
from shared.domain.placement import Placement


class Sight:
    """Who waits knows all objects, but not what was decided: it plans for itself, by the same rules, for the page alone."""

    def __init__(self, world: World, *, leading: Callable[[], bool]) -> None:
        self._world = world
        self._leading = leading
        self._planned: dict[str, Placement] = {}

    @property
    def leading(self) -> bool:
        return self._leading()

    def now(self) -> World:
        """Valid until the next await."""
        if self._leading():
            self._planned.clear()
            return self._world
        return replace(self._world, placements=self._planned)

    def plan(self, name: str) -> None:
        """Decide anew what the node holds, if that is for us to do."""
        if not self._leading():
            self._planned[name] = plan_node(self._world, name).placement

    def forget(self) -> None:
        self._planned.clear()
