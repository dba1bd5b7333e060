"""Opening a root: what is created, what is refused, and that a refused root is left as it was."""

import json
import os
import stat
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.storage import manifests
from agent.storage.errors import LayoutUnknown, StoreLocked, StoreUnavailable
from agent.storage.footprint import Footprint
from agent.storage.manifests import Record
from agent.storage.store import Store
from shared.domain.storage_key import storage_key
from tests.support.disks import SteppingDisk, failing_disk
from tests.support.rights import SOMEBODY, modes_count
from tests.support.trees import KEY, model, publish, read_files, tree_of

_readlink = os.readlink


def snapshot(root: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in [root, *root.rglob("*")]
    }


def test_a_new_root_gets_its_layout_with_setgid_folders(tmp_path: Path) -> None:
    Store.open(tmp_path / "root", gid=os.getgid()).close()
    private = tmp_path / "root" / ".localmodel"
    assert json.loads((private / "VERSION").read_text()) == {"owner": "localmodel", "layout": 1}
    for folder in ["../models", "manifests", "staging", "retired"]:
        found = (private / folder).stat()
        assert stat.S_IMODE(found.st_mode) == 0o2775
        assert found.st_gid == os.getgid()


def test_a_group_that_may_not_be_given_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(step: str, *_: object) -> None:
        if step == "chgrp":
            raise PermissionError

    gid = 61234
    store = Store.open(tmp_path, gid=gid, disk=SteppingDisk(refuse))
    publish(store, {"a": b"1"})
    store.close()
    told = [line for line in caplog.records if hasattr(line, "gid")]
    assert [(line.levelname, vars(line)["gid"]) for line in told] == [("WARNING", gid)]
    assert model(tmp_path) == {"a": b"1"}


def test_an_existing_models_folder_is_kept_as_it_is(tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / KEY).mkdir(parents=True)
    (models / KEY / "weights").write_bytes(b"from KServe")
    models.chmod(0o755)
    Store.open(tmp_path).close()
    assert stat.S_IMODE(models.stat().st_mode) == 0o755
    assert model(tmp_path) == {"weights": b"from KServe"}


def test_a_second_agent_on_the_same_root_is_refused(tmp_path: Path) -> None:
    first = Store.open(tmp_path)
    with pytest.raises(StoreLocked, match="in use by another agent"):
        Store.open(tmp_path)
    first.close()
    Store.open(tmp_path).close()


@pytest.mark.parametrize(
    ("marker", "why"),
    [
        ('{"owner": "localmodel", "layout": 2}', "layout 2, this version knows 1"),
        ('{"owner": "somebody", "layout": 1}', "belongs to 'somebody'"),
        ("7", "not a marker"),
        ("\0\1", "not a marker"),
    ],
)
def test_a_root_of_another_kind_is_refused_untouched(tmp_path: Path, marker: str, why: str) -> None:
    private = tmp_path / ".localmodel"
    (private / "manifests").mkdir(parents=True)
    (private / "VERSION").write_text(marker)
    (private / "manifests" / f"{KEY}.next").write_text("from another version")
    before = snapshot(tmp_path)
    with pytest.raises(LayoutUnknown, match=why):
        Store.open(tmp_path)
    assert snapshot(tmp_path) == before


