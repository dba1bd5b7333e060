"""Turns what the reconciler sees into the node's status, and remembers what the last one listed."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from agent.copying.progress import CopyWatch
from agent.copying.shelf import Shelf
from agent.node.memory import Memory, restore
from agent.node.metrics import AgentMetrics, scheme_label
from agent.node.pulse import Pulse
from agent.node.status import StatusWriter
from agent.planning.desired import Entry
from agent.planning.status import (
    CopyView,
    Scene,
    build_status,
    bytes_on_disk,
    still_evicting,
)
from agent.planning.world import Limits, World
from shared.api.node import AgentInfo, LocalModelNode, LocalModelNodeStatus, ModelReport, ModelState


class Reporter:
    """A copy that was listed stays listed until its bytes are gone, across restarts too."""

    def __init__(
        self, *, writer: StatusWriter, limits: Limits, agent: AgentInfo, metrics: AgentMetrics
    ) -> None:
        self._writer = writer
        self._limits = limits
        self._agent = agent
        self._pulse = Pulse()
        self._metrics = metrics
        self._status: LocalModelNodeStatus | None = None
        self._listed: Mapping[str, str] = {}
        self._watches: dict[str, CopyWatch] = {}

    def restore(self, node: LocalModelNode, memory: Memory) -> None:
        """After a restart the status in the API server says what the disk cannot; later calls do nothing."""
        if self._status is None:
            restored = restore(node.status)
            memory.restore(restored.attempts)
            self._listed = restored.listed
            self._status = node.status

    def follow(self, key: str, watch: CopyWatch) -> None:
        """A copy begins; its figures are shown until the next one begins, or it is evicted."""
        self._watches[key] = watch

    def forget(self, key: str) -> None:
        self._watches.pop(key, None)

    def report(
        self,
        node: LocalModelNode,
        entries: Sequence[Entry],
        world: World,
        moving: Mapping[str, CopyWatch],
        *,
        shelf: Shelf | None,
        problem: str | None,
    ) -> None:
        """Build the status and hand it to the writer. moving: the copies that run at this moment."""
        if shelf is not None and problem is None:
            self._listed = still_evicting(self._listed, entries, world)
        self._measure(world, moving)
        self._metrics.storage_ready.set(problem is None)
        self._status = build_status(
            Scene(
                generation=node.metadata.generation,
                entries=entries,
                world=world,
                limits=self._limits,
                agent=self._agent,
                copies={
                    key: _view(watch, moving=moving.get(key) is watch)
                    for key, watch in self._watches.items()
                },
                evicting=self._listed,
                on_disk=bytes_on_disk(self._status) if self._status else {},
                storage=shelf.storage() if shelf else None,
                storage_problem=problem,
                leavings=shelf.leavings if shelf else None,
                conditions=(self._status.conditions or ()) if self._status else (),
            )
        )
        self._listed = {report.key: report.storage_key for report in self._status.models or ()}
        self._metrics.reported(self._status, failing(self._status.models or (), world))
        self._writer.want(self._status, node)

    def describe(self) -> object:
        """The status as it would be written."""
        return self._status.to_wire() if self._status else None

    def _measure(self, world: World, moving: Mapping[str, CopyWatch]) -> None:
        now = asyncio.get_running_loop().time()
        for key, watch in moving.items():
            watch.rate.add(now, watch.moved)
            wanted = (world.desired or {}).get(key)
            if wanted is not None:
                scheme = scheme_label(wanted.uri)
                self._metrics.bytes.labels(scheme=scheme).inc(watch.uncounted())
        self._metrics.moving(moving.values(), now=now)
        self._pulse.beat(moving, now=now)


def failing(models: Sequence[ModelReport], world: World) -> Iterator[str]:
    """The reason of each copy whose last attempt failed, until one publishes it; the next attempt alone mends nothing."""
    for model in models:
        match model.state:
            case ModelState.DOWNLOAD_ERROR if model.reason is not None:
                yield model.reason
            case ModelState.DOWNLOADING | ModelState.DOWNLOAD_PENDING:
                failure = world.failures.get(model.storage_key or "")
                if failure is not None and failure.fingerprint is not None:
                    yield failure.reason.value


def _view(watch: CopyWatch, *, moving: bool) -> CopyView:
    return CopyView(
        phase=watch.phase,
        total=watch.total,
        done=watch.done,
        rate=watch.rate.per_second() if moving else None,
        revision=watch.revision,
        started=watch.started,
    )
