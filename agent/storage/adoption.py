"""Taking over a folder that somebody else put at `models/<key>`. Nothing in it is changed."""

import os
from dataclasses import replace

from agent.errors import Retryable
from agent.storage import manifests
from agent.storage.disk import Disk, open_folder
from agent.storage.footprint import measure
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
        entries = [Entry("", os.fstat(root)), *walk(root)]
        inode, born = os.fstat(root).st_ino, birth(root)
    finally:
        os.close(root)
    found = {entry.path: entry.stat for entry in entries if entry.is_file}
    for file in tree.files:
        if file.path not in found or found[file.path].st_size != file.size:
            raise Retryable(Reason.DISK_ERROR, f"{key} does not hold {file.path!r} as expected")
    files = tuple(replace(file, mtime_ns=found[file.path].st_mtime_ns) for file in tree.files)
    record = Record(replace(tree, files=files), inode, measure(entries), born=born)
    manifests.write(disk, layout.manifests, f"{key}.json", record)
