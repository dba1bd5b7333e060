"""Disks that run full, run out of inodes or become read-only: a reason each, nothing lost, and it goes on when they are mended."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from agent.blocking import Blocking
from agent.cli.pull import PullOptions, wanted_from
from agent.copying.access import GivenCredentials
from agent.copying.assembly import Limits, assemble
from agent.copying.copy import Have, Outcome
from agent.copying.progress import CopyWatch
from agent.copying.space import LacksSpace
from agent.policy import SourcePolicy
from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.component.agent.terminal import Cli
from tests.support.mounts import remount, tmpfs
from tests.support.servers.threaded import ThreadedApp
from tests.support.servers.web import WebServer

MIB = 1 << 20


@pytest.fixture
def streams() -> Iterator[str]:
    """`/endless.bin` has 64 MiB, which nobody tells beforehand, `/slow.bin` says that it has 20; 10 MiB a second."""

    async def stream(asked: web.Request) -> web.StreamResponse:
        known = asked.path == "/slow.bin"
        response = web.StreamResponse()
        if known:
            response.content_length = 20 * MIB
        else:
            response.enable_chunked_encoding()
        await response.prepare(asked)
        if asked.method == "HEAD":
            return response
        for _ in range(20 if known else 64):
            await response.write(b"x" * MIB)
            await asyncio.sleep(0.1)
        await response.write_eof()
        return response

    server = ThreadedApp("streams")
    for name in ("endless", "slow"):
        server.app.router.add_get(f"/{name}.bin", stream)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def endless(streams: str) -> str:
    return f"{streams}/endless.bin"


def test_a_model_that_does_not_fit_moves_no_byte_and_comes_once_it_fits(
    cli: Cli, web: WebServer, tmp_path: Path
) -> None:
    web.put("large.bin", os.urandom(12 * MIB))
    web.put("small.bin", os.urandom(MIB))
    with tmpfs(tmp_path / "disk", "size=8m") as root:
        assert cli("pull", f"{web.url}/small.bin", "--root", root).code == 0
        refused = cli("pull", f"{web.url}/large.bin", "--root", root)
        assert refused.code == 3
        assert "needs 12.0 MiB" in refused.err
        assert "small.bin 1.0 MiB" in refused.err
        assert "(InsufficientStorage)" in refused.err
        remount(root, "size=32m")
        assert cli("pull", f"{web.url}/large.bin", "--root", root).code == 0
        assert cli("verify", "--root", root).code == 0


def test_a_disk_that_runs_full_half_way_leaves_the_published_and_nothing_hidden(
    cli: Cli, web: WebServer, endless: str, tmp_path: Path
) -> None:
    content = os.urandom(MIB)
    web.put("small.bin", content)
    with tmpfs(tmp_path / "disk", "size=8m") as root:
        assert cli("pull", f"{web.url}/small.bin", "--root", root).code == 0
        full = cli("pull", endless, "--root", root)
        assert full.code == 3
        assert "(InsufficientStorage)" in full.err
        assert "are free" in full.err
        assert {path.name for path in (root / "models").iterdir()} == {
            storage_key(f"{web.url}/small.bin")
        }
        assert cli("verify", "--root", root).code == 0
        assert cli("rm", endless, "--root", root).code == 0
        disk = os.statvfs(root)
        assert disk.f_bavail * disk.f_frsize > 6 * MIB
        remount(root, "size=96m")
        assert cli("pull", endless, "--root", root).code == 0


async def test_a_model_of_unknown_size_neither_crosses_the_watermark_nor_takes_what_another_needs(
    streams: str, tmp_path: Path
) -> None:
    with tmpfs(tmp_path / "disk", "size=50m") as root:
        blocking, store = Blocking(), Store.open(root)
        parts = assemble(
            store,
            root=root,
            limits=Limits(min_free_percent=20),
            reader=GivenCredentials(),
            policy=SourcePolicy.unrestricted(),
            blocking=blocking,
        )

        async def copy(name: str) -> Outcome:
            wanted = wanted_from(PullOptions(f"{streams}/{name}.bin", root))
            return await parts.copier.copy(wanted, CopyWatch(), Have())

        slow = asyncio.create_task(copy("slow"))
        await asyncio.sleep(0.5)
        with pytest.raises(LacksSpace, match=r"10\.0 MiB stay free; .*held by .*unfinished"):
            await copy("endless")
        assert free(root) >= 10 * MIB
        assert (await slow).tree.size == 20 * MIB
        await parts.engine.close()
        store.close()
        blocking.close()


def free(root: Path) -> int:
    disk = os.statvfs(root)
    return disk.f_bavail * disk.f_frsize


def test_a_disk_without_inodes_says_so(cli: Cli, web: WebServer, tmp_path: Path) -> None:
    web.put("small.bin", b"1")
    with tmpfs(tmp_path / "disk", "size=8m,nr_inodes=60") as root:
        assert cli("ls", "--root", root).code == 0
        taken = 0
        while os.statvfs(root).f_favail > 14:
            (root / f"other-{taken}").touch()
            taken += 1
        full = cli("pull", f"{web.url}/small.bin", "--root", root)
        assert full.code in {3, 4}
        assert "inode" in full.err
        for number in range(taken):
            (root / f"other-{number}").unlink()
        assert cli("pull", f"{web.url}/small.bin", "--root", root).code == 0


def test_a_disk_that_became_read_only_keeps_everything(
    cli: Cli, web: WebServer, tmp_path: Path
) -> None:
    web.put("one.bin", b"1" * 1000)
    web.put("two.bin", b"2" * 1000)
    with tmpfs(tmp_path / "disk", "size=8m") as root:
        assert cli("pull", f"{web.url}/one.bin", "--root", root).code == 0
        remount(root, "ro")
        for command in ("pull", "rm"):
            refused = cli(command, f"{web.url}/two.bin", "--root", root)
            assert refused.code in {1, 4}, refused.err
            assert "read-only" in refused.err.lower()
        assert cli("verify", "--root", root).code == 0
        remount(root, "rw")
        assert cli("pull", f"{web.url}/two.bin", "--root", root).code == 0
        assert cli("verify", "--root", root).code == 0
