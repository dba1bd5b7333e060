"""Files of all sizes from a real web server, from this machine, and into difficult folders."""

import asyncio
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.errors import Retryable, SourceChanged, Stalled
from agent.manifest import Algorithm, RemoteFile, Strength
from agent.transfer import files as transfer_files
from agent.transfer.pages import Writing
from shared.domain.reasons import Reason
from tests.component.transfer.fetching import PART, Fetching, OnDisk, Signer, remote
from tests.support.faults import FaultServer, Reply, Request, ranged
from tests.support.servers.web import WebServer


def serve(web: WebServer, folder: str, files: dict[str, bytes]) -> Signer:
    for path, content in files.items():
        target = web.files / folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return Signer(f"{web.url}/{folder}")


@pytest.mark.parametrize("writing", [Writing.DIRECT, Writing.BUFFERED])
@pytest.mark.parametrize("algorithm", [Algorithm.SHA256, None])
async def test_files_of_all_sizes_arrive_whole(
    tmp_path: Path, web_server: WebServer, writing: Writing, algorithm: Algorithm | None
) -> None:
    sizes = [0, 1, PART - 1, PART, PART + 1, 5 * PART + 7]
    files = {f"d{n}/f{size}": os.urandom(size) for n, size in enumerate(sizes)}
    fetching = Fetching(tmp_path, writing=writing)
    stated = (algorithm,) if algorithm else ()
    fetched = await fetching.fetch(
        [remote(path, content, *stated) for path, content in files.items()],
        serve(web_server, "sizes", files),
    )
    assert [file.path for file in fetched] == list(files)
    assert {path: fetching.content(path) for path in files} == files
    assert fetching.progress.snapshot().files_done == len(files)


async def test_thousands_of_small_files_use_few_connections(tmp_path: Path) -> None:
    files = {f"{n % 50}/{n}": os.urandom(200) for n in range(3000)}

    def answer(request: Request) -> Reply:
        return ranged(files[request.path.split("?")[0][1:]], request)

    fetching = Fetching(tmp_path)
    with FaultServer(answer) as server:
        await fetching.fetch(
            [remote(path, content) for path, content in files.items()], Signer(server.url)
        )
        assert len(server.requests) == len(files)
        assert server.accepted <= fetching.connections
    assert all(fetching.content(path) == content for path, content in files.items())


async def test_what_is_there_is_not_fetched_again(tmp_path: Path, web_server: WebServer) -> None:
    files = {"a": os.urandom(3 * PART), "b": os.urandom(100)}
    listed = [remote(path, content, Algorithm.MD5) for path, content in files.items()]
    signer = serve(web_server, "again", files)
    fetching = Fetching(tmp_path)
    await fetching.fetch(listed, signer)
    await fetching.fetch(listed, signer)
    assert fetching.moved == 0
    assert fetching.progress.snapshot().bytes_done == 3 * PART + 100


async def test_a_new_version_starts_from_nothing(tmp_path: Path, web_server: WebServer) -> None:
    old, new = os.urandom(2 * PART), os.urandom(2 * PART)
    fetching = Fetching(tmp_path)
    await fetching.fetch([remote("f", old)], serve(web_server, "version", {"f": old}))
    changed = RemoteFile("f", len(new), '"v2"', "f")
    await fetching.fetch([changed], serve(web_server, "version", {"f": new}))
    assert fetching.content("f") == new


@pytest.mark.parametrize("algorithm", [Algorithm.SHA256, None])
async def test_a_file_of_this_machine_is_copied_and_verified(
    tmp_path: Path, algorithm: Algorithm | None
) -> None:
    content = os.urandom(2 * PART + 3)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/f").write_bytes(content)
    fetching = Fetching(tmp_path / "target")
    wanted = remote("f", content, *((algorithm,) if algorithm else ()))
    (fetched,) = await fetching.fetch([wanted], OnDisk(tmp_path / "source"))
    assert fetching.content("f") == content
    assert fetched.verified_by is (Strength.SHA256 if algorithm else Strength.SIZE)
    assert fetching.moved == 0


async def test_every_range_of_a_local_file_shares_its_blocks_where_the_file_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's part is played here: it asks for whole blocks, but at the end of the file."""
    content = os.urandom(3 * PART + 5)
    (tmp_path / "f").write_bytes(content)
    shared: list[tuple[int, int]] = []

    def ioctl(fd: int, request: int, argument: bytes) -> int:
        source, start, size, to = struct.unpack("qQQQ", argument)
        assert request == transfer_files._FICLONERANGE
        assert start == to
        if start % 4096 or (size % 4096 and start + size != len(content)):
            raise OSError(errno.EINVAL, "not whole blocks")
        shared.append((start, start + size))
        return os.pwrite(fd, os.pread(source, size, start), to)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    fetching = Fetching(tmp_path / "target")
    await fetching.fetch([remote("f", content, Algorithm.SHA256)], OnDisk(tmp_path))
    assert fetching.content("f") == content
    ends = [*range(PART, len(content), PART), len(content)]
    assert sorted(shared) == list(zip([0, *ends], ends, strict=False))


