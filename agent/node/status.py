"""Writes the node's status: the newest one, only when it differs, progress at a bounded rate."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import structlog

from agent.node.metrics import AgentMetrics
from agent.planning.difference import Change, change
from shared.api.meta import API_VERSION
from shared.api.node import LocalModelNode, LocalModelNodeStatus
from shared.domain.backoff import delay
from shared.kube.client import KubeClient
from shared.kube.errors import ApiError, Conflict, NotFound
from shared.kube.resource import LOCAL_MODEL_NODES

log = structlog.get_logger(__name__)

# Several copies that change state together make one write.
_DEBOUNCE_SECONDS = 0.2
# After this the watch has surely shown our own write; a status that differs then was overwritten by somebody.
_SETTLE_SECONDS = 15.0
_RETRY_BASE, _RETRY_CAP = 1.0, 30.0


class StatusWriter:
    """One writer for one LocalModelNode. `want` may be called as often as one likes."""

    def __init__(
        self,
        client: KubeClient,
        *,
        node_name: str,
        progress_seconds: float,
        metrics: AgentMetrics,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._node_name = node_name
        self._progress_seconds = progress_seconds
        self._metrics = metrics
        self._jitter = jitter
        self._changed = asyncio.Event()
        self._wanted: tuple[str, LocalModelNodeStatus] | None = None
        self._written: tuple[str, LocalModelNodeStatus] | None = None
        self._written_at = float("-inf")

    def want(self, status: LocalModelNodeStatus, seen: LocalModelNode) -> None:
        """The status that `seen` should have. One that was overwritten by somebody else is written again."""
        self._wanted = (seen.metadata.uid, status)
        if (
            self._written is not None
            and asyncio.get_running_loop().time() - self._written_at > _SETTLE_SECONDS
            and change(seen.status, self._written[1]) is not Change.NONE
        ):
            self._written = None
        if self._difference() is not Change.NONE:
            self._changed.set()

    async def run(self) -> None:
        """For ever. The API server may be away for as long as it likes: the newest status is written when it is back."""
        failures = 0
        while True:
            await self._changed.wait()
            await self._hold_back()
            if self._wanted is None or self._difference() is Change.NONE:
                self._changed.clear()
                continue
            wanted = self._wanted
            self._changed.clear()
            try:
                await self._apply(*wanted)
            except (NotFound, Conflict):
                # Deleted, or made anew under the same name: the watch will bring what there is now.
                self._metrics.status_writes.labels(outcome="gone").inc()
                self._written = wanted
            except ApiError as error:
                self._metrics.status_writes.labels(outcome="failed").inc()
                failures += 1
                log.warning("status not written", error=error.message, attempt=failures)
                await asyncio.sleep(
                    delay(failures, base=_RETRY_BASE, cap=_RETRY_CAP, jitter=self._jitter())
                )
                self._changed.set()
            else:
                self._metrics.status_writes.labels(outcome="written").inc()
                failures = 0
                self._written = wanted
                if self._difference() is not Change.NONE:
                    self._changed.set()
            self._written_at = asyncio.get_running_loop().time()

    async def flush(self) -> None:
        """One last try at shutdown, so that what is known is not lost; errors do not matter any more."""
        if self._wanted is not None and self._difference() is not Change.NONE:
            with suppress(ApiError, TimeoutError):
                async with asyncio.timeout(2):
                    await self._apply(*self._wanted)

    def _difference(self) -> Change:
        if self._wanted is None:
            return Change.NONE
        if self._written is None or self._written[0] != self._wanted[0]:
            return Change.STATE
        return change(self._written[1], self._wanted[1])

    async def _hold_back(self) -> None:
        """States wait a moment for each other; figures wait their turn, unless a state changes meanwhile."""
        loop = asyncio.get_running_loop()
        while (difference := self._difference()) is not Change.NONE:
            pause = _DEBOUNCE_SECONDS if difference is Change.STATE else self._progress_seconds
            left = self._written_at + pause - loop.time()
            if left <= 0:
                return
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    if difference is Change.STATE:
                        await asyncio.sleep(left)
                    else:
                        await self._changed.wait()

    async def _apply(self, uid: str, status: LocalModelNodeStatus) -> None:
        body = {
            "apiVersion": API_VERSION,
            "kind": LocalModelNode.KIND,
            "metadata": {"name": self._node_name, "uid": uid},
            "status": status.to_wire(),
        }
        await self._client.apply(LOCAL_MODEL_NODES, body, subresource="status", metadata_only=True)
