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

import pytest
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
from shared.domain.storage_key import storage_key
from shared.kube.metrics import KubeMetrics
from shared.ops.tracing import Traces
from tests.component.agent.terminal import files_below
from tests.support.archives import tar_files
from tests.support.disks import failing_disk
from tests.support.faults import FaultServer, Reply, Request, ranged
from tests.support.mounts import remount, tmpfs
from tests.support.rights import SOMEBODY, modes_count
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
    def storage(self) -> tuple[str, str]:
        """Of the newest status: whether the folder can be used, and what is said of it."""
        (condition,) = self.statuses[-1].conditions or ()
        return condition.status, condition.message

    @property
    def reasons(self) -> list[str]:
        """Of the one copy, each once, in the order in which they came."""
        shown = [model.reason for status in self.statuses for model in status.models or ()]
        return [reason for reason in dict.fromkeys(shown) if reason is not None]

    @property
    def reason(self) -> str | None:
        """That the newest status gives."""
        return next((model.reason for model in self.statuses[-1].models or ()), None)

    async def wait(self, condition: Callable[[list[str]], bool]) -> None:
        await self.shows(lambda: condition(self.reasons))

    async def shows(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(_SECONDS):
            while not (self.statuses and condition()):
                self._came.clear()
                await self._came.wait()


@asynccontextmanager
async def agent(
    root: Path,
    uri: str,
    *,
    disk: Disk | None = None,
    reader: CredentialsReader | None = None,
    check_seconds: float = 60,
) -> AsyncIterator[Board]:
    """The loop of an agent whose work list has one model."""
    node = LocalModelNode(
        metadata=ObjectMeta(name="n", generation=1),
        spec=NodeSpec(local_models=(LocalModelInfo(source_model_uri=uri, model_name="m"),)),
    )
    board, registry, blocking = Board(), CollectorRegistry(), Blocking()
    metrics, limits = AgentMetrics(registry), Limits(check_every=timedelta(seconds=check_seconds))
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


async def test_a_copy_that_did_not_fit_goes_on_by_itself_when_space_comes_free(
    web: WebServer, root: Path
) -> None:
    web.put("wide.bin", os.urandom(12 * MIB))
    with tmpfs(root, "size=8m"):
        async with agent(root, f"{web.url}/wide.bin", check_seconds=0.2) as board:
            await board.wait(lambda reasons: Reason.INSUFFICIENT_STORAGE in reasons)
            (failed,) = board.statuses[-1].models or ()
            assert (failed.message or "").startswith("needs 12.0 MiB")
            remount(root, "size=32m")
            # Long before the time that the status names.
            await board.shows(lambda: board.reason == Reason.PUBLISHED)


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


async def test_a_disk_that_becomes_read_only_is_told_keeps_all_and_is_used_again_afterwards(
    web: WebServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the kernel makes it after an error; `mount` would not while the lock is held."""
    web.put("mounted.bin", os.urandom(MIB))
    asked_of = os.fstatvfs

    def read_only(fd: int) -> os.statvfs_result:
        found = tuple(asked_of(fd))
        return os.statvfs_result((*found[:8], found[8] | os.ST_RDONLY, *found[9:]))

    async with agent(root, f"{web.url}/mounted.bin", check_seconds=0.2) as board:
        await board.shows(lambda: board.reason == Reason.PUBLISHED)
        before, asked = files_below(root), len(web.requests())
        monkeypatch.setattr(os, "fstatvfs", read_only)
        await board.shows(lambda: board.storage[0] == "False")
        assert "mounted read-only" in board.storage[1]
        assert board.reason == Reason.STORAGE_NOT_READY
        monkeypatch.setattr(os, "fstatvfs", asked_of)
        await board.shows(lambda: board.storage[0] == "True")
        await board.shows(lambda: board.reason == Reason.PUBLISHED)
        assert files_below(root) == before
        assert len(web.requests()) == asked


async def test_a_folder_of_a_copy_that_somebody_closed_is_repaired_and_what_is_left_of_it_is_told(
    tmp_path: Path, root: Path
) -> None:
    content = {"config.json": b"{}", "weights/a": os.urandom(5000), "weights/b": b"b"}
    source = tmp_path / "source"
    for path, data in content.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
    uri = f"file://{source}"
    with modes_count():
        async with agent(root, uri, check_seconds=0.2) as board:
            await board.wait(lambda reasons: Reason.PUBLISHED in reasons)
            folder = root / "models" / storage_key(uri)
            closed = folder / "weights"
            closed.chmod(0o700)
            os.chown(closed, SOMEBODY, SOMEBODY)
            await board.wait(lambda reasons: Reason.REPAIRING in reasons)
            await board.shows(lambda: board.reason == Reason.PUBLISHED)
            assert files_below(folder) == content
            await board.shows(lambda: "Permission denied" in board.storage[1])
            assert board.storage[0] == "True"
            trash = root / ".localmodel/retired/.trash"
            for left in trash.glob("**/weights"):
                os.chown(left, 0, 0)
            await board.shows(lambda: board.storage == ("True", "the cache folder can be used"))
            assert list(trash.iterdir()) == []
