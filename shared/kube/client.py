"""The API server's verbs, with raw JSON in and out."""

from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from prometheus_client import CollectorRegistry

from shared.kube.errors import Unreachable
from shared.kube.library import (
    ConfigException,
    Configuration,
    load_incluster_config,
    load_kube_config,
)
from shared.kube.metrics import KubeMetrics
from shared.kube.ratelimit import TokenBucket
from shared.kube.resource import Resource
from shared.kube.transport import WATCH_SILENCE_SECONDS, Request, Transport, Wire, Wires

PAGE_SIZE: Final = 500
_APPLY: Final = "application/apply-patch+yaml"
_MERGE_PATCH: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
# Warnings about unknown fields, which nobody would see, cost the server a second parse of the body.
_UNWARNED: Final = {"fieldValidation": "Ignore"}
_WHOLE: Final = "application/json"
_NONE: Final[Mapping[str, str]] = {}
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class KubeClient:
    """Requests as one field manager. Raises `shared.kube.errors` only; every request has a time limit.

    Requests that the server refused unprocessed (429) are repeated after the time it asks for; so are reads and
    applies, which may be repeated safely, after 5xx answers and lost connections.
    """

    def __init__(
        self,
        configuration: Configuration,
        *,
        manager: str,
        qps: float,
        burst: int,
        metrics: KubeMetrics | None = None,
    ) -> None:
        self.manager = manager
        self._transport = Transport(
            configuration,
            agent=manager,
            bucket=TokenBucket(qps, burst),
            metrics=metrics or KubeMetrics(CollectorRegistry()),
        )

    @classmethod
    async def connect(
        cls,
        *,
        kubeconfig: Path | None,
        manager: str,
        qps: float,
        burst: int,
        context: str | None = None,
        watch_silence: float = WATCH_SILENCE_SECONDS,
        metrics: KubeMetrics | None = None,
    ) -> Self:
        """With a kubeconfig file, or as the pod's own ServiceAccount. Unreachable when the configuration is unusable."""
        configuration = type.__call__(Configuration)
        try:
            if kubeconfig is None:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                await load_kube_config(
                    config_file=str(kubeconfig),
                    context=context,
                    client_configuration=configuration,
                    persist_config=False,
                )
        except (ConfigException, OSError) as exc:
            raise Unreachable(f"no usable Kubernetes configuration: {exc}") from exc
        # One connection per watch stays busy; the rest is for requests in flight.
        configuration.connection_pool_maxsize = 64
        client = cls(configuration, manager=manager, qps=qps, burst=burst, metrics=metrics)
        client._transport.watch_silence = watch_silence
        return client

    @property
    def watch_silence(self) -> float:
        return self._transport.watch_silence

    def fence_writes(self, seconds_left: Callable[[], float]) -> None:
        """From now on a write is sent only while `seconds_left()` > 0, and is given no longer than that."""
        self._transport.fence = seconds_left

    async def get(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> Wire:
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._read("get", resource, path)

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = PAGE_SIZE,
    ) -> tuple[Wires, str]:
        """All objects, read in pages, and the collection's resourceVersion. `Gone` when the pages expired on the way."""
        items: Wires = []
        version = ""
        pages = self.pages(
            resource,
            namespace=namespace,
            label_selector=label_selector,
            field_selector=field_selector,
            limit=limit,
        )
        async for page, since in pages:
            items += page
            version = since
        return items, version

    async def pages(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int = PAGE_SIZE,
    ) -> AsyncGenerator[tuple[Wires, str], None]:
        """As `list`, page by page, so that a large collection need not fit into memory as raw JSON."""
        params = _selectors(label_selector, field_selector) | {"limit": str(limit)}
        while True:
            page = await self._read("list", resource, resource.path(namespace=namespace), params)
            metadata = page.get("metadata") or {}
            yield page.get("items") or [], str(metadata.get("resourceVersion") or "")
            if not metadata.get("continue"):
                return
            params["continue"] = metadata["continue"]

    def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        timeout_seconds: int,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> AsyncGenerator[tuple[str, Wire], None]:
        """Events (type, object) with bookmarks until the server ends the stream; an ERROR event is raised."""
        params = _selectors(label_selector, field_selector) | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        path = resource.path(namespace=namespace)
        return self._transport.events(Request("GET", "watch", resource, path, params))

    async def create(
        self,
        resource: Resource,
        body: Wire,
        *,
        namespace: str | None = None,
        metadata_only: bool = False,
    ) -> Wire:
        """`metadata_only`: spares the server, the network and us the rest of the answer."""
        path = resource.path(namespace=namespace)
        accept = _METADATA if metadata_only else _WHOLE
        return await self._write("POST", "create", resource, path, body, _UNWARNED, accept=accept)

    async def update(
        self,
        resource: Resource,
        body: Wire,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> Wire:
        """Replace; with a resourceVersion in the body, `Conflict` when somebody else was faster."""
        name = body["metadata"]["name"]
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._write("PUT", "update", resource, path, body)

    async def apply(
        self,
        resource: Resource,
        body: Wire,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        force: bool = True,
        metadata_only: bool = False,
    ) -> Wire:
        """Server-side apply: the fields in the body become ours; fields of ours that it leaves out are removed.

        `metadata_only` as for `create`.
        """
        name = body["metadata"]["name"]
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._write(
            "PATCH",
            "apply",
            resource,
            path,
            body,
            {"force": "true" if force else "false", **_UNWARNED},
            content_type=_APPLY,
            accept=_METADATA if metadata_only else _WHOLE,
            repeatable=True,
        )

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        patch: Wire,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> Wire:
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._write("PATCH", "patch", resource, path, patch, content_type=_MERGE_PATCH)

    async def json_patch(
        self,
        resource: Resource,
        name: str,
        operations: Wires,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> Wire:
        """`Invalid` when a `test` operation fails."""
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._write(
            "PATCH", "patch", resource, path, operations, content_type=_JSON_PATCH
        )

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """`Conflict` when a precondition fails."""
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        wanted = {name: value for name, value in preconditions.items() if value}
        body: Wire = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if wanted:
            body["preconditions"] = wanted
        path = resource.path(namespace=namespace, name=name)
        await self._transport.exchange(Request("DELETE", "delete", resource, path, body=body))

    async def close(self) -> None:
        await self._transport.close()

    async def _read(
        self, verb: str, resource: Resource, path: str, params: Mapping[str, str] = _NONE
    ) -> Wire:
        request = Request("GET", verb, resource, path, params, repeatable=True)
        return await self._transport.exchange(request)

    async def _write(
        self,
        method: str,
        verb: str,
        resource: Resource,
        path: str,
        body: Any,
        params: Mapping[str, str] = _NONE,
        *,
        content_type: str = _WHOLE,
        accept: str = _WHOLE,
        repeatable: bool = False,
    ) -> Wire:
        params = {"fieldManager": self.manager, **params}
        request = Request(
            method, verb, resource, path, params, body, content_type, accept, repeatable
        )
        return await self._transport.exchange(request)


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    given = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in given.items() if value}
