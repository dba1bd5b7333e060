"""A node's sign of life: one Lease, renewed at a fixed interval."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import structlog

from shared.kube.client import KubeClient
from shared.kube.errors import ApiError, NotFound
from shared.kube.resource import LEASES, NODES
from shared.kube.time import micro_time, utc_now
from shared.kube.transport import Wire

_RETRY_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class Heartbeat:
    """Renews the Lease `name` every `seconds`; the reader judges silence by its own clock, not by `renewTime`."""

    def __init__(
        self,
        client: KubeClient,
        *,
        namespace: str,
        name: str,
        identity: str,
        seconds: float = 30.0,
        silence_seconds: int = 120,
        node_uid: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`node_uid`: of the Node `name`, once known: Kubernetes then removes the Lease with the Node."""
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._seconds = seconds
        self._silence_seconds = silence_seconds
        self._node_uid = node_uid
        self._lease: Wire | None = None

    async def run(self) -> None:
        """For ever; failures are logged once per outage and tried again every 5 s."""
        silent = False
        while True:
            try:
                await self._renew()
                if silent:
                    log.info("heartbeat is back", lease=self._name)
                silent = False
                wait = self._seconds
            except ApiError as exc:
                if not silent:
                    log.warning("heartbeat failed", lease=self._name, why=exc.message[:500])
                silent = True
                self._lease = None
                wait = min(_RETRY_SECONDS, self._seconds)
            await asyncio.sleep(wait * random.uniform(0.9, 1.0))  # noqa: S311  # spread, not secrecy

    async def _renew(self) -> None:
        if self._lease is None:
            try:
                self._lease = await self._client.get(LEASES, self._name, namespace=self._namespace)
            except NotFound:
                body: Wire = {
                    "apiVersion": LEASES.api_version,
                    "kind": LEASES.kind,
                    "metadata": self._owned({"name": self._name, "namespace": self._namespace}),
                    "spec": self._spec(),
                }
                self._lease = await self._client.create(LEASES, body, namespace=self._namespace)
                return
        body = {
            **self._lease,
            "metadata": self._owned(self._lease["metadata"]),
            "spec": {**(self._lease.get("spec") or {}), **self._spec()},
        }
        self._lease = await self._client.update(LEASES, body, namespace=self._namespace)

    def _owned(self, metadata: Wire) -> Wire:
        uid = self._node_uid()
        if uid is None:
            return metadata
        owner = {
            "apiVersion": NODES.api_version,
            "kind": NODES.kind,
            "name": self._name,
            "uid": uid,
        }
        return {**metadata, "ownerReferences": [owner]}

    def _spec(self) -> Wire:
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": self._silence_seconds,
            "renewTime": micro_time(utc_now()),
        }
