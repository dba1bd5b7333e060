"""Publishing: one step for readers, durable, and nothing but what the manifest names."""

import errno
import os
import stat
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import Retryable, Stalled
from agent.storage.disk import Disk
from agent.storage.store import Store
from shared.domain.reasons import Reason
from tests.support.disks import SteppingDisk, counting_disk, failing_disk
from tests.support.trees import (
    EPOCH,
    KEY,
    model,
    publish,
    read_files,
    remote_file,
    tree_file,
    tree_of,
    write_files,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path)
    yield store
    store.close()


def test_a_published_model_is_what_was_staged(store: Store, tmp_path: Path) -> None:
    content = {"config.json": b"{}", "a/b/c": b"deep", "empty": b"", "ünï": "模型".encode()}
    publish(store, content)
    assert model(tmp_path) == content
    assert store.inspect(KEY) == ()
    assert read_files(tmp_path / ".localmodel" / "staging") == {}


def test_readers_with_open_files_keep_the_old_bytes_when_a_tree_is_replaced(
    store: Store, tmp_path: Path
) -> None:
    publish(store, {"weights": b"old", "same": b"s"})
    mounted = os.open(tmp_path / "models" / KEY, os.O_RDONLY)
    with (tmp_path / "models" / KEY / "weights").open("rb") as reader:
        publish(store, {"weights": b"new", "same": b"s"}, revision="r2")
        assert reader.read() == b"old"
    through_mount = os.open("weights", os.O_RDONLY, dir_fd=mounted)
    assert os.read(through_mount, 9) == b"old"
    os.close(through_mount)
    os.close(mounted)
    assert model(tmp_path) == {"weights": b"new", "same": b"s"}
    assert store.trees()[KEY].revision == "r2"


def test_the_path_of_a_model_never_lacks_a_tree_while_it_is_replaced(
    store: Store, tmp_path: Path
) -> None:
    publish(store, {"a": b"1"})
    store.close()
    path = tmp_path / "models" / KEY / "a"
    seen = []

    def look(name: str, *_: object) -> None:
        seen.append(path.read_bytes())

    watched = Store.open(tmp_path, disk=SteppingDisk(look))
    publish(watched, {"a": b"2"})
    watched.close()
    assert seen == sorted(seen)
    assert {b"1", b"2"} == set(seen)


def test_a_replaced_tree_is_retired_with_its_manifest_until_its_grace_time_is_over(
    store: Store, tmp_path: Path
) -> None:
    publish(store, {"a": b"old"}, at=EPOCH)
    publish(store, {"a": b"new"}, at=EPOCH + timedelta(hours=1))
    retired = tmp_path / ".localmodel" / "retired"
    (tree,) = [path for path in retired.glob(f"{KEY}.*") if path.is_dir()]
    assert read_files(tree) == {"a": b"old"}
    assert (retired / f"{tree.name}.json").exists()
    day = timedelta(hours=24)
    store.sweep(now=EPOCH + timedelta(hours=24), grace=day, wanted={KEY})
    assert tree.exists()
    store.sweep(now=EPOCH + timedelta(hours=25), grace=day, wanted={KEY})
    assert [path.name for path in retired.iterdir()] == [".trash"]
    assert model(tmp_path) == {"a": b"new"}


def test_left_overs_in_staging_are_not_published(store: Store, tmp_path: Path) -> None:
    staging = store.staging(KEY)
    write_files(staging.tree, {"a": b"1", "old/revision/file": b"x", ".a.part": b"y"})
    (staging.tree / "link").symlink_to("/etc/passwd")
    (staging.tree / "empty-on-purpose").mkdir()
    store.publish(tree_of({"a": b"1"}), staging.tree)
    assert sorted(path.name for path in (tmp_path / "models" / KEY).rglob("*")) == [
        "a",
        "empty-on-purpose",
    ]


@pytest.mark.parametrize(
    ("staged", "why"),
    [({}, "'a' is missing"), ({"a": b"12"}, "'a' has 2 bytes, its manifest says 1")],
)
def test_a_staged_tree_that_is_not_its_manifest_is_refused(
    store: Store, tmp_path: Path, staged: dict[str, bytes], why: str
) -> None:
    publish(store, {"a": b"0"})
    staging = store.staging(KEY)
    write_files(staging.tree, staged)
    with pytest.raises(Retryable, match=why):
        store.publish(tree_of({"a": b"1"}), staging.tree)
    assert model(tmp_path) == {"a": b"0"}
    assert store.trees()[KEY].files[0] == replace(
        tree_file("a", b"0"), mtime_ns=store.trees()[KEY].files[0].mtime_ns
    )


