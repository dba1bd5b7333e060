"""The node agent's composition root: what there is, who knows whom, in which order it starts and ends."""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry

from agent.blocking import Blocking
from agent.copying.assembly import Parts, assemble, now
from agent.copying.shelf import Shelf
from agent.node.credentials import KubernetesCredentials
from agent.node.memory import Memory
from agent.node.metrics import AgentMetrics
from agent.node.recheck import recheck_credentials
from agent.node.reconciler import Reconciler
from agent.node.report import Reporter
from agent.node.requests import answer_requests
from agent.node.scrub import Scrub
from agent.node.settings import AgentSettings
from agent.node.status import StatusWriter
from agent.node.tuning import budget_of, follow_settings, limits_of, policy_of
from agent.node.work import Worker
from agent.planning.retry import RetryPolicy
from agent.planning.world import Limits
from agent.storage.errors import StoreError
from agent.storage.store import Store
from agent.transfer.budget import Budget
from shared.api.node import AgentInfo, LocalModelNode
from shared.kube.client import KubeClient
from shared.kube.heartbeat import Heartbeat
from shared.kube.informer import Informer
from shared.kube.metrics import KubeMetrics
from shared.kube.resource import LOCAL_MODEL_NODES, ObjectKey
from shared.ops import lifecycle
from shared.ops.metrics import LoopLag, installed_version
from shared.ops.server import HealthServer
from shared.ops.tracing import open_traces

log = structlog.get_logger(__name__)

# A disk that is mounted late is found within this time.
_OPEN_AGAIN_SECONDS = 10.0


