"""What published models have to give to another one."""

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator

from agent.errors import FetchError
from agent.storage.catalogue import Catalogue
from agent.storage.disk import open_folder
from agent.storage.layout import Layout
from agent.storage.manifests import Record
from agent.storage.tree import StoredFiles, Tree, TreeFile
from agent.storage.walk import lstat, open_parent


def good_files(
    layout: Layout,
    known: Catalogue,
    records: Iterable[Record],
    sizes: Callable[[], Collection[int]],
) -> Iterator[tuple[str, int, TreeFile]]:
    """Storage key, open folder and file, for good files of these sizes; models that go meanwhile are left out."""
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
            damaged = known.damaged(tree.storage_key)
            for file in _of_sizes(tree, looked_for):
                if file.path not in damaged:
                    yield tree.storage_key, root, file
        finally:
            os.close(root)


def may_be_equal(one: TreeFile, other: TreeFile) -> bool:
    """Whether a digest that both have agrees, and none differs."""
    known = {digest.algorithm: digest.value for digest in one.digests}
    compared = [known[d.algorithm] == d.value for d in other.digests if d.algorithm in known]
    return bool(compared) and all(compared)


def status(root: int, path: str) -> os.stat_result | None:
    """By `lstat`; None when it is not there, or cannot be reached."""
    try:
        parent, name = open_parent(root, path)
        try:
            return lstat(parent, name)
        finally:
            os.close(parent)
    except OSError:
        return None


def _of_sizes(tree: Tree, sizes: Collection[int]) -> Iterator[TreeFile]:
    if not isinstance(tree.files, StoredFiles):
        yield from (file for file in tree.files if file.size in sizes)
        return
    # Replaced or gone since; it is that model's trouble if it is one.
    with contextlib.suppress(FetchError):
        yield from tree.files.of_sizes(sizes)
