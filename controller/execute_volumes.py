"""Actions on volumes and claims → requests. Created and patched, never applied: Kubernetes' own controllers write there too."""

from typing import assert_never

import structlog

from controller.actions import (
    CreateClaim,
    CreateVolume,
    DeleteClaim,
    DeleteVolume,
    PatchVolume,
    VolumeAction,
)
from controller.router import Router
from shared.domain import serving
from shared.kube.client import KubeClient
from shared.kube.errors import AlreadyExists, NotFound
from shared.kube.resource import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    ObjectKey,
    Resource,
    object_key,
)

log = structlog.get_logger(__name__)


class VolumeExecutor:
    """What is there already, or gone already, is well: the watch tells what became of it."""

    def __init__(self, client: KubeClient, router: Router) -> None:
        self._client = client
        self._router = router

    async def execute(self, action: VolumeAction) -> None:
        match action:
            case CreateVolume():
                await self._create_volume(action)
            case CreateClaim():
                await self._create_claim(action)
            case PatchVolume():
                await self._patch_volume(action)
            case DeleteVolume(name=name, uid=uid):
                await self._delete(PERSISTENT_VOLUMES, ObjectKey(None, name), uid)
            case DeleteClaim(namespace=namespace, name=name, uid=uid):
                await self._delete(PERSISTENT_VOLUME_CLAIMS, ObjectKey(namespace, name), uid)
            case _:
                assert_never(action)

    async def _create_volume(self, action: CreateVolume) -> None:
        body = {"apiVersion": "v1", "kind": PERSISTENT_VOLUMES.kind, **action.body}
        try:
            answer = await self._client.create(PERSISTENT_VOLUMES, body)
        except AlreadyExists:
            return
        self._router.volume(object_key(answer), None, serving.volume(answer))
        log.info("volume created", volume=action.name, cache=action.cache.key)

    async def _create_claim(self, action: CreateClaim) -> None:
        body = {"apiVersion": "v1", "kind": PERSISTENT_VOLUME_CLAIMS.kind, **action.body}
        try:
            answer = await self._client.create(
                PERSISTENT_VOLUME_CLAIMS, body, namespace=action.namespace
            )
        except AlreadyExists:
            return
        self._router.claim(object_key(answer), None, serving.claim(answer))
        log.info("claim created", claim=str(object_key(answer)), cache=action.cache.key)

    async def _patch_volume(self, action: PatchVolume) -> None:
        metadata = {
            **action.patch.get("metadata", {}),
            "resourceVersion": action.resource_version,
        }
        try:
            answer = await self._client.merge_patch(
                PERSISTENT_VOLUMES, action.name, {**action.patch, "metadata": metadata}
            )
        except NotFound:
            return
        self._router.volume(object_key(answer), None, serving.volume(answer))
        log.info("volume patched", volume=action.name, fields=sorted(action.patch.get("spec", ())))

    async def _delete(self, resource: Resource, key: ObjectKey, uid: str) -> None:
        try:
            await self._client.delete(resource, key.name, namespace=key.namespace, uid=uid)
        except NotFound:
            return
        log.info("deleted", kind=resource.kind, object=str(key))
