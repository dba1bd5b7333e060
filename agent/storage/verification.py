"""Reading a published tree again, in full, against its digests."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace

from agent.manifest import Algorithm
from agent.storage.disk import open_folder
from agent.storage.errors import Cancelled
from agent.storage.inspection import OWN_TROUBLE
from agent.storage.tree import Tree, TreeFile
from agent.storage.walk import open_beneath
from agent.transfer.checksums import HashingCancelled, hash_range, new_hasher

_ORDER = list(Algorithm)


@dataclass(frozen=True, slots=True)
class Verification:
    """damaged: paths whose content is not what was published. refreshed: the files, where only a modification time had changed."""

    damaged: tuple[str, ...]
    refreshed: tuple[TreeFile, ...] | None


def verify(models: int, tree: Tree, *, cancelled: Callable[[], bool]) -> Verification:
    """Raises `Cancelled`, and `OSError` for what is the agent's own trouble."""
    try:
        root = open_folder(models, tree.storage_key)
    except (FileNotFoundError, NotADirectoryError):
        return Verification(tuple(file.path for file in tree.files), None)
    try:
        seen = [(file, _read_again(root, file, cancelled)) for file in tree.files]
    finally:
        os.close(root)
    damaged = tuple(sorted(file.path for file, found in seen if found is None))
    files = tuple(found or file for file, found in seen)
    return Verification(damaged, files if files != tuple(tree.files) else None)


def _read_again(root: int, file: TreeFile, cancelled: Callable[[], bool]) -> TreeFile | None:
    """The file, with its present modification time, when its content is the published one; else None."""
    try:
        fd = open_beneath(root, file.path, os.O_RDONLY)
    except OSError as exc:
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
        return replace(file, mtime_ns=found.st_mtime_ns)
    except OSError as exc:
        if exc.errno == errno.EIO:
            return None
        raise
    finally:
        os.close(fd)


def _digest(fd: int, algorithm: Algorithm, size: int, cancelled: Callable[[], bool]) -> str:
    hasher = new_hasher(algorithm, size)
    try:
        hash_range(fd, 0, size, (hasher,), cancelled)
    except HashingCancelled as exc:
        raise Cancelled from exc
    return hasher.hexdigest()
