"""Which reasons a node's status really shows: the agent's own loop over a real folder and real sources, without a cluster."""

import asyncio
import errno
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import cast

from prometheus_client import CollectorRegistry

from agent.blocking import Blocking
from agent.copying.access import CredentialsReader, GivenCredentials, Reading
from agent.copying.assembly import Limits as CopyLimits
from agent.copying.assembly import assemble, now
from agent.copying.shelf import Shelf
from agent.node.memory import Memory
from agent.node.metrics import AgentMetrics
from agent.node.reconciler import Reconciler
from agent.node.report import Reporter
from agent.node.status import StatusWriter
from agent.node.work import Worker
from agent.planning.desired import Access
from agent.planning.retry import RetryPolicy
from agent.planning.world import Limits
from agent.policy import SourcePolicy
from agent.storage.disk import Disk
from agent.storage.store import Store
from shared.api.meta import ObjectMeta
from shared.api.node import (
    AgentInfo,
    LocalModelInfo,
    LocalModelNode,
    LocalModelNodeStatus,
    NodeSpec,
)
from shared.domain.reasons import Reason
from shared.kube.metrics import KubeMetrics
from shared.ops.tracing import Traces
from tests.support.archives import tar_files
from tests.support.disks import failing_disk
from tests.support.faults import FaultServer, Reply, Request, ranged
from tests.support.servers.web import WebServer

MIB = 1 << 20
_SECONDS = 30


class Board:
    """Keeps every status that would be written."""

    def __init__(self) -> None:
        self.statuses: list[LocalModelNodeStatus] = []
        self._came = asyncio.Event()

    def want(self, status: LocalModelNodeStatus, _: LocalModelNode) -> None:
        self.statuses.append(status)
        self._came.set()

    @property
    def reasons(self) -> list[str]:
        """Of the one copy, each once, in the order in which they came."""
        shown = [model.reason for status in self.statuses for model in status.models or ()]
        return [reason for reason in dict.fromkeys(shown) if reason is not None]

    async def wait(self, condition: Callable[[list[str]], bool]) -> None:
        async with asyncio.timeout(_SECONDS):
            while not condition(self.reasons):
                self._came.clear()
                await self._came.wait()


@asynccontextmanager
async def agent(
    root: Path, uri: str, *, disk: Disk | None = None, reader: CredentialsReader | None = None
) -> AsyncIterator[Board]:
    """The loop of an agent whose work list has one model."""
    node = LocalModelNode(
        metadata=ObjectMeta(name="n", generation=1),
        spec=NodeSpec(local_models=(LocalModelInfo(source_model_uri=uri, model_name="m"),)),
    )
    board, registry, blocking = Board(), CollectorRegistry(), Blocking()
    metrics, limits = AgentMetrics(registry), Limits()
    memory = Memory(policy=RetryPolicy(), clock=now, jitter=random.random)
    reporter = Reporter(
        writer=cast(StatusWriter, board),
        limits=limits,
        agent=AgentInfo(version="1"),
        metrics=metrics,
    )
    reconciler = Reconciler(
        node=lambda: node,
        reporter=reporter,
        memory=memory,
        limits=limits,
        progress_seconds=0.1,
        clock=now,
        blocking=blocking,
        metrics=KubeMetrics(registry),
    )
    store = Store.open(root, disk=disk)
    parts = assemble(
        store,
        root=root,
        limits=CopyLimits(),
        reader=reader or GivenCredentials(),
        policy=SourcePolicy.unrestricted(),
        blocking=blocking,
    )
    shelf = Shelf(store, parts.ledger, root=root, retired_grace=timedelta(0), clock=now)
    worker = Worker(
        shelf=shelf,
        copier=parts.copier,
        memory=memory,
        blocking=blocking,
        clock=now,
        metrics=metrics,
        traces=Traces(),
    )
    running = asyncio.create_task(reconciler.run())
    try:
        await reconciler.serve(worker)
        yield board
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await parts.engine.close()
        store.close()
        blocking.close()


async def test_each_step_of_a_copy_shows(web: WebServer, root: Path) -> None:
    """An archive has all of them."""
    web.put("steps.tar", tar_files({f"{n}.bin": os.urandom(4 * MIB) for n in range(6)}))
    async with agent(root, f"{web.url}/steps.tar") as board:
        await board.wait(lambda reasons: Reason.PUBLISHED in reasons)
        assert board.reasons[-5:] == [
            Reason.RESOLVING,
            Reason.DOWNLOADING,
            Reason.UNPACKING,
            Reason.VERIFYING,
            Reason.PUBLISHED,
        ]


async def test_a_source_that_changes_all_the_time_is_told_as_such(root: Path) -> None:
    content = os.urandom(MIB)

    def answer(request: Request) -> Reply:
        if request.range is None:
            head = f'HTTP/1.1 200 OK\r\nContent-Length: {MIB}\r\nETag: "{request.number}"\r\n'
            return Reply(raw=f"{head}Connection: close\r\n\r\n".encode())
        return ranged(content, request, ETag=f'"{request.number}"')

    with FaultServer(answer) as server:
        async with agent(root, f"{server.url}/m.bin") as board:
            await board.wait(lambda reasons: Reason.SOURCE_CHANGED in reasons)
    assert Reason.PUBLISHED not in board.reasons


async def test_a_disk_that_gives_an_error_is_told_as_such(web: WebServer, root: Path) -> None:
    web.put("disk.bin", os.urandom(MIB))
    Store.open(root).close()
    broken = failing_disk(errno.EIO, at="rename")
    async with agent(root, f"{web.url}/disk.bin", disk=broken) as board:
        await board.wait(lambda reasons: Reason.DISK_ERROR in reasons)
    (failed,) = board.statuses[-1].models or ()
    assert "input/output error" in (failed.message or "")


class Buggy:
    """Credentials that nobody can read, for a reason that nobody foresaw."""

    async def read(self, access: Access) -> Reading:
        raise ZeroDivisionError("hidden")

    async def versions(self, access: Access) -> tuple[()]:
        return ()


async def test_a_bug_is_told_as_such_and_its_details_are_in_the_log_only(
    web: WebServer, root: Path
) -> None:
    web.put("bug.bin", b"1")
    async with agent(root, f"{web.url}/bug.bin", reader=Buggy()) as board:
        await board.wait(lambda reasons: Reason.INTERNAL_ERROR in reasons)
    (failed,) = board.statuses[-1].models or ()
    assert failed.message == "unexpected ZeroDivisionError; the agent's log has the details"
    assert failed.next_retry_time is not None
