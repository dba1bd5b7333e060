"""Key = cache → the volumes and claims through which services reach it."""

from controller.execute import Executor
from controller.planning.volumes import plan_volumes
from controller.router import Router
from shared.kube.errors import Forbidden, Invalid


class VolumePass:
    def __init__(self, router: Router, executor: Executor) -> None:
        self._router = router
        self._executor = executor

    async def __call__(self, key: str) -> None:
        world = self._router.world
        plan = plan_volumes(world, key)
        world.serving.await_pairs(key, plan.pairs)
        try:
            for action in plan.actions:
                await self._executor.execute(action)
        except (Invalid, Forbidden) as refusal:
            self._router.volumes_refused(key, refusal.message)
            raise
        self._router.volumes_refused(key, None)
