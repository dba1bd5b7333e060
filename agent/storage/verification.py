"""Reading a published tree again, in full, against its digests."""

import errno
import os
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass

from agent.manifest import Algorithm
from agent.storage.errors import Cancelled
from agent.storage.inspection import OWN_TROUBLE, open_tree
from agent.storage.tree import Tree, TreeFile
from agent.storage.walk import open_beneath
from agent.transfer.checksums import CHUNK, HashingCancelled, hash_range, new_hasher

_ORDER = list(Algorithm)


@dataclass(frozen=True, slots=True)
class Verification:
    """damaged: paths whose content is not what was published. refreshed: the files, where only a modification time had changed."""

    damaged: tuple[str, ...]
    refreshed: tuple[TreeFile, ...] | None


def verify(
    models: int,
    tree: Tree,
    *,
    cancelled: Callable[[int], bool],
    paths: Collection[str] | None = None,
    past_cache: bool = False,
) -> Verification:
    """All files, or those at `paths`. past_cache: as they are on the disk now, whatever the page cache holds.

    `cancelled` is told before up to a MiB is read, how much, and may take its time. Raises `Cancelled`, and `OSError` for what is
    the agent's own trouble.
    """
    chosen = (file for file in tree.files if paths is None or file.path in paths)
    root = open_tree(models, tree.storage_key)
    if root is None:
        return Verification(tuple(sorted(file.path for file in chosen)), None)
    flags = os.O_RDONLY | (os.O_DIRECT if past_cache else 0)
    damaged: list[str] = []
    touched: dict[str, TreeFile] = {}
    try:
        for file in chosen:
            found = _read_again(root, file, flags, cancelled)
            if found is None:
                damaged.append(file.path)
            elif found != file:
                touched[file.path] = found
    finally:
        os.close(root)
    now = tuple(touched.get(file.path, file) for file in tree.files) if touched else None
    return Verification(tuple(sorted(damaged)), now)


def _read_again(
    root: int, file: TreeFile, flags: int, cancelled: Callable[[int], bool]
) -> TreeFile | None:
    """The file, with its present modification time, when its content is the published one; else None."""
    try:
        fd = open_beneath(root, file.path, flags)
    except OSError as exc:
        if exc.errno == errno.EINVAL and flags != os.O_RDONLY:  # a file system without O_DIRECT
            return _read_again(root, file, os.O_RDONLY, cancelled)
        if exc.errno in OWN_TROUBLE:
            raise
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
            return None
        strongest = min(file.digests, key=lambda d: _ORDER.index(d.algorithm), default=None)
        if strongest is None:
            return file if found.st_mtime_ns == file.mtime_ns else None
        if _digest(fd, strongest.algorithm, found.st_size, cancelled) != strongest.value:
            return None
        if os.fstat(fd).st_mtime_ns != found.st_mtime_ns:
            return None
        return file.at(found.st_mtime_ns)
    except OSError as exc:
        if exc.errno == errno.EIO:
            return None
        raise
    finally:
        os.close(fd)


def _digest(fd: int, algorithm: Algorithm, size: int, cancelled: Callable[[int], bool]) -> str:
    hasher = new_hasher(algorithm, size)
    piece = min(size, CHUNK)
    try:
        hash_range(fd, 0, size, (hasher,), lambda: cancelled(piece))
    except HashingCancelled as exc:
        raise Cancelled from exc
    return hasher.hexdigest()
