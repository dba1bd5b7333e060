"""What was linked from other models stays when its publication fails, and what is doubtful about it does not."""

import errno
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import FetchError
from agent.storage.disk import Disk
from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support.disks import SteppingDisk
from tests.support.trees import (
    EPOCH,
    KEY,
    URI,
    model,
    publish,
    read_files,
    remote_file,
    strays,
    tree_of,
    write_files,
)

OTHER = "hf://owner/other"
OTHER_KEY = storage_key(OTHER)
BIG = os.urandom(300_000)
CONTENT = {"copy": BIG, "d/twin": BIG, "own": b"1" * 70_000}
NEVER = threading.Event()


def refusing_disk(code: int, times: int = 1) -> Disk:
    """Fails when the manifest of what is to be published is written."""
    left = times

    def before(step: str, *args: object) -> None:
        nonlocal left
        if step == "create" and left and f"{OTHER_KEY}.next" in str(args[1]):
            left -= 1
            raise OSError(code, os.strerror(code))

    return SteppingDisk(before)


def attempt(store: Store) -> set[str]:
    """As the agent does, for another trust domain; which files nobody had to fetch. Raises what publishing raised."""
    staging = store.staging(OTHER_KEY)
    wanted = [remote_file(*item) for item in CONTENT.items()]
    have = {file.path for file in store.reuse(OTHER_KEY, wanted, staging.tree, trust="team")}
    there = read_files(staging.tree)
    write_files(staging.tree, {p: data for p, data in CONTENT.items() if p not in there})
    tree = tree_of(CONTENT, uri=OTHER, trust="team")
    store.share(OTHER_KEY, tree.files, staging.tree, cancelled=NEVER)
    store.publish(tree, staging.tree)
    return have


def failed_once(root: Path, code: int = errno.EIO, *, times: int = 1) -> Store:
    """A store in which the other model came to its publication, which failed."""
    Store.open(root).close()
    store = Store.open(root, disk=refusing_disk(code, times))
    publish(store, {"weights": BIG})
    with pytest.raises(FetchError):
        attempt(store)
    return store


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("restart", [False, True])
def test_what_was_linked_is_there_for_the_next_try(
    tmp_path: Path, code: int, restart: bool
) -> None:
    store = failed_once(tmp_path, code)
    if restart:
        store.close()
        store = Store.open(tmp_path)
    assert attempt(store) == {"copy", "d/twin"}
    assert model(tmp_path, OTHER) == CONTENT
    weights = (tmp_path / "models" / KEY / "weights").stat()
    assert weights.st_ino == (tmp_path / "models" / OTHER_KEY / "d/twin").stat().st_ino
    assert weights.st_nlink == 3
    assert store.verify(OTHER_KEY, cancelled=NEVER) == ()
    assert strays(store, tmp_path) == []
    store.close()


def test_however_often_it_fails(tmp_path: Path) -> None:
    store = failed_once(tmp_path, times=3)
    for _ in range(2):
        with pytest.raises(FetchError):
            attempt(store)
    assert attempt(store) == {"copy", "d/twin"}
    store.close()


def test_it_carries_what_was_verified_of_it(tmp_path: Path) -> None:
    store = failed_once(tmp_path)
    staged = store.staging(OTHER_KEY).tree
    wanted = [remote_file("copy", BIG, validator="v9")]
    (file,) = store.reuse(OTHER_KEY, wanted, staged, trust="team")
    expected = tree_of(CONTENT).files[0]
    assert (file.digests, file.verified_by) == (expected.digests, expected.verified_by)
    assert file.validator == "v9"
    store.close()


def changed(store: Store, root: Path) -> None:
    (root / "models" / KEY / "weights").write_bytes(BIG[::-1])


def touched(store: Store, root: Path) -> None:
    os.utime(root / "models" / KEY / "weights", ns=(1, 1))


def rot(store: Store, root: Path) -> None:
    """Other bytes, the same size and time: only reading finds out."""
    file = root / "models" / KEY / "weights"
    times = file.stat()
    file.write_bytes(BIG[1:] + b"x")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.verify(KEY, cancelled=NEVER) == ("weights",)


def rot_and_repair(store: Store, root: Path) -> None:
    """The other model has a good file since; what is staged is the bad one."""
    rot(store, root)
    publish(store, {"weights": BIG}, at=EPOCH + timedelta(1))
    assert store.inspect(KEY) == ()


def garbage(store: Store, root: Path) -> None:
    (root / ".localmodel/staging" / OTHER_KEY / "shared").write_bytes(b'[1,"copy"]\n\xff')


def nothing_noted(store: Store, root: Path) -> None:
    (root / ".localmodel/staging" / OTHER_KEY / "shared").unlink()


@pytest.mark.parametrize("befalls", [changed, touched, rot, rot_and_repair, garbage, nothing_noted])
def test_what_is_doubtful_is_fetched(
    tmp_path: Path, befalls: Callable[[Store, Path], None]
) -> None:
    store = failed_once(tmp_path)
    befalls(store, tmp_path)
    before = model(tmp_path)
    assert attempt(store) == set()
    assert model(tmp_path, OTHER) == CONTENT
    assert model(tmp_path) == before
    assert store.verify(OTHER_KEY, cancelled=NEVER) == ()
    store.close()


def test_what_the_source_has_another_content_of_is_fetched(tmp_path: Path) -> None:
    store = failed_once(tmp_path)
    staged = store.staging(OTHER_KEY).tree
    wanted = [remote_file("copy", BIG[::-1]), remote_file("own", CONTENT["own"])]
    assert store.reuse(OTHER_KEY, wanted, staged, trust="team") == ()
    assert read_files(staged) == {"own": CONTENT["own"]}
    assert model(tmp_path, URI) == {"weights": BIG}
    store.close()
