"""How many bytes of the disk a set of files occupies, each inode counted once."""

import stat
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain

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

    @classmethod
    def of(cls, exclusive: int, shared: Mapping[int, int]) -> "Footprint":
        return cls(exclusive, array("Q", chain.from_iterable(shared.items())))

    @property
    def pairs(self) -> Iterator[tuple[int, int]]:
        return zip(self.shared[::2], self.shared[1::2], strict=True)


def measure(entries: Iterable[Entry]) -> Footprint:
    """From `lstat` alone; folders count, links to elsewhere do not."""
    exclusive = 0
    shared: dict[int, int] = {}
    for entry in entries:
        size = entry.stat.st_blocks * _BLOCK
        if entry.stat.st_nlink > 1 and not stat.S_ISDIR(entry.stat.st_mode):
            shared[entry.stat.st_ino] = size
        else:
            exclusive += size
    return Footprint.of(exclusive, shared)


def total(footprints: Iterable[Footprint]) -> Footprint:
    """The union: an inode that several name is counted once."""
    exclusive = 0
    shared: dict[int, int] = {}
    for one in footprints:
        exclusive += one.exclusive
        shared.update(one.pairs)
    return Footprint.of(exclusive, shared)


def bytes_of(footprint: Footprint) -> int:
    return footprint.exclusive + sum(footprint.shared[1::2])


def freed_without(gone: Footprint, kept: Footprint) -> int:
    """Bytes that come free when everything in `gone` is deleted and everything in `kept` stays."""
    staying = set(kept.shared[::2])
    return gone.exclusive + sum(size for inode, size in gone.pairs if inode not in staying)
