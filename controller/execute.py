"""Actions → requests. What the API server answers is told to the world at once: nobody acts twice on what is written."""

from contextlib import suppress
from dataclasses import replace
from typing import Any, assert_never

import structlog

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
from controller.execute_volumes import VolumeExecutor
from controller.herald import Herald
from controller.router import Router
from shared.domain import parse
from shared.domain.views import CacheView, GroupView, WorkView
from shared.kube.client import KubeClient
from shared.kube.errors import AlreadyExists, NotFound
from shared.kube.events import EventRecorder, ObjectRef
from shared.kube.resource import (
    LOCAL_MODEL_CACHES,
    LOCAL_MODEL_NAMESPACE_CACHES,
    LOCAL_MODEL_NODE_GROUPS,
    LOCAL_MODEL_NODES,
    NODES,
    ObjectKey,
    Resource,
)

log = structlog.get_logger(__name__)


class Executor:
    """Every request may be repeated: a crash after it leaves what the next pass finds. What is already gone is well."""

    def __init__(
        self, client: KubeClient, recorder: EventRecorder, herald: Herald, router: Router
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._herald = herald
        self._router = router
        self._volumes = VolumeExecutor(client, router)

    async def execute(self, action: Action) -> None:
        match action:
            case ApplyWorkList():
                await self._apply_work_list(action)
            case DeleteWorkList():
                await self._delete_work_list(action)
            case AddFinalizer(cache=cache):
                await self._set_finalizers(cache, (*cache.finalizers, cache.finalizer))
            case RemoveFinalizer(cache=cache, announce=announce, volumes=volumes, unconfirmed=left):
                for volume in volumes:
                    await self._volumes.execute(volume)
                for node in left:
                    self._herald.unconfirmed(node, cache)
                kept = tuple(name for name in cache.finalizers if name != cache.finalizer)
                await self._set_finalizers(cache, kept)
                self._tell(_reference(cache), announce, action="Delete")
            case ApplyCacheStatus(cache=cache, status=status, announce=announce):
                await self._apply_cache_status(cache, dict(status))
                self._tell(_reference(cache), announce, action="Place")
            case ApplyGroupStatus(group=group, status=status, announce=announce):
                await self._apply_group_status(group, dict(status))
                reference = ObjectRef(
                    LOCAL_MODEL_NODE_GROUPS.api_version,
                    LOCAL_MODEL_NODE_GROUPS.kind,
                    group.name,
                    group.uid,
                )
                self._tell(reference, announce, action="Match")
            case CreateVolume() | CreateClaim() | PatchVolume() | DeleteVolume() | DeleteClaim():
                await self._volumes.execute(action)
            case _:
                assert_never(action)

    async def _apply_work_list(self, action: ApplyWorkList) -> None:
        owner = {
            "apiVersion": NODES.api_version,
            "kind": NODES.kind,
            "name": action.node,
            "uid": action.owner,
        }
        body = {
            "apiVersion": LOCAL_MODEL_NODES.api_version,
            "kind": LOCAL_MODEL_NODES.kind,
            "metadata": {"name": action.node, "ownerReferences": [owner]},
            "spec": {"localModels": [line.wire for line in action.entries]},
        }
        answer = (await self._write_work_list(action.node, body))["metadata"]
        known = self._router.world.works.get(action.node) or WorkView(action.node)
        written = replace(
            known if known.uid == answer["uid"] else WorkView(action.node),
            entries=action.entries,
            owner=action.owner,
            uid=answer["uid"],
            resource_version=answer["resourceVersion"],
            generation=answer["generation"],
        )
        self._router.wrote_work(action.node, written)
        log.info("work list written", node=action.node, models=len(action.entries))

    async def _write_work_list(self, node: str, body: dict[str, Any]) -> dict[str, Any]:
        """A first list is created: that costs the API server half of what applying it does, and a new cluster has a thousand."""
        if node not in self._router.world.works:
            with suppress(AlreadyExists):
                return await self._client.create(LOCAL_MODEL_NODES, body, metadata_only=True)
        return await self._client.apply(LOCAL_MODEL_NODES, body, metadata_only=True)

    async def _delete_work_list(self, action: DeleteWorkList) -> None:
        try:
            await self._client.delete(
                LOCAL_MODEL_NODES,
                action.node,
                uid=action.uid,
                resource_version=action.resource_version,
            )
        except NotFound:
            return
        log.info("work list deleted", node=action.node, because=action.because)

    async def _set_finalizers(self, cache: CacheView, finalizers: tuple[str, ...]) -> None:
        version = {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": cache.resource_version,
        }
        change = {"op": "add", "path": "/metadata/finalizers", "value": list(finalizers)}
        resource = _resource(cache)
        try:
            answer = await self._client.json_patch(
                resource, cache.name, [version, change], namespace=cache.namespace
            )
        except NotFound:
            return
        if finalizers or not answer["metadata"].get("deletionTimestamp"):
            self._router.cache(_key(cache), None, parse.cache(answer))
        else:
            self._router.cache(_key(cache), None, None)

    async def _apply_cache_status(self, cache: CacheView, status: dict[str, Any]) -> None:
        resource = _resource(cache)
        metadata = {"name": cache.name}
        if cache.namespace is not None:
            metadata["namespace"] = cache.namespace
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata,
            "status": status,
        }
        try:
            answer = await self._client.apply(
                resource,
                body,
                namespace=cache.namespace,
                subresource="status",
                metadata_only=True,
            )
        except NotFound:
            return
        shown = parse.cache({"metadata": answer["metadata"], "status": status})
        known = self._router.world.caches.get(cache.key)
        if known is not None and _unedited(known, shown):
            written = replace(
                known,
                revision=shown.revision,
                users=shown.users,
                status=shown.status,
                conditions=shown.conditions,
                resource_version=shown.resource_version,
            )
            self._router.cache(_key(cache), None, written)

    async def _apply_group_status(self, group: GroupView, status: dict[str, Any]) -> None:
        body = {
            "apiVersion": LOCAL_MODEL_NODE_GROUPS.api_version,
            "kind": LOCAL_MODEL_NODE_GROUPS.kind,
            "metadata": {"name": group.name},
            "status": status,
        }
        try:
            answer = await self._client.apply(
                LOCAL_MODEL_NODE_GROUPS, body, subresource="status", metadata_only=True
            )
        except NotFound:
            return
        shown = parse.group({"metadata": answer["metadata"], "status": status})
        known = self._router.world.groups.get(group.name)
        if known is not None and _unedited(known, shown):
            written = replace(
                known,
                status=shown.status,
                conditions=shown.conditions,
                resource_version=shown.resource_version,
            )
            self._router.group(ObjectKey(None, group.name), None, written)

    def _tell(
        self, regarding: ObjectRef, announcements: tuple[Announcement, ...], *, action: str
    ) -> None:
        for told in announcements:
            log.info(
                "state changed",
                kind=regarding.kind,
                object=str(ObjectKey(regarding.namespace, regarding.name)),
                reason=told.reason.value,
                message=told.message,
            )
            self._recorder.event(
                regarding, type=told.type, reason=told.reason, message=told.message, action=action
            )


def _unedited(before: CacheView | GroupView, now: CacheView | GroupView) -> bool:
    """Whether the spec is as we know it; if not, the watch tells it all."""
    return (before.uid, before.generation, before.deleting) == (
        now.uid,
        now.generation,
        now.deleting,
    )


def _resource(cache: CacheView) -> Resource:
    return LOCAL_MODEL_CACHES if cache.namespace is None else LOCAL_MODEL_NAMESPACE_CACHES


def _key(cache: CacheView) -> ObjectKey:
    return ObjectKey(cache.namespace, cache.name)


def _reference(cache: CacheView) -> ObjectRef:
    resource = _resource(cache)
    return ObjectRef(resource.api_version, resource.kind, cache.name, cache.uid, cache.namespace)
