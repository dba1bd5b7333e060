"""Whether bytes go through the page cache: it keeps weights warm for the first pod, but costs a copy and evicts others."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class PageCache:
    """What all that is fetched at once shares. For one event loop."""

    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        # Bytes of what is being fetched, and what the cache could have.
        self._size = self._memory = 0

    @contextmanager
    def shared(self, size: int) -> Iterator[Callable[[], bool]]:
        """While `size` bytes are fetched: whether to write past it now, to be asked by any thread before each write.

        Who was told so once stays with it: the others' bytes do not leave the cache when they end.
        """
        self._memory = cache_memory()
        self._size += size
        past = False

        def is_past() -> bool:
            nonlocal past
            past = past or past_cache(self._writing, self._size, memory=self._memory)
            return past

        try:
            yield is_past
        finally:
            self._size -= size


class Writer:
    """Writes to an open file, past the page cache while that is asked for and possible. For one thread."""

    def __init__(self, fd: int, *, direct: Callable[[], bool]) -> None:
        self._fd = fd
        self._wanted = direct
        self._possible = True
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
        fits = whole and offset % _ALIGNMENT == 0
        if fits and self._possible and self._wanted() and self._switch(direct=True):
            try:
                _write_at(self._fd, data[:whole], offset)
            except OSError as exc:
                # Larger blocks than ours, or a file system that says so only now.
                if exc.errno != errno.EINVAL:
                    raise
                self._possible = False
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
                self._possible = False
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
