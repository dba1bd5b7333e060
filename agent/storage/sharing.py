"""One content, many names: a file that several models have takes its space once.

Who has a content is read from the manifests when somebody asks, so there is no index to keep in memory or in step. Deleting a model
takes its names away; the content stays while it has another.
"""

import errno
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from agent.manifest import Digest, RemoteFile, Strength
from agent.storage import linked
from agent.storage.catalogue import Catalogue
from agent.storage.disk import Disk
from agent.storage.errors import Cancelled
from agent.storage.givers import good_files, may_be_equal, status
from agent.storage.inspection import open_good
from agent.storage.layout import Layout
from agent.storage.manifests import Record
from agent.storage.reuse import NAMING, drop_shared, link, link_same
from agent.storage.tree import Tree, TreeFile
from agent.storage.walk import open_beneath

# A smaller file frees nothing that is worth reading it and its like.
_LEAST_BYTES = 64 << 10
_CHUNK = 1 << 20


def reuse(
    layout: Layout,
    disk: Disk,
    known: Catalogue,
    key: str,
    wanted: Sequence[RemoteFile],
    into: int,
    trust: str,
) -> tuple[TreeFile, ...]:
    """Give the staged folder what the key's own tree has, then what others of the same trust have; which files these are.

    Of what was linked there before, only what `share` linked may stay.
    """
    kept = tuple(linked.kept(layout, known, key, wanted, into))
    have = {file.path for file in kept}
    drop_shared(disk, into, but=have)
    wanted = [remote for remote in wanted if remote.path not in have] if kept else wanted
    givers = [other for other in known.others(key) if other.tree.trust == trust]
    own: list[TreeFile] = []
    record = known.get(key)
    if record is not None:
        known.meter.forget(key)
        own.extend(link_same(layout, disk, record.tree, wanted, into, except_=known.damaged(key)))
        givers.insert(0, record)
    if not givers:
        return kept
    have = {file.path for file in own}
    missing = [remote for remote in wanted if remote.path not in have]
    return (*kept, *own, *_link_named(layout, disk, known, givers, missing, into))


def share(
    layout: Layout,
    disk: Disk,
    known: Catalogue,
    key: str,
    files: Sequence[TreeFile],
    into: int,
    cancelled: Callable[[], bool],
) -> int:
    """Make staged files further names of files that other models have, where both are the same byte for byte.

    Returns the bytes that came free. Raises `Cancelled`.
    """
    mine: defaultdict[int, list[TreeFile]] = defaultdict(list)
    for file in files:
        if file.size >= _LEAST_BYTES:
            mine[file.size].append(file)
    freed = 0
    done: list[TreeFile] = []
    try:
        for giver, root, file in good_files(layout, known, known.others(key), mine.keys):
            for own in tuple(mine.get(file.size, ())):
                if not may_be_equal(file, own):
                    continue
                if not _one_file(root, file, into, own):
                    if not _identical(root, file, into, own, cancelled):
                        continue
                    if not link(layout, disk, root, file, into, own.path):
                        continue
                    freed += own.size
                    known.meter.forget(giver)
                done.append(own)
                mine[own.size].remove(own)
    finally:
        if done:
            linked.note(layout, disk, key, done, into)
    return freed


def _link_named(
    layout: Layout,
    disk: Disk,
    known: Catalogue,
    records: Iterable[Record],
    wanted: Sequence[RemoteFile],
    into: int,
) -> Iterator[TreeFile]:
    """The wanted files whose stated digest names a content that a model has; what one cannot give the next may."""
    missing: defaultdict[tuple[Digest, int], list[RemoteFile]] = defaultdict(list)
    for remote in wanted:
        named = [digest for digest in remote.digests if digest.algorithm in NAMING]
        if named and remote.size is not None:
            missing[named[0], remote.size].append(remote)
    for giver, root, file in good_files(layout, known, records, lambda: {s for _, s in missing}):
        for digest in file.digests:
            refused = []
            for remote in missing.pop((digest, file.size), []):
                if not link(layout, disk, root, file, into, remote.path):
                    refused.append(remote)
                    continue
                known.meter.forget(giver)
                yield replace(
                    file,
                    path=remote.path,
                    validator=remote.validator,
                    verified_by=Strength(digest.algorithm.value),
                )
            if refused:
                missing[digest, file.size] = refused


def spread_damage(layout: Layout, known: Catalogue, tree: Tree, paths: Collection[str]) -> None:
    """The tree's files at `paths` are damaged, so other models that have the very same files are damaged there too."""
    inodes = {
        found.st_ino
        for path in paths
        if (found := status(layout.models, f"{tree.storage_key}/{path}")) is not None
        and found.st_nlink > 1
    }
    if not inodes:
        return
    sizes = {file.size for file in tree.files if file.path in paths}
    for key, root, file in good_files(layout, known, known.others(tree.storage_key), lambda: sizes):
        found = status(root, file.path)
        if found is not None and found.st_ino in inodes:
            known.also_damaged(key, file.path)


def _one_file(root: int, file: TreeFile, into: int, own: TreeFile) -> bool:
    theirs, ours = status(root, file.path), status(into, own.path)
    return theirs is not None and ours is not None and os.path.samestat(theirs, ours)


def _identical(
    root: int, file: TreeFile, into: int, own: TreeFile, cancelled: Callable[[], bool]
) -> bool:
    """Byte for byte, since a CRC can be made to match."""
    theirs = open_good(root, file)
    if theirs is None:
        return False
    try:
        ours = open_beneath(into, own.path, os.O_RDONLY)
        try:
            return _same_bytes(ours, theirs, file.size, cancelled)
        finally:
            os.close(ours)
    finally:
        os.close(theirs)


def _same_bytes(one: int, other: int, size: int, cancelled: Callable[[], bool]) -> bool:
    at = 0
    while at < size:
        if cancelled():
            raise Cancelled
        piece = os.pread(one, _CHUNK, at)
        if not piece or piece != _read(other, len(piece), at):
            return False
        at += len(piece)
    return True


def _read(theirs: int, size: int, at: int) -> bytes:
    """Another tree's bytes; what the disk cannot read any more is that tree's trouble, and equal to nothing."""
    try:
        return os.pread(theirs, size, at)
    except OSError as exc:
        if exc.errno != errno.EIO:
            raise
        return b""
