"""World × cache → the one next thing to do for it. Pure."""

from datetime import datetime

from controller.actions import (
    AddFinalizer,
    Announcement,
    ApplyCacheStatus,
    CacheAction,
    RemoveFinalizer,
)
from controller.planning.announce import announce
from controller.planning.cache_status import names, plan_cache_status, plan_deleting_status
from controller.planning.deletion import Deletion, plan_deletion
from controller.planning.volumes import abandoned_volumes
from controller.world import World
from shared.api.cache import CacheStatus
from shared.domain.parse import CACHE_STATUS, digest
from shared.domain.reasons import Reason
from shared.domain.views import CacheView


def plan_cache(world: World, cache: CacheView, *, now: datetime) -> CacheAction | None:
    """The finalizer comes before the first copy, and goes when no node holds one; in between the status is kept true."""
    if not cache.deleting:
        if not cache.guarded:
            return AddFinalizer(cache)
        return _differing(cache, plan_cache_status(world, cache, now=now))
    if not cache.guarded:
        return None
    deletion = plan_deletion(world, cache)
    if deletion.waiting:
        status = plan_deleting_status(world, cache, deletion.waiting, now=now)
        return _differing(cache, status)
    volumes = tuple(abandoned_volumes(world, cache.key))
    left = tuple(world.nodes[name] for name in deletion.abandoned)
    return RemoveFinalizer(cache, _farewell(deletion), volumes, left)


def _differing(cache: CacheView, status: CacheStatus) -> ApplyCacheStatus | None:
    wire = status.to_wire()
    if digest(wire, CACHE_STATUS) == cache.status:
        return None
    return ApplyCacheStatus(cache, wire, announce(cache.conditions, status.conditions))


def _farewell(deletion: Deletion) -> tuple[Announcement, ...]:
    left = deletion.departed
    gone = f"; left before they answered: {names(left)}" if left else ""
    if not deletion.abandoned:
        message = f"no node of the cluster holds a copy any more{gone}"
        return (Announcement("Normal", Reason.DELETED, message),)
    message = (
        f"deleted without an answer from {names(deletion.abandoned)}, "
        f"where the copy is removed when the agent returns{gone}"
    )
    return (Announcement("Warning", Reason.COPY_UNCONFIRMED, message),)
