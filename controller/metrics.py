"""What the controller knows of the fleet, read from the world whenever Prometheus asks."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.world import World
from shared.domain.reasons import Reason


class FleetMetrics(Collector):
    def __init__(self, world: World, registry: CollectorRegistry) -> None:
        self._world = world
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        world = self._world
        caches = GaugeMetricFamily(
            "localmodel_caches", "Caches by the reason of their Ready condition.", labels=["reason"]
        )
        for reason, count in sorted(self._reasons().items()):
            caches.add_metric([reason], count)
        yield caches
        nodes = GaugeMetricFamily("localmodel_nodes", "Nodes of all groups.", labels=["agent"])
        members = world.groups_of.keys()
        silent = len(world.silent & members)
        nodes.add_metric(["alive"], len(members) - silent)
        nodes.add_metric(["silent"], silent)
        yield nodes
        waiting = Counter(
            found.reason.value
            for placement in world.placements.values()
            for found in placement.waiting.values()
        )
        unplaced = GaugeMetricFamily(
            "localmodel_unplaced_copies", "Copies that were not sent to a node.", labels=["reason"]
        )
        for reason in (Reason.NO_SPACE.value, Reason.PATH_MISMATCH.value):
            unplaced.add_metric([reason], waiting[reason])
        yield unplaced

    def _reasons(self) -> Counter[str]:
        """By known reasons only: label values never come from outside."""
        found: Counter[str] = Counter()
        known = {reason.value for reason in Reason}
        for cache in self._world.caches.values():
            ready = next((c.reason for c in cache.conditions if c.type == "Ready"), None)
            found[ready if ready in known else Reason.PENDING.value] += 1
        return found
