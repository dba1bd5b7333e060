"""A change of the world → the keys to look at again. The only writer of the World; every event costs what it changes."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from controller.bearing import (
    on_haste,
    on_members,
    on_own_list,
    on_space,
    on_volume_specs,
    on_volumes,
    on_work_lists,
)
from controller.world import ANY_KEY, World
from shared.api.node import ModelState
from shared.domain.placement import EMPTY, Placement
from shared.domain.serving import ClaimView, VolumeView
from shared.domain.views import CacheView, GroupView, NodeView, ReportView, WorkView

Versioned = CacheView | GroupView | WorkView | VolumeView | ClaimView


@dataclass(slots=True)
class Dirty:
    """`nodes` are due at once; `settling` once edits have calmed down. Of caches: `copies` when nodes hold something else now,
    `landed` when one of these may be the last to come or to go, `progress` when nothing but bytes moved. Of groups: `figures`
    when only space was taken or came free.
    """

    nodes: set[str] = field(default_factory=set)
    settling: set[str] = field(default_factory=set)
    caches: set[str] = field(default_factory=set)
    copies: set[str] = field(default_factory=set)
    landed: set[str] = field(default_factory=set)
    progress: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    figures: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)
    """Caches whose volumes are to be looked at."""


def everything(world: World) -> Dirty:
    return Dirty(
        nodes=world.nodes.keys() | world.works.keys(),
        caches=set(world.caches),
        groups=set(world.groups),
        volumes=world.serving.users.keys() | world.serving.volumes_of.keys(),
    )


def cache_changed(world: World, key: str, new: CacheView | None) -> Dirty:
    old = world.caches.get(key)
    if old is not None and new is not None and is_older(new, old):
        return Dirty()
    world.put_cache(key, new)
    dirty = Dirty(caches={key})
    if old is None or new is None or on_volumes(old) != on_volumes(new):
        dirty.volumes.add(key)
    views = [view for view in (old, new) if view is not None]
    if old is not None and new is not None and on_work_lists(old) == on_work_lists(new):
        if on_haste(old) == on_haste(new):
            dirty.progress, dirty.caches = dirty.caches, set()
        return dirty
    if old is not None and new is not None and _only_pinned(old, new):
        # Its own status says it already.
        dirty.progress.add(key)
        dirty.caches = set(world.sharing.get(new.storage_key, ())) - {key}
        dirty.settling.update(_gone_astray(world, new))
        return dirty
    for view in views:
        dirty.groups.update(view.groups)
        dirty.caches.update(world.sharing.get(view.storage_key, ()))
        dirty.settling.update(world.expected(view))
    if new is None or new.deleting or (old and (old.groups != new.groups or not old.wanted)):
        # Lines that outlive their group, or wait for their grace to end or for a spec to be mended, are on nodes that no group names.
        dirty.settling.update(world.holdings.listing(key))
    return dirty


def group_changed(world: World, name: str, new: GroupView | None) -> Dirty:
    old = world.groups.get(name)
    if old is not None and new is not None:
        if is_older(new, old):
            return Dirty()
        if on_members(old) == on_members(new):
            world.groups[name] = new
            same = on_volume_specs(old) == on_volume_specs(new)
            served = set[str]() if same else set(world.naming.get(name, ()))
            return Dirty(groups={name}, volumes=served, caches=set(served))
    before = set(world.members.get(name, ()))
    if old is not None and old.defect is not None:  # their lines waited for it to be mended
        before.update(work.name for work in world.works.values() if _names_group(work, name))
    world.put_group(name, new)
    return Dirty(
        settling=before | world.members.get(name, set()),
        caches=set(world.naming.get(name, ())),
        groups={name},
        volumes=set(world.naming.get(name, ())) | world.serving.users.keys(),
    )


def node_changed(world: World, name: str, new: NodeView | None) -> Dirty:
    old = world.nodes.get(name)
    if old == new:
        return Dirty()
    before = world.groups_of.get(name, frozenset())
    world.put_node(name, new)
    after = world.groups_of.get(name, frozenset())
    dirty = Dirty(nodes={name})
    if old is None or new is None or old.uid != new.uid:
        world.placements.pop(name, None)
        dirty.caches.update(_deleting(world))
    elif before == after and old.ready == new.ready:
        return dirty
    groups = before | after
    if old is not None and new is not None and old.uid == new.uid and old.ready == new.ready:
        groups = before ^ after
    dirty.groups.update(groups)
    dirty.copies.update(key for group in groups for key in world.naming.get(group, ()))
    dirty.landed.update(dirty.copies)
    return dirty


def work_changed(world: World, name: str, new: WorkView | None) -> Dirty:
    old = world.works.get(name)
    if old is not None and new is not None and old.uid == new.uid and is_older(new, old):
        return Dirty()
    behind = world.unanswered(name)
    was, now = old or WorkView(name), new or WorkView(name)
    sizes = {key: world.sizes.get(key, 0) for key in was.reports.keys() | now.reports.keys()}
    world.put_work(name, new)
    dirty = Dirty()
    answered = behind - world.unanswered(name)
    dirty.copies.update(answered - {ANY_KEY})
    if ANY_KEY in answered:
        dirty.copies.update(line.key for line in now.entries)
        dirty.copies.update(was.reports)
        dirty.caches.update(_deleting(world))
    if was.entries != now.entries:
        for line in {*was.entries} ^ {*now.entries}:
            dirty.copies.add(line.key)
            dirty.copies.update(world.sharing.get(line.storage_key, ()))
    if was.reports is not now.reports:
        _compare_reports(world, was, now, dirty)
    for key, size in sizes.items():
        cache, measured = world.caches.get(key), world.sizes.get(key, 0)
        if cache is None or measured == size:
            continue
        dirty.copies.add(key)
        if max(measured, cache.size) != max(size, cache.size):
            dirty.settling.update(world.expected(cache))
            dirty.settling.update(world.holdings.listing(key))
    dirty.landed.update(
        key
        for key in dirty.copies
        if _landed(
            was.reports.get(key), now.reports.get(key), told=not answered.isdisjoint({key, ANY_KEY})
        )
    )
    if on_own_list(was) != on_own_list(now) or (
        on_space(was) != on_space(now) and not _at_rest(world, now)
    ):
        dirty.nodes.add(name)
    if was.host_path != now.host_path:
        dirty.groups.update(world.groups_of.get(name, ()))
    if was.storage != now.storage:
        dirty.figures.update(world.groups_of.get(name, ()))
    return dirty


def work_written(world: World, name: str, new: WorkView) -> Dirty:
    """We wrote a node's list as it was just planned."""
    dirty = work_changed(world, name, new)
    if _at_rest(world, new):
        dirty.nodes.discard(name)
    return dirty


