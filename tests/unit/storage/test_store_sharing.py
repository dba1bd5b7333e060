"""The same content in several models takes its space once, and no model harms another."""

import errno
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.manifest import Algorithm, Digest, RemoteFile, Strength
from agent.storage.errors import Cancelled
from agent.storage.store import Store
from agent.storage.tree import TreeFile
from agent.transfer.checksums import Crc
from shared.domain.storage_key import storage_key
from tests.support.disks import failing_disk
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
BIG = os.urandom(300_000)
NEVER = threading.Event()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path)
    yield store
    store.close()


def publish_other(store: Store, content: dict[str, bytes], *, trust: str = "cluster") -> set[str]:
    """As the agent does; returns the paths that nobody had to fetch."""
    key = storage_key(OTHER)
    staging = store.staging(key)
    wanted = [remote_file(path, data, validator="v9") for path, data in content.items()]
    have = {file.path for file in store.reuse(key, wanted, staging.tree, trust=trust)}
    write_files(staging.tree, {path: data for path, data in content.items() if path not in have})
    tree = tree_of(content, uri=OTHER, trust=trust)
    store.share(key, tree.files, staging.tree, cancelled=NEVER)
    store.publish(tree, staging.tree)
    return have


def inode(root: Path, uri: str, path: str) -> int:
    return (root / "models" / storage_key(uri) / path).stat().st_ino


def test_a_content_that_another_model_has_is_linked_and_not_fetched(
    store: Store, tmp_path: Path
) -> None:
    publish(store, {"weights": BIG, "mine": b"1"})
    used = store.usage().used
    assert publish_other(store, {"w/copy": BIG, "config": b"2"}) == {"w/copy"}
    assert model(tmp_path, OTHER) == {"w/copy": BIG, "config": b"2"}
    assert inode(tmp_path, OTHER, "w/copy") == inode(tmp_path, URI, "weights")
    assert store.usage().used - used < 100_000
    assert store.verify(storage_key(OTHER), cancelled=NEVER) == ()


def test_what_is_linked_carries_the_strength_of_what_the_source_stated(store: Store) -> None:
    publish(store, {"weights": BIG})
    key = storage_key(OTHER)
    wanted = [remote_file("copy", BIG, validator="v9")]
    (file,) = store.reuse(key, wanted, store.staging(key).tree, trust="cluster")
    assert (file.path, file.validator, file.verified_by) == ("copy", "v9", Strength.SHA256)


@pytest.mark.parametrize("gone", [URI, OTHER])
def test_deleting_one_of_two_models_leaves_the_other_whole(
    store: Store, tmp_path: Path, gone: str
) -> None:
    publish(store, {"weights": BIG})
    publish_other(store, {"copy": BIG})
    (kept,) = {URI, OTHER} - {gone}
    used = store.usage().used
    store.evict(storage_key(gone))
    assert model(tmp_path, gone) == {}
    assert list(model(tmp_path, kept).values()) == [BIG]
    assert store.verify(storage_key(kept), cancelled=NEVER) == ()
    assert used - store.usage().used < 100_000
    store.evict(storage_key(kept))
    assert store.usage().used < 200_000
    assert strays(store, tmp_path) == []


def test_a_claimed_digest_buys_nothing_of_another_trust_domain(
    store: Store, tmp_path: Path
) -> None:
    publish(store, {"weights": BIG})
    assert publish_other(store, {"copy": BIG}, trust="team") == set()
    # It fetched the bytes itself, so it may share them.
    assert inode(tmp_path, OTHER, "copy") == inode(tmp_path, URI, "weights")


def without_name(path: str, content: bytes) -> TreeFile:
    """As the engine reports a file whose source states no digest."""
    crc = Crc(Algorithm.CRC32C)
    crc.update(content)
    digest = Digest(Algorithm.CRC32C, crc.hexdigest())
    return TreeFile(path, len(content), (digest,), "v1", Strength.SIZE)


def publish_unnamed(store: Store, uri: str, content: dict[str, bytes]) -> int:
    key = storage_key(uri)
    staging = store.staging(key)
    write_files(staging.tree, content)
    files = tuple(without_name(*item) for item in content.items())
    freed = store.share(key, files, staging.tree, cancelled=NEVER)
    store.publish(replace(tree_of({}, uri=uri), files=files), staging.tree)
    return freed


def test_where_no_digest_is_stated_equal_bytes_are_shared_once_they_are_there(
    store: Store, tmp_path: Path
) -> None:
    assert publish_unnamed(store, URI, {"weights": BIG, "small": b"1"}) == 0
    changed = BIG[:-1] + bytes([BIG[-1] ^ 1])
    content = {"copy": BIG, "almost": changed, "small": b"1"}
    assert publish_unnamed(store, OTHER, content) == len(BIG)
    assert inode(tmp_path, OTHER, "copy") == inode(tmp_path, URI, "weights")
    assert inode(tmp_path, OTHER, "small") != inode(tmp_path, URI, "small")
    assert model(tmp_path, OTHER) == content


