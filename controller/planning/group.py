"""World × group → its status. Pure; `used` and `available` are those of the node with the least space left for models."""

from datetime import datetime

from controller.actions import ApplyGroupStatus
from controller.planning.announce import announce
from controller.planning.cache_status import names
from controller.world import World
from shared.api.group import GroupNodes, GroupStatus
from shared.api.meta import Condition
from shared.domain.conditions import set_condition
from shared.domain.parse import GROUP_STATUS, digest
from shared.domain.placement import EMPTY, path_mismatch
from shared.domain.quantity import format_quantity
from shared.domain.reasons import Reason
from shared.domain.views import GroupView

DISK_STEP = 256 * 1024**2  # disks breathe; a status that follows every byte would never rest


def plan_group(world: World, group: GroupView, *, now: datetime) -> ApplyGroupStatus | None:
    """The status, when it differs from what the group shows."""
    status = _status(world, group, now=now)
    wire = status.to_wire()
    if digest(wire, GROUP_STATUS) == group.status:
        return None
    return ApplyGroupStatus(group, wire, announce(group.conditions, status.conditions))


def _status(world: World, group: GroupView, *, now: datetime) -> GroupStatus:
    members = sorted(world.members.get(group.name, ()))
    used, available = _fullest(world, group, members)
    ready, reason, message = _health(world, group, members)
    naming = world.naming.get(group.name, ())
    return GroupStatus(
        observed_generation=group.generation,
        used=format_quantity(used),
        available=format_quantity(available),
        nodes=GroupNodes(
            total=len(members), ready=sum(world.nodes[name].ready for name in members)
        ),
        caches=sum(not world.caches[key].deleting for key in naming),
        conditions=_conditions(world, group, (ready, reason, message), now=now),
    )


def _conditions(
    world: World, group: GroupView, health: tuple[bool, Reason, str], *, now: datetime
) -> tuple[Condition, ...]:
    """Configured only while something is wrong with the configuration, where whoever minds the nodes will see it."""
    found = tuple(c for c in group.conditions if c.type == "Ready" or world.problem is not None)
    told = [("Ready", *health)]
    if world.problem is not None:
        told.append(("Configured", False, *world.problem))
    for type_, holds, reason, message in told:
        found = set_condition(
            found,
            type=type_,
            status="True" if holds else "False",
            reason=reason,
            message=message,
            now=now,
            generation=group.generation,
        )
    return found


def _fullest(world: World, group: GroupView, members: list[str]) -> tuple[int, int]:
    """(used, available) in bytes; an empty group has nothing used and its whole limit left."""
    figures = []
    for name in members:
        placement, work = world.placements.get(name, EMPTY), world.works.get(name)
        used = placement.used.get(group.name, 0)
        left = group.limit - used
        if work is not None and work.storage is not None:
            free = work.storage.room - placement.total
            left = min(left, free - free % DISK_STEP)
        figures.append((max(left, 0), -used))
    if not figures:
        return 0, group.limit
    left, used = min(figures)
    return -used, left


def _health(world: World, group: GroupView, members: list[str]) -> tuple[bool, Reason, str]:
    if group.defect:
        return False, Reason.INVALID_SPEC, group.defect
    if not members:
        hint = (
            "no node matches persistentVolumeSpec.nodeAffinity.required"
            if group.selector is not None
            else "persistentVolumeSpec.nodeAffinity.required is not set"
        )
        return False, Reason.NO_NODES, hint
    closed = {
        name: mismatch.message
        for name in members
        if (work := world.works.get(name)) and (mismatch := path_mismatch(group, work))
    }
    if closed:
        return False, Reason.PATH_MISMATCH, f"{names([*closed])}: {closed[min(closed)]}"
    return True, Reason.AVAILABLE, f"{len(members)} nodes"
