"""Taking over a folder that somebody else put at `models/<key>`. Nothing in it is changed."""

import os
from collections.abc import Iterator
from dataclasses import replace

from agent.errors import Retryable
from agent.storage import manifests
from agent.storage.disk import Disk, open_folder
from agent.storage.footprint import Footprint, measure
from agent.storage.layout import Layout
from agent.storage.manifests import Record
from agent.storage.tree import Tree
from agent.storage.walk import Entry, birth, walk
from shared.domain.reasons import Reason


def adopt(layout: Layout, disk: Disk, tree: Tree) -> None:
    """Write the manifest, durable, after the content is. Raises `Retryable` when a file is missing or has another size."""
    key = tree.storage_key
    root = open_folder(layout.models, key)
    try:
        disk.sync_all(root)
        footprint, times = _look(root, tree)
        inode, born = os.fstat(root).st_ino, birth(root)
    finally:
        os.close(root)
    for file in tree.files:
        if file.path not in times:
            raise Retryable(Reason.DISK_ERROR, f"{key} does not hold {file.path!r} as expected")
    files = tuple(replace(file, mtime_ns=times[file.path]) for file in tree.files)
    record = Record(replace(tree, files=files), inode, footprint, born=born)
    manifests.write(disk, layout.manifests, f"{key}.json", record)


def _look(root: int, tree: Tree) -> tuple[Footprint, dict[str, int]]:
    """What is there, and the modification times of the tree's files that are there with their size.

    One after the other: of 200,000 files, what `lstat` tells would be 100 MB.
    """
    sizes = {file.path: file.size for file in tree.files}
    times: dict[str, int] = {}

    def seen() -> Iterator[Entry]:
        yield Entry("", os.fstat(root))
        for entry in walk(root):
            if entry.is_file and entry.stat.st_size == sizes.get(entry.path):
                times[entry.path] = entry.stat.st_mtime_ns
            yield entry

    return measure(seen()), times
