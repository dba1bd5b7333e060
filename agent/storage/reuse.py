"""Giving a new tree the files that a published one already has: by hard link, so no byte is read or written.

A hard link shares its content, so nobody may write to a staged file that has another name: the transfer engine sees a staged tree only
once such files are gone, but for those that are kept.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Collection, Iterator, Sequence

from agent.manifest import Algorithm, RemoteFile, safe_path
from agent.storage.disk import Disk, ensure_folder, open_folder
from agent.storage.inspection import open_good
from agent.storage.layout import Layout
from agent.storage.tree import Tree, TreeFile
from agent.storage.walk import lstat, open_parent, walk

# Digests that name a content wherever it is found; the others only confirm that the same file did not change.
NAMING = frozenset({Algorithm.SHA256, Algorithm.GIT_SHA1})
# Somebody else's file (an adopted tree, under fs.protected_hardlinks), too many names already, another mount: it is fetched then.
_CANNOT_LINK = frozenset({errno.EPERM, errno.EACCES, errno.EMLINK, errno.EXDEV})


def drop_shared(disk: Disk, into: int, *, but: Collection[str]) -> None:
    """Remove staged files that have another name somewhere: writing to them would write there."""
    shared = [entry.path for entry in walk(into) if entry.is_file and entry.stat.st_nlink > 1]
    for path in shared:
        if path in but:
            continue
        parent, name = open_parent(into, path)
        try:
            disk.unlink(parent, name)
        finally:
            os.close(parent)


def link_same(
    layout: Layout,
    disk: Disk,
    tree: Tree,
    wanted: Sequence[RemoteFile],
    into: int,
    *,
    except_: Collection[str],
) -> Iterator[TreeFile]:
    """Link the tree's good files that are what is wanted at the same path; what was staged there before is replaced."""
    by_path = {remote.path: remote for remote in wanted}
    try:
        root = open_folder(layout.models, tree.storage_key)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        for file in tree.files:
            remote = by_path.get(file.path)
            if remote is None or file.path in except_ or not confirmed(file, remote):
                continue
            if link(layout, disk, root, file, into, file.path):
                yield taken_over(file, remote)
    finally:
        os.close(root)


def taken_over(file: TreeFile, remote: RemoteFile) -> TreeFile:
    """What it has in common with what is wanted is held once: of 200,000 files that is 50 MB."""
    stated = {digest: digest for digest in remote.digests}
    digests = tuple(stated.get(digest, digest) for digest in file.digests)
    return TreeFile(
        path=remote.path,
        size=file.size,
        digests=remote.digests if digests == remote.digests else digests,
        validator=remote.validator,
        verified_by=file.verified_by,
    )


def confirmed(file: TreeFile, remote: RemoteFile) -> bool:
    """Nothing contradicts, and something confirms."""
    if remote.size not in (None, file.size):
        return False
    stored = {digest.algorithm: digest.value for digest in file.digests}
    compared = [
        stored[digest.algorithm] == digest.value
        for digest in remote.digests
        if digest.algorithm in stored
    ]
    if compared:
        return all(compared)
    return bool(remote.validator) and remote.validator == file.validator and remote.size is not None


def link(layout: Layout, disk: Disk, root: int, file: TreeFile, into: int, path: str) -> bool:
    """`into/path` becomes another name of a tree's file, at once; False where that cannot be, or the file is not as published."""
    source = open_good(root, file)
    if source is None:
        return False
    parent, name = open_parent(root, file.path)
    try:
        target, new = _parent_for(layout, disk, into, path)
        try:
            draft = f".{secrets.token_hex(8)}"
            try:
                disk.link(parent, name, target, draft)
            except OSError as exc:
                if exc.errno in _CANNOT_LINK:
                    return False
                raise
            found = lstat(target, draft)
            if found is None or not os.path.samestat(found, os.fstat(source)):
                disk.unlink(target, draft)
                return False
            disk.rename(target, draft, target, new)
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(
                    target, draft
                )  # a rename over another name of the same file does nothing
            return True
        finally:
            os.close(target)
    finally:
        os.close(parent)
        os.close(source)


def _parent_for(layout: Layout, disk: Disk, into: int, path: str) -> tuple[int, str]:
    *folders, name = safe_path(path).split("/")
    fd = os.dup(into)
    for folder in folders:
        try:
            deeper = ensure_folder(disk, fd, folder, layout.gid)
        finally:
            os.close(fd)
        fd = deeper
    return fd, name
