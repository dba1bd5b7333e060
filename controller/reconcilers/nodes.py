"""Key = node → its work list."""

from collections.abc import Callable, Mapping

from controller.execute import Executor
from controller.grace import Grace
from controller.planning.work_list import leaving, plan_node
from controller.router import Router
from controller.routes import placement_changed
from shared.domain.placement import Placement, Waiting
from shared.domain.reasons import Reason
from shared.domain.views import NodeView
from shared.kube.events import EventRecorder, ObjectRef
from shared.kube.resource import NODES


class NodePass:
    def __init__(
        self,
        router: Router,
        executor: Executor,
        recorder: EventRecorder,
        grace: Grace,
        clock: Callable[[], float],
    ) -> None:
        self._router = router
        self._executor = executor
        self._recorder = recorder
        self._grace = grace
        self._clock = clock

    async def __call__(self, name: str) -> float | None:
        """Seconds until the next line's grace time is over, if there is one."""
        world = self._router.world
        kept, again = self._grace.keep(name, leaving(world, name), now=self._clock())
        plan = plan_node(world, name, kept)
        self._tell(name, plan.placement)
        self._router.route(placement_changed(world, name, plan.placement))
        if plan.action is not None:
            await self._executor.execute(plan.action)
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
            self._recorder.event(
                _reference(node),
                type="Warning",
                reason=Reason.NO_SPACE,
                message=_no_space(lacking),
                action="Place",
            )


def _no_space(lacking: Mapping[str, Waiting]) -> str:
    first = min(lacking)
    others = f" (and {len(lacking) - 1} more caches)" if len(lacking) > 1 else ""
    return f"cache {first} {lacking[first].message}{others}"


def _reference(node: NodeView) -> ObjectRef:
    return ObjectRef(NODES.api_version, NODES.kind, node.name, node.uid)
