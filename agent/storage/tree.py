"""What is published: values that the store hands out and takes."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, overload

from agent.manifest import Digest, Strength


@dataclass(frozen=True, slots=True)
class TreeFile:
    """A file of a published tree.

    digests: of the content as it was written, whatever the source stated. validator: the source's name for this version.
    mtime_ns: as on disk; the store fills it in when it publishes.
    """

    path: str
    size: int
    digests: tuple[Digest, ...]
    validator: str
    verified_by: Strength
    mtime_ns: int = 0

    def at(self, mtime_ns: int) -> "TreeFile":
        """The same with this time; `replace` takes twice as long."""
        return TreeFile(
            self.path, self.size, self.digests, self.validator, self.verified_by, mtime_ns
        )


class Load(Protocol):
    """Reads files from a manifest; of the given sizes only, or all."""

    def __call__(self, sizes: Collection[int] | None = None, /) -> Iterator[TreeFile]: ...


class StoredFiles(Sequence[TreeFile]):
    """A published tree's files, read from its manifest, some at a time, whenever they are walked: 200,000 would be 120 MB."""

    __slots__ = ("_count", "_load", "total_size")

    def __init__(self, load: Load, *, count: int, total_size: int) -> None:
        self._load = load
        self._count = count
        self.total_size = total_size

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> TreeFile: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TreeFile, ...]: ...
    def __getitem__(self, index: int | slice) -> TreeFile | tuple[TreeFile, ...]:
        return tuple(self._load())[index]

    def __iter__(self) -> Iterator[TreeFile]:
        return self._load()

    def of_sizes(self, sizes: Collection[int]) -> Iterator[TreeFile]:
        """Those with one of these sizes; costs a tenth of walking all when they are few."""
        return self._load(sizes)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StoredFiles | tuple):
            return len(self) == len(other) and tuple(self) == tuple(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self._count, self.total_size))


@dataclass(frozen=True, slots=True)
class Tree:
    """A model as it is, or will be, under `models/<storage_key>`.

    selections: JSON-able; the patterns whose union was published. files: a tuple, or read on demand when the tree
    comes from the store (`size` and `len(files)` cost nothing then). trust: "cluster" or a namespace.
    """

    storage_key: str
    uri: str
    revision: str
    selections: Any
    files: Sequence[TreeFile]
    published_at: datetime
    verified_by: Strength
    trust: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        if isinstance(self.files, StoredFiles):
            return self.files.total_size
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Staging:
    """Folders in which a copy grows, on the file system of the published trees; they survive a crash.

    tree: files at their paths. journal: the transfer engine's own. archive: an archive before it is unpacked.
    """

    tree: Path
    journal: Path
    archive: Path


@dataclass(frozen=True, slots=True)
class Usage:
    """The disk, in bytes. used: blocks that the store occupies, hard links counted once.

    reclaimable: the part of `used` that replaced and evicted trees still hold. inodes_available: None where the file system
    makes them as needed.
    """

    capacity: int
    available: int
    used: int
    reclaimable: int
    inodes_available: int | None
