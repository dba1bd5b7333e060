"""What tasks do: fetch, look, evict. Each ends in the memory and on the shelf, never in an exception."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import structlog

from agent.blocking import Blocking
from agent.copying.copy import Copier, Have
from agent.copying.progress import CopyWatch
from agent.copying.shelf import Shelf
from agent.copying.tracing import trace_copy
from agent.errors import FetchError, Retryable
from agent.node.memory import Memory
from agent.node.metrics import AgentMetrics, scheme_label
from agent.planning.desired import Wanted
from agent.planning.retry import Failure
from agent.planning.sync import Cause
from shared.domain.quantity import human_bytes
from shared.domain.reasons import Reason
from shared.domain.uri import redact
from shared.ops.tracing import Traces

log = structlog.get_logger(__name__)


class Worker:
    """Cancelled at any point, a task leaves a disk that the next one goes on from."""

    def __init__(
        self,
        *,
        shelf: Shelf,
        copier: Copier,
        memory: Memory,
        blocking: Blocking,
        clock: Callable[[], datetime],
        metrics: AgentMetrics,
        traces: Traces,
    ) -> None:
        self.shelf = shelf
        self._copier = copier
        self._memory = memory
        self._blocking = blocking
        self._clock = clock
        self._metrics = metrics
        self._traces = traces

    async def fetch(self, wanted: Wanted, cause: Cause, watch: CopyWatch) -> None:
        """Make the tree what the work list asks for, or remember why not."""
        key = wanted.storage_key
        line = log.bind(key=key, uri=redact(wanted.uri), cause=cause.value)
        line.info("copy started")
        started = asyncio.get_running_loop().time()
        try:
            if cause is Cause.ACCESS:
                await self._check_access(wanted, watch)
                return
            outcome = await self._copier.copy(wanted, watch, self._have(key, cause))
        except asyncio.CancelledError:
            self._metrics.outcomes.labels(outcome="cancelled").inc()
            trace_copy(self._traces, wanted, watch)
            line.info("copy stopped", bytes=watch.done)
            raise
        except (
            Exception
        ) as error:  # a bug must show in the status and be tried again like any failure
            failure = self._failed(wanted, error, watch)
            trace_copy(self._traces, wanted, watch, reason=failure.reason)
            line.warning(
                "copy failed",
                reason=failure.reason.value,
                error=failure.message,
                attempts=failure.attempts,
                next_try=failure.next_try.isoformat(timespec="seconds"),
            )
            return
        finally:
            self._metrics.bytes.labels(scheme=scheme_label(wanted.uri)).inc(watch.uncounted())
        self._memory.succeeded(wanted, outcome.judgement, watch.secrets)
        self.shelf.changed(key, now=self._clock())
        self._metrics.published(watch)
        trace_copy(self._traces, wanted, watch, tree=outcome.tree)
        line.info(
            "copy published",
            bytes=outcome.tree.size,
            size=human_bytes(outcome.tree.size),
            moved=watch.moved,
            reused=watch.reused,
            shared=watch.shared,
            files=len(outcome.tree.files),
            revision=outcome.tree.revision,
            verified_by=outcome.tree.verified_by.value,
            seconds=round(asyncio.get_running_loop().time() - started, 3),
        )

    async def verify(self, key: str) -> None:
        """Look whether the published tree is whole; reads no content."""
        try:
            damaged = await self._blocking(self.shelf.store.inspect, key)
        except FetchError as error:
            log.warning("copy could not be looked at", key=key, error=error.message)
            self.shelf.unseen(key, now=self._clock())
        else:
            self.found_damaged(key, damaged)

    def found_damaged(self, key: str, damaged: tuple[str, ...]) -> None:
        """A look at the published tree ended; what is damaged will be fetched again."""
        if damaged:
            self._metrics.repairs.inc()
            log.warning("copy is damaged", key=key, files=len(damaged), first=damaged[0])
        self.shelf.checked(key, damaged, now=self._clock())

    async def evict(self, key: str) -> None:
        """Delete the tree and what was staged of it."""
        store = self.shelf.store
        try:
            await self._blocking(store.discard_staging, key)
            await self._blocking(store.evict, key)
        except FetchError as error:
            failure = self._memory.eviction_failed(key, error)
            log.warning("copy not evicted", key=key, error=failure.message)
            return
        self._memory.forget(key)
        self.shelf.changed(key, now=self._clock())
        self._metrics.evictions.inc()
        log.info("copy evicted", key=key)

    def _have(self, key: str, cause: Cause) -> Have:
        tree = self.shelf.store.trees().get(key)
        return Have(
            tree=tree,
            whole=cause is not Cause.DAMAGED,
            foreign=key in self.shelf.disk().foreign,
            revision=tree.revision if tree else None,
        )

    async def _check_access(self, wanted: Wanted, watch: CopyWatch) -> None:
        """The bytes are there already; may those who ask for them since have them?"""
        have = self._have(wanted.storage_key, Cause.ACCESS)
        judged = await self._copier.check_access(wanted, watch, have)
        self._memory.judged(wanted, judged, watch.secrets)
        for error in judged.refusals.values():
            self._metrics.failed(error.reason)

    def _failed(self, wanted: Wanted, error: Exception, watch: CopyWatch) -> Failure:
        if not isinstance(error, FetchError):
            log.exception("copy failed unexpectedly", key=wanted.storage_key)
            error = Retryable(
                Reason.INTERNAL_ERROR,
                f"unexpected {type(error).__name__}; the agent's log has the details",
            )
        self._metrics.failed(error.reason)
        return self._memory.failed(wanted, error, watch.secrets)
