"""Reading trees that others may have changed: no link is ever followed, depth costs no descriptors and no recursion."""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from agent.storage.disk import open_folder

# Of linux/stat.h; the same on all architectures.
_STATX_SIZE, _STATX_BTIME, _STATX_BTIME_AT = 256, 0x800, 0x50
_STATX_FLAGS = 0x1000 | 0x100  # AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW

_libc = ctypes.CDLL(None, use_errno=True)
_libc.statx.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_char_p,
)

GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
# Of one file or folder: somebody closed it, or the disk lost it.
UNREADABLE = frozenset({errno.EACCES, errno.EIO})
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a tree, as `lstat` sees it; `path` is relative to the tree."""

    path: str
    stat: os.stat_result

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.stat.st_mode)


def open_beneath(at: int, path: str, flags: int) -> int:
    """Open `path` below a folder; a link on the way or at the end is ENOTDIR or ELOOP, `..` is EXDEV. "" is the folder itself.

    Never blocks on a FIFO.
    """
    if ".." in path.split("/"):
        raise OSError(errno.EXDEV, "path leaves its folder")
    fd = os.dup(at)
    try:
        *folders, name = path.split("/")
        for folder in folders:
            deeper = os.open(folder, _STEP, dir_fd=fd)
            os.close(fd)
            fd = deeper
        more = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        return os.open(name or ".", flags | more, dir_fd=fd)
    finally:
        os.close(fd)


def open_parent(at: int, path: str) -> tuple[int, str]:
    """The folder that holds `path`, and the last name."""
    folder, _, name = path.rpartition("/")
    return open_beneath(at, folder, _STEP), name


def walk(root: int, *, readable: bool = False) -> Iterator[Entry]:
    """Everything below an open folder, parents before children; what vanishes meanwhile is left out.

    readable: what cannot be read is left out, too.
    """
    passed = GONE | UNREADABLE if readable else GONE
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            fd = open_beneath(root, folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as exc:
            if exc.errno in passed:
                continue
            raise
        try:
            with os.scandir(fd) as entries:
                for found in entries:
                    path = f"{folder}/{found.name}" if folder else found.name
                    try:
                        entry = Entry(path, found.stat(follow_symlinks=False))
                    except OSError as exc:
                        if exc.errno in passed:
                            continue
                        raise
                    if entry.is_folder:
                        pending.append(path)
                    yield entry
        except OSError as exc:
            if exc.errno not in passed:
                raise
        finally:
            os.close(fd)


def names(at: int) -> list[str]:
    """What a folder holds; its descriptor may be shared, since the folder is opened anew."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def lstat(at: int, name: str) -> os.stat_result | None:
    """None when there is nothing."""
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return None


def birth(at: int, name: str = "") -> int | None:
    """When it was made, in ns; None where the file system does not say. "" is the folder itself. Raises `OSError`."""
    found = ctypes.create_string_buffer(_STATX_SIZE)
    if _libc.statx(at, os.fsencode(name), _STATX_FLAGS, _STATX_BTIME, found) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    (mask,) = struct.unpack_from("I", found)
    seconds, fraction = struct.unpack_from("qI", found, _STATX_BTIME_AT)
    return int(seconds * 1_000_000_000 + fraction) if mask & _STATX_BTIME else None


def is_empty_folder(at: int, name: str) -> bool:
    """False for anything else, a symlink to an empty folder included."""
    try:
        fd = open_folder(at, name)
    except OSError:
        return False
    try:
        with os.scandir(fd) as entries:
            return next(entries, None) is None
    finally:
        os.close(fd)
