"""What the controller knows of the fleet, read from the world whenever Prometheus asks."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controller.world import World
from shared.domain.reasons import Reason

INSTALLATION = (
    Reason.CRDS_OUTDATED,
    Reason.WEBHOOK_LEFT_BEHIND,
    Reason.CONFIG_INVALID,
    Reason.CREDENTIALS_NAMESPACE_MISMATCH,
)


class FleetMetrics(Collector):
    def __init__(
        self,
        world: World,
        registry: CollectorRegistry,
        *,
        leading: Callable[[], bool],
        problems: Callable[[], Mapping[Reason, str]] = dict,
    ) -> None:
        """Only who leads knows what is placed. `problems`: what is wrong with the installation now."""
        self._world = world
        self._leading = leading
        self._problems = problems
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
        if self._leading():
            yield from self._placements()
        problems = GaugeMetricFamily(
            "localmodel_installation_problem",
            "1 while something is wrong with the installation; the log says how to mend it.",
            labels=["reason"],
        )
        found = {*self._problems(), *([world.problem[0]] if world.problem else [])}
        for reason in INSTALLATION:
            problems.add_metric([reason.value], int(reason in found))
        yield problems

    def _placements(self) -> Iterable[Metric]:
        waiting = [
            found
            for placement in self._world.placements.values()
            for found in placement.waiting.values()
        ]
        counts = Counter(found.reason for found in waiting)
        unplaced = GaugeMetricFamily(
            "localmodel_unplaced_copies", "Copies that were not sent to a node.", labels=["reason"]
        )
        for reason in (Reason.NO_SPACE, Reason.PATH_MISMATCH):
            unplaced.add_metric([reason.value], counts[reason])
        yield unplaced
        yield GaugeMetricFamily(
            "localmodel_short_bytes",
            "Bytes that would have to come free on nodes, so that all copies without space could be placed.",
            value=sum(found.short for found in waiting),
        )

    def _reasons(self) -> Counter[str]:
        """By known reasons only: label values never come from outside."""
        found: Counter[str] = Counter()
        known = {reason.value for reason in Reason}
        for cache in self._world.caches.values():
            ready = next((c.reason for c in cache.conditions if c.type == "Ready"), None)
            found[ready if ready in known else Reason.PENDING.value] += 1
        return found
