"""Key = cache → the volumes and claims through which services reach it."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, assert_never

import orjson

from controller.actions import (
    CreateClaim,
    CreateVolume,
    DeleteClaim,
    DeleteVolume,
    PatchVolume,
    VolumeAction,
)
from controller.execute import Executor
from controller.pacing import Rewrites
from controller.planning.volumes import plan_volumes
from controller.router import Router
from shared.kube.errors import ApiError, Conflict, Forbidden, Invalid, NotFound

_NAMED_REFUSALS: Final = 3


class VolumePass:
    """A namespace that takes no claim (a quota, its own end) is no concern of the others."""

    def __init__(self, router: Router, executor: Executor, clock: Callable[[], float]) -> None:
        self._router = router
        self._executor = executor
        self._rewrites = Rewrites(clock, "volumes")

    async def __call__(self, key: str) -> float | None:
        world = self._router.world
        plan = plan_volumes(world, key)
        world.serving.await_pairs(key, plan.pairs)
        failed: list[ApiError] = []
        refusals: dict[str, str] = {}
        waits: list[float] = []
        for namespace, actions in plan.steps:
            content = _content(actions)
            where = f"{key} in {namespace} {content}"
            wait = self._rewrites.wait(where, content)
            if wait > 0:
                waits.append(wait)
                continue
            try:
                for action in actions:
                    await self._executor.execute(action)
                self._rewrites.wrote(where, content)
            except Conflict as conflict:
                failed.append(conflict)
            except (Invalid, Forbidden, NotFound) as refusal:
                failed.append(refusal)
                refusals.setdefault(namespace, refusal.message)
        self._router.volumes_refused(key, _told(refusals))
        if failed:
            raise failed[0]
        return min(waits, default=None)


def _told(refusals: dict[str, str]) -> str | None:
    if not refusals:
        return None
    named = [f"namespace {name}: {why[:300]}" for name, why in refusals.items()][:_NAMED_REFUSALS]
    more = len(refusals) - len(named)
    return "; ".join(named) + (f" (and {more} more namespaces)" if more else "")


def _content(actions: Iterable[VolumeAction]) -> str:
    """Of a step, whatever the versions of the objects; short, for the log."""
    said: list[Mapping[str, Any] | str] = []
    for action in actions:
        match action:
            case CreateVolume(body=body) | CreateClaim(body=body):
                said.append(body)
            case PatchVolume(patch=patch):
                said.append(patch)
            case DeleteVolume(uid=uid) | DeleteClaim(uid=uid):
                said.append(uid)
            case _:
                assert_never(action)
    return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