def placement_changed(world: World, name: str, new: Placement) -> Dirty:
    old = world.placements.get(name, EMPTY)
    if name in world.nodes:
        world.placements[name] = new
    dirty = Dirty()
    for key in old.waiting.keys() | new.waiting.keys():
        if old.waiting.get(key) != new.waiting.get(key):
            dirty.copies.add(key)
    if (old.used, old.total) != (new.used, new.total):
        dirty.figures.update(world.groups_of.get(name, ()))
    return dirty


def liveness_changed(world: World, silent: set[str], abandoned: set[str]) -> Dirty:
    """Agents fell silent, were given up, or came back."""
    changed, given_up = world.silent ^ silent, world.abandoned ^ abandoned
    world.silent, world.abandoned = silent, abandoned
    dirty = Dirty()
    if changed or given_up:
        dirty.caches.update(_deleting(world))
    dirty.nodes.update(name for name in changed if name not in world.groups_of)
    for name in changed:
        dirty.caches.update(cache.key for cache in world.caches_on(name))
    return dirty


def strays_due(world: World, names: set[str]) -> Dirty:
    """Agents that nobody asked what they hold, and that had time enough to be wanted by a group."""
    due = names - world.unasked
    world.unasked |= due
    return Dirty(nodes=due)


def _gone_astray(world: World, cache: CacheView) -> Iterable[str]:
    """Nodes that hold, or go for, another revision than all should; the others learn it with their next list."""
    for name in world.expected(cache):
        work = world.works.get(name)
        report = work.reports.get(cache.key) if work else None
        if report is not None and report.revision not in (None, cache.revision):
            yield name


def _compare_reports(world: World, was: WorkView, now: WorkView, dirty: Dirty) -> None:
    rests = _at_rest(world, now)
    listed = {line.storage_key for line in now.entries} if rests else set[str | None]()
    for key in was.reports.keys() | now.reports.keys():
        old, new = was.reports.get(key), now.reports.get(key)
        if old is new or old == new:
            continue
        if key in world.serving.users and (old and old.state) != (new and new.state):
            dirty.volumes.add(key)
        if old is not None and new is not None and replace(old, bytes_done=new.bytes_done) == new:
            dirty.progress.add(key)
            continue
        dirty.copies.add(key)
        views = [view for view in (old, new) if view is not None]
        sizes = {(view.storage_key, view.bytes_total) for view in views}
        resized = len(views) == 1 or len(sizes) > 1
        if resized and not {folder for folder, _ in sizes} <= listed:
            dirty.nodes.add(now.name)
        if new is not None and _astray(world, key, old, new):
            dirty.nodes.add(now.name)


def _landed(old: ReportView | None, new: ReportView | None, *, told: bool) -> bool:
    """Whether a copy is complete since now, or gone. told: the agent has seen only now what was asked of it."""
    if new is None:
        return told or old is not None
    complete = new.state is ModelState.DOWNLOADED
    return complete and (
        told or old is None or (old.state, old.revision) != (new.state, new.revision)
    )


def _astray(world: World, key: str, old: ReportView | None, new: ReportView) -> bool:
    """Whether it is news that the node goes for another revision than all should."""
    cache = world.caches.get(key)
    pinned = world.revision(cache) if cache is not None else None
    return pinned is not None and new.revision not in (None, pinned, old and old.revision)


def _only_pinned(old: CacheView, new: CacheView) -> bool:
    pinned = replace(old, revision=new.revision)
    return old.revision is None and on_work_lists(pinned) == on_work_lists(new)


def _names_group(work: WorkView, group: str) -> bool:
    return any(line.group == group for line in work.entries)


def _at_rest(world: World, work: WorkView) -> bool:
    """Nothing waits for space, and not all is gone: what an agent says of its disk then bears on no plan."""
    return bool(work.entries) and not world.placements.get(work.name, EMPTY).waiting


def _deleting(world: World) -> list[str]:
    return [cache.key for cache in world.caches.values() if cache.deleting]


def is_older(new: Versioned, old: Versioned) -> bool:
    """Answers to our own writes overtake the watch; what comes late is not news."""
    return (
        new.uid == old.uid
        and new.resource_version.isdecimal()
        and old.resource_version.isdecimal()
        and int(new.resource_version) < int(old.resource_version)
    )
