"""Many files are made durable by one `syncfs`: an fsync of each costs a thread's turn each, even when there is nothing left to write.

It vouches for them only where it tells of everything that could not be written since the store opened. Linux does so from 5.8 on,
to whoever had a descriptor open by then, and once: after the first error the store asks each file again, which still has its own.
"""

import ctypes
import os
import platform
import re
import struct
import threading
from pathlib import Path

from agent.storage.disk import Disk
from agent.storage.layout import Layout
from agent.storage.walk import birth, lstat, names

_MANY_FILES = 32
# What others wrote and no disk has yet is waited for, too: as many bytes as the files have, and what takes less than a second.
_OTHERS_BYTES = 64 << 20
_PAGE = 4096
_FIRST_TO_REPORT = (5, 8)
# ext2 to ext4, XFS and Btrfs, as linux/magic.h has them. FUSE, NFS and overlays may answer before, or without, the disk.
_TRUSTED = frozenset({0xEF53, 0x58465342, 0x9123683E})
_STATFS_SIZE = 256

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fstatfs.argtypes = (ctypes.c_int, ctypes.c_char_p)


class Durability:
    """Of what is staged in one store; opened with it, before anything is written."""

    def __init__(self, layout: Layout, disk: Disk) -> None:
        self._disk = disk
        self._fd = layout.private
        self._trusted = _tells_all(self._fd)
        self._before = _staged(layout)
        self._one_at_a_time = threading.Lock()

    def sync(self, stage: int, *, files: int, size: int) -> bool:
        """Whether all that was written below this folder of staging is durable now; else nothing is known."""
        found = os.fstat(stage)
        if files < _MANY_FILES or found.st_dev != os.fstat(self._fd).st_dev:
            return False
        if not _is_ours(files, size):
            return False
        return self._sync_all() and (found.st_ino, birth(stage)) not in self._before

    def ahead(self, *, files: int, size: int) -> None:
        """What has been written so far goes to the disk, where that may be asked for at all; nothing is promised."""
        if self._trusted and _is_ours(files, size):
            self._sync_all()

    def _sync_all(self) -> bool:
        """Whether all that was written since the opening is durable."""
        # An error is told once. Who comes second must know that it was.
        with self._one_at_a_time:
            try:
                self._disk.sync_all(self._fd)
            except OSError:
                self._trusted = False
            return self._trusted


def _staged(layout: Layout) -> frozenset[tuple[int, int | None]]:
    """Folders of staging that an agent before this one may have written to, and whose errors it may have been told.

    With when they were made: a later one may get the same inode.
    """
    found = ((lstat(layout.staging, name), name) for name in names(layout.staging))
    return frozenset(
        (each.st_ino, birth(layout.staging, name)) for each, name in found if each is not None
    )


def _tells_all(fd: int) -> bool:
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    if version is None or (int(version[1]), int(version[2])) < _FIRST_TO_REPORT:
        return False
    found = ctypes.create_string_buffer(_STATFS_SIZE)
    if _libc.fstatfs(fd, found) != 0:
        return False
    (kind,) = struct.unpack_from("l", found)
    return kind in _TRUSTED


def _is_ours(files: int, size: int) -> bool:
    """Whether hardly anybody else's bytes wait for a disk beside those of so many files."""
    return _unwritten() <= 2 * (size + files * _PAGE) + _OTHERS_BYTES


def _unwritten() -> int:
    """Bytes that wait for any disk of this machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return sum(
        int(line.split()[1]) << 10 for line in lines if line.startswith(("Dirty:", "Writeback:"))
    )
