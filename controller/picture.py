"""The World for a person's eyes: what is known and decided, in /debug/state and on SIGUSR2."""

from typing import Any

from controller.serving import INFERENCE_SERVICE, LLM_INFERENCE_SERVICE
from controller.world import World


def picture(world: World) -> dict[str, Any]:
    """JSON-ready."""
    return {
        "caches": {key: [*cache.groups] for key, cache in world.caches.items()},
        "groups": {name: len(world.members.get(name, ())) for name in world.groups},
        "nodes": len(world.nodes),
        "work_lists": len(world.works),
        "silent": sorted(world.silent),
        "abandoned": sorted(world.abandoned),
        "volumes_managed": world.serving.managed,
        "services": {key: len(world.serving.services(key)) for key in world.serving.users},
        "services_unknown": sorted(
            {INFERENCE_SERVICE, LLM_INFERENCE_SERVICE} - world.serving.known
        ),
        "unplaced": {
            name: {key: found.message for key, found in placement.waiting.items()}
            for name, placement in world.placements.items()
            if placement.waiting
        },
    }
