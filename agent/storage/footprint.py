"""How many bytes of the disk a set of files occupies, each inode counted once."""

import stat
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agent.storage.walk import Entry

# st_blocks is in units of 512 bytes on Linux, whatever the file system's block size.
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Footprint:
    """exclusive: bytes of inodes with one name. shared: inode and bytes in turn, of those with several names.

    Packed, since a tree that replaced another may share 200,000 files with it.
    """

    exclusive: int = 0
    shared: "array[int]" = field(default_factory=lambda: array("Q"))

    @property
    def pairs(self) -> Iterator[tuple[int, int]]:
        return zip(self.shared[::2], self.shared[1::2], strict=True)


def measure(entries: Iterable[Entry]) -> Footprint:
    """From `lstat` alone; folders count, links to elsewhere do not."""
    exclusive = 0
    shared = array("Q")
    seen: set[int] = set()
    for entry in entries:
        size = entry.stat.st_blocks * _BLOCK
        if entry.stat.st_nlink <= 1 or stat.S_ISDIR(entry.stat.st_mode):
            exclusive += size
        elif entry.stat.st_ino not in seen:
            seen.add(entry.stat.st_ino)
            shared.extend((entry.stat.st_ino, size))
    return Footprint(exclusive, shared)


def occupied(kept: Iterable[Footprint], gone: Iterable[Footprint]) -> tuple[int, int]:
    """Bytes of all together, and those that come free when everything in `gone` is deleted and everything in `kept` stays."""
    seen: set[int] = set()
    staying = _not_yet(kept, seen)
    freed = _not_yet(gone, seen)
    return staying + freed, freed


def _not_yet(footprints: Iterable[Footprint], seen: set[int]) -> int:
    """Bytes of what has not been seen; it has then. An inode that several name is counted once."""
    total = 0
    for one in footprints:
        total += one.exclusive
        for inode, size in one.pairs:
            if inode not in seen:
                seen.add(inode)
                total += size
    return total
