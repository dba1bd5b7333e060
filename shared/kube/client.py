"""The API server over kubernetes_asyncio's configuration and session, with raw JSON in and out."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

import aiohttp
import orjson
from prometheus_client import CollectorRegistry

from shared.kube.errors import (
    ApiError,
    Fenced,
    ServerUnavailable,
    TooManyRequests,
    Unreachable,
    from_status,
)
from shared.kube.library import (
    ConfigException,
    Configuration,
    RESTClientObject,
    load_incluster_config,
    load_kube_config,
)
from shared.kube.metrics import KubeMetrics
from shared.kube.ratelimit import TokenBucket
from shared.kube.resource import Resource

Wire = dict[str, Any]
Wires = list[Wire]

REQUEST_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
# The server sends a bookmark about once a minute: a stream silent for two is dead.
WATCH_SILENCE_SECONDS: Final = 130.0
PAGE_SIZE: Final = 500
# etcd refuses objects over 1.5 MiB; an event is one object and its wrapping.
_MAX_LINE_BYTES: Final = 16 << 20
_TRIES: Final = 4
_MAX_RETRY_AFTER_SECONDS: Final = 10.0
_APPLY: Final = "application/apply-patch+yaml"
_MERGE_PATCH: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"


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
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)
        self._session: aiohttp.ClientSession = self._rest.pool_manager
        self._bucket = TokenBucket(qps, burst)
        self._metrics = metrics or KubeMetrics(CollectorRegistry())
        self._fence: Callable[[], float] | None = None

    @classmethod
    async def connect(
        cls,
        *,
        kubeconfig: Path | None,
        manager: str,
        qps: float,
        burst: int,
        context: str | None = None,
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
        return cls(configuration, manager=manager, qps=qps, burst=burst, metrics=metrics)

    def fence_writes(self, seconds_left: Callable[[], float]) -> None:
        """From now on a write is sent only while `seconds_left()` > 0, and is given no longer than that."""
        self._fence = seconds_left

    async def get(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> Wire:
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        return await self._call("GET", "get", resource, path)

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
            page = await self._call(
                "GET", "list", resource, resource.path(namespace=namespace), params
            )
            metadata = page.get("metadata") or {}
            yield page.get("items") or [], str(metadata.get("resourceVersion") or "")
            if not metadata.get("continue"):
                return
            params["continue"] = metadata["continue"]

    async def watch(
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
        timeout = aiohttp.ClientTimeout(
            sock_connect=CONNECT_SECONDS, sock_read=WATCH_SILENCE_SECONDS
        )
        path = resource.path(namespace=namespace)
        async with self._response(
            "GET", "watch", resource, path, params, timeout=timeout
        ) as response:
            if response.status != 200:
                raise await _error(response)
            try:
                async for line in _lines(response.content):
                    yield _event(line)
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                raise Unreachable(f"the watch broke: {_text(exc)}") from exc

    async def create(self, resource: Resource, body: Wire, *, namespace: str | None = None) -> Wire:
        path = resource.path(namespace=namespace)
        params = {"fieldManager": self.manager}
        return await self._call("POST", "create", resource, path, params, body=body)

    async def update(
        self,
        resource: Resource,
        body: Wire,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
    ) -> Wire:
        """Replace; with a resourceVersion in the body, `Conflict` when somebody else was faster."""
        path = resource.path(
            namespace=namespace, name=body["metadata"]["name"], subresource=subresource
        )
        params = {"fieldManager": self.manager}
        return await self._call("PUT", "update", resource, path, params, body=body)

    async def apply(
        self,
        resource: Resource,
        body: Wire,
        *,
        namespace: str | None = None,
        subresource: str | None = None,
        force: bool = True,
    ) -> Wire:
        """Server-side apply: the fields in the body become ours; fields of ours that it leaves out are removed."""
        path = resource.path(
            namespace=namespace, name=body["metadata"]["name"], subresource=subresource
        )
        params = {
            "fieldManager": self.manager,
            "force": "true" if force else "false",
            # Warnings about unknown fields, which nobody would see, cost the server a second parse of the body. An unknown
            # field still fails.
            "fieldValidation": "Ignore",
        }
        return await self._call(
            "PATCH",
            "apply",
            resource,
            path,
            params,
            body=body,
            content_type=_APPLY,
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
        params = {"fieldManager": self.manager}
        return await self._call(
            "PATCH", "patch", resource, path, params, body=patch, content_type=_MERGE_PATCH
        )

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
        params = {"fieldManager": self.manager}
        return await self._call(
            "PATCH", "patch", resource, path, params, body=operations, content_type=_JSON_PATCH
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
        await self._call("DELETE", "delete", resource, path, body=body)

    async def close(self) -> None:
        await self._rest.close()

    async def _call(
        self,
        method: str,
        verb: str,
        resource: Resource,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        content_type: str = "application/json",
        repeatable: bool = False,
    ) -> Wire:
        repeatable = repeatable or method == "GET"
        data = None if body is None else orjson.dumps(body)
        attempt = 1
        while True:
            try:
                return await self._once(method, verb, resource, path, params, data, content_type)
            except TooManyRequests as exc:
                failed: ApiError = exc
            except (Unreachable, ServerUnavailable) as exc:
                if not repeatable:
                    raise
                failed = exc
            wait = _wait_before_retry(attempt, failed.retry_after)
            if attempt == _TRIES or wait > _MAX_RETRY_AFTER_SECONDS:
                raise failed
            attempt += 1
            await asyncio.sleep(wait)

    async def _once(
        self,
        method: str,
        verb: str,
        resource: Resource,
        path: str,
        params: Mapping[str, str] | None,
        data: bytes | None,
        content_type: str,
    ) -> Wire:
        seconds = REQUEST_SECONDS
        if method != "GET" and self._fence is not None:
            seconds = min(seconds, self._fence())
            if seconds <= 0:
                raise Fenced("this replica does not lead, so it writes nothing")
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)
        async with self._response(
            method,
            verb,
            resource,
            path,
            params,
            data=data,
            content_type=content_type,
            timeout=timeout,
        ) as response:
            if response.status >= 300:
                raise await _error(response)
            try:
                raw = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as exc:
                raise Unreachable(f"the answer broke off: {_text(exc)}") from exc
        try:
            answer: Wire = orjson.loads(raw)
        except orjson.JSONDecodeError as exc:
            raise Unreachable(f"the answer is not the API server's: {_text(exc)}") from exc
        return answer

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        verb: str,
        resource: Resource,
        path: str,
        params: Mapping[str, str] | None,
        *,
        timeout: aiohttp.ClientTimeout,
        data: bytes | None = None,
        content_type: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        waited = await self._bucket.take()
        if waited:
            self._metrics.throttled.inc(waited)
        headers = {"Accept": "application/json", "User-Agent": self.manager}
        if data is not None:
            headers["Content-Type"] = content_type
        code = "0"
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            for setting in (await self._configuration.auth_settings()).values():
                headers[setting["key"]] = setting["value"]
            response = await self._session.request(
                method,
                str(self._configuration.host).rstrip("/") + path,
                params=params,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                server_hostname=self._configuration.tls_server_name,
                proxy=self._configuration.proxy,
            )
            code = str(response.status)
        except ConfigException as exc:
            raise Unreachable(f"no usable credentials: {exc}") from exc
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise Unreachable(f"the API server cannot be reached: {_text(exc)}") from exc
        finally:
            self._metrics.requests.labels(verb, resource.plural, code).inc()
            self._metrics.latency.labels(verb).observe(loop.time() - started)
        try:
            yield response
        finally:
            response.close() if verb == "watch" else response.release()


def _selectors(label_selector: str | None, field_selector: str | None) -> dict[str, str]:
    given = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in given.items() if value}


def _wait_before_retry(attempt: int, asked: float | None) -> float:
    return asked if asked is not None else random.uniform(0.1, 0.5) * 2**attempt  # noqa: S311  # spread, not secrecy


def _text(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


async def _error(response: aiohttp.ClientResponse) -> ApiError:
    try:
        body = orjson.loads(await response.read())
    except (orjson.JSONDecodeError, aiohttp.ClientError, TimeoutError, OSError):
        body = None
    header = response.headers.get("Retry-After", "")
    return from_status(
        response.status, body, retry_after=float(header) if header.isdecimal() else None
    )


def _event(line: bytes) -> tuple[str, Wire]:
    """One line of a watch; raises what an ERROR event says."""
    try:
        event = orjson.loads(line)
        kind, wire = str(event["type"]), event["object"]
        code = int(wire.get("code") or 500) if kind == "ERROR" else 0
        if not code:
            _ = wire["metadata"]["resourceVersion"]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise Unreachable(f"the watch sent something that is no event: {_text(exc)}") from exc
    if code:
        raise from_status(code, wire)
    return kind, wire


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of a watch stream, whatever their length (StreamReader.readline stops at 64 KiB)."""
    pending = bytearray()
    async for chunk in stream.iter_any():
        searched = len(pending)
        pending += chunk
        while (end := pending.find(b"\n", searched)) >= 0:
            line = bytes(pending[:end])
            del pending[: end + 1]
            searched = 0
            if line.strip():
                yield line
        if len(pending) > _MAX_LINE_BYTES:
            raise Unreachable(f"the watch sent a line over {_MAX_LINE_BYTES} bytes")
