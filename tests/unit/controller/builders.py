"""Objects as the API server returns them, and a cluster in memory that executes the controller's actions."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

from controller import routes
from controller.actions import (
    Action,
    AddFinalizer,
    Announcement,
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
from controller.planning.cache import plan_cache
from controller.planning.group import plan_group
from controller.planning.volumes import plan_volumes
from controller.planning.work_list import leaving, plan_node
from shared.api.cache import CLUSTER_FINALIZER, NAMESPACE_FINALIZER
from shared.domain import parse
from shared.domain.storage_key import status_key, storage_key
from tests.unit.controller import binder

GIB = 1024**3
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def cache(
    name: str,
    *groups: str,
    uri: str | None = None,
    size: int | str = "1Gi",
    namespace: str | None = None,
    created: int = 0,
    **spec: Any,
) -> dict[str, Any]:
    """`created`: seconds after NOW."""
    meta: dict[str, Any] = {
        "name": name,
        "creationTimestamp": (NOW + timedelta(seconds=created)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "finalizers": [NAMESPACE_FINALIZER if namespace else CLUSTER_FINALIZER],
    }
    if namespace:
        meta["namespace"] = namespace
    return {
        "metadata": meta,
        "spec": {
            "sourceModelUri": uri or f"s3://models/{name}",
            "modelSize": size,
            "nodeGroups": list(groups or ("gpu",)),
            **spec,
        },
    }


def group(
    name: str = "gpu", *, limit: int | str = "100Gi", path: str = "/models", **labels: str
) -> dict[str, Any]:
    """Takes the nodes with these labels; without any, those with `pool=<name>`."""
    expressions = [
        {"key": key, "operator": "In", "values": [value]}
        for key, value in (labels or {"pool": name}).items()
    ]
    return {
        "metadata": {"name": name},
        "spec": {
            "storageLimit": limit,
            "persistentVolumeSpec": {
                "local": {"path": path},
                "nodeAffinity": {
                    "required": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}
                },
            },
            "persistentVolumeClaimSpec": {},
        },
    }


def node(name: str, *, ready: bool = True, **labels: str) -> dict[str, Any]:
    """With label `pool=gpu` unless others are given."""
    return {
        "metadata": {"name": name, "labels": labels or {"pool": "gpu"}},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def report(key: str, uri: str, state: str = "ModelDownloaded", **more: Any) -> dict[str, Any]:
    return {"key": key, "storageKey": storage_key(uri), "state": state, **more}


class Cluster:
    """Stores objects as an API server would, tells the World of every change, and executes what the planners decide.

    Only what a change made dirty is looked at again, so a change that dirties too little shows as a cluster that does
    not converge.
    """

    def __init__(self, *, grace: bool = False) -> None:
        self.world = binder.beginning()
        self.dirty = routes.Dirty()
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}
        self.announced: list[Announcement] = []
        self.writes: list[Action] = []
        self.grace = grace
        """Whether lines that became superfluous are still in their grace time."""
        self._version = 0
        self._writing = False

    def put(self, kind: str, obj: Mapping[str, Any]) -> str:
        """Create, or replace metadata.labels, metadata.annotations and spec; returns the key."""
        meta = dict(obj["metadata"])
        key = status_key(meta["name"], meta.get("namespace"))
        old = self.stored.get((kind, key))
        self._version += 1
        if old is None:
            meta.setdefault("uid", f"uid-{self._version}")
            meta["generation"] = 1
        else:
            kept = ("uid", "generation", "finalizers", "deletionTimestamp", "creationTimestamp")
            meta.update({name: old["metadata"][name] for name in kept if name in old["metadata"]})
            meta["generation"] += obj.get("spec") != old.get("spec")
        meta["resourceVersion"] = str(self._version)
        new = {**obj, "metadata": meta}
        if "status" not in new and old is not None and "status" in old:
            new["status"] = old["status"]
        self._store(kind, key, new)
        return key

    def remove(self, kind: str, key: str) -> None:
        """As `kubectl delete` does: an object with finalizers is only marked."""
        obj = self.stored.get((kind, key))
        if obj is None:
            return
        if obj["metadata"].get("finalizers"):
            self.edit(kind, key, lambda meta: meta.update(deletionTimestamp="2026-01-02T00:00:00Z"))
        else:
            self._store(kind, key, None)

    def edit(self, kind: str, key: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change an object's metadata."""
        obj = self.stored[kind, key]
        self._version += 1
        meta = {**obj["metadata"], "resourceVersion": str(self._version)}
        change(meta)
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self._store(kind, key, None)
        else:
            self._store(kind, key, {**obj, "metadata": meta})

    def report(self, name: str, *models: dict[str, Any], **status: Any) -> None:
        """The node's agent answers the current work list."""
        obj = self.stored["work", name]
        observed = status.pop("observedGeneration", obj["metadata"]["generation"])
        self._status("work", name, {"observedGeneration": observed, "models": models, **status})

    def answer(self, name: str) -> None:
        """The node's agent holds exactly what its work list says."""
        lines = self.stored["work", name]["spec"].get("localModels", ())
        self.report(
            name,
            *(
                report(status_key(line["modelName"], line.get("namespace")), line["sourceModelUri"])
                for line in lines
            ),
        )

    def silence(self, *nodes: str, abandoned: bool = False) -> None:
        """From now on exactly these nodes' agents are silent."""
        given_up = set(nodes) if abandoned else set()
        self._add(routes.liveness_changed(self.world, set(nodes), given_up))

    def settle(self) -> int:
        """Work until nothing is dirty; returns the number of writes."""
        before = len(self.writes)
        for _ in range(200):
            dirty, self.dirty = self.dirty, routes.Dirty()
            for name in sorted(dirty.nodes | dirty.settling):
                self._reconcile_node(name)
            for key in sorted(dirty.volumes):
                plan = plan_volumes(self.world, key)
                self.world.serving.await_pairs(key, plan.pairs)
                for action in (action for _, actions in plan.steps for action in actions):
                    self._execute(action)
            for key in sorted(dirty.caches | dirty.copies | dirty.progress):
                view = self.world.caches.get(key)
                self._execute(plan_cache(self.world, view, now=NOW) if view else None)
            for name in sorted(dirty.groups | dirty.figures):
                found = self.world.groups.get(name)
                self._execute(plan_group(self.world, found, now=NOW) if found else None)
            if self.dirty == routes.Dirty():
                return len(self.writes) - before
        raise AssertionError("does not come to rest")

    def restart(self) -> None:
        """A new controller: nothing but the stored objects."""
        self.world, self.dirty = binder.beginning(), routes.Dirty()
        for (kind, key), obj in self.stored.items():
            self._tell(kind, key, obj)
        self._add(routes.everything(self.world))

    def entries(self, name: str) -> list[str]:
        """Keys of the node's work list."""
        return [line.key for line in self.world.works[name].entries]

    def status(self, key: str) -> dict[str, Any]:
        return dict(self.stored["cache", key].get("status", {}))

    def condition(self, key: str, type_: str = "Ready", kind: str = "cache") -> tuple[str, str]:
        """(status, reason)"""
        found = self.message(key, type_, kind)
        return found["status"], found["reason"]

    def message(self, key: str, type_: str = "Ready", kind: str = "cache") -> dict[str, Any]:
        conditions = self.stored[kind, key]["status"]["conditions"]
        return dict(next(c for c in conditions if c["type"] == type_))

    def _reconcile_node(self, name: str) -> None:
        kept = leaving(self.world, name) if self.grace else frozenset()
        plan = plan_node(self.world, name, kept)
        self._add(routes.placement_changed(self.world, name, plan.placement))
        self._execute(plan.action)

    def _execute(self, action: Action | None) -> None:
        if action is None:
            return
        self.writes.append(action)
        match action:
            case ApplyWorkList(node=name, owner=owner, entries=entries):
                owners = [{"kind": "Node", "uid": owner}]
                meta = {"name": name, "ownerReferences": owners}
                lines = [dict(line.wire) for line in entries]
                self._writing = True
                self.put("work", {"metadata": meta, "spec": {"localModels": lines}})
                self._writing = False
            case DeleteWorkList(node=name):
                self.remove("work", name)
            case AddFinalizer(cache=found):
                finalizers = [found.finalizer]
                self.edit("cache", found.key, lambda meta: meta.update(finalizers=finalizers))
            case RemoveFinalizer(cache=found, announce=told, volumes=volumes):
                self.announced += told
                for volume in volumes:
                    binder.execute(self, volume)
                self.edit("cache", found.key, lambda meta: meta.update(finalizers=[]))
            case ApplyCacheStatus(cache=found, status=status, announce=told):
                self.announced += told
                self._status("cache", found.key, status)
            case ApplyGroupStatus(group=view, status=status, announce=told):
                self.announced += told
                self._status("group", view.name, status)
            case CreateVolume() | CreateClaim() | PatchVolume() | DeleteVolume() | DeleteClaim():
                binder.execute(self, action)
            case _:
                assert_never(action)

    def _status(self, kind: str, key: str, status: Mapping[str, Any]) -> None:
        obj = self.stored[kind, key]
        self._version += 1
        meta = {**obj["metadata"], "resourceVersion": str(self._version)}
        self._store(kind, key, {**obj, "metadata": meta, "status": dict(status)})

    def _store(self, kind: str, key: str, obj: dict[str, Any] | None) -> None:
        if obj is None:
            self.stored.pop((kind, key), None)
        else:
            self.stored[kind, key] = obj
        self._tell(kind, key, obj)
        binder.collect(self)

    def _tell(self, kind: str, key: str, obj: dict[str, Any] | None) -> None:
        match kind:
            case "cache":
                dirty = routes.cache_changed(self.world, key, parse.cache(obj) if obj else None)
            case "group":
                dirty = routes.group_changed(self.world, key, parse.group(obj) if obj else None)
            case "node":
                dirty = routes.node_changed(self.world, key, parse.node(obj) if obj else None)
            case "work":
                view = parse.work(obj) if obj else None
                if self._writing and view is not None:
                    dirty = routes.work_written(self.world, key, view)
                else:
                    dirty = routes.work_changed(self.world, key, view)
            case _:
                dirty = binder.tell(self.world, kind, key, obj)
        self._add(dirty)

    def _add(self, dirty: routes.Dirty) -> None:
        self.dirty.nodes |= dirty.nodes
        self.dirty.settling |= dirty.settling
        self.dirty.caches |= dirty.caches
        self.dirty.copies |= dirty.copies
        self.dirty.landed |= dirty.landed
        self.dirty.progress |= dirty.progress
        self.dirty.groups |= dirty.groups
        self.dirty.figures |= dirty.figures
        self.dirty.volumes |= dirty.volumes
