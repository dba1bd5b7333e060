"""Evicting, inspecting, verifying, reusing and measuring."""

import json
import os
import resource
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import Retryable
from agent.manifest import Algorithm, Digest, RemoteFile
from agent.storage.errors import Cancelled
from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support.disks import failing_disk
from tests.support.trees import (
    EPOCH,
    KEY,
    model,
    publish,
    read_files,
    remote_file,
    strays,
    tree_of,
    write_files,
)

NEVER = threading.Event()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path)
    yield store
    store.close()


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def rot(path: Path, content: bytes) -> None:
    """Other bytes, the same size and time: only reading finds out."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_an_evicted_model_leaves_nothing(store: Store, tmp_path: Path) -> None:
    publish(store, {"a": b"1", "b/c/d": b"2"})
    publish(store, {"x": b"3"}, uri="s3://bucket/other")
    (tmp_path / "models" / KEY / "lock-of-a-server").write_bytes(b"extra")
    store.evict(KEY)
    store.evict(KEY)
    assert list(store.trees()) == [storage_key("s3://bucket/other")]
    assert not (tmp_path / "models" / KEY).exists()
    assert strays(store, tmp_path) == []
    assert model(tmp_path, "s3://bucket/other") == {"x": b"3"}


def test_eviction_follows_no_link(store: Store, tmp_path: Path) -> None:
    write_files(tmp_path / "precious", {"keep": b"me"})
    publish(store, {"a": b"1", "b/c": b"2"})
    tree = tmp_path / "models" / KEY
    (tree / "link").symlink_to(tmp_path / "precious")
    (tree / "b" / "up").symlink_to("..")
    (tree / "dangling").symlink_to("/nowhere")
    store.evict(KEY)
    assert read_files(tmp_path / "precious") == {"keep": b"me"}
    assert not tree.exists()


def test_a_folder_that_took_the_place_of_a_published_tree_is_not_evicted(
    store: Store, tmp_path: Path
) -> None:
    publish(store, {"a": b"1"})
    (tmp_path / "models" / KEY).rename(tmp_path / "taken away")
    write_files(tmp_path / "models" / KEY, {"theirs": b"x"})
    store.evict(KEY)
    assert model(tmp_path) == {"theirs": b"x"}
    assert store.foreign() == {KEY}


def test_not_even_when_it_got_the_inode_of_the_tree_that_was_deleted(
    store: Store, tmp_path: Path
) -> None:
    publish(store, {"a": b"1"})
    folder = tmp_path / "models" / KEY
    shutil.rmtree(folder)
    write_files(folder, {"a": b"theirs"})
    manifest = tmp_path / ".localmodel" / "manifests" / f"{KEY}.json"
    header, _, files = manifest.read_bytes().partition(b"\n")
    reused = {**json.loads(header), "inode": folder.stat().st_ino}
    manifest.write_bytes(json.dumps(reused).encode() + b"\n" + files)
    store.evict(KEY)
    assert model(tmp_path) == {"a": b"theirs"}


def test_a_tree_whose_every_file_was_changed_is_evicted_all_the_same(
    store: Store, tmp_path: Path
) -> None:
    publish(store, {"a": b"1"})
    write_files(tmp_path / "models" / KEY, {"a": b"changed"})
    store.evict(KEY)
    assert model(tmp_path) == {}
    assert strays(store, tmp_path) == []


def test_a_root_that_was_copied_to_another_disk_is_still_ours(tmp_path: Path) -> None:
    old = Store.open(tmp_path / "old")
    publish(old, {"a": b"1", "b": b"2"})
    old.close()
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    store = Store.open(tmp_path / "new")
    assert store.inspect(KEY) == ()
    store.evict(KEY)
    assert model(tmp_path / "new") == {}
    store.close()


@pytest.fixture
def tight_limits() -> Iterator[int]:
    """A depth that neither the descriptors nor the interpreter's stack would be enough for, were each level to cost one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    frames = sys.getrecursionlimit()
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    sys.setrecursionlimit(240)
    yield 250
    sys.setrecursionlimit(frames)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_depth_costs_no_descriptors_and_no_recursion(
    store: Store, tmp_path: Path, tight_limits: int
) -> None:
    path = "/".join(["d"] * tight_limits + ["file"])
    staging = store.staging(KEY)
    folder = staging.tree
    for _ in range(tight_limits):
        folder = folder / "d"
        folder.mkdir()
    (folder / "file").write_bytes(b"deep")
    store.publish(tree_of({path: b"deep"}), staging.tree)
    assert store.inspect(KEY) == ()
    assert store.verify(KEY, cancelled=NEVER) == ()
    staging = store.staging(KEY)
    assert len(store.reuse(KEY, [remote_file(path, b"deep")], staging.tree, trust="cluster")) == 1
    store.evict(KEY)
    assert strays(store, tmp_path) == []


