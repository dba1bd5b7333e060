"""One content, many names: a file that several models have takes its space once.

Who has a content is read from the manifests when somebody asks, so there is no index to keep in memory or in step. Deleting a model
takes its names away; the content stays while it has another.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from agent.errors import FetchError
from agent.manifest import Digest, RemoteFile, Strength
from agent.storage.disk import Disk, open_folder
from agent.storage.errors import Cancelled
from agent.storage.inspection import open_good
from agent.storage.layout import Layout
from agent.storage.manifests import Record
from agent.storage.reuse import NAMING, link
from agent.storage.tree import StoredFiles, Tree, TreeFile
from agent.storage.walk import lstat, open_beneath, open_parent

Damaged = Mapping[str, Collection[str]]
# A smaller file frees nothing that is worth reading it and its like.
_LEAST_BYTES = 64 << 10
_CHUNK = 1 << 20


def link_named(
    layout: Layout,
    disk: Disk,
    records: Iterable[Record],
    wanted: Sequence[RemoteFile],
    into: int,
    *,
    damaged: Damaged,
) -> tuple[dict[str, TreeFile], frozenset[str]]:
    """Give the staged folder the wanted files whose stated digest names a content that other models have.

    Returns the linked files by path, and whose they were. What cannot be linked from one model is looked for in the next.
    """
    missing: defaultdict[tuple[Digest, int], list[RemoteFile]] = defaultdict(list)
    for remote in wanted:
        named = [digest for digest in remote.digests if digest.algorithm in NAMING]
        if named and remote.size is not None:
            missing[named[0], remote.size].append(remote)
    linked: dict[str, TreeFile] = {}
    givers = set()
    for key, root, file in _files(layout, records, lambda: {s for _, s in missing}, damaged):
        for digest in file.digests:
            asked = missing.pop((digest, file.size), [])
            refused = []
            for remote in asked:
                if not link(layout, disk, root, file, into, remote.path):
                    refused.append(remote)
                    continue
                linked[remote.path] = replace(
                    file,
                    path=remote.path,
                    validator=remote.validator,
                    verified_by=Strength(digest.algorithm.value),
                )
                givers.add(key)
            if refused:
                missing[digest, file.size] = refused
    return linked, frozenset(givers)


def link_identical(
    layout: Layout,
    disk: Disk,
    records: Iterable[Record],
    files: Sequence[TreeFile],
    into: int,
    *,
    damaged: Damaged,
    cancelled: Callable[[], bool],
) -> tuple[int, frozenset[str]]:
    """Make staged files further names of files that other models have, where both are the same byte for byte.

    Returns the bytes that came free, and whose the others are. Raises `Cancelled`.
    """
    mine: defaultdict[int, list[TreeFile]] = defaultdict(list)
    for file in files:
        if file.size >= _LEAST_BYTES:
            mine[file.size].append(file)
    freed = 0
    givers = set()
    for key, root, file in _files(layout, records, mine.keys, damaged):
        for own in tuple(mine.get(file.size, ())):
            if (
                _may_be_equal(file, own)
                and _identical(root, file, into, own, cancelled)
                and link(layout, disk, root, file, into, own.path)
            ):
                freed += own.size
                givers.add(key)
                mine[own.size].remove(own)
    return freed, frozenset(givers)


def same_files(
    layout: Layout, tree: Tree, paths: Collection[str], records: Iterable[Record]
) -> dict[str, frozenset[str]]:
    """Paths in other models, by storage key, that are names of the very files at `paths` of the tree."""
    if not paths:
        return {}
    sizes = {file.size for file in tree.files if file.path in paths}
    inodes = {
        status.st_ino
        for path in paths
        if (status := _status(layout.models, f"{tree.storage_key}/{path}")) is not None
        and status.st_nlink > 1
    }
    found: defaultdict[str, set[str]] = defaultdict(set)
    for key, root, file in _files(layout, records if inodes else (), lambda: sizes, {}):
        status = _status(root, file.path)
        if status is not None and status.st_ino in inodes:
            found[key].add(file.path)
    return {key: frozenset(same) for key, same in found.items()}


def _files(
    layout: Layout,
    records: Iterable[Record],
    sizes: Callable[[], Collection[int]],
    damaged: Damaged,
) -> Iterator[tuple[str, int, TreeFile]]:
    """Storage key, open folder and file, for the files of these sizes; models that go meanwhile are left out."""
    for record in records:
        tree = record.tree
        looked_for = sizes()
        if not looked_for:
            return
        try:
            root = open_folder(layout.models, tree.storage_key)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            for file in _of_sizes(tree, looked_for):
                if file.path not in damaged.get(tree.storage_key, ()):
                    yield tree.storage_key, root, file
        finally:
            os.close(root)


def _of_sizes(tree: Tree, sizes: Collection[int]) -> Iterable[TreeFile]:
    if not isinstance(tree.files, StoredFiles):
        return [file for file in tree.files if file.size in sizes]
    try:
        return tree.files.of_sizes(sizes)
    except FetchError:  # replaced or gone since; it is that model's trouble if it is one
        return ()


def _status(root: int, path: str) -> os.stat_result | None:
    try:
        parent, name = open_parent(root, path)
    except OSError:
        return None
    try:
        return lstat(parent, name)
    finally:
        os.close(parent)


def _may_be_equal(one: TreeFile, other: TreeFile) -> bool:
    """Whether a digest that both have agrees, and none differs."""
    known = {digest.algorithm: digest.value for digest in one.digests}
    compared = [known[d.algorithm] == d.value for d in other.digests if d.algorithm in known]
    return bool(compared) and all(compared)


def _identical(
    root: int, file: TreeFile, into: int, own: TreeFile, cancelled: Callable[[], bool]
) -> bool:
    """Byte for byte, since a CRC can be made to match; False for what is one file already."""
    theirs = open_good(root, file)
    if theirs is None:
        return False
    try:
        ours = open_beneath(into, own.path, os.O_RDONLY)
        try:
            one_file = os.path.samestat(os.fstat(ours), os.fstat(theirs))
            return not one_file and _same_bytes(ours, theirs, file.size, cancelled)
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
        if not piece or piece != os.pread(other, len(piece), at):
            return False
        at += len(piece)
    return True
