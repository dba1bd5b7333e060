"""Changes of the world become keys in the work queues; who does not lead only keeps the world current."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from controller import routes, routes_serving
from controller.herald import Herald
from controller.liveness import Liveness
from controller.pacing import Change, Courtesy, Pace, Patience, Settling
from controller.planning.silence import shown_silent
from controller.settings import ControllerSettings
from controller.world import World
from shared.domain.reasons import Reason
from shared.domain.serving import ClaimView, ServiceView, VolumeView
from shared.domain.storage_key import status_key
from shared.domain.views import CacheView, GroupView, LeaseView, NodeView, WorkView
from shared.kube.metrics import KubeMetrics
from shared.kube.resource import ObjectKey
from shared.kube.workqueue import WorkQueue


@dataclass(frozen=True, slots=True)
class Queues:
    nodes: WorkQueue[str]
    caches: WorkQueue[str]
    groups: WorkQueue[str]
    volumes: WorkQueue[str]


class Router:
    """The one way into the World. For one event loop: a change is told and routed in one step."""

    def __init__(
        self, world: World, liveness: Liveness, settings: ControllerSettings, metrics: KubeMetrics
    ) -> None:
        self.world = world
        self.cache_pace = Pace(settings.status_debounce_seconds)
        self.group_pace = Pace(settings.status_debounce_seconds)
        self.courtesy = Courtesy(liveness.clock)
        self._liveness = liveness
        self._patience = Patience(liveness.clock, settings.removal_grace_seconds)
        self._settings = settings
        self._metrics = metrics
        self._queues: Queues | None = None
        self.herald: Herald | None = None
        """Who tells of nodes; while this replica leads."""
        self._settling = Settling(self._add_nodes, quiet=settings.settle_seconds)

    def start(self) -> Queues:
        """From now on changes are queued, beginning with everything there is."""
        self._liveness.doubt(shown_silent(self.world))
        self.listen()
        queues = Queues(
            nodes=WorkQueue("nodes", metrics=self._metrics),
            caches=WorkQueue("caches", metrics=self._metrics),
            groups=WorkQueue("groups", metrics=self._metrics),
            volumes=WorkQueue("volumes", metrics=self._metrics),
        )
        self._queues = queues
        self.route(routes.everything(self.world))
        return queues

    def stop(self) -> None:
        self._settling.stop()
        if self._queues is not None:
            queues = self._queues
            for queue in (queues.nodes, queues.caches, queues.groups, queues.volumes):
                queue.shut_down()
        self._queues = None

    def describe(self) -> dict[str, Any]:
        """The queues, for a person's eyes; none while another leads."""
        if self._queues is None:
            return {}
        queues = self._queues
        found = {
            q.name: q.describe()
            for q in (queues.nodes, queues.caches, queues.groups, queues.volumes)
        }
        return {**found, "settling": len(self._settling)}

    @property
    def placing(self) -> bool:
        """Whether work lists are still to be written; statuses are worth more after that."""
        return self._placing(done=0)

    def settles(self, node: str) -> bool:
        """Whether the node waits for edits to calm down."""
        return node in self._settling

    def node_done(self) -> None:
        """A pass over a node ended: when no list is left to be written, the statuses that gave way go on."""
        if not self._placing(done=1):
            self._go_on(busy=False)

    def _placing(self, *, done: int) -> bool:
        """`done`: passes that are as good as over."""
        busy = self._queues.nodes.busy if self._queues is not None else 0
        return len(self._settling) > 0 or busy > done

    def _go_on(self, *, busy: bool) -> None:
        if self._queues is not None:
            for key in self.courtesy.due(busy=busy):
                self._queues.caches.add(key)

    def cache(self, key: ObjectKey, _: CacheView | None, new: CacheView | None) -> None:
        name = status_key(key.name, key.namespace)
        self.route(routes.cache_changed(self.world, name, new))
        if new is None:
            self.cache_pace.forget(name)

    def group(self, key: ObjectKey, _: GroupView | None, new: GroupView | None) -> None:
        self.route(routes.group_changed(self.world, key.name, new))
        if new is None:
            self.group_pace.forget(key.name)

    def node(self, key: ObjectKey, old: NodeView | None, new: NodeView | None) -> None:
        self._liveness.node_changed(key.name, old, new)
        self.route(routes.node_changed(self.world, key.name, new))

    def work(self, key: ObjectKey, _: WorkView | None, new: WorkView | None) -> None:
        was, spoke = self.world.works.get(key.name), False
        if was is None or new is None or not routes.is_older(new, was):
            self._tell_news(key.name, new)
            spoke = self._liveness.work_changed(key.name, was, new)
        self.route(routes.work_changed(self.world, key.name, new))
        if spoke and key.name in self.world.silent:
            self.listen()

    def wrote_work(self, name: str, new: WorkView) -> None:
        """We wrote the node's work list as it was just planned."""
        self._tell_news(name, new)
        self._liveness.work_changed(name, self.world.works.get(name), new)
        self.route(routes.work_written(self.world, name, new))

    def _tell_news(self, name: str, new: WorkView | None) -> None:
        """While the world still has what was before."""
        node, was = self.world.nodes.get(name), self.world.works.get(name)
        if self.herald is None or new is None or node is None:
            return
        if was is None or was.uid != new.uid:
            was = WorkView(name, uid=new.uid)
        self.herald.work(node, was, new)

    def lease(self, key: ObjectKey, old: LeaseView | None, new: LeaseView | None) -> None:
        if self._liveness.lease_changed(key.name, old, new) and key.name in self.world.silent:
            self.listen()

    def service(self, version: str, old: ServiceView | None, new: ServiceView | None) -> None:
        self.route(routes_serving.service_changed(self.world, version, old, new))

    def services_known(self, kind: str) -> None:
        self.route(routes_serving.services_known(self.world, kind))

    def volume(self, key: ObjectKey, _: VolumeView | None, new: VolumeView | None) -> None:
        self.route(routes_serving.volume_changed(self.world, key.name, new))

    def claim(self, key: ObjectKey, _: ClaimView | None, new: ClaimView | None) -> None:
        place = (key.namespace or "", key.name)
        self.route(routes_serving.claim_changed(self.world, place, new))

    def configured(self, managed: bool | None, problem: tuple[Reason, str] | None) -> None:
        """`managed`: whether volumes are ours to make; None when nobody can tell."""
        self.route(routes_serving.configuration_changed(self.world, managed, problem))

    def volumes_refused(self, key: str, why: str | None) -> None:
        """What the API server said against the cache's volumes; None when it took them."""
        self.route(routes_serving.refusal_changed(self.world, key, why))

    def listen(self) -> None:
        """Look again who lives."""
        world, settings = self.world, self._settings
        silent = self._liveness.silent(
            world.nodes, world.works, seconds=settings.agent_silence_seconds
        )
        abandoned = self._liveness.given_up(
            world.nodes, world.works, seconds=settings.deletion_silence_seconds
        )
        if self.herald is not None:
            self.herald.heard(world.silent, silent)
        self.route(routes.liveness_changed(world, silent, abandoned))
        strays = world.to_ask(self._liveness.living(seconds=settings.agent_silence_seconds))
        self.route(routes.strays_due(world, self._patience.over(strays)))
        self._go_on(busy=self.placing)

    def route(self, dirty: routes.Dirty) -> None:
        queues = self._queues
        if queues is None:
            return
        self._add_nodes(dirty.nodes)
        self._settling.add(dirty.settling)
        now = asyncio.get_running_loop().time()
        nodes, caches = len(self.world.nodes), len(self.world.caches)
        for name in (dirty.groups | dirty.figures) & self.world.groups.keys():
            change: Change = "facts" if name in dirty.groups else "copies"
            wait = self.group_pace.wait(name, change, nodes=nodes, caches=caches, now=now)
            queues.groups.add_after(name, wait)
        for key in dirty.volumes:
            queues.volumes.add(key)
        for key in dirty.landed:
            self.cache_pace.landed(key)
        for key in dirty.caches | dirty.copies | dirty.progress:
            cache = self.world.caches.get(key)
            if cache is None:
                continue
            if not cache.guarded and not cache.deleting:
                queues.caches.add(key)  # nothing is placed before its finalizer is there
                continue
            change = "facts"
            if key not in dirty.caches:
                change = "copies" if key in dirty.copies else "progress"
            wait = self.cache_pace.wait(key, change, nodes=nodes, caches=caches, now=now)
            queues.caches.add_after(key, wait)

    def _add_nodes(self, names: Iterable[str]) -> None:
        if self._queues is not None:
            for name in names:
                self._queues.nodes.add(name)