def test_a_tree_that_cannot_be_moved_stays_published(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    publish(store, {"a": b"1"})
    store.close()
    store = Store.open(tmp_path, disk=failing_disk(16, at="rename", after=1))
    with pytest.raises(Retryable, match="something is mounted there"):
        store.evict(KEY)
    assert list(store.trees()) == [KEY]
    assert model(tmp_path) == {"a": b"1"}
    store.evict(KEY)
    assert model(tmp_path) == {}
    store.close()


def test_deletion_that_was_interrupted_is_gone_on_with_by_the_next_sweep(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    publish(store, {f"f{number}": b"x" for number in range(20)})
    store.close()
    store = Store.open(tmp_path, disk=failing_disk(5, at="unlink", after=9))
    with pytest.raises(Retryable):
        store.evict(KEY)
    assert store.trees() == {}
    store.close()
    store = Store.open(tmp_path)
    assert strays(store, tmp_path) == []
    store.close()


def test_inspection_finds_missing_cut_and_changed_files_without_reading(
    store: Store, tmp_path: Path
) -> None:
    publish(store, {name: b"12" for name in ["fine", "gone", "cut", "touched", "linked", "d/f"]})
    tree = tmp_path / "models" / KEY
    (tree / "gone").unlink()
    (tree / "cut").write_bytes(b"1")
    touch(tree / "touched")
    (tree / "linked").unlink()
    (tree / "linked").symlink_to("fine")
    (tree / "d").rename(tree / "e")
    (tree / "d").symlink_to("e")
    assert store.inspect(KEY) == ("cut", "d/f", "gone", "linked", "touched")
    assert store.extras(KEY) == ("d", "e/f")


def test_owner_group_and_mode_are_the_cluster_s_business(store: Store, tmp_path: Path) -> None:
    publish(store, {"a": b"1", "b/c": b"2"})
    for path in (tmp_path / "models").rglob("*"):
        path.chmod(0o770)
    assert store.inspect(KEY) == ()
    assert store.verify(KEY, cancelled=NEVER) == ()


def test_a_removed_tree_lacks_everything(store: Store, tmp_path: Path) -> None:
    publish(store, {"a": b"1", "b": b"2"})
    (tmp_path / "models" / KEY).rename(tmp_path / "away")
    assert store.inspect(KEY) == ("a", "b")
    assert store.verify(KEY, cancelled=NEVER) == ("a", "b")
    (tmp_path / "models" / KEY).write_bytes(b"a file")
    assert store.inspect(KEY) == ("a", "b")


def test_extra_files_are_reported_and_are_no_damage(store: Store, tmp_path: Path) -> None:
    publish(store, {"a": b"1"})
    write_files(tmp_path / "models" / KEY, {".cache/x": b"1"})
    assert store.inspect(KEY) == ()
    assert store.extras(KEY) == (".cache/x",)
    assert store.verify(KEY, cancelled=NEVER) == ()


def test_a_key_that_is_not_published_has_nothing_to_find(store: Store) -> None:
    assert store.inspect(KEY) == ()
    assert store.extras(KEY) == ()
    assert store.verify(KEY, cancelled=NEVER) == ()


def test_rot_is_found_by_reading_and_remembered_until_the_file_is_replaced(
    store: Store, tmp_path: Path
) -> None:
    content = {"good": b"12", "bad": b"34"}
    publish(store, content)
    rot(tmp_path / "models" / KEY / "bad", b"3X")
    assert store.inspect(KEY) == ()
    assert store.verify(KEY, cancelled=NEVER) == ("bad",)
    assert store.inspect(KEY) == ("bad",)
    staging = store.staging(KEY)
    reused = store.reuse(
        KEY, [remote_file(*item) for item in content.items()], staging.tree, trust="cluster"
    )
    assert [file.path for file in reused] == ["good"]
    publish(store, content)
    assert store.inspect(KEY) == ()
    assert store.verify(KEY, cancelled=NEVER) == ()
    assert model(tmp_path) == content


@pytest.mark.parametrize(
    ("algorithm", "value"),
    [
        (Algorithm.SHA256, "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"),
        (Algorithm.GIT_SHA1, "95d09f2b10159347eece71399a7e2e907ea3df4f"),
        (Algorithm.MD5, "5eb63bbbe01eeed093cb22bb8f5acdc3"),
        (Algorithm.CRC64NVME, "8d29d5c3f6ea8ebe"),
        (Algorithm.CRC32C, "c99465aa"),
        (Algorithm.CRC32, "0d4a1185"),
    ],
)
def test_every_digest_that_a_source_may_state_can_be_checked(
    store: Store, tmp_path: Path, algorithm: Algorithm, value: str
) -> None:
    tree = tree_of({"a": b"hello world"})
    tree = replace(tree, files=(replace(tree.files[0], digests=(Digest(algorithm, value),)),))
    staging = store.staging(KEY)
    write_files(staging.tree, {"a": b"hello world"})
    store.publish(tree, staging.tree)
    assert store.verify(KEY, cancelled=NEVER) == ()
    rot(tmp_path / "models" / KEY / "a", b"hello xorld")
    assert store.verify(KEY, cancelled=NEVER) == ("a",)


def test_a_good_file_with_another_time_is_kept_and_known_by_its_new_time(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    publish(store, {"a": b"1", "b": b"2"})
    touch(tmp_path / "models" / KEY / "a")
    assert store.inspect(KEY) == ("a",)
    assert store.verify(KEY, cancelled=NEVER) == ()
    assert store.inspect(KEY) == ()
    store.close()
    store = Store.open(tmp_path)
    assert store.inspect(KEY) == ()
    store.close()


def test_verification_stops_when_it_is_told_to(store: Store) -> None:
    publish(store, {"a": b"1"})
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        store.verify(KEY, cancelled=stop)


def test_equal_files_are_linked_and_cost_nothing(store: Store, tmp_path: Path) -> None:
    publish(store, {"big": b"x" * 100_000, "old": b"1", "d/same": b"s"})
    staging = store.staging(KEY)
    wanted = [
        remote_file("renamed/big", b"x" * 100_000),
        remote_file("old", b"2"),
        remote_file("d/same", b"s"),
    ]
    used = store.usage().used
    reused = store.reuse(KEY, wanted, staging.tree, trust="cluster")
    assert {file.path for file in reused} == {"renamed/big", "d/same"}
    assert read_files(staging.tree) == {"renamed/big": b"x" * 100_000, "d/same": b"s"}
    assert store.usage().used - used < 50_000
    write_files(staging.tree, {"old": b"2"})
    new = {"renamed/big": b"x" * 100_000, "old": b"2", "d/same": b"s"}
    store.publish(tree_of(new, revision="r2"), staging.tree)
    assert model(tmp_path) == new
    assert store.verify(KEY, cancelled=NEVER) == ()


def without_digest(path: str, size: int | None, validator: str) -> RemoteFile:
    return RemoteFile(path, size, validator, path)


@pytest.mark.parametrize(
    ("wanted", "linked"),
    [
        (without_digest("a", 2, "v1"), True),
        (without_digest("a", 2, "v2"), False),
        (without_digest("a", 3, "v1"), False),
        (without_digest("a", None, "v1"), False),
        (without_digest("a", 2, ""), False),
        (without_digest("moved", 2, "v1"), False),
        (remote_file("a", b"12", validator="v9"), True),
        (remote_file("a", b"99", validator="v1"), False),
        (RemoteFile("a", 2, "v1", "a", (Digest(Algorithm.CRC32C, "00000000"),)), True),
    ],
)
def test_a_file_is_equal_by_digest_or_by_path_size_and_validator(
    store: Store, wanted: RemoteFile, linked: bool
) -> None:
    publish(store, {"a": b"12"})
    assert bool(store.reuse(KEY, [wanted], store.staging(KEY).tree, trust="cluster")) is linked


def test_files_that_changed_on_disk_are_not_reused(store: Store, tmp_path: Path) -> None:
    publish(store, {"a": b"12", "b": b"34", "d/c": b"56"})
    tree = tmp_path / "models" / KEY
    touch(tree / "a")
    (tree / "b").unlink()
    (tree / "d").rename(tmp_path / "elsewhere")
    (tree / "d").symlink_to(tmp_path / "elsewhere")
    wanted = [remote_file("a", b"12"), remote_file("b", b"34"), remote_file("d/c", b"56")]
    assert store.reuse(KEY, wanted, store.staging(KEY).tree, trust="cluster") == ()


def test_staged_links_that_are_no_longer_wanted_are_removed_before_anybody_writes_to_them(
    store: Store, tmp_path: Path
) -> None:
    publish(store, {"a": b"12"})
    staging = store.staging(KEY)
    store.reuse(KEY, [remote_file("a", b"12")], staging.tree, trust="cluster")
    write_files(staging.tree, {"partial": b"own"})
    assert store.reuse(KEY, [remote_file("a", b"changed")], staging.tree, trust="cluster") == ()
    assert read_files(staging.tree) == {"partial": b"own"}
    write_files(staging.tree, {"a": b"changed"})
    assert model(tmp_path) == {"a": b"12"}


def test_a_partial_file_gives_way_to_a_link(store: Store) -> None:
    publish(store, {"a": b"12"})
    staging = store.staging(KEY)
    write_files(staging.tree, {"a": b"1"})
    assert len(store.reuse(KEY, [remote_file("a", b"12")], staging.tree, trust="cluster")) == 1
    assert len(store.reuse(KEY, [remote_file("a", b"12")], staging.tree, trust="cluster")) == 1
    assert read_files(staging.tree) == {"a": b"12"}
    assert [path.name for path in staging.tree.iterdir()] == ["a"]


def blocks(path: Path) -> int:
    seen = {p.lstat().st_ino: p.lstat().st_blocks * 512 for p in [path, *path.rglob("*")]}
    return sum(seen.values())


def test_usage_counts_real_blocks_once(store: Store, tmp_path: Path) -> None:
    assert store.usage().used == 0
    content = {"big": b"x" * 300_000, "small": b"1"}
    publish(store, content, at=EPOCH)
    used = blocks(tmp_path / "models" / KEY)
    assert store.usage().used == used
    assert store.usage().reclaimable == 0
    staging = store.staging(KEY)
    changed = {"big": content["big"], "small": b"2"}
    store.reuse(
        KEY, [remote_file(*item) for item in changed.items()], staging.tree, trust="cluster"
    )
    write_files(staging.tree, {"small": b"2"})
    store.publish(tree_of(changed, at=EPOCH + timedelta(1)), staging.tree)
    now = store.usage()
    assert 0 < now.used - used < 50_000
    assert 0 < now.reclaimable < 50_000
    store.sweep(now=EPOCH + timedelta(days=9), grace=timedelta(0), wanted={KEY})
    assert store.usage().used == blocks(tmp_path / "models" / KEY)
    assert store.usage().reclaimable == 0
    store.evict(KEY)
    assert store.usage().used == 0


def test_what_an_earlier_attempt_staged_goes_unless_it_is_wanted_still(store: Store) -> None:
    staging = store.staging(KEY)
    write_files(staging.tree, {"keep": b"1", "d/e/gone": b"2", "d/kept": b"3", "old/gone": b"4"})
    store.prune(KEY, staging.tree, {"keep", "d/kept"})
    assert read_files(staging.tree) == {"keep": b"1", "d/kept": b"3"}
    assert not (staging.tree / "old").exists()


def test_usage_is_known_at_once_after_a_restart(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    publish(store, {"a": b"x" * 100_000})
    publish(store, {"a": b"y" * 200_000})
    before = store.usage()
    store.close()
    store = Store.open(tmp_path)
    after = store.usage()
    assert (after.used, after.reclaimable) == (before.used, before.reclaimable)
    assert after.reclaimable >= 100_000
    disk = os.statvfs(tmp_path)
    assert after.capacity == disk.f_blocks * disk.f_frsize
    assert 0 < after.available <= after.capacity
    assert after.inodes_available is None or after.inodes_available > 0
    store.close()


def test_sparse_files_count_what_they_occupy(store: Store) -> None:
    staging = store.staging(KEY)
    with (staging.tree / "a").open("wb") as file:
        file.truncate(1 << 30)
    assert store.usage().used < 1 << 20
