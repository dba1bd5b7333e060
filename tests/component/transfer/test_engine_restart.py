"""What a restart finds on disk is read again: past what the disk cannot read, and in nobody's way."""

import asyncio
import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.manifest import Algorithm
from agent.policy import SourcePolicy
from agent.transfer import files as transfer_files
from agent.transfer.engine import Budget, Engine, FetchJob
from agent.transfer.progress import Progress
from tests.component.transfer.fetching import PART, Fetching, Signer, remote
from tests.support.faults import FaultServer, Reply, ranged

_PUNCH_HOLE = 2


class BadBlocks:
    """A disk that cannot read the first bytes of any file until these have got other blocks."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.read, self.allocate = os.preadv, transfer_files._libc.fallocate
        self.bad = True
        patch.setattr(os, "preadv", self._preadv)
        patch.setattr(transfer_files._libc, "fallocate", self._fallocate)

    def _preadv(self, fd: int, buffers: Sequence[Any], offset: int) -> int:
        if self.bad and offset < PART:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self.read(fd, buffers, offset)

    def _fallocate(self, fd: int, mode: int, start: int, size: int) -> int:
        if mode & _PUNCH_HOLE and start == 0:
            self.bad = False
        code: int = self.allocate(fd, mode, start, size)
        return code


@pytest.mark.parametrize("algorithm", [Algorithm.SHA256, None])
async def test_what_the_disk_cannot_read_any_more_is_fetched_again_into_other_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm | None
) -> None:
    content = os.urandom(8 * PART)
    listed = remote("f", content, *((algorithm,) if algorithm else ()))
    fetching = Fetching(tmp_path)
    with FaultServer(lambda r: ranged(content, r)) as server:
        await fetching.fetch([listed], Signer(server.url))
        disk = BadBlocks(monkeypatch)
        await fetching.fetch([listed], Signer(server.url))
    assert not disk.bad
    assert fetching.content("f") == content
    assert 0 < fetching.moved < len(content)


async def test_blocks_that_cannot_be_read_while_their_digest_is_computed_are_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(8 * PART)
    fetching = Fetching(tmp_path)
    disk = BadBlocks(monkeypatch)
    with FaultServer(lambda r: ranged(content, r)) as server:
        await fetching.fetch([remote("f", content, Algorithm.SHA256)], Signer(server.url))
    assert not disk.bad
    assert fetching.content("f") == content


async def test_only_the_range_that_the_disk_wrote_wrongly_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(8 * PART)
    write, spoilt = os.pwrite, list[int]()

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if offset == 3 * PART and not spoilt:
            spoilt.append(offset)
            return write(fd, bytes(len(data)), offset)
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    fetching = Fetching(tmp_path)
    with FaultServer(lambda r: ranged(content, r)) as server:
        await fetching.fetch([remote("f", content, Algorithm.SHA256)], Signer(server.url))
    assert spoilt
    assert fetching.content("f") == content
    assert fetching.moved == 9 * PART


async def test_half_filled_models_that_are_read_again_do_not_keep_others_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {"a": os.urandom(48 * PART), "b": os.urandom(48 * PART), "new": os.urandom(3 * PART)}

    def answer(request: Any) -> Reply:
        return ranged(contents[request.path.split("?")[0][1:]], request)

    def job(name: str, url: str) -> FetchJob:
        listed = remote(name, contents[name], Algorithm.SHA256)
        folder = tmp_path / name
        return FetchJob(name, (listed,), (Signer(url),), folder / "tree", folder / "journal")

    def engine() -> Engine:
        return Engine(Budget(), policy=SourcePolicy.unrestricted(), part_size=PART)

    read = os.preadv

    def slowly(fd: int, buffers: Sequence[Any], offset: int) -> int:
        time.sleep(0.02)
        return read(fd, buffers, offset)

    with FaultServer(answer) as server:
        before = engine()
        for name in ("a", "b"):
            await before.fetch(job(name, server.url), Progress())
        await before.close()
        monkeypatch.setattr(os, "preadv", slowly)
        after = engine()
        async with asyncio.TaskGroup() as group:
            old = [group.create_task(after.fetch(job(n, server.url), Progress())) for n in "ab"]
            await asyncio.sleep(0.1)
            await after.fetch(job("new", server.url), Progress())
            assert not any(task.done() for task in old)
        await after.close()
    assert (tmp_path / "new/tree/new").read_bytes() == contents["new"]


async def test_what_a_longer_version_left_behind_a_whole_file_is_cut_off(tmp_path: Path) -> None:
    content = os.urandom(2 * PART)
    fetching = Fetching(tmp_path)
    with FaultServer(lambda r: ranged(content, r)) as server:
        await fetching.fetch([remote("f", content, Algorithm.SHA256)], Signer(server.url))
        # As that version's fetch does before its first byte comes.
        os.truncate(fetching.tree / "f", 3 * PART)
        await fetching.fetch([remote("f", content, Algorithm.SHA256)], Signer(server.url))
    assert fetching.content("f") == content
    assert fetching.moved == 0
