"""A digest that needs a file's bytes in order is computed while they come; the file is not read again afterwards."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.manifest import Algorithm, Strength
from agent.transfer import work
from agent.transfer.pages import Writing
from tests.component.transfer.fetching import PART, Fetching, Signer, remote
from tests.support.faults import FaultServer, Reply, Request, ranged


class Reads:
    """Bytes that this process reads of files below a folder."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.bytes = 0
        self._folder = folder
        for name in ("read", "pread", "preadv"):
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(fd: int, *args: Any) -> Any:
            got = call(fd, *args)
            if self._folder in Path(f"/proc/self/fd/{fd}").readlink().parents:
                self.bytes += got if isinstance(got, int) else len(got)
            return got

        return instead


@pytest.mark.parametrize(
    ("size", "connections", "read"),
    [
        pytest.param(8 * PART, 1, 0, id="in one part"),
        pytest.param(20_000, 1, 0, id="small"),
        # Once, close behind what comes: it is in the page cache still.
        pytest.param(8 * PART, 2, 8 * PART, id="in several parts"),
    ],
)
async def test_a_file_with_a_sha256_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, connections: int, read: int
) -> None:
    content = os.urandom(size)
    fetching = Fetching(tmp_path, connections=connections)
    with FaultServer(lambda request: ranged(content, request)) as server:
        reads = Reads(monkeypatch, fetching.tree)
        (file,) = await fetching.fetch([remote("f", content, Algorithm.SHA256)], Signer(server.url))
    assert reads.bytes == read
    assert file.verified_by is Strength.SHA256
    assert fetching.content("f") == content


async def test_files_that_can_have_a_connection_each_are_hashed_as_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {f"f{n}": os.urandom(8 * PART) for n in range(5)}
    fetching = Fetching(tmp_path, connections=4)
    with FaultServer(lambda request: ranged(contents[named(request)], request)) as server:
        reads = Reads(monkeypatch, fetching.tree)
        files = [remote(name, content, Algorithm.SHA256) for name, content in contents.items()]
        fetched = await fetching.fetch(files, Signer(server.url))
    assert reads.bytes == 0
    assert {file.verified_by for file in fetched} == {Strength.SHA256}
    assert {name: fetching.content(name) for name in contents} == contents


async def test_only_what_another_connection_took_over_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {"slow": os.urandom(32 * PART), "fast": os.urandom(31 * PART)}

    def answer(request: Request) -> Reply:
        reply = ranged(contents[named(request)], request)
        rate = 8 * PART if named(request) == "slow" else None
        return Reply(reply.status, reply.headers, reply.body, rate=rate)

    fetching = Fetching(tmp_path, connections=2)
    with FaultServer(answer) as server:
        reads = Reads(monkeypatch, fetching.tree)
        files = [remote(name, content, Algorithm.SHA256) for name, content in contents.items()]
        fetched = await fetching.fetch(files, Signer(server.url))
        slow = [request.range for request in server.requests if named(request) == "slow"]
    beyond = min(start for start, _ in filter(None, slow[1:]))
    assert 0 < reads.bytes <= len(contents["slow"]) - beyond
    assert {file.verified_by for file in fetched} == {Strength.SHA256}
    assert {name: fetching.content(name) for name in contents} == contents
    assert fetching.moved == 63 * PART


@pytest.mark.parametrize("busy", [False, True])
async def test_a_file_that_must_be_read_again_stays_in_memory_where_the_disk_has_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    try:
        os.close(os.open(tmp_path / "probe", os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        pytest.skip("this file system has no direct writes")
    content = os.urandom(64 * PART)
    write, direct = os.pwrite, list[bool]()

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        direct.append(bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT))
        time.sleep(0.1 if busy else 0)
        return write(fd, data, offset)

    if busy:
        monkeypatch.setattr(work, "_WRITES", 4)
    monkeypatch.setattr(os, "pwrite", pwrite)
    fetching = Fetching(tmp_path, connections=2, writing=Writing.DIRECT)
    fetching.part_size = 32 * PART
    with FaultServer(lambda request: ranged(content, request)) as server:
        (file,) = await fetching.fetch([remote("f", content, Algorithm.SHA256)], Signer(server.url))
    assert direct[0]
    assert direct[-1] is not busy
    assert file.verified_by is Strength.SHA256
    assert fetching.content("f") == content


def named(request: Request) -> str:
    return request.path.split("?")[0][1:]
