"""Reading a published tree again, in full, against its digests."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import assert_never

from awscrt import checksums

from agent.manifest import Algorithm
from agent.storage.disk import open_folder
from agent.storage.errors import Cancelled
from agent.storage.inspection import OWN_TROUBLE
from agent.storage.tree import Tree, TreeFile
from agent.storage.walk import open_beneath

_CHUNK = 1 << 20
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
    hashed = _hash(algorithm, size)
    while chunk := os.read(fd, _CHUNK):
        if cancelled():
            raise Cancelled
        hashed.update(chunk)
    return hashed.hexdigest()


class _Crc:
    def __init__(self, step: Callable[[bytes, int], int], width: int) -> None:
        self._step = step
        self._width = width
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = self._step(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:0{self._width}x}"


def _hash(algorithm: Algorithm, size: int) -> "hashlib._Hash | _Crc":
    match algorithm:
        case Algorithm.SHA256:
            return hashlib.sha256()
        case Algorithm.GIT_SHA1:
            return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        case Algorithm.MD5:
            return hashlib.md5(usedforsecurity=False)
        case Algorithm.CRC64NVME:
            return _Crc(checksums.crc64nvme, 16)
        case Algorithm.CRC32C:
            return _Crc(checksums.crc32c, 8)
        case Algorithm.CRC32:
            return _Crc(checksums.crc32, 8)
    assert_never(algorithm)
