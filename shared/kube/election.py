"""Leader election on a Lease: who loses it stops writing before another starts."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from shared.api.core import Lease
from shared.kube.client import KubeClient
from shared.kube.errors import ApiError, Conflict, NotFound
from shared.kube.metrics import KubeMetrics
from shared.kube.resource import LEASES
from shared.kube.time import micro_time, utc_now
from shared.kube.transport import Wire

# client-go's defaults: 15 s lease, 10 s to renew it, a try every 2 s.
LEASE_SECONDS: Final = 15
_RENEW_SHARE: Final = 2 / 3
_TRY_SHARE: Final = 2 / 15
# A request that hangs must leave time for others: 3 s for each, and half a second from one to the next.
_ATTEMPT_SHARE: Final = 1 / 5
_RETRY_SHARE: Final = 1 / 30

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Observed:
    """A Lease as last seen to change, and when, on our own monotonic clock."""

    holder: str
    version: str
    duration: float
    at: float


def may_take(observed: Observed | None, *, identity: str, now: float) -> bool:
    """Free, ours, or unchanged for longer than its holder promised to renew it. Clock skew plays no part."""
    if observed is None or not observed.holder or observed.holder == identity:
        return True
    return now - observed.at > observed.duration


def must_stop(renewed_at: float, *, lease_seconds: float, now: float) -> bool:
    """Whether the leader must stop now, so that it is still before the lease can be taken by another."""
    return now - renewed_at >= lease_seconds * _RENEW_SHARE


class LeaderElection:
    """One contender. Give it a `KubeClient` of its own, so that its renewals never queue behind the work."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        lease_seconds: int = LEASE_SECONDS,
        metrics: KubeMetrics | None = None,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._lease_seconds = lease_seconds
        self._metrics = metrics
        self._observed: Observed | None = None
        self._wire: Wire | None = None
        self._renewed_at: float | None = None

    @property
    def leading(self) -> bool:
        return self.seconds_left() > 0

    def seconds_left(self) -> float:
        """How long this replica certainly still leads; for `KubeClient.fence_writes`."""
        if self._renewed_at is None:
            return 0.0
        return self._renewed_at + self._lease_seconds - asyncio.get_running_loop().time()

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Contend for ever. `lead` runs while the lease is held; it is cancelled and awaited when it is lost.

        Returns when `lead` returns; raises what it, or the renewal, raises. The lease is released on the way out, cancellation included.
        """
        self._show(0)
        while True:
            await self._acquire()
            log.info("leading", lease=self._name, identity=self._identity)
            self._show(1)
            work = asyncio.ensure_future(lead())
            renewal = asyncio.ensure_future(self._renew_until_lost())
            try:
                await asyncio.wait({work, renewal}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (work, renewal):
                    task.cancel()
                await asyncio.gather(work, renewal, return_exceptions=True)
                self._show(0)
                await self._release()
            if not work.cancelled():
                work.result()
                return
            renewal.result()
            log.warning("leadership lost", lease=self._name, identity=self._identity)

    async def _acquire(self) -> None:
        pause = self._lease_seconds * _TRY_SHARE
        while True:
            if await self._try(self._lease_seconds * _RENEW_SHARE):
                return
            await asyncio.sleep(pause * random.uniform(0.8, 1.4))  # noqa: S311  # spread, not secrecy

    async def _renew_until_lost(self) -> None:
        loop = asyncio.get_running_loop()
        pause = self._lease_seconds * _TRY_SHARE
        while self._renewed_at is not None:
            deadline = self._renewed_at + self._lease_seconds * _RENEW_SHARE
            await asyncio.sleep(min(pause, deadline - loop.time()))
            if must_stop(self._renewed_at, lease_seconds=self._lease_seconds, now=loop.time()):
                return
            renewed = await self._try(
                min(deadline - loop.time(), self._lease_seconds * _ATTEMPT_SHARE)
            )
            pause = self._lease_seconds * (_TRY_SHARE if renewed else _RETRY_SHARE)
            if self._observed is not None and self._observed.holder != self._identity:
                return

    async def _try(self, seconds: float) -> bool:
        """One attempt to take or renew the lease, within `seconds`."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(seconds):
                if self._wire is None:
                    await self._look()
                if not may_take(self._observed, identity=self._identity, now=loop.time()):
                    await self._look()
                    if not may_take(self._observed, identity=self._identity, now=loop.time()):
                        return False
                await self._write()
        except Conflict:
            self._wire = None
            return False
        except (ApiError, TimeoutError) as exc:
            self._wire = None
            log.info("lease not renewed", lease=self._name, why=str(exc) or "timeout")
            return False
        # The lease runs from before the request: the server may have stored it at any time since.
        self._renewed_at = started
        return True

    async def _look(self) -> None:
        try:
            self._wire = await self._client.get(LEASES, self._name, namespace=self._namespace)
        except NotFound:
            self._wire, self._observed = None, None
            return
        lease = Lease.model_validate(self._wire)
        if self._observed is None or self._observed.version != lease.metadata.resource_version:
            self._observe(lease)

    async def _write(self) -> None:
        now = utc_now()
        if self._wire is None:
            body: Wire = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": self._name, "namespace": self._namespace},
                "spec": self._spec(now, taken=True, transitions=0),
            }
            self._wire = await self._client.create(LEASES, body, namespace=self._namespace)
        else:
            spec = dict(self._wire.get("spec") or {})
            taken = spec.get("holderIdentity") != self._identity
            transitions = int(spec.get("leaseTransitions") or 0) + taken
            spec |= self._spec(now, taken=taken, transitions=transitions)
            body = {**self._wire, "spec": spec}
            self._wire = await self._client.update(LEASES, body, namespace=self._namespace)
        self._observe(Lease.model_validate(self._wire))

    def _spec(self, now: datetime, *, taken: bool, transitions: int) -> Wire:
        spec: Wire = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._lease_seconds,
            "renewTime": micro_time(now),
            "leaseTransitions": transitions,
        }
        if taken:
            spec["acquireTime"] = micro_time(now)
        return spec

    def _observe(self, lease: Lease) -> None:
        holder = lease.spec.holder_identity or ""
        before = self._observed.holder if self._observed is not None else ""
        if holder not in ("", before, self._identity):
            log.info("another leads", lease=self._name, identity=holder)
        self._observed = Observed(
            holder=holder,
            version=lease.metadata.resource_version,
            duration=float(lease.spec.lease_duration_seconds or self._lease_seconds),
            at=asyncio.get_running_loop().time(),
        )

    async def _release(self) -> None:
        """Best effort: without it the next leader waits for the lease to run out."""
        held, self._renewed_at = self.leading, None
        if not held:
            return
        try:
            async with asyncio.timeout(2):
                # As it is now: a renewal that was cut short may have been stored.
                body = await self._client.get(LEASES, self._name, namespace=self._namespace)
                spec = body.get("spec") or {}
                if spec.get("holderIdentity") == self._identity:
                    body["spec"] = {**spec, "holderIdentity": ""}
                    await self._client.update(LEASES, body, namespace=self._namespace)
        except (ApiError, TimeoutError):
            log.info("lease not released", lease=self._name)
        self._wire, self._observed = None, None

    def _show(self, value: int) -> None:
        if self._metrics is not None:
            self._metrics.leader.labels(self._name).set(value)
