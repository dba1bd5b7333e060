"""Putting a staged tree where readers look, so that a crash at any point leaves the old tree or the new one, whole.

  1. `staging/<key>/<staged>`: everything that the manifest does not name is removed, modes are set, every file and folder is made durable.
  2. `manifests/<key>.next` is written, durable. It carries the inode of the staged folder, which a rename keeps.
  3. Something with content under `models/<key>`: its manifest gets a second name, `retired/<retires>.json`.
  4. `models/<key>` and the staged folder change places (or the staged folder is renamed there, over nothing or over an empty
     folder, which the kernel replaces in the same step); both parents are made durable.
  5. What is now in staging moves to `retired/<retires>`.
  6. `manifests/<key>.next` becomes `manifests/<key>.json`, durable. What is left of `staging/<key>` goes to the trash.

Crash before 2 is durable: old tree, old manifest; staging is gone on with. From 2 until 4: `models/<key>` has another inode
than `.next` says, so `.next` and the retired manifest are dropped: old tree, old manifest. After 4: the inode is the one of `.next`, so 5
and 6 are done again, each of them only if it was not yet. `settle` decides this, and it runs at the end of every publication
as well as at every start: there is no second path for recovery.

File systems that cannot exchange (NFS, some FUSE) do 4 as two renames, old tree to `retired/<retires>` and new one in; a crash in
between is told by an absent `models/<key>` beside a retired tree, and completed.
"""

import contextlib
import errno
import os
import secrets
import stat
from array import array
from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import replace

from agent.manifest import safe_path
from agent.storage import manifests, trash
from agent.storage.disk import FOLDER_MODE, Disk, open_folder, own_folder
from agent.storage.durability import Durability
from agent.storage.footprint import Footprint, measure
from agent.storage.layout import Layout
from agent.storage.manifests import ManifestInvalid, Record
from agent.storage.staged import check, has_rights, missing, set_rights, sync_each
from agent.storage.tree import StoredFiles, Tree, TreeFile
from agent.storage.walk import Entry, birth, lstat, open_beneath, open_parent, walk

# No time of any file.
_MISSING = -(1 << 63)
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
_CANNOT_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def publish(layout: Layout, disk: Disk, durability: Durability, tree: Tree, staged: str) -> None:
    """`staging/<key>/<staged>` becomes `models/<key>`. Raises `OSError` with the old tree in place, or `Retryable`."""
    key = tree.storage_key
    stage = open_folder(layout.staging, key)
    try:
        files, inode, footprint = _prepare(layout, disk, durability, stage, staged, tree)
        moment = int(tree.published_at.timestamp())
        record = Record(
            tree=replace(tree, files=files),
            inode=inode,
            footprint=footprint,
            staged=staged,
            retires=f"{key}.{moment}.{secrets.token_hex(4)}",
            born=birth(stage, staged),
        )
        manifests.write(disk, layout.manifests, f"{key}.next", record)
        try:
            _put_in_place(layout, disk, stage, record)
        finally:
            settle(layout, disk, key)
    finally:
        os.close(stage)


def settle(layout: Layout, disk: Disk, key: str) -> None:
    """Complete or undo the publication that `manifests/<key>.next` tells of; nothing to do without it."""
    try:
        record = manifests.read(layout.manifests, f"{key}.next")
    except FileNotFoundError:
        return
    except ManifestInvalid:
        disk.unlink(layout.manifests, f"{key}.next")
        return
    try:
        stage = open_folder(layout.staging, key)
    except FileNotFoundError:
        _settle(layout, disk, key, record, None)
        return
    try:
        _settle(layout, disk, key, record, stage)
    finally:
        os.close(stage)


def _settle(layout: Layout, disk: Disk, key: str, record: Record, stage: int | None) -> None:
    published = _inode(layout.models, key) == record.inode
    if not published and stage is not None and _half_renamed(layout, record, stage):
        disk.rename(stage, record.staged, layout.models, key)
        disk.sync(layout.models)
        published = True
    if not published:
        with contextlib.suppress(FileNotFoundError):
            disk.unlink(layout.retired, f"{record.retires}.json")
        disk.unlink(layout.manifests, f"{key}.next")
        disk.sync(layout.manifests)
        return
    if stage is not None and lstat(stage, record.staged) is not None:
        disk.rename(stage, record.staged, layout.retired, record.retires)
        disk.sync(layout.retired)
        disk.sync(stage)
    disk.rename(layout.manifests, f"{key}.next", layout.manifests, f"{key}.json")
    disk.sync(layout.manifests)
    if stage is not None:
        trash.discard(disk, layout.staging, key, layout.trash)