class Agent:
    """Everything that runs on one node."""

    def __init__(
        self,
        settings: AgentSettings,
        client: KubeClient,
        kube: KubeMetrics,
        registry: CollectorRegistry,
        *,
        config: Path | None,
    ) -> None:
        self._settings = settings
        self._config = config
        self._budget = budget_of(settings)
        self._client = client
        self._metrics = AgentMetrics(registry)
        self._lag = LoopLag(registry)
        self._traces = open_traces(
            "localmodel-agent",
            {"service.version": installed_version(), "k8s.node.name": settings.node_name},
        )
        self._blocking = Blocking()
        self._store: Store | None = None
        self._parts: Parts | None = None
        self._scrub: Scrub | None = None
        self._key = ObjectKey(None, settings.node_name)
        self._nodes: Informer[LocalModelNode] = Informer(
            client,
            LOCAL_MODEL_NODES,
            LocalModelNode.model_validate,
            field_selector=f"metadata.name={settings.node_name}",
            metrics=kube,
        )
        retry = RetryPolicy(
            base=settings.retry_seconds,
            cap=settings.retry_max_seconds,
            stalled=settings.stalled_retry_seconds,
        )
        self._memory = Memory(policy=retry, clock=now, jitter=random.random)
        self._reader = KubernetesCredentials(
            client,
            namespace=settings.credentials_namespace,
            own=settings.namespace_credentials == "own",
        )
        self._writer = StatusWriter(
            client,
            node_name=settings.node_name,
            progress_seconds=settings.progress_seconds,
            metrics=self._metrics,
        )
        limits = Limits(
            parallel=settings.parallel_copies,
            check_every=timedelta(seconds=settings.check_seconds),
            retry=retry,
        )
        info = AgentInfo(
            version=installed_version(),
            start_time=now().replace(microsecond=0),
            host_path=settings.host_path,
        )
        self._reconciler = Reconciler(
            node=self._node,
            reporter=Reporter(
                writer=self._writer, limits=limits, agent=info, metrics=self._metrics
            ),
            memory=self._memory,
            limits=limits,
            progress_seconds=settings.progress_seconds,
            clock=now,
            blocking=self._blocking,
            metrics=kube,
        )
        self._nodes.on_change(lambda *_: self._reconciler.poke())
        self._health = HealthServer(
            host=settings.http_host,
            port=settings.http_port,
            registry=registry,
            live=lambda: None,
            ready=self._not_ready,
            state=self.state,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then copies in flight end within seconds, and the next start goes on with them."""
        settings = self._settings
        port = await self._health.start()
        log.info("listening", port=port, node=settings.node_name, version=installed_version())
        heartbeat = Heartbeat(
            self._client,
            namespace=settings.lease_namespace,
            name=settings.node_name,
            identity=os.environ.get("POD_NAME") or socket.gethostname(),
            seconds=settings.heartbeat_seconds,
            node_uid=self._node_uid,
        )
        try:
            await lifecycle.run_until(
                stop,
                {
                    "node": self._nodes.run(),
                    "store": self._open_store(),
                    "reconciler": self._reconciler.run(),
                    "status": self._writer.run(),
                    "heartbeat": heartbeat.run(),
                    "lag": self._lag.run(),
                    "credentials": recheck_credentials(
                        self._memory,
                        self._reader,
                        self._reconciler.poke,
                        seconds=settings.credentials_recheck_seconds,
                    ),
                    **self._follow_settings(),
                },
            )
        finally:
            await self._close()

    def state(self) -> dict[str, Any]:
        """For /debug/state and SIGUSR2."""
        return {
            "node": self._settings.node_name,
            "synced": self._nodes.synced,
            "reconciler": self._reconciler.describe(),
            "engine": self._parts.engine.describe() if self._parts else None,
            "scrub": self._scrub.describe() if self._scrub else None,
        }

    def _follow_settings(self) -> dict[str, Coroutine[Any, Any, None]]:
        if self._config is None:
            return {}
        level = self._settings.log_level
        return {"settings": follow_settings(self._config, level, self._budget, self._use)}

    def _use(self, budget: Budget) -> None:
        self._budget = budget
        if self._parts is not None:
            self._parts.engine.set_budget(budget)

    def _rotten(self, worker: Worker, key: str, damaged: tuple[str, ...]) -> None:
        worker.found_damaged(key, damaged)
        self._reconciler.poke()

    def _node(self) -> LocalModelNode | None:
        return self._nodes.get(self._key) if self._nodes.synced else None

    def _node_uid(self) -> str | None:
        node = self._node()
        owners = node.metadata.owner_references if node is not None else ()
        return next((owner.uid for owner in owners if owner.kind == "Node"), None)

    def _not_ready(self) -> str | None:
        if not self._nodes.synced:
            return "the work list has not been read yet"
        return self._reconciler.problem

    async def _open_store(self) -> None:
        """Tries until the folder can be used; afterwards what is published is read again from time to time."""
        settings = self._settings
        await self._nodes.wait_synced()
        while self._store is None:
            try:
                self._store = await self._blocking(
                    Store.open,
                    settings.root,
                    gid=settings.gid,
                    expect_layout=self._memory.expects_copies(self._node()),
                )
            except StoreError as error:
                log.warning("cache folder cannot be used", error=error.message)
                self._reconciler.closed(self._advice(error))
                await asyncio.sleep(min(_OPEN_AGAIN_SECONDS, settings.check_seconds))
        parts = assemble(
            self._store,
            root=settings.root,
            limits=limits_of(settings, self._budget),
            reader=self._reader,
            policy=policy_of(settings),
            blocking=self._blocking,
        )
        self._parts = parts
        self._metrics.follow(parts.engine)
        shelf = Shelf(
            self._store,
            parts.ledger,
            root=settings.root,
            retired_grace=timedelta(seconds=settings.retired_grace_seconds),
            clock=now,
        )
        worker = Worker(
            shelf=shelf,
            copier=parts.copier,
            memory=self._memory,
            blocking=self._blocking,
            clock=now,
            metrics=self._metrics,
            traces=self._traces,
        )
        await self._reconciler.serve(worker)
        log.info("cache folder opened", root=str(settings.root), copies=len(self._store.trees()))
        self._scrub = Scrub(
            self._store,
            settings.root,
            period=timedelta(days=settings.scrub_days),
            busy=lambda: parts.engine.busy,
            found=lambda key, damaged: self._rotten(worker, key, damaged),
            read=self._metrics.scrubbed.inc,
            clock=now,
        )
        async with asyncio.TaskGroup() as reading:
            reading.create_task(self._scrub.run(), name="scrub")
            requests = answer_requests(
                self._store,
                settings.root,
                found=lambda key, damaged: self._rotten(worker, key, damaged),
                read=self._metrics.scrubbed.inc,
            )
            reading.create_task(requests, name="requests")

    def _advice(self, error: StoreError) -> str:
        if self._memory.expects_copies(self._node()):
            return (
                f"{error.message} (if the disk was replaced on purpose: "
                f"kubectl delete localmodelnode {self._settings.node_name})"
            )
        return error.message

    async def _close(self) -> None:
        await self._writer.flush()
        if self._parts is not None:
            await self._parts.engine.close()
        if self._store is not None:
            await self._blocking(self._store.close)
        await self._blocking(self._traces.close)
        self._blocking.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self._health.stop()
                await self._client.close()
        log.info("stopped")
