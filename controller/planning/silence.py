"""World → which nodes the caches' statuses show as silent: what whoever led before had found out. Pure."""

from controller.planning.copies import report_of
from controller.world import World
from shared.domain.views import CacheView


def shown_silent(world: World) -> set[str]:
    """Without them a new leader would believe dead agents for a while, and write what it takes back soon after."""
    found: set[str] = set()
    for cache in world.caches.values():
        found.update(name for name in cache.unheard - found if _is_silent(world, cache, name))
    return found


def _is_silent(world: World, cache: CacheView, name: str) -> bool:
    """A copy on a node that is not Ready and has never reported shows the same, whether its agent lives or not."""
    node = world.nodes.get(name)
    return node is not None and (node.ready or report_of(world, cache, name) is not None)