def _half_renamed(layout: Layout, record: Record, stage: int) -> bool:
    return (
        lstat(layout.models, record.tree.storage_key) is None
        and lstat(layout.retired, record.retires) is not None
        and _inode(stage, record.staged) == record.inode
    )


def _put_in_place(layout: Layout, disk: Disk, stage: int, record: Record) -> None:
    key = record.tree.storage_key
    try:
        disk.rename(stage, record.staged, layout.models, key)
    except OSError as exc:
        if exc.errno not in _TAKEN:
            raise
        with contextlib.suppress(FileNotFoundError):
            disk.link(layout.manifests, f"{key}.json", layout.retired, f"{record.retires}.json")
        try:
            disk.exchange(stage, record.staged, layout.models, key)
        except OSError as refused:
            if refused.errno not in _CANNOT_EXCHANGE:
                raise
            disk.rename(layout.models, key, layout.retired, record.retires)
            disk.rename(stage, record.staged, layout.models, key)
    disk.sync(layout.models)
    disk.sync(stage)


def _inode(at: int, name: str) -> int | None:
    found = lstat(at, name)
    return None if found is None else found.st_ino


def _prepare(
    layout: Layout, disk: Disk, durability: Durability, stage: int, staged: str, tree: Tree
) -> tuple[StoredFiles, int, Footprint]:
    """The staged tree holds exactly the manifest's files, readable by everybody, and is durable."""
    root = open_folder(stage, staged)
    try:
        places = {safe_path(file.path): place for place, file in enumerate(tree.files)}

        def made_readable(entry: Entry) -> None:
            if not has_rights(layout, entry.stat):
                set_rights(layout, disk, root, tree.files[places[entry.path]])

        prune(disk, root, places, kept=made_readable)
        if not durability.sync(stage, files=len(places), size=tree.size):
            sync_each(disk, root, tree.files)
        times = array("q", [_MISSING]) * len(tree.files)

        def finished() -> Iterator[Entry]:
            folders = [""]
            for entry in walk(root):
                if entry.is_folder:
                    folders.append(entry.path)
                elif (place := places.get(entry.path)) is not None:
                    check(tree.files[place], entry.stat)
                    times[place] = entry.stat.st_mtime_ns
                    yield entry
            for path in sorted(folders, reverse=True):
                yield Entry(path, _finish_folder(layout, disk, root, path))

        # One after the other: of 200,000 files, what `lstat` tells would be 100 MB.
        footprint = measure(finished())
        if _MISSING in times:
            raise missing(tree.files[times.index(_MISSING)])
        disk.sync(stage)
        return _timed(tree, times), os.fstat(root).st_ino, footprint
    finally:
        os.close(root)


def _timed(tree: Tree, times: "array[int]") -> StoredFiles:
    """The tree's files with their modification times, made as they are asked for: 200,000 more would be 25 MB."""

    def load(sizes: Collection[int] | None = None) -> Iterator[TreeFile]:
        for file, moment in zip(tree.files, times, strict=True):
            if sizes is None or file.size in sizes:
                yield file.at(moment)

    return StoredFiles(load, count=len(tree.files), total_size=tree.size)


def prune(
    disk: Disk,
    root: int,
    wanted: Container[str],
    *,
    kept: Callable[[Entry], None] = lambda _: None,
) -> None:
    """Left-overs of an earlier attempt go, and the folders that held nothing else. kept: told of each file that is wanted."""
    strays: list[str] = []
    for entry in walk(root):
        if entry.is_folder:
            continue
        if entry.path in wanted:
            kept(entry)
        else:
            strays.append(entry.path)
    holders: set[str] = set()
    for path in strays:
        parent, name = open_parent(root, path)
        try:
            disk.unlink(parent, name)
        finally:
            os.close(parent)
        holders.add(path.rpartition("/")[0])
    while holders:
        path = max(holders, key=len)
        holders.remove(path)
        if not path:
            continue
        parent, name = open_parent(root, path)
        try:
            disk.rmdir(parent, name)
        except OSError as exc:
            if exc.errno != errno.ENOTEMPTY:
                raise
        else:
            holders.add(path.rpartition("/")[0])
        finally:
            os.close(parent)


def _finish_folder(layout: Layout, disk: Disk, root: int, path: str) -> os.stat_result:
    fd = open_beneath(root, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = os.fstat(fd)
        if stat.S_IMODE(found.st_mode) != FOLDER_MODE or layout.gid not in (None, found.st_gid):
            own_folder(disk, fd, layout.gid)
        disk.sync(fd)
        return os.fstat(fd)
    finally:
        os.close(fd)
