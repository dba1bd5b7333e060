"""Many small files are made durable in one go, and one by one where that would not tell of every lost write."""

import errno
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.storage import durability
from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support.disks import SteppingDisk
from tests.support.trees import KEY, model, publish, tree_of, write_files

MANY = {f"d{number % 3}/f{number}": b"x" * number for number in range(300)}
OTHER = "s3://bucket/other"


class Watched:
    """What was asked of a disk: how often everything, and which files by themselves."""

    def __init__(self) -> None:
        self.all = 0
        self.files: list[int] = []
        self.fails = False
        self.disk = SteppingDisk(self._before)

    def _before(self, name: str, *args: Any) -> None:
        if name == "sync_all":
            self.all += 1
            if self.fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        if name == "sync_several":
            self.files.extend(os.fstat(fd).st_ino for fd in args[0])


@pytest.fixture(autouse=True)
def vouched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever file system the tests run on, and whoever else writes."""
    monkeypatch.setattr(durability, "_TRUSTED", _Any())
    monkeypatch.setattr(durability, "_unwritten", lambda: 0)


class _Any(frozenset[int]):
    def __contains__(self, _: object) -> bool:
        return True


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def store(tmp_path: Path, watched: Watched) -> Iterator[Store]:
    store = Store.open(tmp_path, disk=watched.disk)
    yield store
    store.close()


def inodes(root: Path, uri: str | None = None) -> list[int]:
    key = KEY if uri is None else storage_key(uri)
    folder = root / "models" / key
    return sorted(path.stat().st_ino for path in folder.rglob("*") if path.is_file())


def test_many_small_files_are_made_durable_in_one_go(
    store: Store, watched: Watched, tmp_path: Path
) -> None:
    publish(store, MANY)
    assert model(tmp_path) == MANY
    assert store.inspect(KEY) == ()
    assert (watched.all, watched.files) == (1, [])


def test_few_files_are_made_durable_one_by_one(
    store: Store, watched: Watched, tmp_path: Path
) -> None:
    publish(store, {"a": b"1", "b": b"2"})
    assert (watched.all, sorted(watched.files)) == (0, inodes(tmp_path))


def test_after_an_error_somewhere_on_the_disk_each_file_is_asked_by_itself(
    store: Store, watched: Watched, tmp_path: Path
) -> None:
    watched.fails = True
    publish(store, MANY)
    assert sorted(watched.files) == inodes(tmp_path)
    # It was told of once, and may have been another model's.
    watched.fails = False
    watched.files.clear()
    publish(store, MANY, uri=OTHER)
    assert sorted(watched.files) == inodes(tmp_path, OTHER)


def test_an_error_that_came_while_files_were_still_coming_is_not_forgotten(
    store: Store, watched: Watched, tmp_path: Path
) -> None:
    watched.fails = True
    store.write_ahead(files=len(MANY), size=0)
    watched.fails = False
    publish(store, MANY)
    assert watched.all == 2
    assert sorted(watched.files) == inodes(tmp_path)


def test_nothing_is_written_ahead_of_others_who_wrote_much(
    store: Store, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_ahead(files=len(MANY), size=0)
    assert watched.all == 1
    monkeypatch.setattr(durability, "_unwritten", lambda: 1 << 30)
    store.write_ahead(files=len(MANY), size=0)
    assert watched.all == 1


def test_what_an_earlier_agent_staged_is_made_durable_one_by_one(
    tmp_path: Path, watched: Watched
) -> None:
    before = Store.open(tmp_path)
    write_files(before.staging(KEY).tree, MANY)
    before.close()
    store = Store.open(tmp_path, disk=watched.disk)
    store.publish(tree_of(MANY), store.staging(KEY).tree)
    assert sorted(watched.files) == inodes(tmp_path)
    watched.files.clear()
    publish(store, MANY, uri=OTHER)
    assert watched.files == []
    store.close()


def test_nobody_waits_for_much_that_others_wrote(
    store: Store, watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "_unwritten", lambda: 1 << 30)
    publish(store, MANY)
    assert (watched.all, sorted(watched.files)) == (0, inodes(tmp_path))


def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: "5.4.0-1-amd64")


def other_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "_TRUSTED", frozenset())


@pytest.mark.parametrize("untold", [old_kernel, other_file_system])
def test_each_file_is_asked_where_the_file_system_does_not_tell_of_lost_writes(
    tmp_path: Path,
    watched: Watched,
    monkeypatch: pytest.MonkeyPatch,
    untold: Callable[[pytest.MonkeyPatch], None],
) -> None:
    untold(monkeypatch)
    store = Store.open(tmp_path, disk=watched.disk)
    publish(store, MANY)
    assert sorted(watched.files) == inodes(tmp_path)
    store.close()


def test_what_waits_for_the_disk_is_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 0 <= durability._unwritten() < 1 << 50
