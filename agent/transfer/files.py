"""Files that are being filled, below a folder that must never be left."""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent.errors import FetchError, Retryable, SourceChanged, Stalled
from agent.transfer.checksums import Hasher
from shared.domain.reasons import Reason

_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SYNC_FILE_RANGE_WRITE: Final = 2
_PUNCH_HOLE: Final = 1 | 2  # and keep the size
_FICLONERANGE: Final = 0x4020940D
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNSUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turns an OSError of the block into a FetchError about writing `what`."""
    try:
        yield
    except OSError as exc:
        raise _translated(exc, what) from exc


def _translated(exc: OSError, what: str) -> FetchError:
    if exc.errno in _NO_SPACE:
        return Stalled(Reason.INSUFFICIENT_STORAGE, f"{what}: the disk is full")
    text = os.strerror(exc.errno) if exc.errno is not None else str(exc)
    return Retryable(Reason.DISK_ERROR, f"{what}: {text}")


@contextmanager
def opened(root: int, path: str) -> Iterator[int]:
    """A descriptor of the file below the open folder `root`; it and its folders are created as needed.

    No link is followed. What stands in the way (a link, a device, a file with other names, which is somebody else's
    content too) is unlinked, never written to. Raises OSError.
    """
    *folders, name = path.split("/")
    fd = os.dup(root)
    try:
        for folder in folders:
            deeper = _enter(fd, folder)
            os.close(fd)
            fd = deeper
        file = _open_file(fd, name)
    finally:
        os.close(fd)
    try:
        yield file
    finally:
        os.close(file)


class Folders:
    """Makes small files below the open folder `root`, as `opened` does; the last file's folder stays open for the next."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._path: str | None = None
        self._fd = -1

    def write(self, path: str, content: memoryview) -> None:
        """The file with this content and nothing else. Raises OSError."""
        folder, _, name = path.rpartition("/")
        if folder != self._path:
            self._go(folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(name, flags, 0o664, dir_fd=self._fd)
        except FileExistsError:
            file = _open_file(self._fd, name)
            os.ftruncate(file, 0)
        try:
            while content:
                content = content[os.write(file, content) :]
        finally:
            os.close(file)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd, self._path = -1, None

    def _go(self, folder: str) -> None:
        self.close()
        self._fd = os.dup(self._root)
        for name in folder.split("/") if folder else ():
            deeper = _enter(self._fd, name)
            os.close(self._fd)
            self._fd = deeper
        self._path = folder


def _enter(at: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=at)
    except FileNotFoundError:
        pass
    except OSError as exc:
        if exc.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        os.unlink(name, dir_fd=at)
    # Another thread may be faster.
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o775, dir_fd=at)
    return os.open(name, _FOLDER, dir_fd=at)


def _open_file(at: int, name: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(name, flags, 0o664, dir_fd=at)
    except OSError as exc:
        if exc.errno == errno.EISDIR:
            # Left by an attempt in which the source had a folder of this name.
            shutil.rmtree(name, dir_fd=at)
        elif exc.errno in (errno.ELOOP, errno.ENXIO):
            os.unlink(name, dir_fd=at)
        else:
            raise
        return os.open(name, flags | os.O_EXCL, 0o664, dir_fd=at)
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
        return fd
    os.close(fd)
    os.unlink(name, dir_fd=at)
    return os.open(name, flags | os.O_EXCL, 0o664, dir_fd=at)


def reserve(fd: int, size: int, *, kept: int) -> None:
    """Give the file its size and its blocks, so that a full disk shows before the first byte. Raises OSError.

    kept: bytes that stay when the disk is full, because some of them came before.
    """
    if os.fstat(fd).st_size != size:
        os.ftruncate(fd, size)
    if size and _libc.fallocate(fd, 0, 0, size) != 0:
        code = ctypes.get_errno()
        if code not in _UNSUPPORTED:
            # What was allocated before the disk was full is given back.
            os.ftruncate(fd, kept)
            raise OSError(code, os.strerror(code))


def trim(fd: int, size: int) -> None:
    """Cut off what an earlier, longer version of a file left. Raises OSError."""
    if os.fstat(fd).st_size > size:
        os.ftruncate(fd, size)


def give_up(fd: int, start: int, size: int) -> None:
    """Have other blocks for these bytes when they are written next, where the file system can."""
    _libc.fallocate(fd, _PUNCH_HOLE, start, size)


def start_writeback(fd: int, start: int, size: int) -> None:
    """Ask the kernel to begin writing these bytes to the disk, so that the fsync at the end finds little left."""
    # Advice only: where it is not supported, the fsync takes longer.
    _libc.sync_file_range(fd, start, size, _SYNC_FILE_RANGE_WRITE)


@contextmanager
def source_of(path: Path, what: str) -> Iterator[int]:
    """A descriptor of a file that is copied. Raises SourceChanged, OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise SourceChanged(f"{what} is gone") from exc
    try:
        yield fd
    finally:
        os.close(fd)


def share(source: int, fd: int, start: int, end: int) -> bool:
    """Have the source's blocks at these bytes too, where the file system can; raises OSError for what else goes wrong.

    Not copy_file_range: where no blocks are shared it copies what has to be read for the digests anyway.
    """
    if start >= end:
        return False
    try:
        fcntl.ioctl(fd, _FICLONERANGE, struct.pack("qQQQ", source, start, end - start, start))
    except OSError as exc:
        if exc.errno in (*_UNSUPPORTED, errno.EXDEV, errno.ENOTTY, errno.EPERM):
            return False
        raise
    return True


def unchanged(before: os.stat_result, path: Path, *, what: str) -> None:
    """Raises SourceChanged when a local source was written to while it was copied."""
    try:
        now = path.stat()
    except FileNotFoundError as exc:
        raise SourceChanged(f"{what} is gone") from exc
    if (now.st_size, now.st_mtime_ns, now.st_ino) != (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    ):
        raise SourceChanged(f"{what} changed while it was copied")


def feed(hashers: Sequence[Hasher], data: memoryview) -> None:
    for hasher in hashers:
        hasher.update(data)
