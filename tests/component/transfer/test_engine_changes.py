"""What is replaced at its source while it is fetched, by something of the same size, never ends up as half of each."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import SourceChanged
from agent.manifest import RemoteFile
from agent.origin import Origin
from agent.policy import SourcePolicy
from agent.sources.credentials import Credentials
from agent.transfer.engine import Budget, Engine, FetchJob
from agent.transfer.progress import Progress
from tests.component.sources.reading import opened
from tests.component.transfer.fetching import PART, OnDisk, remote
from tests.support.servers.ftp import PASSWORD, USER, FtpServer
from tests.support.servers.webhdfs import WebHdfsServer

OLD, NEW = b"old!" * PART, b"new!" * PART
# Clocks of servers tell seconds.
LONG_AGO = 1_600_000_000
Put = Callable[[bytes], object]


class Once(Progress):
    """Does something as soon as so many bytes have come."""

    def __init__(self, at: int, act: Callable[[], object]) -> None:
        super().__init__()
        self._at = at
        self._act: Callable[[], object] | None = act

    def received(self, count: int) -> None:
        super().received(count)
        self._look()

    def found(self, count: int) -> None:
        super().found(count)
        self._look()

    def _look(self) -> None:
        if self.snapshot().bytes_done >= self._at and self._act is not None:
            act, self._act = self._act, None
            act()


async def fetch(
    files: tuple[RemoteFile, ...], origin: Origin, folder: Path, progress: Progress
) -> bytes:
    engine = Engine(
        Budget(connections=1), policy=SourcePolicy.unrestricted(), part_size=len(OLD) // 4
    )
    try:
        await engine.fetch(
            FetchJob("key", files, (origin,), folder / "tree", folder / "journal"), progress
        )
    finally:
        await engine.close()
    return (folder / "tree" / files[0].path).read_bytes()


def replaced(path: Path, content: bytes) -> None:
    """By another file of its name: who has the old one open goes on reading that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name("draft")
    draft.write_bytes(content)
    if content is OLD:
        os.utime(draft, (LONG_AGO, LONG_AGO))
    draft.rename(path)


@contextmanager
def on_disk(folder: Path) -> Iterator[tuple[str, Put]]:
    yield f"file://{folder}/source/f", lambda content: replaced(folder / "source/f", content)


@contextmanager
def over_ftp(_: Path) -> Iterator[tuple[str, Put]]:
    with FtpServer() as ftp:
        yield f"ftp://{ftp.place}/m/f", lambda content: replaced(ftp.files / "m/f", content)


@contextmanager
def over_webhdfs(_: Path) -> Iterator[tuple[str, Put]]:
    with WebHdfsServer() as hdfs:
        yield f"webhdfs://{hdfs.place}/m/f", lambda content: hdfs.put("/m/f", content)


@pytest.mark.parametrize("serve", [on_disk, over_ftp, over_webhdfs])
@pytest.mark.parametrize("quarters", [1, 4])
async def test_an_object_that_is_replaced_meanwhile_is_fetched_again_whole(
    serve: Callable[[Path], AbstractContextManager[tuple[str, Put]]],
    quarters: int,
    tmp_path: Path,
    loopback_policy: SourcePolicy,
) -> None:
    """quarters: of the old object that have come by then; with four, nothing is left to be asked for."""
    said = {"type": "ftp", "host": "127.0.0.1", "username": USER, "password": PASSWORD}
    credentials = Credentials.from_storage_config(said, {}) if serve is over_ftp else None
    policy = replace(loopback_policy, generic_schemes=frozenset({"ftp"}))
    with serve(tmp_path) as (uri, put):
        put(OLD)
        async with opened(uri, policy, credentials) as source:
            files = (await source.resolve()).files
            progress = Once(quarters * len(OLD) // 4, lambda: put(NEW))
            with pytest.raises(SourceChanged):
                await fetch(files, source, tmp_path / "copy", progress)
            files = (await source.resolve()).files
            assert await fetch(files, source, tmp_path / "copy", Progress()) == NEW


async def test_a_local_file_of_the_same_age_is_another_file_all_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"

    def put(content: bytes) -> None:
        replaced(source / "f", content)
        os.utime(source / "f", (LONG_AGO, LONG_AGO))

    put(OLD)
    files = (remote("f", OLD),)
    with pytest.raises(SourceChanged):
        await fetch(files, OnDisk(source), tmp_path, Once(len(OLD) // 4, lambda: put(NEW)))
    assert await fetch(files, OnDisk(source), tmp_path, Progress()) == NEW
