"""Staged files before they are published: there, as the manifest says, readable by everybody, durable."""

import contextlib
import os
import stat
from collections.abc import Iterable
from itertools import islice

from agent.errors import Retryable
from agent.storage.disk import Disk, give_group
from agent.storage.layout import Layout
from agent.storage.tree import TreeFile
from agent.storage.walk import open_beneath
from shared.domain.reasons import Reason

# Open at a time, to be synced together.
_AT_ONCE = 64


def sync_each(disk: Disk, root: int, files: Iterable[TreeFile]) -> None:
    """One by one: each tells of its own errors, whoever was told before of those of the file system."""
    left = iter(files)
    while some := tuple(islice(left, _AT_ONCE)):
        with contextlib.ExitStack() as stack:
            fds = []
            for file in some:
                fds.append(_open_staged(root, file))
                stack.callback(os.close, fds[-1])
            disk.sync_several(fds)


def _open_staged(root: int, file: TreeFile) -> int:
    try:
        return open_beneath(root, file.path, os.O_RDONLY)
    except FileNotFoundError as exc:
        raise missing(file) from exc


def missing(file: TreeFile) -> Retryable:
    return Retryable(Reason.DISK_ERROR, f"staged file {file.path!r} is missing")


def check(file: TreeFile, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
        raise Retryable(
            Reason.DISK_ERROR,
            f"staged file {file.path!r} has {found.st_size} bytes, its manifest says {file.size}",
        )


def has_rights(layout: Layout, found: os.stat_result) -> bool:
    """What has several names may stand in several trees, and stays as it is."""
    return found.st_nlink > 1 or (
        stat.S_IMODE(found.st_mode) == _mode(found) and layout.gid in (None, found.st_gid)
    )


def set_rights(layout: Layout, disk: Disk, root: int, file: TreeFile) -> None:
    """Read-only for all but the owner, since a hard link may stand in several trees; executables stay executable."""
    fd = _open_staged(root, file)
    try:
        found = os.fstat(fd)
        check(file, found)
        if layout.gid is not None and found.st_gid != layout.gid:
            give_group(disk, fd, layout.gid)
        if stat.S_IMODE(found.st_mode) != _mode(found):
            disk.chmod(fd, _mode(found))
    finally:
        os.close(fd)


def _mode(found: os.stat_result) -> int:
    return 0o755 if found.st_mode & 0o111 else 0o644
