"""Key = cache → the volumes and claims through which services reach it."""

from typing import Final

from controller.execute import Executor
from controller.planning.volumes import plan_volumes
from controller.router import Router
from shared.kube.errors import ApiError, Conflict, Forbidden, Invalid, NotFound

_NAMED_REFUSALS: Final = 3


class VolumePass:
    """A namespace that takes no claim (a quota, its own end) is no concern of the others."""

    def __init__(self, router: Router, executor: Executor) -> None:
        self._router = router
        self._executor = executor

    async def __call__(self, key: str) -> None:
        world = self._router.world
        plan = plan_volumes(world, key)
        world.serving.await_pairs(key, plan.pairs)
        failed: list[ApiError] = []
        refusals: dict[str, str] = {}
        for namespace, actions in plan.steps:
            try:
                for action in actions:
                    await self._executor.execute(action)
            except Conflict as conflict:
                failed.append(conflict)
            except (Invalid, Forbidden, NotFound) as refusal:
                failed.append(refusal)
                refusals.setdefault(namespace, refusal.message)
        self._router.volumes_refused(key, _told(refusals))
        if failed:
            raise failed[0]


def _told(refusals: dict[str, str]) -> str | None:
    if not refusals:
        return None
    named = [f"namespace {name}: {why[:300]}" for name, why in refusals.items()][:_NAMED_REFUSALS]
    more = len(refusals) - len(named)
    return "; ".join(named) + (f" (and {more} more namespaces)" if more else "")
