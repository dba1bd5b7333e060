"""Key = node → its work list."""

from collections.abc import Callable

from controller.execute import Executor
from controller.grace import Grace
from controller.herald import Herald
from controller.pacing import Deadline, Rewrites
from controller.planning.work_list import is_empty_beginning, leaving, plan_node
from controller.router import Router
from controller.routes import placement_changed
from shared.domain.placement import Placement
from shared.domain.reasons import Reason


class NodePass:
    def __init__(
        self,
        router: Router,
        executor: Executor,
        herald: Herald,
        grace: Grace,
        clock: Callable[[], float],
        *,
        patience: float,
    ) -> None:
        """`patience`: seconds that a new node's list waits for a first cache: most come with some, and one write is enough."""
        self._router = router
        self._executor = executor
        self._herald = herald
        self._grace = grace
        self._clock = clock
        self._patience = Deadline(clock, patience)
        self._rewrites = Rewrites(clock, "work list")

    async def __call__(self, name: str) -> float | None:
        """Seconds until the next line's grace time is over, if there is one."""
        try:
            return await self._pass(name)
        finally:
            self._router.node_done()

    async def _pass(self, name: str) -> float | None:
        world = self._router.world
        kept, again = self._grace.keep(name, leaving(world, name), now=self._clock())
        plan = plan_node(world, name, kept)
        self._tell(name, plan.placement)
        self._router.route(placement_changed(world, name, plan.placement))
        if not is_empty_beginning(world, plan.action):
            self._patience.forget(name)
        elif self._router.settles(name):
            return None  # it comes again with what is being edited
        elif (wait := self._patience.left(name)) > 0:
            return wait
        if plan.action is not None:
            wait = self._rewrites.wait(name, hash(plan.action))
            if wait > 0:
                return wait
            await self._executor.execute(plan.action)
            self._rewrites.wrote(name, hash(plan.action))
        return again

    def _tell(self, name: str, placement: Placement) -> None:
        """What newly lacks space; of what a first pass finds the caches themselves tell."""
        world = self._router.world
        node, before = world.nodes.get(name), world.placements.get(name)
        if node is None or before is None:
            return
        lacking = {
            key: waiting
            for key, waiting in placement.waiting.items()
            if waiting.reason is Reason.NO_SPACE and key not in before.waiting
        }
        if lacking:
            self._herald.lacks_space(node, lacking)
