"""Unpacking an archive into a staged tree. Everything in an archive is untrusted.

Names go through `safe_path`; every file is created anew (O_EXCL) below folders that are opened without following links, so nothing is
ever written outside the folder. Bytes, entries and the stream itself are counted while they are written, whatever headers claim.

Links stay inside: a symlink that resolves to a file or folder of the same archive becomes hard links to these files, all others are
refused. A published tree so consists of plain files only: nothing in it can be followed to elsewhere, on this node or
in the pod that mounts it, and a file that several names share takes its space once.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from agent.manifest import MOST_FILES, Algorithm, ArchiveKind, Digest, Strength, safe_path
from agent.storage import links, tar, trash, zip
from agent.storage.disk import Disk, ensure_folder, open_folder
from agent.storage.errors import translated
from agent.storage.member import Kind, Member, invalid, shown, too_large
from agent.storage.streams import Bounded, Gunzip
from agent.storage.tree import TreeFile
from agent.storage.walk import open_parent
from agent.transfer.checksums import new_hasher

_DIGESTS = (Algorithm.SHA256, Algorithm.CRC32C)
# What a tar may hold besides content: per entry two headers and their padding, and once a few extended headers.
_STREAM_PER_ENTRY = 4096
_STREAM_EXTRA = 4 << 20


def unpack(
    archive: Path,
    kind: ArchiveKind,
    into: Path,
    *,
    limit_bytes: int,
    max_entries: int = MOST_FILES,
    cancelled: threading.Event,
    verified_by: Strength = Strength.SIZE,
    validator: str = "",
    disk: Disk | None = None,
) -> tuple[TreeFile, ...]:
    """The files, hashed while they were written; `verified_by` and `validator` are the archive's own.

    What an earlier attempt left in `into` is removed first. Nothing is durable yet: publishing sees to that. Raises `Stalled` naming the
    entry (UnsafePath, ArchiveInvalid, ArchiveTooLarge, InsufficientStorage), `Retryable` for the disk, `Cancelled`.
    """
    disk = disk or Disk()
    with translated("unpacking"):
        root = open_folder(None, into)
        try:
            trash.empty(disk, root, stopped=cancelled.is_set)
            unpacking = Unpacking(disk, root, limit_bytes, max_entries)
            with archive.open("rb") as packed:
                found = members(packed, kind, limit_bytes, max_entries, cancelled)
                unpacking.add(found, verified_by, validator)
            return unpacking.finish()
        finally:
            os.close(root)


def members(
    packed: BinaryIO,
    kind: ArchiveKind,
    limit_bytes: int,
    max_entries: int,
    cancelled: threading.Event,
) -> Iterator[Member]:
    """The entries of an open archive, whatever it is; raises as `unpack` does."""
    if kind is ArchiveKind.ZIP:
        return zip.members(packed, cancelled=cancelled.is_set)
    stream = Gunzip(packed) if kind is ArchiveKind.TAR_GZ else packed
    allowed = limit_bytes + max_entries * _STREAM_PER_ENTRY + _STREAM_EXTRA
    return tar.members(Bounded(stream, limit=allowed, cancelled=cancelled.is_set))


class Unpacking:
    """Archives on their way into one folder, within one limit."""

    def __init__(self, disk: Disk, root: int, limit_bytes: int, max_entries: int) -> None:
        self._disk = disk
        self._root = root
        self._limit = limit_bytes
        self._left = limit_bytes
        self._max_entries = max_entries
        self._entries = 0
        self._verified_by = Strength.SIZE
        self._validator = ""
        self._files: dict[str, TreeFile] = {}
        self._folders: set[str] = {""}
        self._links: dict[str, str] = {}

    @property
    def files(self) -> frozenset[str]:
        """Paths of files and links so far."""
        return frozenset((*self._files, *self._links))

    @property
    def folders(self) -> frozenset[str]:
        return frozenset(self._folders)

    def add(self, found: Iterator[Member], verified_by: Strength, validator: str) -> None:
        """The entries of one archive; `verified_by` and `validator` are its own."""
        self._verified_by, self._validator = verified_by, validator
        for member in found:
            self._count(member.name)
            with translated(f"unpacking entry {shown(member.name)}"):
                self._add(member)

    def place(self, folder: int, file: TreeFile) -> None:
        """A file that came as it is: linked from below the open `folder`, where its path is the same."""
        self._count(file.path)
        if file.path in self._files or file.path in self._folders:
            raise invalid(f"entry {shown(file.path)} stands in it twice")
        at, name = open_parent(folder, file.path)
        try:
            to = self._folder(file.path.rpartition("/")[0])
            try:
                self._disk.link(at, name, to, name)
            finally:
                os.close(to)
        finally:
            os.close(at)
        self._files[file.path] = file

    def finish(self) -> tuple[TreeFile, ...]:
        """All files, once symlinks have become what they lead to."""
        symlinks, self._links = self._links, {}
        for path, target in links.resolve(symlinks, self._files.keys(), self._folders):
            self._count(path)
            with translated(f"unpacking link {shown(path)}"):
                self._link(path, target)
        if not self._files:
            raise invalid("it holds no file")
        return tuple(self._files.values())

    def _add(self, member: Member) -> None:
        if member.kind is Kind.FOLDER:
            os.close(self._folder(_inside(member.name)))
            return
        path = safe_path(member.name.removeprefix("./"))
        if path in self._files or path in self._links:
            raise invalid(f"entry {shown(path)} stands in it twice")
        if path in self._folders:
            raise invalid(f"entry {shown(path)} is both a file and a folder")
        match member.kind:
            case Kind.FILE:
                self._write(path, member)
            case Kind.HARDLINK:
                target = member.target.removeprefix("./")
                if target not in self._files:
                    raise invalid(
                        f"entry {shown(path)} is a link to {shown(target)}, which is no earlier file"
                    )
                self._link(path, target)
            case Kind.SYMLINK:
                os.close(self._folder(path.rpartition("/")[0]))
                self._links[path] = member.target

    def _count(self, name: str) -> None:
        self._entries += 1
        if self._entries > self._max_entries:
            raise too_large(
                f"entry {shown(name)} is one more than the {self._max_entries} that it may hold"
            )

    def _folder(self, path: str) -> int:
        """A descriptor of the folder below the root, made with its parents."""
        fd = os.dup(self._root)
        done = ""
        for name in filter(None, path.split("/")):
            done = f"{done}/{name}" if done else name
            try:
                deeper = self._subfolder(fd, name, done)
            finally:
                os.close(fd)
            fd = deeper
        return fd

    def _subfolder(self, at: int, name: str, path: str) -> int:
        if path in self._folders:
            return open_folder(at, name)
        if path in self._files or path in self._links:
            raise invalid(f"entry {shown(path)} is both a file and a folder")
        self._folders.add(path)
        return ensure_folder(self._disk, at, name, None)

    def _write(self, path: str, member: Member) -> None:
        if member.size > self._left:
            raise self._too_many_bytes(path)
        folder, _, name = path.rpartition("/")
        parent = self._folder(folder)
        try:
            fd = self._disk.create(parent, name)
        finally:
            os.close(parent)
        hashers = [(algorithm, new_hasher(algorithm, member.size)) for algorithm in _DIGESTS]
        size = 0
        try:
            self._disk.chmod(fd, 0o755 if member.executable else 0o644)
            for data in member.content:
                size += len(data)
                self._left -= len(data)
                if self._left < 0:
                    raise self._too_many_bytes(path)
                for _, hasher in hashers:
                    hasher.update(data)
                self._disk.write(fd, data)
        finally:
            os.close(fd)
        digests = tuple(Digest(algorithm, hasher.hexdigest()) for algorithm, hasher in hashers)
        self._files[path] = TreeFile(path, size, digests, self._validator, self._verified_by)

    def _link(self, path: str, target: str) -> None:
        source_folder, _, source = target.rpartition("/")
        folder, _, name = path.rpartition("/")
        at, to = self._folder(source_folder), self._folder(folder)
        try:
            self._disk.link(at, source, to, name)
        finally:
            os.close(at)
            os.close(to)
        file = self._files[target]
        self._files[path] = TreeFile(
            path, file.size, file.digests, file.validator, file.verified_by
        )

    def _too_many_bytes(self, path: str) -> Exception:
        return too_large(
            f"with entry {shown(path)} it exceeds the {self._limit} bytes that it may unpack to"
        )


def _inside(name: str) -> str:
    """A folder's checked path, without the `./` in front and the `/` behind that tar writes. "" is the root itself."""
    path = name.removesuffix("/").removeprefix("./")
    return "" if name in {".", "./"} else safe_path(path)