def test_a_staged_link_in_the_place_of_a_file_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"1")
    staging = store.staging(KEY)
    (staging.tree / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(Retryable):
        store.publish(tree_of({"a": b"1"}), staging.tree)
    assert store.trees() == {}


def test_paths_that_leave_the_tree_are_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    staging = store.staging(KEY)
    for path in ["../../../../a", "/etc/passwd", "x/../a"]:
        with pytest.raises(Stalled, match="entry"):
            store.publish(tree_of({path: b"1"}), staging.tree)
        publish(store, {"a": b"1"})
        staging = store.staging(KEY)
        with pytest.raises(Stalled, match="entry"):
            store.reuse(KEY, [remote_file(path, b"1")], staging.tree, trust="cluster")


def test_modes_let_everybody_read_and_only_the_owner_write(store: Store, tmp_path: Path) -> None:
    staging = store.staging(KEY)
    write_files(staging.tree, {"a/data": b"1", "a/tool": b"2", "setuid": b"3"})
    (staging.tree / "a/data").chmod(0o600)
    (staging.tree / "a/tool").chmod(0o700)
    (staging.tree / "setuid").chmod(0o6666)
    (staging.tree / "a").chmod(0o700)
    store.publish(tree_of({"a/data": b"1", "a/tool": b"2", "setuid": b"3"}), staging.tree)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "models" / KEY).rglob("*")
    }
    assert modes == {"a": 0o2775, "data": 0o644, "tool": 0o755, "setuid": 0o644}


