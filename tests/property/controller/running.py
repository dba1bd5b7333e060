"""A cluster in memory with the controller's own passes, queues and waits at work, in virtual time."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

from prometheus_client import CollectorRegistry

from controller import routes
from controller.actions import (
    Action,
    AddFinalizer,
    ApplyCacheStatus,
    ApplyGroupStatus,
    ApplyWorkList,
    CreateClaim,
    CreateVolume,
    DeleteClaim,
    DeleteVolume,
    DeleteWorkList,
    PatchVolume,
    RemoveFinalizer,
)
from controller.grace import Grace
from controller.liveness import Liveness
from controller.reconcilers.caches import CachePass
from controller.reconcilers.groups import GroupPass
from controller.reconcilers.nodes import NodePass
from controller.reconcilers.volumes import VolumePass
from controller.router import Router
from controller.settings import ControllerSettings
from shared.kube.errors import Conflict, Unreachable
from shared.kube.metrics import KubeMetrics
from shared.kube.runner import run_workers
from tests.unit.controller import binder
from tests.unit.controller.builders import NOW, Cluster
from tests.unit.kube.virtual_time import VirtualTimeLoop

_SETTINGS = ControllerSettings(workers=3, removal_grace_seconds=5)
_REQUEST_SECONDS = 0.7  # so long that many an edit comes amid one
# Longer than any wait of a controller that has something to do: retries and repeated writes come once a minute.
_REST_SECONDS = 400.0

Failure = Literal["unreachable", "conflict", "answer lost"]


class Running(Cluster):
    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.failing: deque[Failure] = deque()
        """What becomes of the next requests."""
        self._workers: list[asyncio.Task[None]] = []
        self._begin()

    def wait(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def settle(self) -> int:
        """The API server is well again, and time enough passes."""
        before = len(self.writes)
        self.failing.clear()
        self.wait(_REST_SECONDS)
        assert all(not worker.done() for worker in self._workers)
        return len(self.writes) - before

    def restart(self) -> None:
        self._end()
        self.world = binder.beginning()
        self._router = self._new_router()
        for (kind, key), obj in self.stored.items():
            self._tell(kind, key, obj)
        self._begin()

    def close(self) -> None:
        self._end()
        self.loop.close()

    async def execute(self, action: Action) -> None:
        """In the place of an `Executor`."""
        await asyncio.sleep(_REQUEST_SECONDS)
        failure = self.failing.popleft() if self.failing else None
        if failure == "conflict":
            raise Conflict("the test says so")
        if failure != "unreachable" and not self._is_done(action):
            self._execute(action)
        if failure is not None:
            raise Unreachable("the test says so")

    def _begin(self) -> None:
        if not hasattr(self, "_router"):
            self._router = self._new_router()
        self._within(self._start_workers)

    def _new_router(self) -> Router:
        metrics = KubeMetrics(CollectorRegistry())
        return Router(self.world, Liveness(self.loop.time), _SETTINGS, metrics)

    def _start_workers(self) -> None:
        router, clock = self._router, self.loop.time
        me: Any = self
        queues = router.start()
        nodes = NodePass(router, me, me, Grace(5), clock, patience=6)
        caches = CachePass(router, me, now=lambda: NOW, clock=clock)
        groups = GroupPass(router, me, now=lambda: NOW, clock=clock)
        volumes = VolumePass(router, me, clock)
        self._workers = [
            self.loop.create_task(
                run_workers(queue, reconcile, workers=_SETTINGS.workers, name=queue.name)
            )
            for queue, reconcile in (
                (queues.nodes, nodes),
                (queues.caches, caches),
                (queues.groups, groups),
                (queues.volumes, volumes),
            )
        ]

    def _end(self) -> None:
        async def end() -> None:
            self._router.stop()
            for worker in self._workers:
                worker.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)

        self.loop.run_until_complete(end())

    def _within(self, act: Callable[[], object]) -> None:
        async def run() -> None:
            act()

        if self.loop.is_running():
            act()
        else:
            self.loop.run_until_complete(run())

    def _add(self, dirty: routes.Dirty) -> None:
        self._within(lambda: self._router.route(dirty))

    def lacks_space(self, *_: object) -> None:
        """In the place of a `Herald`."""

    def _is_done(self, action: Action) -> bool:
        """What is there already, or gone already, is well; `Conflict` when it is not as it was read."""
        match action:
            case AddFinalizer(cache=cache) | RemoveFinalizer(cache=cache):
                return self._gone("cache", cache.key, version=cache.resource_version)
            case ApplyCacheStatus(cache=cache):
                return self._gone("cache", cache.key)
            case ApplyGroupStatus(group=group):
                return self._gone("group", group.name)
            case ApplyWorkList():
                return False
            case DeleteWorkList(node=node, uid=uid, resource_version=version):
                return self._gone("work", node, uid=uid, version=version)
            case PatchVolume(name=name, resource_version=version):
                return self._gone("volume", name, version=version)
            case DeleteVolume(name=name, uid=uid):
                return self._gone("volume", name, uid=uid)
            case DeleteClaim(namespace=namespace, name=name, uid=uid):
                return self._gone("claim", f"{namespace}/{name}", uid=uid)
            case CreateVolume(name=name):
                return ("volume", name) in self.stored
            case CreateClaim(namespace=namespace, body=body):
                return ("claim", f"{namespace}/{body['metadata']['name']}") in self.stored

    def _gone(
        self, kind: str, key: str, *, uid: str | None = None, version: str | None = None
    ) -> bool:
        found = self.stored.get((kind, key))
        if found is None:
            return True
        meta = found["metadata"]
        if uid not in (None, meta["uid"]) or version not in (None, meta["resourceVersion"]):
            raise Conflict("it is not as it was read")
        return False
