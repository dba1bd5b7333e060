import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from agent.blocking import Blocking
from agent.copying.copy import Copier
from agent.copying.shelf import Shelf
from agent.copying.space import Ledger, written
from agent.errors import Retryable
from agent.node.memory import Memory
from agent.node.metrics import AgentMetrics
from agent.node.report import Reporter
from agent.node.status import StatusWriter
from agent.node.work import Worker
from agent.planning.desired import read_work_list
from agent.planning.world import Disk, Limits, Running, Work
from agent.storage.store import Store
from shared.api.meta import ObjectMeta
from shared.api.node import AgentInfo, LocalModelNode, NodeSpec, NodeStorage
from shared.domain.reasons import Reason
from shared.domain.storage_key import storage_key
from shared.ops.tracing import Traces
from tests.support.trees import URI, publish, write_files
from tests.unit.agent.builders import KEY, disk, line, published, world

GIB = 1 << 30


@contextmanager
def opened(root: Path, *, min_free_percent: float = 5) -> Iterator[Shelf]:
    store, blocking = Store.open(root), Blocking(1)
    ledger = Ledger(
        usage=store.usage,
        reclaim=lambda: None,
        discard=lambda _: None,
        holders=dict,
        min_free_percent=min_free_percent,
        blocking=blocking,
    )
    yield Shelf(
        store,
        ledger,
        root=root,
        retired_grace=timedelta(0),
        clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
    )
    store.close()
    blocking.close()


def storage(root: Path, *, min_free_percent: float) -> NodeStorage:
    """What the status says of the disk that the folder is on."""
    with opened(root, min_free_percent=min_free_percent) as shelf:
        shelf.saw(shelf.look([]))
        found = shelf.storage()
    assert found is not None
    return found


def test_space_that_stays_free_is_not_offered_to_models(tmp_path: Path) -> None:
    whole = storage(tmp_path, min_free_percent=0)
    half = whole.available_bytes / whole.capacity_bytes * 50
    offered = storage(tmp_path, min_free_percent=half)
    assert offered.available_bytes == pytest.approx(whole.available_bytes / 2, rel=0.05)
    assert offered.kept_free_bytes == pytest.approx(whole.available_bytes / 2, rel=0.05)
    full = storage(tmp_path, min_free_percent=100)
    assert full.available_bytes == 0
    assert full.kept_free_bytes == pytest.approx(whole.available_bytes, rel=0.05), "no more is free"


async def test_a_look_that_fails_says_nothing_new_of_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> tuple[str, ...]:
        raise Retryable(Reason.DISK_ERROR, "too many files are open")

    with opened(tmp_path) as shelf:
        publish(shelf.store, {"a": b"1", "b": b"2"})
        (tmp_path / "models" / storage_key(URI) / "b").unlink()
        blocking = Blocking(1)
        worker = Worker(
            shelf=shelf,
            copier=cast(Copier, None),
            memory=cast(Memory, None),
            blocking=blocking,
            clock=lambda: datetime(2026, 1, 1, tzinfo=UTC),
            metrics=AgentMetrics(CollectorRegistry()),
            traces=Traces(),
        )
        await worker.verify(storage_key(URI))
        assert shelf.disk().damaged == {storage_key(URI): ("b",)}
        monkeypatch.setattr(Store, "inspect", fail)
        await worker.verify(storage_key(URI))
        assert shelf.disk().damaged == {storage_key(URI): ("b",)}
        blocking.close()


def test_a_staged_file_that_the_disk_has_lost_ends_no_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstat = Path.lstat

    def fail(path: Path) -> Any:
        if path.name == "lost":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return lstat(path)

    with opened(tmp_path) as shelf:
        staged = shelf.store.staging(storage_key(URI)).tree
        write_files(staged, {"lost": b"1" * 9000, "there": b"2" * 9000})
        monkeypatch.setattr(Path, "lstat", fail)
        assert written(staged) >= 9000
        assert shelf.look([]).problem is None


async def test_the_bytes_of_a_removed_copy_are_told_from_its_last_list_to_its_last_file(
    tmp_path: Path,
) -> None:
    metrics = AgentMetrics(CollectorRegistry())
    nobody: Any = None
    reporter = Reporter(
        writer=StatusWriter(nobody, node_name="a", progress_seconds=1, metrics=metrics),
        limits=Limits(),
        agent=AgentInfo(version="1"),
        metrics=metrics,
    )
    node = LocalModelNode(metadata=ObjectMeta(name="a"), spec=NodeSpec(local_models=()))
    there, removing = disk(published(size=3 * GIB)), {KEY: Running(Work.EVICT)}
    with opened(tmp_path) as shelf:
        for entries, seen, expected in (
            ([line()], world(line(), disk=there), 3 * GIB),
            ([], world(disk=there, running=removing), 3 * GIB),
            ([], world(disk=Disk(), running=removing), 3 * GIB),  # renamed away, then deleted
            ([], world(disk=Disk(), running=removing), 3 * GIB),
            ([], world(disk=Disk()), None),
        ):
            work_list = read_work_list(entries)
            reporter.report(node, work_list, seen, {}, shelf=shelf, problem=None)
            status: Any = reporter.describe()
            told = [model["bytesTotal"] for model in status["models"]]
            assert told == ([expected] if expected else [])
