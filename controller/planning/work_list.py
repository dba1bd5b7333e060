"""World × node → the node's work list. Pure."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from controller.actions import ApplyWorkList, DeleteWorkList, NodeAction
from controller.world import World
from shared.domain.parse import entry
from shared.domain.placement import EMPTY, Placement, first_group, place, room, wants
from shared.domain.views import Entry, NodeView, ReportView, WorkView


@dataclass(frozen=True, slots=True)
class NodePlan:
    action: NodeAction | None
    placement: Placement


def leaving(world: World, name: str) -> frozenset[str]:
    """Lines that a label or group edit made superfluous: the grace time, in case the edit is taken back, is theirs."""
    work = world.works.get(name)
    if work is None or name not in world.nodes:
        return frozenset()
    groups = world.groups_of.get(name, frozenset())
    return frozenset(
        line.key
        for line in work.entries
        if (cache := world.caches.get(line.key)) is not None
        and cache.wanted
        and cache.storage_key == line.storage_key
        and first_group(cache, groups) is None
        and not _frozen(world, line)
    )


def _frozen(world: World, line: Entry) -> bool:
    """A spec that cannot be read, or a finalizer that somebody removed, must not cost the bytes: the line stays until it is mended."""
    cache = world.caches.get(line.key)
    if cache is None or cache.deleting:
        return False
    group = world.groups.get(line.group or "")
    broken = cache.defect is not None or (group is not None and group.defect is not None)
    return broken or not cache.guarded


def plan_node(world: World, name: str, kept: Container[str] = ()) -> NodePlan:
    """What to write so that the node holds what it should. `kept`: lines that are `leaving` and still in their grace time."""
    node, work = world.nodes.get(name), world.works.get(name)
    if work is not None and work.deleting:
        return NodePlan(None, EMPTY)
    if node is None:
        if work is None:
            return NodePlan(None, EMPTY)
        return NodePlan(DeleteWorkList(name, work.uid, None, "its node is gone"), EMPTY)
    if work is not None and work.owner not in (None, node.uid):
        stale = DeleteWorkList(name, work.uid, None, "it belongs to an earlier node of this name")
        return NodePlan(stale, EMPTY)
    placement = _place(world, node, work, kept)
    entries = _entries(world, work, placement)
    if not entries and name not in world.groups_of:
        return NodePlan(_retire(world, node, work), placement)
    if work is not None and work.owner == node.uid and _equivalent(work, entries):
        return NodePlan(None, placement)
    return NodePlan(ApplyWorkList(name, node.uid, entries), placement)


def is_empty_beginning(world: World, action: NodeAction | None) -> bool:
    """Whether a node would get its first list, and that has nothing on it."""
    return (
        isinstance(action, ApplyWorkList) and not action.entries and action.node not in world.works
    )


def _place(world: World, node: NodeView, work: WorkView | None, kept: Container[str]) -> Placement:
    names = world.groups_of.get(node.name, frozenset())
    lines = work.entries if work else ()
    staying = {line.key for line in lines if line.key in kept or _frozen(world, line)}
    wanted = wants(world.caches_on(node.name), names, work, world.sizes, staying)
    return place(wanted, room([world.groups[group] for group in names], work, wanted))


def _entries(world: World, work: WorkView | None, placement: Placement) -> tuple[Entry, ...]:
    """Sorted by key. A line that only stays for a while stays as it is."""
    names = world.groups_of.get(work.name, frozenset()) if work else frozenset()
    current: Mapping[str, Entry] = {line.key: line for line in work.entries} if work else {}
    lines = []
    for key, group in placement.placed.items():
        cache = world.caches[key]
        stays = key in current and (not cache.wanted or first_group(cache, names) is None)
        lines.append(current[key] if stays else world.line(cache, group))
    return tuple(sorted(lines, key=lambda line: line.key))


def _retire(world: World, node: NodeView, work: WorkView | None) -> NodeAction | None:
    """No group wants the node: empty its list, and remove it once the agent said that nothing is left.

    Not earlier, because an agent without a work list keeps all it has; so one that was never asked gets an empty list too.
    Where there is no agent nobody has to say it.
    """
    if work is None:
        return ApplyWorkList(node.name, node.uid, ()) if node.name in world.unasked else None
    if work.entries or work.owner != node.uid:
        return ApplyWorkList(node.name, node.uid, ())
    seen = work.observed is not None and work.observed >= work.generation
    if work.reports or not (seen or node.name in world.silent):
        return None
    return DeleteWorkList(
        node.name, work.uid, work.resource_version, "no group wants the node and it holds nothing"
    )


def _equivalent(work: WorkView, entries: tuple[Entry, ...]) -> bool:
    """A line that merely lacks the revision is not worth a write until the node is found to go for another one."""
    return len(work.entries) == len(entries) and all(
        have is want or _lacks_revision_only(have, want, work.reports.get(want.key))
        for have, want in zip(work.entries, entries, strict=True)
    )


def _lacks_revision_only(have: Entry, want: Entry, report: ReportView | None) -> bool:
    resolved = report.revision if report is not None else None
    return (
        have.revision is None
        and resolved in (None, want.revision)
        and entry({**have.wire, "revision": want.revision}) is want
    )
