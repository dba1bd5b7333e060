"""World × deleted cache → which nodes have still to confirm that the copy is gone. Pure."""

from dataclasses import dataclass

from controller.world import World
from shared.domain.views import CacheView, WorkView


@dataclass(frozen=True, slots=True)
class Deletion:
    """`waiting`: nodes that have to confirm. `abandoned`: nodes that may still hold the copy, whose agents are silent for too long.
    `departed`: nodes that left the cluster before they confirmed.
    """

    waiting: tuple[str, ...]
    abandoned: tuple[str, ...]
    departed: tuple[str, ...] = ()


def plan_deletion(world: World, cache: CacheView) -> Deletion:
    """Nodes that left the cluster have no say; an abandoned node removes the copy when it returns, as its work list no longer has it."""
    waiting: list[str] = []
    abandoned: list[str] = []
    listing = world.holdings.listing(cache.key)
    for name in sorted(world.concerned(cache.key)):
        node, work = world.nodes.get(name), world.works[name]
        if node is None or work.owner not in (None, node.uid):
            continue
        if name in listing:
            waiting.append(name)
        elif _owes_confirmation(world, cache, work):
            (abandoned if name in world.abandoned else waiting).append(name)
    departed = tuple(sorted(world.departed.get(cache.key, ())))
    return Deletion(tuple(waiting), tuple(abandoned), departed)


def _owes_confirmation(world: World, cache: CacheView, work: WorkView) -> bool:
    siblings = world.sharing.get(cache.storage_key, set()) - {cache.key}
    if any(work.name in world.holdings.listing(key) for key in siblings) and any(
        line.storage_key == cache.storage_key for line in work.entries
    ):
        return False  # another cache keeps the very same folder
    if cache.key in work.reports:
        return True
    # Never listed: nothing to confirm, unless a living agent is about to answer for a list that had it.
    return not world.answered(work.name, cache.key) and work.name not in world.silent
