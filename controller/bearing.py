"""What of a view bears on what: two that agree in it are the same to whom it concerns. Pure."""

from shared.domain.views import CacheView, Entry, GroupView, WorkView

Part = tuple[object, ...]


def on_work_lists(cache: CacheView) -> Part:
    return (
        cache.uid,
        cache.wanted,
        cache.deleting,
        cache.wire,
        cache.groups,
        cache.size,
        cache.revision,
        cache.created,
    )


def on_haste(cache: CacheView) -> Part:
    """All but a status, most often our own."""
    return cache.generation, cache.finalizers, cache.deleting


def on_volumes(cache: CacheView) -> Part:
    """Through which services reach it."""
    return cache.uid, cache.guarded, cache.deleting, cache.groups


def on_volume_specs(group: GroupView) -> Part:
    return group.volume, group.claim


def on_members(group: GroupView) -> Part:
    """And on their work lists."""
    return group.uid, group.limit, group.selector, group.path, group.deleting, group.defect


def on_own_list(work: WorkView) -> Part:
    """In any case; what bears `on_space` only where something waits for it."""
    return work.uid, work.owner, work.deleting, work.generation, work.entries


def on_space(work: WorkView) -> Part:
    return work.observed, work.storage, work.host_path


def on_bytes(line: Entry) -> Part:
    """That a node downloads; the revision apart."""
    return line.storage_key, line.wire.get("allowPatterns"), line.wire.get("ignorePatterns")