async def test_a_local_file_of_another_size_has_changed(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"longer than listed")
    with pytest.raises(SourceChanged):
        await Fetching(tmp_path / "target").fetch([remote("f", b"short")], OnDisk(tmp_path))


async def test_links_in_staging_lead_nowhere(tmp_path: Path) -> None:
    """Somebody who can write to staging must not make the agent write elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"precious")
    fetching = Fetching(tmp_path / "work")
    fetching.tree.mkdir(parents=True)
    (fetching.tree / "folder").symlink_to(outside)
    (fetching.tree / "file").symlink_to(outside / "victim")
    os.link(outside / "victim", fetching.tree / "linked")
    files = {"folder/f": b"1", "file": b"2", "linked": b"3"}
    with FaultServer(lambda r: ranged(files[r.path.split("?")[0][1:]], r)) as server:
        await fetching.fetch([remote(p, c) for p, c in files.items()], Signer(server.url))
    assert {path: fetching.content(path) for path in files} == files
    assert (outside / "victim").read_bytes() == b"precious"
    assert list(outside.iterdir()) == [outside / "victim"]


async def test_an_unreachable_source_is_worth_another_try(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        # Bound, so that it is nobody else's, but listened to by nobody.
        nobody.bind(("127.0.0.1", 0))
        signer = Signer(f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(Retryable) as caught:
            await Fetching(tmp_path).fetch([remote("f", b"small")], signer)
    assert caught.value.reason is Reason.SOURCE_UNREACHABLE
    assert "canary" not in caught.value.message


_PULL = """
import asyncio, sys
from pathlib import Path
from agent.manifest import Digest, Algorithm, RemoteFile
from tests.component.transfer.fetching import Fetching, Signer
url, folder, size, sha = sys.argv[1:]
file = RemoteFile("f", int(size), '"v1"', "f", (Digest(Algorithm.SHA256, sha),))
asyncio.run(Fetching(Path(folder), connections=3).fetch([file], Signer(url)))
"""


def test_killed_at_any_moment_it_goes_on_from_the_journal(tmp_path: Path) -> None:
    content = os.urandom(60 * PART)
    listed = remote("f", content, Algorithm.SHA256)
    sent: list[int] = []

    def slowly(request: Request) -> Reply:
        time.sleep(0.01)
        reply = ranged(content, request)
        sent.append(len(reply.body))
        return reply

    with FaultServer(slowly) as server:
        arguments = [server.url, str(tmp_path), str(len(content)), listed.digests[0].value]
        for fraction in (0.2, 0.5, 0.8):
            child = subprocess.Popen([sys.executable, "-c", _PULL, *arguments])
            while sum(sent) < fraction * len(content) and child.poll() is None:
                time.sleep(0.01)
            child.send_signal(signal.SIGKILL)
            child.wait()
        fetching = Fetching(tmp_path, connections=3)
        asyncio.run(fetching.fetch([listed], Signer(server.url)))
    assert fetching.content("f") == content
    # Each death loses at most the ranges in flight.
    assert sum(sent) <= len(content) + 3 * 3 * PART


async def test_a_full_disk_shows_before_the_first_byte_and_gets_its_blocks_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1

    monkeypatch.setattr(transfer_files._libc, "fallocate", full)
    fetching = Fetching(tmp_path)
    with FaultServer(lambda r: ranged(b"", r)) as server, pytest.raises(Stalled) as caught:
        await fetching.fetch([RemoteFile("f", 2 << 20, "", "f")], Signer(server.url))
    assert caught.value.reason is Reason.INSUFFICIENT_STORAGE
    assert not server.requests
    assert (fetching.tree / "f").stat().st_size == 0


async def test_what_had_come_of_a_file_is_still_there_when_the_disk_is_no_longer_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1

    content = os.urandom(8 * PART)
    listed = remote("f", content)
    fetching = Fetching(tmp_path)
    with FaultServer(lambda r: ranged(content, r)) as server:
        await fetching.fetch([listed], Signer(server.url))
        # As a file system that lost power may have it.
        os.truncate(fetching.tree / "f", 6 * PART)
        with monkeypatch.context() as patch:
            patch.setattr(transfer_files._libc, "fallocate", full)
            with pytest.raises(Stalled):
                await fetching.fetch([listed], Signer(server.url))
        await fetching.fetch([listed], Signer(server.url))
    assert fetching.content("f") == content
    assert fetching.moved == 2 * PART
