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
from collections.abc import Collection, Container, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from agent.errors import Retryable
from agent.manifest import safe_path
from agent.storage import manifests, trash
from agent.storage.disk import FOLDER_MODE, Disk, give_group, open_folder, own_folder
from agent.storage.footprint import Footprint, measure
from agent.storage.layout import Layout
from agent.storage.manifests import ManifestInvalid, Record
from agent.storage.tree import StoredFiles, Tree, TreeFile
from agent.storage.walk import Entry, birth, lstat, open_beneath, open_parent, walk
from shared.domain.reasons import Reason

# From here on one syncfs, which writes everything in one go, comes before the fsync of each file, which then has only
# to report that file's errors: 5,000 files take 0.3 s instead of 1.1 s on ext4/NVMe.
_MANY_FILES = 32
# Open at a time, to be synced together.
_AT_ONCE = 64
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
_CANNOT_EXCHANGE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


def publish(layout: Layout, disk: Disk, tree: Tree, staged: str) -> None:
    """`staging/<key>/<staged>` becomes `models/<key>`. Raises `OSError` with the old tree in place, or `Retryable`."""
    key = tree.storage_key
    stage = open_folder(layout.staging, key)
    try:
        files, inode, footprint = _prepare(layout, disk, stage, staged, tree)
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
    layout: Layout, disk: Disk, stage: int, staged: str, tree: Tree
) -> tuple[StoredFiles, int, Footprint]:
    """The staged tree holds exactly the manifest's files, readable by everybody, and is durable."""
    root = open_folder(stage, staged)
    try:
        folders = prune(disk, root, {safe_path(file.path) for file in tree.files})
        if len(tree.files) >= _MANY_FILES:
            disk.sync_all(root)
        times = array("q")

        def finished() -> Iterator[Entry]:
            left = iter(tree.files)
            while some := tuple(islice(left, _AT_ONCE)):
                for file, found in zip(some, _finish_files(layout, disk, root, some), strict=True):
                    times.append(found.st_mtime_ns)
                    yield Entry(file.path, found)
            for path in sorted(folders, reverse=True):
                with contextlib.suppress(FileNotFoundError):
                    yield Entry(path, _finish_folder(layout, disk, root, path))
            yield Entry("", _finish_folder(layout, disk, root, ""))

        # One after the other: of 200,000 files, what `fstat` tells would be 100 MB.
        footprint = measure(finished())
        disk.sync(stage)
        return _timed(tree, times), os.fstat(root).st_ino, footprint
    finally:
        os.close(root)


def _timed(tree: Tree, times: "array[int]") -> StoredFiles:
    """The tree's files with their modification times, made as they are asked for: 200,000 more would be 25 MB."""

    def load(sizes: Collection[int] | None = None) -> Iterator[TreeFile]:
        for file, moment in zip(tree.files, times, strict=True):
            if sizes is None or file.size in sizes:
                yield replace(file, mtime_ns=moment)

    return StoredFiles(load, count=len(tree.files), total_size=tree.size)


def prune(disk: Disk, root: int, wanted: Container[str]) -> list[str]:
    """Left-overs of an earlier attempt go, and the folders that held nothing else; all folders that there were."""
    folders: list[str] = []
    strays: list[str] = []
    for entry in walk(root):
        if entry.is_folder:
            folders.append(entry.path)
        elif entry.path not in wanted:
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
    return folders


def _finish_files(
    layout: Layout, disk: Disk, root: int, files: Sequence[TreeFile]
) -> list[os.stat_result]:
    """Readable by everybody, and durable."""
    with contextlib.ExitStack() as stack:
        fds: list[int] = []
        for file in files:
            fds.append(_open_staged(root, file))
            stack.callback(os.close, fds[-1])
            _set_rights(layout, disk, fds[-1], file)
        disk.sync_several(fds)
        return [os.fstat(fd) for fd in fds]


def _open_staged(root: int, file: TreeFile) -> int:
    try:
        return open_beneath(root, file.path, os.O_RDONLY)
    except FileNotFoundError as exc:
        raise Retryable(Reason.DISK_ERROR, f"staged file {file.path!r} is missing") from exc


def _set_rights(layout: Layout, disk: Disk, fd: int, file: TreeFile) -> None:
    """Read-only for all but the owner, since a hard link may stand in several trees; executables stay executable."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
        raise Retryable(
            Reason.DISK_ERROR,
            f"staged file {file.path!r} has {found.st_size} bytes, its manifest says {file.size}",
        )
    if found.st_nlink == 1:
        if layout.gid is not None and found.st_gid != layout.gid:
            give_group(disk, fd, layout.gid)
        mode = 0o755 if found.st_mode & 0o111 else 0o644
        if stat.S_IMODE(found.st_mode) != mode:
            disk.chmod(fd, mode)


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