def test_an_empty_folder_made_by_kubelet_is_replaced(store: Store, tmp_path: Path) -> None:
    (tmp_path / "models" / KEY).mkdir()
    assert store.foreign() == frozenset()
    publish(store, {"a": b"1"})
    assert model(tmp_path) == {"a": b"1"}
    assert [p.name for p in (tmp_path / ".localmodel" / "retired").iterdir()] == [".trash"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_somebody_else_put_there_is_exchanged_away_by_a_finished_fetch(
    store: Store, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "models" / KEY
    match kind:
        case "folder":
            write_files(path, {"theirs": b"x"})
        case "file":
            path.write_bytes(b"x")
        case "link":
            write_files(tmp_path / "elsewhere", {"theirs": b"x"})
            path.symlink_to(tmp_path / "elsewhere")
    assert store.foreign() == {KEY}
    publish(store, {"a": b"1"})
    assert store.foreign() == frozenset()
    assert not path.is_symlink()
    assert model(tmp_path) == {"a": b"1"}
    store.sweep(now=EPOCH + timedelta(days=2), grace=timedelta(days=1), wanted={KEY})
    assert [p.name for p in (tmp_path / ".localmodel" / "retired").iterdir()] == [".trash"]
    if kind == "link":
        assert read_files(tmp_path / "elsewhere") == {"theirs": b"x"}


def test_everything_else_under_models_is_reported_and_left(store: Store, tmp_path: Path) -> None:
    publish(store, {"a": b"1"})
    models = tmp_path / "models"
    write_files(models / "lost+found", {"x": b"1"})
    (models / "README").write_bytes(b"2")
    (models / "0123456789abcdef").symlink_to("/etc")
    assert store.foreign() == {"lost+found", "README", "0123456789abcdef"}
    store.sweep(now=EPOCH + timedelta(days=9), grace=timedelta(0), wanted=())
    store.evict("0123456789abcdef")
    assert store.foreign() == {"lost+found", "README", "0123456789abcdef"}


def test_adopting_makes_a_foreign_tree_ours(store: Store, tmp_path: Path) -> None:
    write_files(tmp_path / "models" / KEY, {"a": b"1", "b/c": b"22"})
    store.adopt(tree_of({"a": b"1", "b/c": b"22"}))
    assert store.foreign() == frozenset()
    assert store.inspect(KEY) == ()
    store.evict(KEY)
    assert model(tmp_path) == {}


def test_adopting_holds_little_of_each_file(store: Store, tmp_path: Path) -> None:
    content = {f"{number % 9}/{number:06}": b"" for number in range(4000)}
    write_files(tmp_path / "models" / KEY, content)
    tree = tree_of(content)
    tracemalloc.start()
    try:
        store.adopt(tree)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # What `lstat` tells of a file alone is as much.
    assert peak < 600 * len(content)


def test_a_foreign_tree_that_lacks_a_file_is_not_adopted(store: Store, tmp_path: Path) -> None:
    write_files(tmp_path / "models" / KEY, {"a": b"1"})
    for expected in [{"a": b"1", "b": b"2"}, {"a": b"12"}]:
        with pytest.raises(Retryable, match="does not hold"):
            store.adopt(tree_of(expected))
    with pytest.raises(Retryable):
        store.adopt(tree_of({"a": b"1"}, uri="s3://bucket/absent"))
    assert store.trees() == {}


@pytest.mark.parametrize(
    ("code", "error", "reason", "text"),
    [
        (errno.ENOSPC, Stalled, Reason.INSUFFICIENT_STORAGE, "the disk is full"),
        (errno.EDQUOT, Stalled, Reason.INSUFFICIENT_STORAGE, "quota"),
        (errno.EROFS, Retryable, Reason.DISK_ERROR, "read-only"),
        (errno.EIO, Retryable, Reason.DISK_ERROR, "input/output error"),
        (errno.EACCES, Retryable, Reason.DISK_ERROR, "may not do that"),
        (errno.EMFILE, Retryable, Reason.DISK_ERROR, "too many files open"),
    ],
)
@pytest.mark.parametrize("step", ["sync", "sync_several", "create", "write", "exchange"])
def test_a_failing_disk_leaves_the_old_tree_and_says_why(
    tmp_path: Path, step: str, code: int, error: type[Exception], reason: Reason, text: str
) -> None:
    store = Store.open(tmp_path)
    publish(store, {"a": b"old"})
    staging = store.staging(KEY)
    write_files(staging.tree, {"a": b"new"})
    store.close()
    quiet: list[str] = []
    Store.open(tmp_path, disk=counting_disk(quiet)).close()
    store = Store.open(tmp_path, disk=failing_disk(code, at=step, after=quiet.count(step)))
    with pytest.raises(error, match=text) as caught:
        store.publish(tree_of({"a": b"new"}), staging.tree)
    assert getattr(caught.value, "reason") == reason  # noqa: B009
    assert str(tmp_path) not in str(caught.value)
    assert model(tmp_path) == {"a": b"old"}
    assert store.inspect(KEY) == ()
    store.publish(tree_of({"a": b"new"}), staging.tree)
    assert model(tmp_path) == {"a": b"new"}
    store.close()


def test_only_folders_of_the_key_s_own_staging_can_be_published(
    store: Store, tmp_path: Path
) -> None:
    for folder in [tmp_path, tmp_path / "models" / KEY, tmp_path / ".localmodel" / "staging" / KEY]:
        with pytest.raises(ValueError, match="not a staged folder"):
            store.publish(tree_of({}), folder)
    for key in ["../../etc", "", "0123", "0123456789ABCDEF"]:
        with pytest.raises(ValueError, match="not a storage key"):
            store.staging(key)


def test_staging_survives_a_restart_and_can_be_discarded(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    write_files(store.staging(KEY).tree, {"part": b"1"})
    write_files(store.staging(KEY).journal, {"part": b"j"})
    store.close()
    store = Store.open(tmp_path)
    assert read_files(store.staging(KEY).tree) == {"part": b"1"}
    store.sweep(now=EPOCH, grace=timedelta(0), wanted={KEY})
    assert read_files(store.staging(KEY).journal) == {"part": b"j"}
    store.discard_staging(KEY)
    assert list((tmp_path / ".localmodel" / "staging").iterdir()) == []
    write_files(store.staging(KEY).tree, {"part": b"1"})
    store.sweep(now=EPOCH, grace=timedelta(0), wanted=())
    assert list((tmp_path / ".localmodel" / "staging").iterdir()) == []
    store.close()


def test_one_file_of_many_that_cannot_be_written_back_keeps_all_from_being_published(
    tmp_path: Path,
) -> None:
    class BadSpot(Disk):
        def sync_all(self, fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        def sync_several(self, fds: Sequence[int]) -> None:
            unsyncable, end = os.pipe()
            try:
                super().sync_several([*fds[:10], unsyncable, *fds[10:]])
            finally:
                os.close(unsyncable)
                os.close(end)

    store = Store.open(tmp_path, disk=BadSpot())
    with pytest.raises((Retryable, Stalled)):
        publish(store, {f"f{number}": b"x" for number in range(50)})
    assert not (tmp_path / "models" / KEY).exists()
    assert store.trees() == {}
    store.close()