def test_manifests_without_a_marker_are_refused_untouched(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    publish(store, {"a": b"1"})
    store.close()
    (tmp_path / ".localmodel" / "VERSION").unlink()
    before = snapshot(tmp_path)
    with pytest.raises(StoreUnavailable, match="is the disk mounted"):
        Store.open(tmp_path)
    assert snapshot(tmp_path) == before


def test_an_empty_root_is_refused_untouched_where_copies_are_known_to_be(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="copies are known to be there"):
        Store.open(tmp_path, expect_layout=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreUnavailable):
        Store.open(tmp_path / "missing", expect_layout=True)
    assert not (tmp_path / "missing").exists()
    Store.open(tmp_path).close()
    Store.open(tmp_path, expect_layout=True).close()


def test_a_root_that_vanishes_while_open_stops_every_change(tmp_path: Path) -> None:
    root = tmp_path / "root"
    store = Store.open(root)
    publish(store, {"a": b"1"})
    staging = store.staging(KEY)
    root.rename(tmp_path / "unmounted")
    root.mkdir()
    with pytest.raises(StoreUnavailable):
        store.check()
    with pytest.raises(StoreUnavailable):
        store.evict(KEY)
    with pytest.raises(StoreUnavailable):
        store.staging(KEY)
    with pytest.raises(StoreUnavailable):
        store.publish(tree_of({}), staging.tree)
    assert list(root.iterdir()) == []
    assert model(tmp_path / "unmounted") == {"a": b"1"}
    root.rmdir()
    (tmp_path / "unmounted").rename(root)
    store.check()


def test_another_root_in_the_place_of_the_opened_one_is_noticed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    store = Store.open(root)
    root.rename(tmp_path / "unmounted")
    Store.open(root).close()
    with pytest.raises(StoreUnavailable, match="is not the folder it was"):
        store.check()


def test_a_root_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        Store.open(tmp_path / "file")
    with pytest.raises(StoreUnavailable, match="read-only"):
        Store.open(tmp_path, disk=failing_disk(30, at="mkdir"))


@pytest.mark.parametrize("closed", [".", ".localmodel", ".localmodel/manifests"])
def test_a_folder_that_the_agent_s_user_may_not_use_is_said_and_left(
    tmp_path: Path, closed: str
) -> None:
    root = tmp_path / "root"
    store = Store.open(root)
    publish(store, {"a": b"1"})
    store.close()
    folder = root / closed
    folder.chmod(0o700)
    os.chown(folder, SOMEBODY, SOMEBODY)
    before = snapshot(root)
    with modes_count(), pytest.raises(StoreUnavailable, match="Permission denied"):
        Store.open(root)
    assert snapshot(root) == before
    os.chown(folder, 0, 0)
    with modes_count():
        store = Store.open(root)
        assert store.inspect(KEY) == ()
        store.close()


def test_symlinks_in_the_place_of_fixed_folders_are_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = tmp_path / "root"
    Store.open(root).close()
    staging = root / ".localmodel" / "staging"
    staging.rmdir()
    staging.symlink_to(elsewhere)
    with pytest.raises(StoreUnavailable):
        Store.open(root)


def test_a_closed_store_refuses_calls(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="was closed"):
        store.staging(KEY)


def test_a_damaged_manifest_makes_its_tree_foreign_and_deletes_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    publish(store, {"a": b"1"})
    store.close()
    manifest = tmp_path / ".localmodel" / "manifests" / f"{KEY}.json"
    for damaged in [b"", b"{}", b"\xff\xfe", manifest.read_bytes().replace(b'"a"', b'"b"')]:
        manifest.write_bytes(damaged)
        store = Store.open(tmp_path)
        assert store.trees() == {}
        assert store.foreign() == {KEY}
        store.evict(KEY)
        assert model(tmp_path) == {"a": b"1"}
        store.close()


def test_what_was_published_is_known_again_with_all_its_files(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    tree = publish(store, {"a": b"1", "déjà/vü 模型": b"22", "empty": b""}, revision="r7")
    store.close()
    store = Store.open(tmp_path)
    (again,) = store.trees().values()
    assert again.size == 3
    assert len(again.files) == 3
    files = tuple(replace(file, mtime_ns=0) for file in again.files)
    assert replace(again, files=files) == tree
    assert read_files(tmp_path / "models") == {
        f"{KEY}/{k}": v for k, v in {"a": b"1", "déjà/vü 模型": b"22", "empty": b""}.items()
    }


def test_a_model_of_thousands_of_files_is_read_back_as_it_was_published(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    content = {f'],["{number:04},': b"%d" % number for number in range(2500)}
    tree = publish(store, content)
    store.close()
    (again,) = Store.open(tmp_path).trees().values()
    assert tuple(replace(file, mtime_ns=0) for file in again.files) == tree.files


def test_a_manifest_that_has_all_files_in_one_line_is_read_as_well(tmp_path: Path) -> None:
    """As versions before wrote it."""
    store = Store.open(tmp_path)
    tree = publish(store, {f"{number}": b"%d" % number for number in range(1200)})
    store.close()
    manifest = tmp_path / ".localmodel" / "manifests" / f"{KEY}.json"
    header, _, files = manifest.read_bytes().partition(b"\n")
    one_line = json.dumps(json.loads(files)).encode()
    fields = {**json.loads(header), "crc32": zlib.crc32(one_line)}
    manifest.write_bytes(json.dumps(fields).encode() + b"\n" + one_line + b"\n")
    (again,) = Store.open(tmp_path).trees().values()
    assert tuple(replace(file, mtime_ns=0) for file in again.files) == tree.files


@pytest.mark.parametrize("files", [0, 1, 2500])
def test_what_several_trees_share_is_read_back_as_it_was_written(
    tmp_path: Path, files: int
) -> None:
    shared = array("Q", [number for one in range(files) for number in ((1 << 63) + one, 4096)])
    tree = tree_of({"a": b"1"}, uri='s3://b/"shared":[1,2],')
    record = Record(tree, 7, Footprint(11, shared), staged="tree", retires="x.1.y")
    name = f"{tree.storage_key}.json"
    (tmp_path / name).write_bytes(b"".join(manifests.encode(record)))
    folder = os.open(tmp_path, os.O_RDONLY)
    assert manifests.read(folder, name) == record
    os.close(folder)


@pytest.mark.parametrize("shared", [b"[[1,2],[3]]", b"[[1,99999999999999999999]]", b"{}", b"[1"])
def test_a_manifest_whose_shared_files_are_nonsense_is_damaged(
    tmp_path: Path, shared: bytes
) -> None:
    encoded = b"".join(manifests.encode(Record(tree_of({"a": b"1"}), 1, Footprint(1))))
    assert encoded.count(b'"shared":[]') == 1
    (tmp_path / f"{KEY}.json").write_bytes(encoded.replace(b'"shared":[]', b'"shared":' + shared))
    folder = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(manifests.ManifestInvalid):
        manifests.read(folder, f"{KEY}.json")
    os.close(folder)


def test_opening_500_models_with_200_000_files_reads_their_manifests_once_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store.open(tmp_path).close()
    content = {f"part-{number:05}-of-00400.safetensors": b"" for number in range(400)}
    folder = tmp_path / ".localmodel" / "manifests"
    encoded = b"".join(manifests.encode(Record(tree_of(content), 1, Footprint(1))))
    for number in range(500):
        key = storage_key(f"s3://bucket/{number}")
        (folder / f"{key}.json").write_bytes(encoded.replace(KEY.encode(), key.encode()))
        (tmp_path / "models" / key).mkdir()
    touched: list[Path] = []
    for name in ("open", "stat", "lstat", "scandir", "listdir", "readlink"):
        monkeypatch.setattr(os, name, noting(getattr(os, name), touched))
    before = bytes_read()
    store = Store.open(tmp_path)
    read = bytes_read() - before
    monkeypatch.undo()
    assert sum(len(tree.files) for tree in store.trees().values()) == 200_000
    assert len(store.trees()) == 500
    below = Counter(path for path in touched if path.parent == folder)
    assert sorted(below) == sorted(folder.iterdir())
    assert set(below.values()) == {1}
    assert [path for path in touched if tmp_path / "models" in path.parents] == []
    assert read <= sum(path.stat().st_size for path in folder.iterdir()) + (1 << 20)
    store.close()
    began = time.monotonic()
    Store.open(tmp_path).close()
    assert time.monotonic() - began < 2


def noting(call: Callable[..., Any], touched: list[Path]) -> Callable[..., Any]:
    """Every path that is asked for is appended."""

    def instead(path: Any = ".", *args: Any, **named: Any) -> Any:
        at = named.get("dir_fd")
        base = Path.cwd() if at is None else folder_of(at)
        touched.append(folder_of(path) if isinstance(path, int) else base / os.fsdecode(path))
        return call(path, *args, **named)

    return instead


def folder_of(fd: int) -> Path:
    return Path(_readlink(f"/proc/self/fd/{fd}"))


def bytes_read() -> int:
    """By this process, from whatever file."""
    (line, *_) = Path("/proc/self/io").read_text().splitlines()
    return int(line.removeprefix("rchar: "))
