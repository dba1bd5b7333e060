"""A local copy of a collection, kept current by list and watch."""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Final, Generic, TypeVar

import structlog

from shared.kube.client import KubeClient
from shared.kube.errors import ApiError, NotFound, TooManyRequests, Unreachable
from shared.kube.metrics import KubeMetrics
from shared.kube.resource import ObjectKey, Resource, object_key
from shared.kube.transport import Wire

T = TypeVar("T")
Handler = Callable[[ObjectKey, T | None, T | None], None]

# As client-go: the server ends a watch after 5 to 10 minutes, so that streams move between servers.
_WATCH_SECONDS: Final = (300, 600)
_BACKOFF_SECONDS: Final = (0.5, 30.0)
# A stream that lived this long was healthy: its end starts the backoff anew.
_HEALTHY_SECONDS: Final = 30.0
_ABSENT_RECHECK_SECONDS: Final = 30.0
# Raw JSON of a page is in memory at once: 100 work lists of 100 models are 25 MiB.
_LIST_PAGE: Final = 100

log = structlog.get_logger(__name__)


class Informer(Generic[T]):
    """Objects of one kind as `parse` made them; an object that `parse` refuses (ValueError) is left out and counted.

    States: empty → listing → watching; an expired version (410) and any doubt lead back to listing. Handlers are
    called in the event loop with (key, old, new) and must not block; what a list no longer holds is told as deleted.
    A kind that the server does not know (404) is no list: what is held stays. Only an `optional` one then counts as
    synced and empty, and is looked for again every `recheck_seconds`; one that was served, once it is missed for so long.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        parse: Callable[[Wire], T],
        *,
        namespace: str | None = None,
        field_selector: str | None = None,
        label_selector: str | None = None,
        optional: bool = False,
        recheck_seconds: float = _ABSENT_RECHECK_SECONDS,
        metrics: KubeMetrics | None = None,
    ) -> None:
        self.resource = resource
        self._client = client
        self._parse = parse
        self._namespace = namespace
        self._field_selector = field_selector
        self._label_selector = label_selector
        self._optional = optional
        self._recheck_seconds = recheck_seconds
        self._metrics = metrics
        self._objects: dict[ObjectKey, T] = {}
        self._versions: dict[ObjectKey, str] = {}
        self._view: Mapping[ObjectKey, T] = MappingProxyType(self._objects)
        self._handlers: list[Handler[T]] = []
        self._synced = asyncio.Event()
        self._installed = True
        self._missed_since: float | None = None
        # Where the next watch starts; None = list first.
        self._version: str | None = None

    def on_change(self, handler: Handler[T]) -> None:
        self._handlers.append(handler)

    def get(self, key: ObjectKey) -> T | None:
        return self._objects.get(key)

    def snapshot(self) -> Mapping[ObjectKey, T]:
        """A read-only live view: consistent until the next await."""
        return self._view

    @property
    def synced(self) -> bool:
        """Whether the first full list is in."""
        return self._synced.is_set()

    @property
    def installed(self) -> bool:
        """Whether the API server serves this kind; only an optional one may be absent."""
        return self._installed

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        """List and watch for ever; returns only by cancellation."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started, before = loop.time(), self._version
            failed = await self._list_and_watch()
            # The server ends the watch of who reads too slowly in a burst: whoever lags must not wait on top.
            moved = before is not None and self._version not in (None, before)
            lived = loop.time() - started
            healthy = moved or lived >= min(_HEALTHY_SECONDS, self._client.watch_silence)
            failures = 1 if healthy else failures + 1
            if self._metrics is not None and failed is not None:
                self._metrics.watch_breaks.labels(self.resource.plural).inc()
            if failures > 1 and self._installed:
                why = "the server ended it" if failed is None else failed.message[:500]
                log.info("watch starts again", kind=self.resource.kind, why=why, failures=failures)
            wait = min(_BACKOFF_SECONDS[1], _BACKOFF_SECONDS[0] * 2 ** min(failures - 1, 10))
            if not self._installed:
                wait = self._recheck_seconds
            asked = (failed.retry_after if failed is not None else None) or 0.0
            await asyncio.sleep(asked + wait * random.uniform(0.5, 1.0))  # noqa: S311  # spread, not secrecy

    async def _list_and_watch(self) -> ApiError | None:
        """One round; returns what broke it. `_version` then says whether the next one may skip the list."""
        try:
            if self._version is None:
                self._version = await self._list()
            await self._watch(self._version)
        except (Unreachable, TooManyRequests) as exc:
            return exc
        except NotFound as exc:
            self._version = None
            if self._optional and self._is_absent():
                self._replace({}, {})
                self._installed = False
                self._synced.set()
            return exc
        except ApiError as exc:
            # Expired (410), or an error in the stream: what we hold may have gaps.
            self._version = None
            return exc
        return None

    def _is_absent(self) -> bool:
        """Asked after each 404. What was served may be unknown to one server, or for a moment: services would lose their caches."""
        if not self._installed or not self._synced.is_set():
            return True
        now = asyncio.get_running_loop().time()
        if self._missed_since is None:
            self._missed_since = now
        return now - self._missed_since >= self._recheck_seconds

    async def _list(self) -> str:
        objects: dict[ObjectKey, T] = {}
        versions: dict[ObjectKey, str] = {}
        version = ""
        pages = self._client.pages(
            self.resource,
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            limit=_LIST_PAGE,
        )
        async with aclosing(pages):
            async for items, since in pages:
                version = since
                for wire in items:
                    key = object_key(wire)
                    current = str(wire["metadata"].get("resourceVersion") or "")
                    if current and self._versions.get(key) == current and key in self._objects:
                        objects[key] = self._objects[key]
                    else:
                        parsed = self._read(key, wire)
                        if parsed is None:
                            continue
                        objects[key] = parsed
                    versions[key] = current
        self._replace(objects, versions)
        self._installed = True
        self._missed_since = None
        self._synced.set()
        if self._metrics is not None:
            self._metrics.relists.labels(self.resource.plural).inc()
        return version

    async def _watch(self, version: str) -> None:
        events = self._client.watch(
            self.resource,
            resource_version=version,
            timeout_seconds=random.randint(*_WATCH_SECONDS),  # noqa: S311  # spread, not secrecy
            namespace=self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        async with aclosing(events):
            async for kind, wire in events:
                version = str(wire["metadata"]["resourceVersion"])
                if kind != "BOOKMARK":
                    key = object_key(wire)
                    self._set(key, None if kind == "DELETED" else self._read(key, wire), version)
                self._version = version

    def _read(self, key: ObjectKey, wire: Wire) -> T | None:
        try:
            return self._parse(wire)
        except ValueError as exc:
            log.warning(
                "object left out", kind=self.resource.kind, object=str(key), why=str(exc)[:500]
            )
            if self._metrics is not None:
                self._metrics.refused_objects.labels(self.resource.plural).inc()
            return None

    def _replace(self, objects: dict[ObjectKey, T], versions: dict[ObjectKey, str]) -> None:
        for key in self._objects.keys() - objects.keys():
            self._set(key, None, "")
        for key, new in objects.items():
            if self._objects.get(key) is not new:
                self._set(key, new, versions[key])

    def _set(self, key: ObjectKey, new: T | None, version: str) -> None:
        old = self._objects.get(key)
        if new is None:
            self._objects.pop(key, None)
            self._versions.pop(key, None)
            if old is None:
                return
        else:
            self._objects[key] = new
            self._versions[key] = version
        for handler in self._handlers:
            handler(key, old, new)
