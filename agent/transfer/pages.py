"""Whether bytes go through the page cache: it keeps weights warm for the first pod, but costs a copy and evicts others."""

import errno
import fcntl
import os
from enum import StrEnum
from pathlib import Path
from typing import Final

# Beyond about a tenth of memory the kernel lets writers wait for the disk anyway (vm.dirty_background_ratio).
_SHARE_OF_MEMORY: Final = 8
# What file systems and disks ask of offset, length and address.
_ALIGNMENT: Final = 4096
_MEMINFO: Final = Path("/proc/meminfo")
# A container's own limit, which its page cache counts against: cgroup v2, v1.
_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class Writing(StrEnum):
    """How large files are written. AUTO: through the page cache while all that is being fetched fits into an eighth of it."""

    AUTO = "auto"
    DIRECT = "direct"
    BUFFERED = "buffered"


def past_cache(writing: Writing, size: int, *, memory: int) -> bool:
    """size: bytes that are to be written. memory: what the page cache could have."""
    if writing is Writing.AUTO:
        return size > memory // _SHARE_OF_MEMORY
    return writing is Writing.DIRECT


def cache_memory() -> int:
    """Bytes that the kernel could give to the page cache of this process; 0 when it does not tell."""
    available = 0
    for line in _MEMINFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            available = int(value.split()[0]) << 10
    for limit in _LIMITS:
        try:
            text = limit.read_text().strip()
        except OSError:
            continue
        return min(available, int(text)) if text.isdigit() else available
    return available


class Writer:
    """Writes to an open file, past the page cache where that is asked for and possible. For one thread."""

    def __init__(self, fd: int, *, direct: bool) -> None:
        self._fd = fd
        self._wanted = direct
        self._direct = False

    @property
    def is_direct(self) -> bool:
        """How the last bytes went."""
        return self._direct

    def write(self, data: memoryview, offset: int) -> None:
        """All of the data. Raises OSError.

        Only whole blocks at block boundaries, in memory as on disk, can go past the cache; the rest does not.
        """
        whole = len(data) - len(data) % _ALIGNMENT
        if self._wanted and whole and offset % _ALIGNMENT == 0 and self._switch(direct=True):
            try:
                _write_at(self._fd, data[:whole], offset)
            except OSError as exc:
                # Larger blocks than ours, or a file system that says so only now.
                if exc.errno != errno.EINVAL:
                    raise
                self._wanted = False
            else:
                data, offset = data[whole:], offset + whole
        if data:
            self._switch(direct=False)
            _write_at(self._fd, data, offset)

    def _switch(self, *, direct: bool) -> bool:
        if direct != self._direct:
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            flags = flags | os.O_DIRECT if direct else flags & ~os.O_DIRECT
            try:
                fcntl.fcntl(self._fd, fcntl.F_SETFL, flags)
            except OSError as exc:
                if exc.errno != errno.EINVAL:
                    raise
                self._wanted = False
                return False
            self._direct = direct
        return True


def _write_at(fd: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(fd, data, offset)
        data = data[count:]
        offset += count


def forget(fd: int, start: int, end: int) -> None:
    """Give up the page cache of bytes that are on disk already; advice only."""
    os.posix_fadvise(fd, start, end - start, os.POSIX_FADV_DONTNEED)
