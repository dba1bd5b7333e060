"""How many bytes of the disk a set of files occupies, each inode counted once."""

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.storage.walk import Entry

# st_blocks is in units of 512 bytes on Linux, whatever the file system's block size.
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Footprint:
    """exclusive: bytes of inodes with one name. shared: inode → bytes, of those with several names."""

    exclusive: int = 0
    shared: Mapping[int, int] = field(default_factory=dict)


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
    return Footprint(exclusive, shared)


def total(footprints: Iterable[Footprint]) -> Footprint:
    """The union: an inode that several name is counted once."""
    exclusive = 0
    shared: dict[int, int] = {}
    for one in footprints:
        exclusive += one.exclusive
        shared.update(one.shared)
    return Footprint(exclusive, shared)


def bytes_of(footprint: Footprint) -> int:
    return footprint.exclusive + sum(footprint.shared.values())


def freed_without(gone: Footprint, kept: Footprint) -> int:
    """Bytes that come free when everything in `gone` is deleted and everything in `kept` stays."""
    return gone.exclusive + sum(
        size for inode, size in gone.shared.items() if inode not in kept.shared
    )
