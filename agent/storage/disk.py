"""The syscall border: every call that changes the disk is a method of `Disk`, so that tests can stop the world between any two.

All names are relative to an open folder; no link is followed in the last component, and there are no others.
"""

import contextlib
import ctypes
import functools
import logging
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import wait

from agent.daemons import Daemons

# Not structlog, whose import `pull` would wait for; a node routes both the same way.
log = logging.getLogger(__name__)

_RENAME_EXCHANGE = 2
# A disk makes one flush of what is asked of it at once: 5,000 small files that syncfs has written take 0.1 to 0.2 s of fsync by four or
# by eight threads, and by one 0.3 s at rest and 1.5 to 4.6 s while others write (ext4, NVMe).
_SYNCS = 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.renameat2.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)

FOLDER_MODE = 0o2775
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(at: int | None, name: str | os.PathLike[str]) -> int:
    """A descriptor of a folder that can be listed; refuses a symlink."""
    return os.open(name, _FOLDER, dir_fd=at)


@contextlib.contextmanager
def opened_folder(name: str | os.PathLike[str], *, at: int | None = None) -> Iterator[int]:
    """The same while the block runs."""
    fd = open_folder(at, name)
    try:
        yield fd
    finally:
        os.close(fd)


class Disk:
    """Raises plain `OSError`; each method is one step that a crash may come before or after."""

    def mkdir(self, at: int, name: str, mode: int) -> None:
        os.mkdir(name, mode, dir_fd=at)

    def create(self, at: int, name: str, mode: int = 0o644) -> int:
        """A new file, open for writing; the name must not be taken."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, mode, dir_fd=at)

    def write(self, fd: int, data: bytes | memoryview) -> None:
        """All of the data."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def sync(self, fd: int) -> None:
        """One file or folder becomes durable."""
        os.fsync(fd)

    def sync_several(self, fds: Sequence[int]) -> None:
        """The same for several files at once; on an error some may be durable."""
        asked = [
            _syncing.submit(_sync_each, fds[first::_SYNCS])
            for first in range(min(_SYNCS, len(fds)))
        ]
        wait(asked)
        for each in asked:
            each.result()

    def sync_all(self, fd: int) -> None:
        """The whole file system of `fd` becomes durable."""
        _check(_libc.syncfs(fd))

    def rename(self, at: int, name: str, to: int, new: str) -> None:
        """Replaces a file, or an empty folder, atomically; a folder with content stays (ENOTEMPTY)."""
        os.rename(name, new, src_dir_fd=at, dst_dir_fd=to)

    def exchange(self, at: int, name: str, other: int, other_name: str) -> None:
        """Both names change places in one step; EINVAL where the file system cannot."""
        _check(
            _libc.renameat2(at, os.fsencode(name), other, os.fsencode(other_name), _RENAME_EXCHANGE)
        )

    def link(self, at: int, name: str, to: int, new: str) -> None:
        os.link(name, new, src_dir_fd=at, dst_dir_fd=to, follow_symlinks=False)

    def unlink(self, at: int, name: str) -> None:
        os.unlink(name, dir_fd=at)

    def rmdir(self, at: int, name: str) -> None:
        os.rmdir(name, dir_fd=at)

    def chmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def chgrp(self, fd: int, gid: int) -> None:
        os.fchown(fd, -1, gid)


_syncing = Daemons(_SYNCS, name="sync")


def _sync_each(fds: Sequence[int]) -> None:
    for fd in fds:
        os.fsync(fd)


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def write_durably(disk: Disk, at: int, name: str, data: Iterable[bytes]) -> None:
    """Old content or new, never a part; durable on return. data: in pieces. A crash may leave `.<name>.<random>`."""
    draft = f".{name}.{secrets.token_hex(4)}"
    fd = disk.create(at, draft)
    try:
        for piece in data:
            disk.write(fd, piece)
        disk.sync(fd)
        disk.rename(at, draft, at, name)
    except OSError:
        with contextlib.suppress(OSError):
            disk.unlink(at, draft)
        raise
    finally:
        os.close(fd)
    disk.sync(at)


def ensure_folder(disk: Disk, at: int, name: str, gid: int | None) -> int:
    """A descriptor of the folder, created setgid and with the group where we may; an existing one is left as it is."""
    try:
        disk.mkdir(at, name, FOLDER_MODE & 0o777)
    except FileExistsError:
        return open_folder(at, name)
    fd = open_folder(at, name)
    try:
        own_folder(disk, fd, gid)
    except OSError:
        os.close(fd)
        raise
    return fd


def own_folder(disk: Disk, fd: int, gid: int | None) -> None:
    """Group first: changing it clears the setgid bit."""
    if gid is not None and os.fstat(fd).st_gid != gid:
        give_group(disk, fd, gid)
    disk.chmod(fd, FOLDER_MODE)


def give_group(disk: Disk, fd: int, gid: int) -> None:
    """A group that we may not give is no error, and is logged once."""
    try:
        disk.chgrp(fd, gid)
    except PermissionError:
        _warn_of_group(gid)


@functools.cache
def _warn_of_group(gid: int) -> None:
    log.warning(
        "files keep their group: the pod is no member of the one in gid", extra={"gid": gid}
    )
