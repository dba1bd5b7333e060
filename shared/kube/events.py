"""Events that a person reads with `kubectl describe`: deduplicated into series and rate-limited."""

import asyncio
import hashlib
import math
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

import structlog

from shared.domain.reasons import Reason
from shared.kube.client import KubeClient
from shared.kube.errors import AlreadyExists, ApiError, NotFound
from shared.kube.metrics import KubeMetrics
from shared.kube.ratelimit import TokenBucket
from shared.kube.resource import EVENTS
from shared.kube.time import micro_time, utc_now
from shared.kube.transport import Wire

EventType = Literal["Normal", "Warning"]

# Events of cluster-scoped objects live here, where `kubectl describe` looks for them.
CLUSTER_EVENTS_NAMESPACE: Final = "default"
# The API server's limit, in bytes.
_MAX_NOTE: Final = 1024
# Waiting events; more than this in one go says nothing new to anybody.
_MAX_WAITING: Final = 1000
_MAX_REMEMBERED: Final = 4096
# As client-go's spam filter: 25 events at once for an object, then one in five minutes.
_OBJECT_BURST: Final = 25
_OBJECT_RATE: Final = 1 / 300
# A repetition within this time counts up the event that is there, and at most this often.
_SERIES_SECONDS: Final = 600.0
_COUNT_UP_SECONDS: Final = 30.0
_FLUSH_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """What an event is about."""

    api_version: str
    kind: str
    name: str
    uid: str = ""
    namespace: str | None = None


@dataclass(slots=True)
class _Series:
    name: str
    body: Wire
    count: int = 1
    written: int = 0
    last_seen: float = 0.0
    last_write: float = -math.inf


class EventRecorder:
    """`event` never blocks and never fails; `run` writes. What cannot be written is counted and dropped."""

    def __init__(
        self,
        client: KubeClient,
        *,
        component: str,
        instance: str,
        metrics: KubeMetrics | None = None,
    ) -> None:
        self._client = client
        self._component = component
        self._instance = instance[:128]
        self._metrics = metrics
        self._waiting: OrderedDict[str, _Series] = OrderedDict()
        self._remembered: OrderedDict[str, _Series] = OrderedDict()
        self._buckets: OrderedDict[ObjectRef, TokenBucket] = OrderedDict()
        self._arrived = asyncio.Event()

    def event(
        self, regarding: ObjectRef, *, type: EventType, reason: Reason, message: str, action: str
    ) -> None:
        """Say that something happened to an object. `action`: what was being done, in CamelCase."""
        now = asyncio.get_running_loop().time()
        note = message.encode(errors="replace")[:_MAX_NOTE].decode(errors="ignore")
        identity = "\0".join((repr(regarding), type, reason.value, action, note))
        key = hashlib.sha256(identity.encode()).hexdigest()[:16]
        known = self._remembered.get(key)
        if known is not None and now - known.last_seen < _SERIES_SECONDS:
            known.count += 1
            known.last_seen = now
            self._remembered.move_to_end(key)
            self._wait(key, known)
            return
        if not self._bucket(regarding).try_take(now) or len(self._waiting) >= _MAX_WAITING:
            self._tell("dropped")
            return
        series = self._new(regarding, type, reason, note, action, key)
        series.last_seen = now
        self._remembered[key] = series
        while len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        self._wait(key, series)

    async def run(self) -> None:
        """Write until cancelled; then up to 2 s more for what waits."""
        try:
            while True:
                await self._arrived.wait()
                pause = await self._flush()
                if pause is not None:
                    await asyncio.sleep(pause)
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await self._flush(last=True)
            except TimeoutError:
                log.info("events dropped at the end", waiting=len(self._waiting))
            raise

    async def _flush(self, *, last: bool = False) -> float | None:
        """Write all that is due, or all at last; returns the seconds until more is, or None when nothing waits."""
        loop = asyncio.get_running_loop()
        for key, series in list(self._waiting.items()):
            if not last and loop.time() - series.last_write < _COUNT_UP_SECONDS:
                continue
            del self._waiting[key]
            try:
                await self._write(series)
            except ApiError as exc:
                self._tell("failed")
                log.debug("event not written", why=exc.message[:500])
            except asyncio.CancelledError:
                self._waiting[key] = series
                raise
        if not self._waiting:
            self._arrived.clear()
            return None
        return 1.0

    async def _write(self, series: _Series) -> None:
        namespace = series.body["metadata"]["namespace"]
        count = series.count
        now = micro_time(utc_now())
        series.last_write = asyncio.get_running_loop().time()
        if series.written == 0:
            body = series.body
            if count > 1:
                body = {**body, "series": {"count": count, "lastObservedTime": now}}
            # There already: an earlier try, whose answer was lost.
            with suppress(AlreadyExists):
                await self._client.create(EVENTS, body, namespace=namespace)
            self._tell("created")
        else:
            patch: Wire = {"series": {"count": count, "lastObservedTime": now}}
            try:
                await self._client.merge_patch(EVENTS, series.name, patch, namespace=namespace)
            except NotFound:
                # The API server forgets events after an hour.
                await self._client.create(EVENTS, {**series.body, **patch}, namespace=namespace)
            self._tell("counted")
        series.written = count

    def _new(
        self,
        regarding: ObjectRef,
        type: EventType,
        reason: Reason,
        note: str,
        action: str,
        key: str,
    ) -> _Series:
        now = utc_now()
        namespace = regarding.namespace or CLUSTER_EVENTS_NAMESPACE
        # Unique among all replicas and restarts, and a valid name for every object's name.
        name = f"{regarding.name[:200].rstrip('-.')}.{key}.{int(now.timestamp() * 1000):x}"
        reference = {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "name": regarding.name,
            "uid": regarding.uid,
            "namespace": regarding.namespace,
        }
        body: Wire = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": micro_time(now),
            "reportingController": self._component,
            "reportingInstance": self._instance,
            "regarding": {name: value for name, value in reference.items() if value},
            "type": type,
            "reason": reason.value,
            "action": action,
            "note": note,
        }
        return _Series(name=name, body=body)

    def _wait(self, key: str, series: _Series) -> None:
        self._waiting[key] = series
        self._arrived.set()

    def _bucket(self, regarding: ObjectRef) -> TokenBucket:
        bucket = self._buckets.setdefault(regarding, TokenBucket(_OBJECT_RATE, _OBJECT_BURST))
        self._buckets.move_to_end(regarding)
        while len(self._buckets) > _MAX_REMEMBERED:
            self._buckets.popitem(last=False)
        return bucket

    def _tell(self, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.events.labels(outcome).inc()