def test_a_checksum_that_was_made_to_match_shares_nothing(store: Store, tmp_path: Path) -> None:
    publish_unnamed(store, URI, {"weights": BIG})
    key = storage_key(OTHER)
    staging = store.staging(key)
    forged = os.urandom(len(BIG))
    write_files(staging.tree, {"copy": forged})
    claimed = [replace(without_name("copy", BIG), path="copy")]
    assert store.share(key, claimed, staging.tree, cancelled=NEVER) == 0
    assert read_files(staging.tree) == {"copy": forged}


def test_comparing_stops_when_it_is_told_to(store: Store) -> None:
    publish_unnamed(store, URI, {"weights": BIG})
    key = storage_key(OTHER)
    staging = store.staging(key)
    write_files(staging.tree, {"copy": BIG})
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        store.share(key, [without_name("copy", BIG)], staging.tree, cancelled=stop)


def test_a_damaged_file_is_given_to_nobody(store: Store, tmp_path: Path) -> None:
    publish(store, {"weights": BIG, "changed": BIG[::-1]})
    folder = tmp_path / "models" / KEY
    os.utime(folder / "changed", ns=(1, 1))
    rot(folder / "weights", BIG[1:] + b"x")
    assert store.verify(KEY, cancelled=NEVER) == ("weights",)
    assert publish_other(store, {"a": BIG, "b": BIG[::-1]}) == {"b"}
    assert model(tmp_path, OTHER) == {"a": BIG, "b": BIG[::-1]}


def test_rot_is_damage_of_every_model_that_has_the_file(store: Store, tmp_path: Path) -> None:
    publish(store, {"weights": BIG, "own": b"1" * 300_000})
    publish_other(store, {"copy": BIG, "own": b"2" * 300_000})
    rot(tmp_path / "models" / KEY / "weights", BIG[1:] + b"x")
    assert store.inspect(storage_key(OTHER)) == ()
    assert store.verify(KEY, cancelled=NEVER) == ("weights",)
    assert store.inspect(storage_key(OTHER)) == ("copy",)
    # One fetch repairs both: the first has it from its source, the second from the first.
    staging = store.staging(KEY)
    wanted = [remote_file("weights", BIG), remote_file("own", b"1" * 300_000)]
    reused = store.reuse(KEY, wanted, staging.tree, trust="cluster")
    assert [file.path for file in reused] == ["own"]
    write_files(staging.tree, {"weights": BIG})
    store.publish(tree_of({"weights": BIG, "own": b"1" * 300_000}), staging.tree)
    assert publish_other(store, {"copy": BIG, "own": b"2" * 300_000}) == {"copy", "own"}
    for uri in (URI, OTHER):
        assert store.inspect(storage_key(uri)) == ()
        assert store.verify(storage_key(uri), cancelled=NEVER) == ()
    store.sweep(now=EPOCH + timedelta(days=9), grace=timedelta(0), wanted=())
    assert model(tmp_path, OTHER)["copy"] == BIG


def rot(path: Path, content: bytes) -> None:
    """Other bytes, the same size and time: only reading finds out."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_a_file_with_too_many_names_is_fetched_instead(tmp_path: Path) -> None:
    with_names = Store.open(tmp_path)
    publish(with_names, {"weights": BIG})
    with_names.close()
    store = Store.open(tmp_path, disk=failing_disk(errno.EMLINK, at="link"))
    key = storage_key(OTHER)
    wanted = [remote_file("copy", BIG)]
    assert store.reuse(key, wanted, store.staging(key).tree, trust="cluster") == ()
    store.close()


def test_a_file_of_unknown_size_is_not_looked_for(store: Store) -> None:
    publish(store, {"weights": BIG})
    named = remote_file("copy", BIG)
    unknown = RemoteFile("copy", None, named.validator, "copy", named.digests)
    key = storage_key(OTHER)
    assert store.reuse(key, [unknown], store.staging(key).tree, trust="cluster") == ()


def test_a_file_of_another_model_that_the_disk_cannot_read_is_not_shared_and_harms_nobody(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, {"weights": BIG})
    bad, read = inode(tmp_path, URI, "weights"), os.pread

    def pread(fd: int, size: int, at: int) -> bytes:
        if os.fstat(fd).st_ino == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(fd, size, at)

    monkeypatch.setattr(os, "pread", pread)
    publish_other(store, {"weights": BIG}, trust="team")
    monkeypatch.undo()
    assert model(tmp_path, OTHER) == {"weights": BIG}
    assert inode(tmp_path, OTHER, "weights") != bad
